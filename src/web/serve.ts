/** The HTTP server of `addr:` and of `litestream dashboard`: who may reach what, and how it ends. */

import { createServer } from 'node:http';
import { LitestreamError, messageOf, systemCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { type BindAddress, isLoopback, reachableHost } from './bind-address.ts';
import type { FetchHandler } from './fetch-handler.ts';
import { toNodeHandler } from './node-http.ts';

/** Idle browsers keep connections; a request itself is short. */
const HEADERS_TIMEOUT_MS = 20_000;

const OPEN_TO_ALL = /\/(metrics|healthz|readyz)$/;

export interface WebServer {
  /** Of the page, with the slash at its end. */
  readonly url: string;
  /** Stops listening and ends open connections. Idempotent. */
  close(): Promise<void>;
}

export interface ServeOptions {
  readonly address: BindAddress;
  readonly fetch: FetchHandler;
  readonly logger: Logger;
}

/** @throws LitestreamError 'io' when the address cannot be had */
export async function serve({ address, fetch, logger }: ServeOptions): Promise<WebServer> {
  const { host, port: wanted, text } = address;
  const server = createServer(
    toNodeHandler(fetch, { onError: (error) => logger.error('web server', { error: messageOf(error) }) }),
  );
  server.headersTimeout = HEADERS_TIMEOUT_MS;
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      server.listen(host === '' ? { port: wanted } : { host, port: wanted }, resolve);
    });
  } catch (error) {
    throw new LitestreamError('io', `listen tcp ${text}: ${listenError(error)}`, { cause: error });
  }
  server.on('error', (error) => logger.error('web server failed', { error }));
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : wanted;
  return {
    url: `http://${reachableHost(host, port)}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

/**
 * Without a password the page is for this machine only: a name that is not this machine's may be one that a hostile site has
 * pointed here. What is open to all stays so.
 * @param local whether nobody else can reach the server; else the handler refuses by itself
 */
export function onlyLocally(fetch: FetchHandler, local: boolean): FetchHandler {
  if (!local) return fetch;
  return (request) => {
    const { hostname, pathname } = new URL(request.url);
    if (OPEN_TO_ALL.test(pathname) || isLoopback(hostname)) return fetch(request);
    const text =
      `The dashboard has no password and is only shown as localhost, not as ${hostname}.\n` +
      'Set LITESTREAM_USERNAME and LITESTREAM_PASSWORD.\n';
    return Promise.resolve(new Response(text, { status: 421, headers: { 'content-type': 'text/plain' } }));
  };
}

function listenError(error: unknown): string {
  const reasons: Partial<Record<string, string>> = {
    EADDRINUSE: 'bind: address already in use',
    EACCES: 'bind: permission denied',
    EADDRNOTAVAIL: 'bind: cannot assign requested address',
    ENOTFOUND: 'no such host',
  };
  return reasons[systemCode(error) ?? ''] ?? messageOf(error);
}
