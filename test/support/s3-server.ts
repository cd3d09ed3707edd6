/**
 * An S3 server for tests, in this process, on a loopback port of the system's choice. It checks signatures, payload
 * hashes and digests like the real one and can be told to fail. It is ours: no independent proof of compatibility.
 */

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Duplex, Readable } from 'node:stream';
import { S3Fault } from './s3/fault.ts';
import { checkDigests, faultResponse, handle, operationOf } from './s3/handlers.ts';
import type { S3Operation, S3Request, S3Response } from './s3/handlers.ts';
import { Bucket } from './s3/objects.ts';
import { checkSignature } from './s3/sigv4.ts';
import type { Credentials } from './s3/sigv4.ts';

export { Bucket } from './s3/objects.ts';
export type { S3Operation, S3Request } from './s3/handlers.ts';

/** How the server treats one request. */
export type Fault =
  | 'pass'
  /** Breaks the connection instead of answering; nothing is done. */
  | 'reset'
  /** Never answers; nothing is done. */
  | 'stall'
  /** Does what was asked, then breaks the connection: the answer is lost. */
  | 'lose-answer'
  /** Answers this instead. */
  | {
      readonly status: number;
      readonly headers?: Readonly<Record<string, string>>;
      readonly body?: string | Buffer;
    }
  /** Answers this, and never ends. */
  | {
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      readonly endless: () => Buffer;
    }
  /** Answers, but breaks the connection (or, with stall, leaves it silent) after so many bytes of the body. */
  | { readonly truncateAt: number; readonly stall?: boolean };

export interface S3ServerOptions {
  readonly buckets?: readonly string[];
  readonly credentials?: Credentials;
  readonly region?: string;
  /** Delay of each answer in milliseconds. */
  readonly latencyMs?: number;
  /** Takes everything as it comes: for measurements, since a server far away has processors of its own. */
  readonly trusting?: boolean;
}

export class S3Server {
  readonly buckets: Map<string, Bucket>;
  /** Those that are taken now. */
  credentials: Credentials;
  readonly region: string;
  latencyMs: number;
  /** Puts whatever a condition says, as servers do that know none. */
  ignoresConditions = false;
  /** Every request that came with a whole header, in order. */
  readonly requests: S3Request[] = [];
  /** Decides on each request before it is served. */
  onRequest: (request: S3Request) => Fault = () => 'pass';
  /** Waited for before a request whose body has come is done. */
  beforeAnswer: (request: S3Request, body: Buffer) => Promise<void> = () => Promise.resolve();
  /** Called when a request was done and is about to be answered. */
  onAnswer: (request: S3Request) => void = () => undefined;
  readonly #server: Server;
  readonly #trusting: boolean;
  #received = 0;

  private constructor(options: S3ServerOptions) {
    const { buckets = ['bucket'], region = 'us-east-1', latencyMs = 0, trusting = false } = options;
    this.#trusting = trusting;
    const etagOf = trusting ? () => randomUUID() : undefined;
    this.buckets = new Map(buckets.map((name) => [name, new Bucket(etagOf)]));
    this.credentials = options.credentials ?? {
      accessKeyId: 'test-access-key',
      secretAccessKey: 'test-secret-key/+with=signs',
    };
    this.region = region;
    this.latencyMs = latencyMs;
    this.#server = createServer((message, response) => {
      this.#serve(message, response).catch((error: unknown) => {
        response.destroy(error instanceof Error ? error : new Error(String(error)));
      });
    });
  }

  static async start(options: S3ServerOptions = {}): Promise<S3Server> {
    const server = new S3Server(options);
    await new Promise<void>((resolve, reject) => {
      server.#server.once('error', reject);
      server.#server.listen(0, '127.0.0.1', resolve);
    });
    return server;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** The bucket of that name, or the only one. */
  bucket(name?: string): Bucket {
    const found = name === undefined ? [...this.buckets.values()][0] : this.buckets.get(name);
    if (found === undefined) throw new Error(`the test server has no bucket ${name ?? ''}`);
    return found;
  }

  /** How often each operation was asked for since the start or the last clearRequests(). */
  counts(): Partial<Record<S3Operation, number>> {
    const counts: Partial<Record<S3Operation, number>> = {};
    for (const { operation } of this.requests) counts[operation] = (counts[operation] ?? 0) + 1;
    return counts;
  }

  clearRequests(): void {
    this.requests.length = 0;
  }

  /** Serves a connection that came another way than through the port. */
  accept(connection: Duplex): void {
    this.#server.emit('connection', connection);
  }

  async close(): Promise<void> {
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()));
    this.#server.closeAllConnections();
    await closed;
  }

  async #serve(message: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = this.#understand(message);
    this.requests.push(request);
    const fault = this.onRequest(request);
    if (fault === 'stall') return;
    if (fault === 'reset') {
      message.socket.resetAndDestroy();
      return;
    }
    const body = await read(message);
    await this.beforeAnswer(request, body);
    if (this.latencyMs > 0) await new Promise((resolve) => setTimeout(resolve, this.latencyMs));
    if (typeof fault === 'object' && 'endless' in fault) {
      response.writeHead(fault.status, fault.headers);
      Readable.from(unending(fault.endless)).pipe(response);
      return;
    }
    if (typeof fault === 'object' && 'status' in fault) {
      const { status, headers = {}, body: text = '' } = fault;
      send(response, request, { status, headers, body: text });
      return;
    }
    const answer = this.#answer(request, message, body);
    this.onAnswer(request);
    if (fault === 'lose-answer') message.socket.resetAndDestroy();
    else if (typeof fault === 'object') sendPart(response, answer, fault);
    else send(response, request, answer);
  }

  #understand(message: IncomingMessage): S3Request {
    const url = message.url ?? '/';
    const [path = '/', query = ''] = url.split(/\?(.*)/s);
    const host = (message.headers.host ?? '').replace(/:\d+$/, '');
    const parts = path.slice(1).split('/').map(decodeURIComponent);
    // `bucket.localhost` is virtual-host style, anything else has the bucket in the path.
    const virtual = /^(.+)\.localhost$/.exec(host)?.[1];
    const bucket = virtual ?? parts.shift() ?? '';
    const key = parts.join('/');
    const method = message.method ?? 'GET';
    const parameters = new URLSearchParams(query);
    return {
      number: ++this.#received,
      operation: operationOf(method, key, parameters),
      method,
      bucket,
      key,
      query: parameters,
      headers: message.headers,
    };
  }

  #answer(request: S3Request, message: IncomingMessage, body: Buffer): S3Response {
    try {
      const { method, headers } = request;
      if (['PUT', 'POST'].includes(method) && headers['content-length'] === undefined) {
        throw new S3Fault(411, 'MissingContentLength', 'You must provide the Content-Length header.');
      }
      // Any region may ask where a bucket is.
      const regions = request.operation === 'GetBucketLocation' ? [this.region, 'us-east-1'] : [this.region];
      if (!this.#trusting) {
        checkSignature({ method, url: message.url ?? '/', headers, body }, this.credentials, regions);
        checkDigests(headers, body);
      }
      const bucket = this.buckets.get(request.bucket);
      if (bucket === undefined)
        throw new S3Fault(404, 'NoSuchBucket', 'The specified bucket does not exist.');
      const taken = this.ignoresConditions
        ? { ...request, headers: { ...headers, 'if-none-match': undefined, 'if-match': undefined } }
        : request;
      return handle(taken, body, bucket, this.region);
    } catch (error) {
      if (error instanceof S3Fault) return faultResponse(error);
      throw error;
    }
  }
}

function* unending(chunk: () => Buffer): Generator<Buffer> {
  for (;;) yield chunk();
}

async function read(message: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function headersOf({ headers, body }: S3Response): Record<string, string | number> {
  return { 'content-length': Buffer.byteLength(body), ...headers };
}

function send(response: ServerResponse, request: S3Request, answer: S3Response): void {
  response.writeHead(answer.status, headersOf(answer));
  response.end(request.method === 'HEAD' ? '' : answer.body);
}

function sendPart(
  response: ServerResponse,
  answer: S3Response,
  { truncateAt, stall = false }: { truncateAt: number; stall?: boolean },
): void {
  response.writeHead(answer.status, headersOf(answer));
  response.flushHeaders();
  response.write(Buffer.from(answer.body).subarray(0, truncateAt), () => {
    if (!stall) response.destroy();
  });
}
