/** For Express: `app.use('/litestream', requireAdmin, dashboard({ auth: 'none' }))`. Connect and Restify take it, too. */

export { dashboard, toNodeHandler, type FetchHandler, type NodeHandler } from './node.ts';
export type { Dashboard, DashboardOptions } from '../dashboard.ts';
