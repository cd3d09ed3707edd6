/** What an action is asked with, read no further than it may be long. */

import { LitestreamError } from '../../base/errors.ts';

const MAX_BODY_BYTES = 16 * 1024;

/** @throws LitestreamError 'usage' for what is too large, no JSON, or names no database */
export async function bodyOf(request: Request): Promise<{ readonly database: string }> {
  const text = await textOf(request);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    throw new LitestreamError('usage', 'the request is not JSON');
  }
  const database =
    typeof body === 'object' && body !== null ? (body as { database?: unknown }).database : undefined;
  if (typeof database !== 'string') throw new LitestreamError('usage', 'the request must name a database');
  return { ...(body as object), database };
}

async function textOf({ headers, body }: Request): Promise<string> {
  const tooLarge = (): LitestreamError => new LitestreamError('usage', 'the request is too large');
  if (Number(headers.get('content-length') ?? 0) > MAX_BODY_BYTES) throw tooLarge();
  const reader = (body as ReadableStream<Uint8Array> | null)?.getReader();
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for (;;) {
    const { done, value } = (await reader?.read()) ?? { done: true };
    if (done) return Buffer.concat(chunks).toString('utf8');
    sizeBytes += value.byteLength;
    // Not cancelled: that would cut the connection before the answer.
    if (sizeBytes > MAX_BODY_BYTES) throw tooLarge();
    chunks.push(value);
  }
}
