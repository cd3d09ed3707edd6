/**
 * The dashboard as one fetch-style handler, for any framework and under any prefix. It may run in a web server: it opens no
 * database, and asks the running `replicate` for everything; only when none runs, it asks the replicas.
 */

import { type Logger, createLogger } from '../../base/logger.ts';
import type { DatabaseOptions } from '../../engine/options.ts';
import { openStore } from '../../storage/registry.ts';
import { type Authentication, credentialsOf } from './access.ts';
import type { LocalAccess } from './local-access.ts';
import { type DashboardAppearance, type DashboardHandler, createHandler } from './handler.ts';
import { ReplicatedSource } from './source.ts';

export type { Authentication, Credentials } from './access.ts';
export type { DashboardAppearance, DashboardHandler } from './handler.ts';

export interface DashboardOptions extends DashboardAppearance {
  readonly databases: readonly DatabaseOptions[];
  /** What the paths of requests begin with, such as `/admin/litestream`; default: nothing. */
  readonly basePath?: string | undefined;
  /**
   * Who may see it: a name and a password, a function, or `'none'` behind a login of the application's. Default:
   * LITESTREAM_USERNAME and LITESTREAM_PASSWORD; without them nobody, except for `/metrics`, `/healthz` and `/readyz`.
   */
  readonly auth?: Authentication | LocalAccess;
  /** Shows everything and does nothing. */
  readonly readOnly?: boolean | undefined;
  /** Default: errors to standard error. */
  readonly logger?: Logger | undefined;
  /** Default: the process's. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/**
 * Makes the dashboard; nothing is asked before the first request.
 * @throws LitestreamError 'config' when one of LITESTREAM_USERNAME and LITESTREAM_PASSWORD is missing, 'not-found' when the
 *   package was not built
 */
export function createDashboard(options: DashboardOptions): DashboardHandler {
  const { databases, env = process.env } = options;
  const logger =
    options.logger ??
    createLogger({ format: 'text', level: 'WARN', write: (line) => void process.stderr.write(line) });
  const auth = options.auth ?? credentialsOf(env);
  const source = new ReplicatedSource({ databases, openStore: (store) => openStore(store), logger });
  return createHandler({ ...options, source, auth, logger });
}
