/** `restore()` and `restoreIfMissing()`: they run in the application's process and touch no database that is there. */

import { stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError, hasCode, systemCode, wrapError } from '../base/errors.ts';
import type { DatabaseOptions, ReplicaOptions } from '../engine/options.ts';
import type { RestoreProgress, RestoreRequest } from '../engine/restore.ts';
import { hostFolder } from '../control/socket-path.ts';
import { type EnabledOptions, whyOff } from './enabled.ts';
import { type LogSink, type LogTarget, engineLogger, logSink } from './log.ts';
import {
  type ConfigOptions,
  type ReplicaSource,
  databaseOf,
  resolveConfig,
  resolveSource,
} from './source.ts';

const DEFAULT_PARALLELISM = 8;
const LOCK_POLL_MS = 100;

interface RestoreCallbacks {
  /** Called often: after each piece that arrived and each segment that was applied. */
  readonly onProgress?: ((progress: RestoreProgress) => void) | undefined;
  /** Ends the restore; nothing is left behind. */
  readonly signal?: AbortSignal | undefined;
  /** Default: nothing is logged. */
  readonly logger?: LogTarget | undefined;
}

export interface RestoreOptions extends ReplicaSource, RestoreCallbacks {
  /** Where to write the database; nothing may be there. Default: beside the database, with the time in its name. */
  readonly output?: string | undefined;
  /** Restores to where the database was, which must be gone: only a process of its own may replace one, `litestream restore`. */
  readonly inPlace?: boolean | undefined;
  /** The state of this moment. At most one of timestamp and index; neither: the latest. */
  readonly timestamp?: Date | undefined;
  /** Up to and including this WAL index. */
  readonly index?: number | undefined;
  /** Default: the one with the newest data. */
  readonly generation?: string | undefined;
  /** Objects to download at once. Default: 8. */
  readonly parallelism?: number | undefined;
}

/**
 * Restores a database and resolves to the path of the new file. On failure and on abort nothing is left behind.
 * @throws LitestreamError 'no-backup', 'exists' when something is in the way, 'gap' and 'corrupt' when objects are missing
 *   or damaged, 'aborted', 'usage', 'config'
 */
export async function restore(options: RestoreOptions = {}): Promise<string> {
  if (options.timestamp !== undefined && options.index !== undefined) {
    throw new LitestreamError('usage', 'give either timestamp or index');
  }
  const { database, replicas } = await resolveSource(options);
  const outputPath = outputOf(options, database);
  const { generation, index, timestamp } = options;
  await restoreTo(outputPath, replicas, options, {
    ...(generation === undefined ? {} : { generation }),
    ...(index === undefined ? {} : { index }),
    ...(timestamp === undefined ? {} : { timestamp }),
    parallelism: Math.max(1, options.parallelism ?? DEFAULT_PARALLELISM),
  });
  return outputPath;
}

function outputOf({ output, inPlace }: RestoreOptions, database: DatabaseOptions | undefined): string {
  if (output !== undefined && inPlace === true)
    throw new LitestreamError('usage', 'give either output or inPlace');
  if (output !== undefined) return resolve(output);
  if (database === undefined) throw new LitestreamError('usage', 'a replica URL needs an output');
  return inPlace === true ? database.path : siblingOf(database.path, new Date());
}

/** `app.db` to `app-20260115T103000123Z.db`. */
function siblingOf(path: string, time: Date): string {
  const extension = extname(path);
  const stamp = time.toISOString().replaceAll(/[-:.]/g, '');
  return join(dirname(path), `${basename(path, extension)}-${stamp}${extension}`);
}

type Wanted = Omit<RestoreRequest, 'replicas' | 'outputPath' | 'logger' | 'signal' | 'onProgress'>;

async function restoreTo(
  outputPath: string,
  replicas: readonly ReplicaOptions[],
  { logger, signal, onProgress }: RestoreCallbacks,
  wanted: Wanted,
): Promise<void> {
  const [{ restore: run }, { openStore }] = await Promise.all([
    import('../engine/restore.ts'),
    import('../storage/registry.ts'),
  ]);
  const log = engineLogger(logger === undefined ? () => undefined : logSink(logger));
  const warn = (message: string): void => log.warn(message);
  const stores = await Promise.all(
    replicas.map(async ({ name, store }) => ({ name, store: await openStore(store, { warn }) })),
  );
  try {
    const callbacks = onProgress === undefined ? {} : { onProgress };
    await run({ ...wanted, ...callbacks, replicas: stores, outputPath, signal, logger: log });
  } finally {
    await Promise.all(stores.map(({ store }) => store.close()));
  }
}

export interface RestoreIfMissingOptions extends ConfigOptions, EnabledOptions, RestoreCallbacks {
  /** Only this database of the config. Default: all. */
  readonly database?: string | undefined;
}

export interface MissingDatabase {
  readonly path: string;
  /** False: there is no backup of it, so it is new. */
  readonly restored: boolean;
}

/**
 * Restores the databases of the config that are not there, as on a new server: to be awaited before the application opens
 * them. When several processes of this host call it, one restores and the others wait. Where replication is off (see
 * `enabled`), nothing happens.
 * @returns the databases that were not there, in the order of the config
 * @throws LitestreamError when it cannot be found out whether there is a backup, or it cannot be restored: opening the
 *   database then would make an empty one
 */
export async function restoreIfMissing(options: RestoreIfMissingOptions = {}): Promise<MissingDatabase[]> {
  const log = logSink(options.logger);
  const off = whyOff(options, { ...process.env, ...options.env });
  if (off !== undefined) {
    log({ level: off.level, message: 'litestream restores nothing', attributes: { reason: off.reason } });
    return [];
  }
  const { config } = await resolveConfig(options);
  const chosen = options.database === undefined ? config.databases : [await databaseOf(config, options)];
  const results: MissingDatabase[] = [];
  for (const database of chosen) {
    const result = await restoreMissing(database, options, log);
    if (result !== undefined) results.push(result);
  }
  return results;
}

async function restoreMissing(
  { path, replicas }: DatabaseOptions,
  { onProgress, signal, logger }: RestoreCallbacks,
  log: LogSink,
): Promise<MissingDatabase | undefined> {
  if (await exists(path)) return undefined;
  const lock = await lockRestore(path, signal);
  try {
    if (await exists(path)) return { path, restored: true };
    const callbacks = { onProgress, signal, logger: logger ?? log };
    await restoreTo(path, replicas, callbacks, { parallelism: DEFAULT_PARALLELISM });
    return { path, restored: true };
  } catch (error) {
    if (!hasCode(error, 'no-backup')) throw wrapError(error, `restore missing database ${path}`);
    log({
      level: 'info',
      message: 'there is no backup of this database: it is new',
      attributes: { db: path },
    });
    return { path, restored: false };
  } finally {
    lock.release();
  }
}

async function exists(path: string): Promise<boolean> {
  const stats = await stat(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw wrapError(error, `stat ${path}`);
  });
  if (stats === undefined || stats.isFile()) return stats !== undefined;
  throw new LitestreamError(
    'exists',
    `${path} is in the place of the database and is not a file: move it away`,
  );
}

/** One restore of a database at a time on this host. The kernel frees the lock of a process that was killed. */
async function lockRestore(path: string, signal: AbortSignal | undefined): Promise<{ release(): void }> {
  const folder = hostFolder(`restore ${path}`);
  if (folder === undefined) return { release: () => undefined };
  const { DatabaseLock } = await import('../engine/database-lock.ts');
  for (;;) {
    throwIfAborted(signal);
    try {
      return new DatabaseLock(folder, path);
    } catch (error) {
      if (!hasCode(error, 'busy')) throw error;
    }
    await sleep(LOCK_POLL_MS);
  }
}
