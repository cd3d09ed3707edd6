/**
 * A fetch-style handler behind `node:http` and everything that has its requests and responses: bodies stream with
 * back-pressure, and who hangs up is noticed.
 */

import type { IncomingMessage, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { type FetchHandler, answerUnder, isHost, isMisleading, trimBase } from './fetch-handler.ts';
import { setPeer } from './peer-address.ts';

/** What `createServer()` takes, with Connect's third parameter. */
export type NodeHandler = (
  request: IncomingMessage,
  response: ServerResponse,
  next?: (error: unknown) => void,
) => void;

export interface NodeHandlerOptions {
  /** The beginning of the path that belongs to the application; default: what a router has cut off. */
  readonly base?: string | undefined;
  /** The address as it came, before a router cut it; default: the `originalUrl` that Connect and Express leave. */
  readonly originalUrl?: string | undefined;
  /** The body, where something has read it before; default: the `body` that body parsers leave. */
  readonly body?: unknown;
  /** Told what the handler throws, but for requests whose sender has gone. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

/** A handler for `node:http`. What a fetch handler throws goes to `next`, or is answered with status 500. */
export function toNodeHandler(handler: FetchHandler, options: NodeHandlerOptions = {}): NodeHandler {
  return (request, response, next) => {
    serve(handler, request, response, options).catch((error: unknown) => {
      // Who has gone needs no answer.
      if (response.destroyed) return;
      options.onError?.(error);
      if (response.headersSent) response.destroy();
      else if (next !== undefined) next(error);
      else response.writeHead(500, { 'content-type': 'text/plain' }).end('internal server error\n');
    });
  };
}

/** Answers one request; resolves when the answer is sent, or nobody waits for it any more. Rejects as the handler does. */
export async function serve(
  handler: FetchHandler,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  options: NodeHandlerOptions = {},
): Promise<void> {
  const gone = new AbortController();
  outgoing.on('close', () => gone.abort());
  const made = toRequest(incoming, options, gone.signal);
  if (made === undefined) {
    outgoing.writeHead(400, { 'content-type': 'text/plain' }).end('bad request\n');
    return;
  }
  const response = await answerUnder(handler, made.request, made.base);
  await send(response, outgoing, incoming.method === 'HEAD', gone.signal);
  discardRest(incoming);
}

/** What the handler has not read would keep the sender from reading the answer, and the connection from its next request. */
function discardRest(incoming: IncomingMessage): void {
  if (incoming.complete || incoming.destroyed) return;
  incoming.removeAllListeners('data');
  incoming.resume();
}

/** Undefined for what is no address. */
function toRequest(
  incoming: IncomingMessage,
  options: NodeHandlerOptions,
  signal: AbortSignal,
): { request: Request; base: string } | undefined {
  const { url = '', method = 'GET', headers, socket } = incoming;
  const original = options.originalUrl ?? (incoming as { originalUrl?: string }).originalUrl ?? url;
  const base = trimBase(options.base ?? cutOff(original, url));
  const { host = 'localhost' } = headers;
  // The path is to be the one that the application has seen, whatever the sender writes.
  if (!isHost(host) || isMisleading(original)) return undefined;
  const address = `${'encrypted' in socket ? 'https' : 'http'}://${host}${original}`;
  if (!URL.canParse(address)) return undefined;
  const init: RequestInit & { duplex?: 'half' } = { method, headers: headersOf(incoming), signal };
  if (method !== 'GET' && method !== 'HEAD') {
    init.body = bodyOf(incoming, options.body);
    init.duplex = 'half';
  }
  try {
    const request = new Request(address, init);
    setPeer(request, socket.remoteAddress);
    return { request, base };
  } catch (error) {
    // Methods that fetch does not know.
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** What a router has cut off the path: all of it where only its slash is left. */
function cutOff(original: string, left: string): string {
  const [whole = '', rest = ''] = [original, left].map((url) => url.split('?', 1)[0]);
  if (whole.endsWith(rest)) return whole.slice(0, whole.length - rest.length);
  return rest === '/' ? whole : '';
}

function headersOf({ rawHeaders }: IncomingMessage): Headers {
  const headers = new Headers();
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name = '', value = ''] = [rawHeaders[i], rawHeaders[i + 1]];
    // Those of HTTP/2 that are no headers.
    if (!name.startsWith(':')) headers.append(name, value);
  }
  return headers;
}

function bodyOf(incoming: IncomingMessage, given: unknown): NonNullable<RequestInit['body']> {
  const parsed = given ?? (incoming as { body?: unknown }).body;
  if (!incoming.readableEnded && !incoming.readableDidRead) {
    return Readable.toWeb(incoming);
  }
  if (typeof parsed === 'string' || parsed instanceof Uint8Array) return parsed as string;
  const form = /^application\/x-www-form-urlencoded\b/i.test(incoming.headers['content-type'] ?? '');
  return form ? new URLSearchParams(parsed as Record<string, string>) : JSON.stringify(parsed ?? {});
}

/** Sends no faster than the reader takes, and stops when it has gone or the server closes. */
async function send(
  response: Response,
  outgoing: ServerResponse,
  headOnly: boolean,
  gone: AbortSignal,
): Promise<void> {
  outgoing.statusCode = response.status;
  for (const [name, value] of response.headers) if (name !== 'set-cookie') outgoing.setHeader(name, value);
  const cookies = response.headers.getSetCookie();
  if (cookies.length > 0) outgoing.appendHeader('set-cookie', cookies);
  if (headOnly || response.body === null) {
    await response.body?.cancel();
    outgoing.end();
    return;
  }
  const live = response.headers.get('content-type')?.startsWith('text/event-stream') === true;
  if (live) outgoing.flushHeaders();
  const reader = response.body.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  const stop = (): void => void reader.cancel().catch(() => undefined);
  gone.addEventListener('abort', stop, { once: true });
  for (;;) {
    const { done, value } = await reader.read();
    if (done || gone.aborted) break;
    if (!outgoing.write(value)) await roomOrEnd(outgoing, gone);
    // Compression would keep what is meant to be seen now.
    if (live) (outgoing as { flush?: () => void }).flush?.();
    if (live && isClosing(outgoing)) stop();
  }
  gone.removeEventListener('abort', stop);
  outgoing.end();
}

function roomOrEnd(outgoing: ServerResponse, gone: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      outgoing.off('drain', done);
      gone.removeEventListener('abort', done);
      resolve();
    };
    outgoing.once('drain', done);
    gone.addEventListener('abort', done, { once: true });
    if (gone.aborted) done();
  });
}

/** Whether server.close() was called: it waits for requests, and a live one would never end. */
function isClosing({ socket }: ServerResponse): boolean {
  return (socket as { server?: { listening?: boolean } } | null)?.server?.listening === false;
}
