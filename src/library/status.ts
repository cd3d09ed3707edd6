/** `status()` and `databases()`: how replication is, seen from another process. */

import { statusReport, type StatusReport } from '../control/status-report.ts';
import { survey } from '../control/survey.ts';
import { describeLocation } from '../config/check.ts';
import { type ConfigOptions, databaseOf, resolveConfig } from './source.ts';

const SOCKET_TIMEOUT_MS = 5000;
const REPLICA_TIMEOUT_MS = 10_000;

export interface StatusOptions extends ConfigOptions {
  /** Only this database of the config. Default: all. */
  readonly database?: string | undefined;
}

/**
 * What `litestream status -json` prints, see docs/status.md. Ends in time whatever hangs.
 * @throws LitestreamError 'config', 'usage', 'not-found' only
 */
export async function status(options: StatusOptions = {}): Promise<StatusReport> {
  const { config } = await resolveConfig(options);
  const { openStore } = await import('../storage/registry.ts');
  return statusReport(
    await survey({
      databases: options.database === undefined ? config.databases : [await databaseOf(config, options)],
      openStore: (store) => openStore(store),
      socketTimeoutMs: SOCKET_TIMEOUT_MS,
      replicaTimeoutMs: REPLICA_TIMEOUT_MS,
    }),
  );
}

export interface ConfiguredDatabase {
  readonly path: string;
  readonly replicas: readonly ConfiguredReplica[];
}

export interface ConfiguredReplica {
  readonly name: string;
  readonly type: string;
  /** Without secrets. */
  readonly location: string;
}

/** The databases of the config and their replicas, in its order. @throws LitestreamError 'config', 'usage' */
export async function databases(options: ConfigOptions = {}): Promise<ConfiguredDatabase[]> {
  const { config } = await resolveConfig(options);
  return config.databases.map(({ path, replicas }) => ({
    path,
    replicas: replicas.map(({ name, store }) => ({
      name,
      type: store.type,
      location: describeLocation(store),
    })),
  }));
}
