/** For `node:http` and everything that has its requests and responses: the base of most adapters. */

import { type NodeHandler, toNodeHandler } from '../../web/node-http.ts';
import { type Dashboard, type DashboardOptions, createDashboard } from '../dashboard.ts';

export type { FetchHandler } from '../../web/fetch-handler.ts';
export { type NodeHandler, type NodeHandlerOptions, serve, toNodeHandler } from '../../web/node-http.ts';
export { type Dashboard, type DashboardOptions, createDashboard } from '../dashboard.ts';

/** The dashboard as a handler: `createServer(dashboard({ path: '/litestream' }))`. */
export function dashboard(
  options: DashboardOptions & { readonly path?: string | undefined } = {},
): NodeHandler & Pick<Dashboard, 'close'> {
  const { path, ...rest } = options;
  const board = createDashboard(rest);
  const base = path === undefined ? {} : { base: path };
  return Object.assign(toNodeHandler(board.fetch, base), { close: board.close });
}
