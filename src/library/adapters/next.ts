/**
 * For Next.js. Replication in `instrumentation.ts`:
 * `if (process.env.NEXT_RUNTIME === 'nodejs') (await import('litestream-ts/next')).register()`; the dashboard as the route
 * handler `app/litestream/[[...path]]/route.ts`.
 */

import { type Dashboard, type DashboardOptions, createDashboard } from '../dashboard.ts';
import { type Replication, type ReplicationOptions, startReplication } from '../replication.ts';
import { type FetchHandler, answerUnder, baseOf } from '../../web/fetch-handler.ts';

export type { DashboardOptions } from '../dashboard.ts';
export type { ReplicationOptions } from '../replication.ts';

/** Starts replication in the server of Next.js, and says why it starts nothing in its builds and its Edge runtime. */
export function register(options: ReplicationOptions = {}): Replication {
  return startReplication(options);
}

/** What a `route.ts` exports under the name of a method. */
export type RouteHandler = (request: Request) => Promise<Response>;

/** A route handler at `path`, which gives what stands there to a fetch handler. */
export function toRouteHandler(handler: FetchHandler, path: string): RouteHandler {
  return (request) => answerUnder(handler, request, baseOf(request, path));
}

/** The route handlers of the dashboard: `export const { GET, HEAD, POST } = dashboard({ path: '/litestream' })`. */
export function dashboard(
  options: DashboardOptions & { readonly path: string },
): Record<'GET' | 'HEAD' | 'POST', RouteHandler> & Pick<Dashboard, 'close'> {
  const { path, ...rest } = options;
  const board = createDashboard(rest);
  const handle = toRouteHandler(board.fetch, path);
  return { GET: handle, HEAD: handle, POST: handle, close: board.close };
}
