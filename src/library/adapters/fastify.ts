/**
 * For Fastify: `app.register(dashboard, { prefix: '/litestream', auth: 'none' })`, in a context whose hooks ask who it is.
 */

import type { FastifyPluginAsync } from 'fastify';
import { type DashboardOptions, createDashboard } from '../dashboard.ts';
import type { FetchHandler } from '../../web/fetch-handler.ts';
import { serve } from './node.ts';

export type { DashboardOptions } from '../dashboard.ts';
export type { FetchHandler } from '../../web/fetch-handler.ts';

/** The dashboard as a plugin, at the `prefix` that it is registered with. It is closed with the application. */
export const dashboard: FastifyPluginAsync<DashboardOptions> = async (app, options) => {
  const board = createDashboard(options);
  app.addHook('preClose', () => board.close());
  await app.register(toFastifyPlugin(board.fetch));
};

/** A plugin that gives all requests under its prefix to a fetch handler, after the hooks of the application. */
export function toFastifyPlugin(handler: FetchHandler): FastifyPluginAsync {
  return (app) => {
    // The handler reads the body itself.
    app.removeAllContentTypeParsers();
    app.addContentTypeParser('*', (_request, _payload, done) => done(null));
    const base = app.prefix;
    for (const url of ['/', '/*']) {
      app.all(url, async (request, reply) => {
        reply.hijack();
        for (const [name, value] of Object.entries(reply.getHeaders())) {
          if (value !== undefined) reply.raw.setHeader(name, value);
        }
        try {
          await serve(handler, request.raw, reply.raw, { base, originalUrl: request.originalUrl });
        } catch (error) {
          request.log.error(error);
          if (reply.raw.headersSent) reply.raw.destroy();
          else reply.raw.writeHead(500, { 'content-type': 'text/plain' }).end('internal server error\n');
        }
      });
    }
    return Promise.resolve();
  };
}
