/** `sync()` and `waitForSync()`: that everything committed is stored, asked of the process that replicates. */

import { setTimeout as sleep } from 'node:timers/promises';
import { timeoutSignal } from '../base/concurrency.ts';
import { LitestreamError, hasCode, messageOf } from '../base/errors.ts';
import { UnreachableError, callControl } from '../control/client.ts';
import { findSocket } from '../control/find-socket.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import { type ConfigOptions, databaseOf, resolveConfig } from './source.ts';

const DEFAULT_TIMEOUT_MS = 30_000;
/** The other side gives up first, and says why. */
const GRACE_MS = 5000;
const RETRY_MS = 100;

export interface SyncOptions extends ConfigOptions {
  /** Only this database of the config. Default: all. */
  readonly database?: string | undefined;
  /** How long it may take. Default: 30000. */
  readonly timeoutMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Has the running `replicate` store what is committed, without regard to sync-interval. Resolves when that has begun.
 * @throws LitestreamError 'not-found' when nothing replicates the database, and what `replicate` says
 */
export async function sync(options: SyncOptions = {}): Promise<void> {
  await syncAll(await databasesOf(options), false, options);
}

/**
 * Resolves when everything that is committed now can be restored from every replica. Waits also for a `replicate` that
 * starts or is being restarted meanwhile.
 * @throws LitestreamError 'timeout' with what is missing, 'aborted'
 */
export async function waitForSync(options: SyncOptions = {}): Promise<void> {
  const { timeoutMs = DEFAULT_TIMEOUT_MS, signal } = options;
  const databases = await databasesOf(options);
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const leftMs = deadline - performance.now();
    try {
      await syncAll(databases, true, { timeoutMs: Math.max(1, leftMs), signal });
      return;
    } catch (error) {
      if (signal?.aborted === true) throw new LitestreamError('aborted', 'waiting for a sync was given up');
      if (!mayPass(error)) throw error;
      if (leftMs <= RETRY_MS)
        throw new LitestreamError('timeout', `not synced in time: ${messageOf(error)}`, { cause: error });
    }
    await sleep(RETRY_MS);
  }
}

/** Whether it ends by itself when `replicate` starts, or its database is there. */
function mayPass(error: unknown): boolean {
  return (
    error instanceof UnreachableError ||
    hasCode(error, 'not-found', 'busy', 'aborted', 'unavailable', 'io', 'timeout')
  );
}

async function databasesOf(options: SyncOptions): Promise<readonly DatabaseOptions[]> {
  const { config } = await resolveConfig(options);
  if (options.database !== undefined) return [await databaseOf(config, options)];
  if (config.databases.length === 0) throw new LitestreamError('config', 'no databases in config');
  return config.databases;
}

async function syncAll(
  databases: readonly DatabaseOptions[],
  wait: boolean,
  { timeoutMs = DEFAULT_TIMEOUT_MS, signal }: SyncOptions,
): Promise<void> {
  const limit = timeoutSignal(timeoutMs + GRACE_MS);
  const calls = databases.map(async (database) => {
    await callControl(await findSocket(database), {
      method: 'POST',
      path: '/sync',
      body: { database: database.path, wait, timeoutMs },
      signal: signal === undefined ? limit : AbortSignal.any([limit, signal]),
    });
  });
  for (const result of await Promise.allSettled(calls)) {
    if (result.status === 'rejected') throw result.reason;
  }
}
