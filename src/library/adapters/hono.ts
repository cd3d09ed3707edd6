/** For Hono on Node.js: `app.all('/litestream/*', requireAdmin, dashboard({ path: '/litestream', auth: 'none' }))`. */

import type { Context } from 'hono';
import { type Dashboard, type DashboardOptions, createDashboard } from '../dashboard.ts';
import { type FetchHandler, answerUnder, baseOf } from '../../web/fetch-handler.ts';

export type { DashboardOptions } from '../dashboard.ts';
export type { FetchHandler } from '../../web/fetch-handler.ts';

/** The dashboard for the route `PATH/*`. */
export function dashboard(
  options: DashboardOptions & { readonly path: string },
): ((context: Context) => Promise<Response>) & Pick<Dashboard, 'close'> {
  const { path, ...rest } = options;
  const board = createDashboard(rest);
  return Object.assign(toHonoHandler(board.fetch, path), { close: board.close });
}

/** A handler for the route `PATH/*`, which gives what stands there to a fetch handler. */
export function toHonoHandler(handler: FetchHandler, path: string): (context: Context) => Promise<Response> {
  return ({ req }) => answerUnder(handler, req.raw, baseOf(req.raw, path));
}
