/** For Koa: `app.use(dashboard({ path: '/litestream', auth: 'none' }))`, after the middleware that asks who it is. */

import type { Middleware } from 'koa';
import { type Dashboard, type DashboardOptions, createDashboard } from '../dashboard.ts';
import { type FetchHandler, trimBase } from '../../web/fetch-handler.ts';
import { serve } from './node.ts';

export type { DashboardOptions } from '../dashboard.ts';
export type { FetchHandler } from '../../web/fetch-handler.ts';

/** The dashboard at `path`; without one at the root, as under koa-mount. */
export function dashboard(
  options: DashboardOptions & { readonly path?: string | undefined } = {},
): Middleware & Pick<Dashboard, 'close'> {
  const { path, ...rest } = options;
  const board = createDashboard(rest);
  return Object.assign(toKoaMiddleware(board.fetch, path), { close: board.close });
}

/** A middleware that gives all requests under `path` to a fetch handler, and the others on. */
export function toKoaMiddleware(handler: FetchHandler, path = ''): Middleware {
  const own = trimBase(path);
  return async (context, next) => {
    if (context.path !== own && !context.path.startsWith(`${own}/`)) {
      await next();
      return;
    }
    const { originalUrl } = context;
    const whole = originalUrl.split('?', 1)[0] ?? '';
    // What koa-mount has cut off stands before what is left of the path.
    const cut = whole.endsWith(context.path) ? whole.slice(0, whole.length - context.path.length) : whole;
    const { rawBody, body } = context.request as { rawBody?: unknown; body?: unknown };
    context.respond = false;
    await serve(handler, context.req, context.res, {
      base: `${cut}${own}`,
      originalUrl,
      body: rawBody ?? body,
    });
  };
}
