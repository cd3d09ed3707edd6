/** `/metrics` for Prometheus: v0.3.13's names, made from the engine's statistics when they are asked for. */

import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { messageOf, systemCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { DatabaseStats } from '../engine/stats.ts';
import type { RequestCount } from '../storage/counting-store.ts';
import { reachableHost } from './bind-address.ts';
import type { BindAddress } from './bind-address.ts';

export { parseBindAddress } from './bind-address.ts';

const PATH = '/metrics';

export interface MetricsServerOptions {
  readonly address: BindAddress;
  readonly logger: Logger;
  readonly stats: () => readonly DatabaseStats[];
  readonly requestCounts: () => readonly RequestCount[];
}

export interface MetricsServer {
  readonly url: string;
  /** Stops listening and ends open connections. Idempotent. */
  close(): Promise<void>;
}

/**
 * Serves metrics. An address that cannot be had is logged, as replication matters more than its metrics: then the
 * result is undefined.
 */
export async function startMetricsServer(options: MetricsServerOptions): Promise<MetricsServer | undefined> {
  const { address, logger } = options;
  const { createMetrics } = await import('./metrics-registry.ts');
  const metrics = createMetrics(options);
  const server = createServer((request, response) => {
    void respond(request, response, metrics, logger);
  });
  try {
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject);
      const { host, port } = address;
      server.listen(host === '' ? { port } : { host, port }, resolve);
    });
  } catch (error) {
    logger.error('cannot start metrics server', { error: listenError(error, address) });
    return undefined;
  }
  server.on('error', (error) => logger.error('metrics server failed', { error }));
  const bound = server.address();
  const port = typeof bound === 'object' && bound !== null ? bound.port : address.port;
  const url = `http://${reachableHost(address.host, port)}${PATH}`;
  logger.info('serving metrics on', { url });
  return {
    url,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

interface Metrics {
  readonly contentType: string;
  metrics(): Promise<string>;
}

async function respond(
  request: IncomingMessage,
  response: ServerResponse,
  metrics: Metrics,
  logger: Logger,
): Promise<void> {
  const text = (status: number, body: string, headers: Record<string, string> = {}): void => {
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', ...headers });
    response.end(request.method === 'HEAD' ? undefined : body);
  };
  const path = request.url?.split('?')[0];
  if (path !== PATH) {
    text(404, `404 page not found: metrics are at ${PATH}\n`);
    return;
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    text(405, 'method not allowed\n', { allow: 'GET, HEAD' });
    return;
  }
  try {
    text(200, await metrics.metrics(), { 'content-type': metrics.contentType });
  } catch (error) {
    logger.error('cannot collect metrics', { error: messageOf(error) });
    text(500, 'cannot collect metrics, see the log\n');
  }
}

function listenError(error: unknown, { text }: BindAddress): string {
  const reasons: Partial<Record<string, string>> = {
    EADDRINUSE: 'bind: address already in use',
    EACCES: 'bind: permission denied',
    EADDRNOTAVAIL: 'bind: cannot assign requested address',
    ENOTFOUND: 'no such host',
  };
  return `listen tcp ${text}: ${reasons[systemCode(error) ?? ''] ?? messageOf(error)}`;
}
