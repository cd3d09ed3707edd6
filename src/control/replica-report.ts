/**
 * What a replica itself tells of a replication that cannot be asked: when it was last written to, compared with the WAL
 * beside the database. An estimate, and called one.
 */

import { stat } from 'node:fs/promises';
import { messageOf } from '../base/errors.ts';
import { listGenerations, listSegments, listSnapshots } from '../engine/catalog.ts';
import type { DatabaseOptions, ReplicaOptions } from '../engine/options.ts';
import { patienceMs } from '../engine/status.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { StoreConfig } from '../storage/store-config.ts';

export interface ReplicaReport {
  readonly name: string;
  readonly type: string;
  /** When the store got its newest object, in ISO 8601; null: it has none, or that is not known. */
  readonly newestObjectAt: string | null;
  /** Age of the last change of the WAL if the replica has nothing as new; 0 when it has; null when that is not known. */
  readonly lagMs: number | null;
  readonly healthy: boolean;
  /** Why it is not known, or not healthy. */
  readonly reason: string | null;
}

export type OpenStore = (config: StoreConfig) => Promise<ObjectStore>;

/** One report for each replica, in the order of the config. Never rejects; ends soon after `signal` fires. */
export async function reportOnReplicas(
  database: DatabaseOptions,
  openStore: OpenStore,
  signal: AbortSignal,
): Promise<ReplicaReport[]> {
  const changedAtMs = await lastChangeMs(database.path);
  return Promise.all(
    database.replicas.map((replica) =>
      within(signal, report(replica, changedAtMs, openStore, signal), (reason) =>
        unknown(replica, null, reason),
      ),
    ),
  );
}

async function report(
  replica: ReplicaOptions,
  changedAtMs: number | undefined,
  openStore: OpenStore,
  signal: AbortSignal,
): Promise<ReplicaReport> {
  const { name, store, syncIntervalMs } = replica;
  const newestMs = await newestObjectMs(await openStore(store), signal);
  if (newestMs === undefined) return unknown(replica, null, 'the replica holds nothing');
  const newestObjectAt = new Date(newestMs).toISOString();
  if (changedAtMs === undefined)
    return unknown(replica, newestObjectAt, 'the database is not to be seen here');
  // Many stores tell whole seconds, rounded down: what was committed in that second may be in the object.
  const roundedMs = newestMs % 1000 === 0 ? 1000 : 0;
  const lagMs = changedAtMs < newestMs + roundedMs ? 0 : Math.round(Date.now() - changedAtMs);
  const healthy = lagMs <= patienceMs(syncIntervalMs);
  const reason = healthy ? null : 'the wal has changed since the newest object was stored';
  return { name, type: store.type, newestObjectAt, lagMs, healthy, reason };
}

function unknown(
  { name, store }: ReplicaOptions,
  newestObjectAt: string | null,
  reason: string,
): ReplicaReport {
  return { name, type: store.type, newestObjectAt, lagMs: null, healthy: false, reason };
}

async function newestObjectMs(store: ObjectStore, signal: AbortSignal): Promise<number | undefined> {
  try {
    const times: number[] = [];
    for (const generation of await listGenerations(store, { signal })) {
      for (const list of [listSnapshots, listSegments]) {
        for (const { createdAt } of await list(store, generation, { signal }))
          times.push(createdAt.getTime());
      }
    }
    return times.length === 0 ? undefined : times.reduce((a, b) => Math.max(a, b));
  } finally {
    await store.close();
  }
}

/** When the WAL was written last; the database file without one. */
async function lastChangeMs(path: string): Promise<number | undefined> {
  for (const file of [`${path}-wal`, path]) {
    const found = await stat(file).catch(() => undefined);
    if (found && found.size > 0) return found.mtimeMs;
  }
  return undefined;
}

/** `promise`, or what `otherwise` makes of its failure or of `signal`. */
async function within<T>(
  signal: AbortSignal,
  promise: Promise<T>,
  otherwise: (reason: string) => T,
): Promise<T> {
  const late = new Promise<T>((resolve) => {
    const give = (): void => resolve(otherwise('the store did not answer in time'));
    if (signal.aborted) give();
    else signal.addEventListener('abort', give, { once: true });
  });
  const settled = promise.catch((error: unknown) => otherwise(messageOf(error)));
  return Promise.race([settled, late]);
}
