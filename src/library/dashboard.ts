/** The dashboard for adapters: it knows its databases as the other functions of the library do. */

import type { Authentication, DashboardHandler } from '../web/dashboard/dashboard.ts';
import type { DashboardAppearance } from '../web/dashboard/handler.ts';
import { type LogTarget, engineLogger, logSink } from './log.ts';
import { type ConfigOptions, resolveConfig } from './source.ts';

export interface DashboardOptions extends ConfigOptions, DashboardAppearance {
  /**
   * Who may see it: a name and a password, a function of the request, or `'none'` behind the application's own authentication.
   * Default: LITESTREAM_USERNAME and LITESTREAM_PASSWORD; without them nobody.
   */
  readonly auth?: Authentication;
  /** Shows everything and does nothing. */
  readonly readOnly?: boolean | undefined;
  /** Default: warnings and errors to standard error. */
  readonly logger?: LogTarget | undefined;
}

export interface Dashboard {
  /** Never rejects. */
  readonly fetch: (request: Request) => Promise<Response>;
  /** Ends live connections, and restores that run in this process. */
  readonly close: () => Promise<void>;
}

/**
 * The dashboard as a fetch handler at the root of its path; adapters mount it. Nothing is read before the first request, and
 * what is wrong with the config is the answer to requests until it is mended.
 */
export function createDashboard(options: DashboardOptions = {}): Dashboard {
  let opened: ReturnType<typeof open> | undefined;
  let explain: ReturnType<typeof explainer> | undefined;
  return {
    async fetch(request) {
      opened ??= open(options);
      try {
        return await (await opened).fetch(request);
      } catch (error) {
        opened = undefined;
        explain ??= explainer(options);
        try {
          return await (
            await explain
          )(request, error);
        } catch (wrong) {
          const { errorResponse } = await import('../web/dashboard/responses.ts');
          return errorResponse(wrong);
        }
      }
    },
    async close() {
      await (await opened?.catch(() => undefined))?.close();
    },
  };
}

/**
 * The answer while the config is wrong. It names paths and hosts: what is wrong with it is told to who may see the dashboard. The result
 * is to be kept, as it counts wrong passwords.
 */
async function explainer(
  options: DashboardOptions,
): Promise<(request: Request, error: unknown) => Promise<Response>> {
  const { errorResponse } = await import('../web/dashboard/responses.ts');
  const { credentialsOf } = await import('../web/dashboard/access.ts');
  const { accessBy } = await import('../web/dashboard/gate.ts');
  const accessOf = accessBy(options.auth ?? credentialsOf({ ...process.env, ...options.env }));
  return async (request, error) => {
    const access = await accessOf(request);
    return access instanceof Response ? access : errorResponse(error);
  };
}

async function open(options: DashboardOptions): Promise<DashboardHandler> {
  const { auth, readOnly, title, logo, css, footer } = options;
  const { createDashboard: create } = await import('../web/dashboard/dashboard.ts');
  const { config, env } = await resolveConfig(options);
  const sink = logSink(options.logger);
  const logger =
    options.logger === undefined
      ? engineLogger((entry) => {
          if (entry.level === 'warn' || entry.level === 'error') sink(entry);
        })
      : engineLogger(sink);
  const given = auth === undefined ? {} : { auth };
  return create({ ...given, readOnly, title, logo, css, footer, databases: config.databases, env, logger });
}
