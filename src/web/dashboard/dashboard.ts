/**
 * The dashboard as one fetch-style handler, for any framework and under any prefix. It may run in a web server: it opens no
 * database, and asks the running `replicate` for everything; only when none runs, it asks the replicas.
 */

import { createLogger, type Logger } from '../../base/logger.ts';
import { exportCredentials, findConfigPath, loadConfig } from '../../config/index.ts';
import type { DatabaseOptions } from '../../engine/options.ts';
import { openStore } from '../../storage/registry.ts';
import { type Authentication, credentialsOf } from './access.ts';
import { type DashboardAppearance, type DashboardHandler, createHandler } from './handler.ts';
import { describeError, errorResponse } from './responses.ts';
import { ReplicatedSource } from './source.ts';

export type { Authentication, Credentials } from './access.ts';
export type { DashboardAppearance, DashboardHandler } from './handler.ts';

export interface DashboardOptions extends DashboardAppearance {
  /** The config file; default: where the commands find it. It is read at the first request. */
  readonly config?: string | undefined;
  /** In place of a config file. */
  readonly databases?: readonly DatabaseOptions[] | undefined;
  /** What the paths of requests begin with, such as `/admin/litestream`; default: nothing. */
  readonly basePath?: string | undefined;
  /**
   * Who may see it: a name and a password, a function, or `'none'` behind a login of the application's. Default:
   * LITESTREAM_USERNAME and LITESTREAM_PASSWORD; without them nobody, except for `/metrics`, `/healthz` and `/readyz`.
   */
  readonly auth?: Authentication;
  /** Shows everything and does nothing. */
  readonly readOnly?: boolean | undefined;
  /** Default: errors to standard error. */
  readonly logger?: Logger | undefined;
  /** Default: the process's. */
  readonly env?: Readonly<Record<string, string | undefined>> | undefined;
}

/**
 * Makes the dashboard; nothing is read or asked before the first request. What cannot be had is the answer to a request, never an
 * exception.
 * @throws LitestreamError 'config' when one of LITESTREAM_USERNAME and LITESTREAM_PASSWORD is missing
 */
export function createDashboard(options: DashboardOptions = {}): DashboardHandler {
  const env = options.env ?? process.env;
  const logger =
    options.logger ??
    createLogger({ format: 'text', level: 'WARN', write: (line) => void process.stderr.write(line) });
  const auth = options.auth ?? credentialsOf(env);
  let opened: Promise<DashboardHandler> | undefined;
  const open = async (): Promise<DashboardHandler> => {
    const databases = options.databases ?? (await configured(options.config, env));
    const source = new ReplicatedSource({ databases, openStore: (store) => openStore(store), logger });
    return createHandler({ ...options, source, auth, logger });
  };
  return {
    async fetch(request) {
      opened ??= open();
      try {
        return await (await opened).fetch(request);
      } catch (error) {
        // A config file that was mended is read again.
        opened = undefined;
        logger.error('dashboard', { error: describeError(error) });
        return errorResponse(error);
      }
    },
    async close() {
      await (await opened?.catch(() => undefined))?.close();
    },
  };
}

async function configured(
  config: string | undefined,
  env: Readonly<Record<string, string | undefined>>,
): Promise<readonly DatabaseOptions[]> {
  const cwd = process.cwd();
  const own = { ...env };
  exportCredentials(own);
  const path = findConfigPath(config, own, cwd);
  return (await loadConfig(path, { expandEnv: true, env: own, cwd })).databases;
}
