/** The HTTP server of `addr:` and of `litestream dashboard`: where it listens, and how it ends. */

import { createServer } from 'node:http';
import { LitestreamError, messageOf, systemCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { type BindAddress, reachableHost } from './bind-address.ts';
import type { FetchHandler } from './fetch-handler.ts';
import { toNodeHandler } from './node-http.ts';

/** Idle browsers keep connections; a request itself is short. */
const HEADERS_TIMEOUT_MS = 20_000;

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

function listenError(error: unknown): string {
  const reasons: Partial<Record<string, string>> = {
    EADDRINUSE: 'bind: address already in use',
    EACCES: 'bind: permission denied',
    EADDRNOTAVAIL: 'bind: cannot assign requested address',
    ENOTFOUND: 'no such host',
  };
  return reasons[systemCode(error) ?? ''] ?? messageOf(error);
}
