/** Lists what replicas hold, for the planner. A replica that cannot be listed does not stop the others. */

import { Semaphore } from '../base/concurrency.ts';
import { hasCode, wrapError, type LitestreamError } from '../base/errors.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { listGenerations, listSegments, listSnapshots } from './catalog.ts';
import type { GenerationListing, ReplicaListing } from './restore-plan.ts';

export interface NamedStore {
  readonly name: string;
  readonly store: ObjectStore;
}

export interface ListOptions {
  /** Only this generation; undefined: all. */
  readonly generation: string | undefined;
  /** Requests at once for each replica. */
  readonly parallelism: number;
  readonly signal?: AbortSignal | undefined;
}

export interface Listings {
  /** In the order of the replicas. */
  readonly listed: readonly ReplicaListing[];
  readonly failed: readonly { readonly name: string; readonly error: LitestreamError }[];
}

/** Lists all replicas at once. @throws LitestreamError 'aborted' only */
export async function listReplicas(replicas: readonly NamedStore[], options: ListOptions): Promise<Listings> {
  const outcomes = await Promise.allSettled(replicas.map(({ store }) => listReplica(store, options)));
  const listed: ReplicaListing[] = [];
  const failed: { name: string; error: LitestreamError }[] = [];
  for (const [i, outcome] of outcomes.entries()) {
    const replica = replicas[i];
    if (replica === undefined) continue;
    const { name, store } = replica;
    if (outcome.status === 'fulfilled') {
      listed.push({ name, generations: outcome.value });
      continue;
    }
    const error = wrapError(outcome.reason, `list replica ${name} at ${store.location}`);
    if (hasCode(error, 'aborted')) throw error;
    failed.push({ name, error });
  }
  return { listed, failed };
}

async function listReplica(
  store: ObjectStore,
  { generation, parallelism, signal }: ListOptions,
): Promise<GenerationListing[]> {
  const generations = await listGenerations(store, { signal });
  const wanted = generations.filter((name) => generation === undefined || name === generation);
  const requests = new Semaphore(parallelism);
  return Promise.all(
    wanted.map(async (name) => {
      // Snapshots first: retention deletes them last, so that the segments of a listed snapshot are not older news.
      const snapshots = await requests.run(() => listSnapshots(store, name, { signal }), { signal });
      const segments = await requests.run(() => listSegments(store, name, { signal }), { signal });
      return { generation: name, snapshots, segments };
    }),
  );
}
