/** Sends requests of the JSON API for one bucket and key prefix, authorised, and gives our errors. */

import type { IncomingMessage } from 'node:http';
import { throwIfAborted } from '../../base/concurrency.ts';
import type { LitestreamError } from '../../base/errors.ts';
import { ANSWER_TOO_LONG, MAX_ANSWER_BYTES } from '../answer-limit.ts';
import { abortable } from '../body.ts';
import { withoutCredentials } from '../../base/redact-url.ts';
import type { GcsStoreConfig } from '../store-config.ts';
import { GoogleCredentials } from './credentials.ts';
import { connectionError, credentialsError, refusalError } from './errors.ts';
import type { GcsTarget, Refusal } from './errors.ts';
import { HttpClient } from './http.ts';
import type { GcsTimeouts } from './http.ts';

export interface GcsSettings extends GcsTimeouts {
  /** Where the API is when neither the config nor STORAGE_EMULATOR_HOST says so; used with credentials. */
  readonly apiUrl: string;
  /** Bytes that one request of an upload carries, at most; a multiple of 256 KiB. */
  readonly chunkBytes: number;
}

export const DEFAULT_SETTINGS: GcsSettings = {
  connectMs: 10_000,
  idleMs: 30_000,
  apiUrl: 'https://storage.googleapis.com',
  // What v0.3.13 sends at once, too.
  chunkBytes: 16 * 1024 * 1024,
};

const MAX_REFUSAL_BYTES = 64 * 1024;

export interface Call {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  readonly url: URL;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: readonly Uint8Array[];
  /** The operation and its object, for messages. */
  readonly what: string;
  readonly signal: AbortSignal | undefined;
  /** Statuses that are an answer and no refusal. */
  readonly expect: readonly number[];
  readonly missing: Refusal['missing'];
  /** Sent without a token: the address is the secret. */
  readonly anonymous?: boolean;
}

export class GcsSession {
  readonly target: GcsTarget;
  readonly chunkBytes: number;
  readonly #http: HttpClient;
  readonly #baseUrl: string;
  /** undefined: the endpoint wants none. */
  readonly #credentials: GoogleCredentials | undefined;
  /** Empty, or ends with a slash. */
  readonly #prefix: string;

  constructor(config: GcsStoreConfig, settings: GcsSettings) {
    const endpoint = config.endpoint ?? emulatorUrl();
    this.#baseUrl = (endpoint ?? settings.apiUrl).replace(/\/+$/, '');
    this.#credentials = endpoint === undefined ? new GoogleCredentials(settings.idleMs) : undefined;
    this.#http = new HttpClient(settings);
    this.#prefix = config.path === '' ? '' : `${config.path}/`;
    this.chunkBytes = settings.chunkBytes;
    this.target = {
      bucket: config.bucket,
      endpoint: endpoint === undefined ? 'Google Cloud Storage' : withoutCredentials(this.#baseUrl),
      secrets: () => this.#credentials?.secrets ?? [],
    };
  }

  /** The endpoint is not Google's own, and wants no credentials. */
  get emulator(): boolean {
    return this.#credentials === undefined;
  }

  /** The object's name in the bucket for a key, or key prefix, of ours. */
  nameOf(key: string): string {
    return this.#prefix + key;
  }

  /** The key of ours for an object's name in the bucket. */
  keyOf(name: string): string {
    return name.slice(this.#prefix.length);
  }

  /** @throws TypeError when the endpoint is not a URL. */
  objectUrl(key: string, parameters: Readonly<Record<string, string>> = {}): URL {
    return this.#url(`/storage/v1/b/BUCKET/o/${encodeURIComponent(this.nameOf(key))}`, parameters);
  }

  listUrl(parameters: Readonly<Record<string, string>>): URL {
    return this.#url('/storage/v1/b/BUCKET/o', parameters);
  }

  uploadUrl(parameters: Readonly<Record<string, string>>): URL {
    return this.#url('/upload/storage/v1/b/BUCKET/o', parameters);
  }

  #url(path: string, parameters: Readonly<Record<string, string>>): URL {
    const bucket = encodeURIComponent(this.target.bucket);
    try {
      return new URL(
        `${this.#baseUrl}${path.replace('BUCKET', () => bucket)}?${new URLSearchParams(parameters).toString()}`,
      );
    } catch (error) {
      throw connectionError(error, `open ${this.target.bucket}`, this.target);
    }
  }

  /**
   * The answer to `call`, with an expected status. Its body must be read to the end or destroyed.
   * @throws LitestreamError
   */
  async send(call: Call): Promise<IncomingMessage> {
    throwIfAborted(call.signal);
    let response = await this.#attempt(call);
    if (response.statusCode === 401 && this.#credentials !== undefined && call.anonymous !== true) {
      // The token was revoked, or the key behind it replaced, before its time.
      response.destroy();
      this.#credentials.renew();
      response = await this.#attempt(call);
    }
    if (call.expect.includes(response.statusCode ?? 0)) return response;
    const refusal = {
      status: response.statusCode ?? 0,
      retryAfter: response.headers['retry-after'],
      body: (await this.#read(response, call, MAX_REFUSAL_BYTES)).subarray(0, MAX_REFUSAL_BYTES).toString(),
      missing: call.missing,
    };
    throw refusalError(refusal, call.what, this.target);
  }

  /** The JSON in the body of an answer to `call`. A server that answers otherwise is not Google's. */
  async json(response: IncomingMessage, call: Call): Promise<unknown> {
    const bytes = await this.#read(response, call, MAX_ANSWER_BYTES);
    if (bytes.length > MAX_ANSWER_BYTES) {
      const tooLong = Object.assign(new Error('the answer is too long'), { code: ANSWER_TOO_LONG });
      throw connectionError(tooLong, call.what, this.target);
    }
    const body = bytes.toString();
    try {
      return JSON.parse(body) as unknown;
    } catch {
      throw this.#foreign(body, call);
    }
  }

  /** The error for an answer in JSON that is none of the API's. */
  foreign(answer: unknown, call: Call): LitestreamError {
    return this.#foreign(JSON.stringify(answer), call);
  }

  #foreign(body: string, { what, missing }: Call): LitestreamError {
    return refusalError({ status: 200, retryAfter: undefined, body, missing }, what, this.target);
  }

  async #attempt(call: Call): Promise<IncomingMessage> {
    const { method, url, headers, body, what, signal } = call;
    const authorisation = call.anonymous === true ? {} : await this.#authorisation(what, signal);
    throwIfAborted(signal);
    try {
      return await this.#http.send({ method, url, headers: { ...authorisation, ...headers }, body, signal });
    } catch (error) {
      throw connectionError(error, what, this.target, signal);
    }
  }

  async #authorisation(what: string, signal: AbortSignal | undefined): Promise<Record<string, string>> {
    if (this.#credentials === undefined) return {};
    try {
      return await this.#credentials.headers(signal);
    } catch (error) {
      throw credentialsError(error, what, this.target, signal);
    }
  }

  /** The body, or its first bytes when it is longer than `limit`. */
  async #read(response: IncomingMessage, { what, signal }: Call, limit: number): Promise<Buffer> {
    const chunks: Uint8Array[] = [];
    let length = 0;
    try {
      for await (const chunk of abortable(response, signal)) {
        chunks.push(chunk);
        length += chunk.length;
        if (length > limit) break;
      }
    } catch (error) {
      throw connectionError(error, what, this.target, signal);
    }
    return Buffer.concat(chunks);
  }

  close(): void {
    this.#http.close();
  }
}

/** STORAGE_EMULATOR_HOST as v0.3.13 reads it: a host with or without scheme, of which the path does not count. */
function emulatorUrl(): string | undefined {
  const host = process.env['STORAGE_EMULATOR_HOST'] ?? '';
  if (host === '') return undefined;
  const url = host.includes('://') ? host : `http://${host}`;
  return /^\w+:\/\/[^/]*/.exec(url)?.[0] ?? url;
}
