/** A fetch-style handler behind `node:http`: bodies stream with back-pressure, and who hangs up is noticed. */

import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';

export type FetchHandler = (request: Request) => Promise<Response>;

/**
 * @param onError called with what the handler rejects with: it is answered with 500
 */
export function nodeListener(handler: FetchHandler, onError: (error: unknown) => void): RequestListener {
  return (request, response) => {
    void answer(request, response, handler, onError);
  };
}

/** Never rejects. */
async function answer(
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  handler: FetchHandler,
  onError: (error: unknown) => void,
): Promise<void> {
  const gone = new AbortController();
  outgoing.on('close', () => gone.abort());
  try {
    await send(await handler(requestOf(incoming, gone.signal)), incoming, outgoing);
  } catch (error) {
    // Who has gone needs no answer.
    if (gone.signal.aborted) return;
    onError(error);
    if (outgoing.headersSent) outgoing.destroy();
    else outgoing.writeHead(500, { 'content-type': 'text/plain; charset=utf-8' }).end('internal error\n');
  }
}

function requestOf(incoming: IncomingMessage, signal: AbortSignal): Request {
  const { method = 'GET', url = '/', headers: given } = incoming;
  const headers = new Headers();
  for (const [name, value] of Object.entries(given)) {
    for (const one of Array.isArray(value) ? value : [value ?? '']) headers.append(name, one);
  }
  const host = URL.canParse(`http://${given.host ?? ''}/`) ? (given.host ?? '') : 'localhost';
  // An absolute or a strange target is no path of ours.
  const target = url.startsWith('/') ? url.replace(/^\/+/, '/') : '/';
  const body = ['GET', 'HEAD'].includes(method)
    ? null
    : (Readable.toWeb(incoming) as ReadableStream<Uint8Array>);
  return new Request(`http://${host}${target}`, { method, headers, signal, body, duplex: 'half' });
}

async function send(answered: Response, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  outgoing.statusCode = answered.status;
  for (const [name, value] of answered.headers) {
    if (name !== 'set-cookie') outgoing.setHeader(name, value);
  }
  const cookies = answered.headers.getSetCookie();
  if (cookies.length > 0) outgoing.setHeader('set-cookie', cookies);
  if (!answered.body || incoming.method === 'HEAD') {
    await answered.body?.cancel();
    outgoing.end();
    return;
  }
  // The first event of a stream may be far away.
  outgoing.flushHeaders();
  await pipeline(Readable.fromWeb(answered.body), outgoing);
}
