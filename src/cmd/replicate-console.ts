/** What a running `replicate` shows of itself: on its control socket, and at `addr:` as dashboard, metrics and health. */

import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { MetricsAnswer } from '../control/dashboard-routes.ts';
import type { Route } from '../control/router.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import type { Replicator } from '../engine/replicator.ts';
import type { BindAddress } from '../web/bind-address.ts';
import type { Metrics } from '../web/metrics-registry.ts';
import type { WebServer } from '../web/serve.ts';

const LOGIN_HINT =
  'run `litestream dashboard` in a terminal on this machine and open the address that it shows, ' +
  'or set LITESTREAM_USERNAME and LITESTREAM_PASSWORD where replicate is started.';

export interface Console {
  readonly routes: readonly Route[];
  /** Serves at `addr:`. An address that cannot be had is logged: replication matters more. */
  serve(address: BindAddress, env: NodeJS.ProcessEnv): Promise<WebServer | undefined>;
  /** To be called when replication has begun. */
  start(): void;
  /** Ends restores that run. */
  close(): Promise<void>;
}

export interface ConsoleOptions {
  readonly replicator: Replicator;
  readonly databases: readonly DatabaseOptions[];
  /** What the process answers besides. */
  readonly routes: readonly Route[];
  readonly logger: Logger;
}

export async function openConsole(options: ConsoleOptions): Promise<Console> {
  const { replicator, databases, logger } = options;
  const { History } = await import('../control/history.ts');
  const { RestoreJobs } = await import('../control/restore-jobs.ts');
  const { Timelines } = await import('../control/timeline-report.ts');
  const { dashboardRoutes } = await import('../control/dashboard-routes.ts');
  const { ProcessReader } = await import('../control/reader-process.ts');
  const reader = new ProcessReader();
  const history = new History(() => replicator.status());
  const jobs = new RestoreJobs({ databases, reader, logger });
  const routes = [
    ...options.routes,
    ...dashboardRoutes({
      history,
      timelines: new Timelines(databases, reader),
      jobs,
      snapshot: (path, signal) => replicator.snapshot(path, signal),
      metrics: metricsOf(replicator),
    }),
  ];
  return {
    routes,
    serve: (address, env) => serveConsole(address, env, routes, logger),
    start: () => history.start(),
    async close() {
      history.stop();
      await jobs.close();
      await reader.close();
    },
  };
}

/** The registry is made when it is asked for: most processes never are. */
function metricsOf(replicator: Replicator): () => Promise<MetricsAnswer> {
  let made: Promise<Metrics> | undefined;
  const make = async (): Promise<Metrics> => {
    const { createMetrics } = await import('../web/metrics-registry.ts');
    const { requestCounts } = await import('../storage/counting-store.ts');
    return createMetrics({
      stats: () => replicator.stats(),
      status: () => replicator.status(),
      requestCounts,
    });
  };
  return async () => {
    const registry = await (made ??= make());
    return { contentType: registry.contentType, text: await registry.metrics() };
  };
}

/** Serves what `routes` answer. An address that cannot be had is logged: then the result is undefined. */
export async function serveConsole(
  address: BindAddress,
  env: NodeJS.ProcessEnv,
  routes: readonly Route[],
  logger: Logger,
): Promise<WebServer | undefined> {
  try {
    const { credentialsOf } = await import('../web/dashboard/access.ts');
    const { createHandler } = await import('../web/dashboard/handler.ts');
    const { OwnSource } = await import('../web/dashboard/source.ts');
    const { isLoopback } = await import('../web/bind-address.ts');
    const { LocalAccess } = await import('../web/dashboard/local-access.ts');
    const { serve } = await import('../web/serve.ts');
    const credentials = credentialsOf(env);
    const local = isLoopback(address.host);
    const handler = createHandler({
      source: new OwnSource(routes),
      auth: credentials ?? (local ? new LocalAccess({ hint: LOGIN_HINT }) : undefined),
      logger,
    });
    const fetch = (request: Request): Promise<Response> => handler.fetch(request);
    const server = await serve({ address, fetch, logger });
    logger.info('serving metrics on', { url: `${server.url}metrics` });
    if (credentials || local) logger.info('serving dashboard on', { url: server.url });
    else {
      const remedy = 'set LITESTREAM_USERNAME and LITESTREAM_PASSWORD';
      logger.warn('no dashboard beyond this machine without a password', { remedy });
    }
    return {
      url: server.url,
      async close() {
        await handler.close();
        await server.close();
      },
    };
  } catch (error) {
    logger.error('cannot start metrics server', { error: messageOf(error) });
    return undefined;
  }
}
