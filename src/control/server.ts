/**
 * The HTTP server on the control socket. Whatever is sent to it, it answers or hangs up: nothing that a client does
 * reaches the rest of the process.
 */

import { chmodSync, mkdtempSync, renameSync, rmSync, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { type IncomingMessage, type Server, type ServerResponse, createServer } from 'node:http';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { makeDirectories } from '../base/durable-file.ts';
import { LitestreamError, hasCode, messageOf, systemCode, wrapError } from '../base/errors.ts';
import { holdFolder } from '../base/held-folder.ts';
import type { Logger } from '../base/logger.ts';
import { connects } from './client.ts';
import { type ControlRequest, FILE_TYPE, FileAnswer, type Route, answer, errorAnswer } from './router.ts';

const MAX_BODY_BYTES = 64 * 1024;
const REQUEST_TIMEOUT_MS = 10_000;

export interface ControlServerOptions {
  readonly path: string;
  /** Permission bits of the socket. */
  readonly permissions: number;
  readonly routes: readonly Route[];
  readonly logger: Logger;
}

export interface ControlServer {
  readonly path: string;
  /** Whether the socket is still there for others to find. */
  readonly isInPlace: boolean;
  /** Stops listening, ends what is open and removes the socket if it is still this server's. Idempotent. */
  close(): Promise<void>;
}

/**
 * Listens. A socket that a process has left behind is replaced; one on which somebody answers is not.
 * @throws LitestreamError 'busy' when the path is in use, 'permission', 'io'
 */
export async function startControlServer(options: ControlServerOptions): Promise<ControlServer> {
  const { path, permissions, routes, logger } = options;
  try {
    await makeDirectories(dirname(path), 0o700);
    const own = join(holdFolder(dirname(path)), basename(path));
    await makeWay(own);
    const server = createServer((request, response) => {
      void respond(request, response, routes);
    });
    server.requestTimeout = REQUEST_TIMEOUT_MS;
    server.headersTimeout = REQUEST_TIMEOUT_MS;
    server.on('clientError', (_, socket) => {
      if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
      else socket.destroy();
    });
    await listen(server, own, permissions);
    server.on('error', (error) => logger.error('control socket failed', { path, error: messageOf(error) }));
    return new Listening(server, path, own);
  } catch (error) {
    throw wrapError(error, `listen on control socket ${path}`);
  }
}

/** Removes a socket on which nobody listens. */
async function makeWay(path: string): Promise<void> {
  const there = statSync(path, { throwIfNoEntry: false });
  if (!there) return;
  if (!there.isSocket()) throw new LitestreamError('exists', 'something that is no socket is there');
  if (await connects(path))
    throw new LitestreamError('busy', 'another process listens on it: set socket.path');
  rmSync(path, { force: true });
}

/**
 * Under its own name only when it is ready: nobody else can connect before it has its permissions. Node.js removes the
 * name that it bound, whoever has it by then.
 */
async function listen(server: Server, path: string, permissions: number): Promise<void> {
  // Nobody else's: not by the umask, which is that of all threads at once.
  const hidden = mkdtempSync(join(dirname(path), '.s'));
  try {
    const bound = join(hidden, 's');
    await new Promise<void>((done, reject) => {
      server.once('error', reject);
      server.listen(bound, () => {
        server.off('error', reject);
        done();
      });
    });
    chmodSync(bound, permissions);
    renameSync(bound, path);
  } finally {
    rmSync(hidden, { recursive: true, force: true });
  }
}

class Listening implements ControlServer {
  readonly path: string;
  readonly #server: Server;
  readonly #own: string;
  readonly #inode: number;

  /** @param own its path in a folder that is held */
  constructor(server: Server, path: string, own: string) {
    this.#server = server;
    this.path = path;
    this.#own = own;
    this.#inode = statSync(own).ino;
  }

  get isInPlace(): boolean {
    return statSync(this.path, { throwIfNoEntry: false })?.ino === this.#inode;
  }

  async close(): Promise<void> {
    const mine = this.isInPlace;
    await new Promise<void>((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
    if (mine) rmSync(this.#own, { force: true });
  }
}

/** Never rejects. */
async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  routes: readonly Route[],
): Promise<void> {
  const gone = new AbortController();
  response.on('close', () => gone.abort());
  response.on('error', () => gone.abort());
  let result: { status: number; body: object };
  try {
    const body = await readBody(request);
    const path = request.url?.split('?')[0] ?? '';
    result = await answer(routes, request.method ?? '', path, { body, signal: gone.signal });
  } catch (error) {
    result = errorAnswer(error);
  }
  if (gone.signal.aborted) return;
  if (result.body instanceof FileAnswer) return sendFile(response, result.body);
  const text = `${JSON.stringify(result.body)}\n`;
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) };
  response.writeHead(result.status, { ...headers, connection: 'close' });
  response.end(text);
}

/** What cannot be read is an error as any other, as long as nothing was sent; after that the connection is cut. Never rejects. */
async function sendFile(response: ServerResponse, { path }: FileAnswer): Promise<void> {
  try {
    const file = await open(path);
    const { size } = await file.stat();
    response.writeHead(200, { 'content-type': FILE_TYPE, 'content-length': size, connection: 'close' });
    await pipeline(file.createReadStream(), response);
  } catch (error) {
    if (response.headersSent) return void response.destroy();
    const { status, body } = errorAnswer(wrapError(error, `read ${path}`));
    response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
    response.end(JSON.stringify(body));
  }
}

async function readBody(request: IncomingMessage): Promise<ControlRequest['body']> {
  const chunks: Buffer[] = [];
  let sizeBytes = 0;
  try {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      sizeBytes += chunk.length;
      if (sizeBytes > MAX_BODY_BYTES) throw new LitestreamError('usage', 'the request is too large');
      chunks.push(chunk);
    }
  } catch (error) {
    if (hasCode(error, 'usage')) throw error;
    throw new LitestreamError('aborted', `the request was cut: ${systemCode(error) ?? messageOf(error)}`);
  }
  if (sizeBytes === 0) return {};
  let body: unknown;
  try {
    body = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch (error) {
    throw new LitestreamError('usage', `the request is not JSON: ${messageOf(error)}`);
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new LitestreamError('usage', 'the request must be a JSON object');
  }
  return body as ControlRequest['body'];
}
