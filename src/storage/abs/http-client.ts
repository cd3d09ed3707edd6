/**
 * Sends the SDK's requests by its own client, but reads the answers that it would keep as a whole: it has no limit for
 * them. The bytes of blobs are streamed as before.
 */

import { Readable } from 'node:stream';
import { createDefaultHttpClient, createHttpHeaders, createPipelineRequest } from '@azure/core-rest-pipeline';
import type { RequestBodyType } from '@azure/core-rest-pipeline';
import type { HttpHeaders, HttpOperationResponse, RequestPolicy, WebResource } from '@azure/storage-blob';
import { messageOf, systemCode } from '../../base/errors.ts';
import { ANSWER_TOO_LONG, limitAnswer } from '../answer-limit.ts';

/** How the SDK says that answers of any status are streamed. */
const EVERY_STATUS = new Set([Number.POSITIVE_INFINITY]);

export class BoundedHttpClient implements RequestPolicy {
  readonly #inner = createDefaultHttpClient();

  async sendRequest(request: WebResource): Promise<HttpOperationResponse> {
    const { url, method, timeout, requestId, abortSignal, agent, requestOverrides } = request;
    const body = request.body as RequestBodyType;
    const sent = createPipelineRequest({
      ...{ url, method, timeout, requestId, body, allowInsecureConnection: true },
      headers: createHttpHeaders(request.headers.toJson({ preserveCase: true })),
      streamResponseStatusCodes: EVERY_STATUS,
      ...(abortSignal === undefined ? {} : { abortSignal }),
      ...(requestOverrides === undefined ? {} : { requestOverrides }),
    });
    // Not among what a request is made with.
    if (agent !== undefined) sent.agent = agent;
    const { status, headers, readableStreamBody } = await this.#inner.sendRequest(sent);
    const answer = { request, status, headers: legacyHeaders(request.headers, headers.toJSON()) };
    if (readableStreamBody === undefined) return answer;
    if (request.streamResponseStatusCodes?.has(status) === true) return { ...answer, readableStreamBody };
    return { ...answer, bodyAsText: await textOf(Readable.from(readableStreamBody)) };
  }
}

/** Headers of the class that the pipeline wants, which the SDK does not export: it is that of the request's. */
function legacyHeaders(model: HttpHeaders, headers: Readonly<Record<string, string>>): HttpHeaders {
  const made = model.clone();
  for (const name of made.headerNames()) made.remove(name);
  for (const [name, value] of Object.entries(headers)) made.set(name, value);
  return made;
}

/** As the SDK reads an answer, and with its code when the connection breaks. */
async function textOf(answer: Readable): Promise<string> {
  const chunks: Uint8Array[] = [];
  try {
    for await (const chunk of limitAnswer(answer)) chunks.push(chunk as Uint8Array);
  } catch (error) {
    if (systemCode(error) === ANSWER_TOO_LONG) throw error;
    throw Object.assign(new Error(messageOf(error)), { code: 'PARSE_ERROR' });
  }
  return Buffer.concat(chunks).toString();
}
