/** Lists what replicas hold, for the planner. A replica that cannot be listed does not stop the others. */

import { Semaphore } from '../base/concurrency.ts';
import { hasCode, wrapError, type LitestreamError } from '../base/errors.ts';
import type { Position } from '../format/position.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { isPlaintextRefusal } from '../base/plaintext-refusal.ts';
import { listGenerations, listSegments, listSnapshots } from './catalog.ts';
import type { PathFinder } from './path-finder.ts';
import { readOrigin } from './read-origin.ts';
import {
  GapError,
  type GenerationListing,
  type Reach,
  type ReplicaListing,
  type RestoreTarget,
} from './restore-plan.ts';
import { readReach } from './restore-reach.ts';
import { withoutStrays } from './stray-objects.ts';

export interface NamedStore {
  readonly name: string;
  readonly store: ObjectStore;
}

export interface ListOptions {
  /** Only this generation; undefined: all. */
  readonly generation: string | undefined;
  /** Requests at once for each replica. */
  readonly parallelism: number;
  /** What is to be restored: where listings cannot tell what belongs to it, the objects are asked. */
  readonly target: RestoreTarget;
  readonly signal?: AbortSignal | undefined;
  /** Where segments do not simply follow each other. */
  readonly finder?: PathFinder | undefined;
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
  return needReach(listed, options) ? addReach(replicas, { listed, failed }, options) : { listed, failed };
}

/** Whether more than listings is needed to know what belongs to the target. */
function needReach(listed: readonly ReplicaListing[], { target, generation }: ListOptions): boolean {
  if (target.timestamp !== undefined || target.upTo !== undefined) return true;
  // Which of them is the freshest.
  if (listed.length > 1) return true;
  return generation === undefined && generationsOf(listed).size > 1;
}

function generationsOf(listed: readonly ReplicaListing[]): ReadonlySet<string> {
  return new Set(listed.flatMap(({ generations }) => generations.map(({ generation }) => generation)));
}

async function addReach(
  replicas: readonly NamedStore[],
  { listed, failed }: Listings,
  { target, parallelism, signal, finder, generation: asked }: ListOptions,
): Promise<Listings> {
  const requests = new Semaphore(parallelism);
  const isExact = target.timestamp !== undefined || target.upTo !== undefined;
  // Which of them is the latest.
  const isOrdered = target.upTo === undefined && generationsOf(listed).size > 1;
  const lenient = target.bestEffort === true || (!isExact && generationsOf(listed).size === 1);
  const refused: { name: string; error: LitestreamError }[] = [];
  const outcomes = await Promise.allSettled(
    listed.map(async ({ name, generations }) => {
      const store = replicas.find((replica) => replica.name === name)?.store;
      if (store === undefined) return { name, generations };
      const read = async (all: GenerationListing): Promise<GenerationListing | undefined> => {
        const listing = finder?.follow(name, all) ?? all;
        const reading = (): Promise<Reach | undefined> => readReach(store, listing, target, signal);
        const origin = isOrdered
          ? await requests.run(() => readOrigin(store, listing, signal), { signal })
          : undefined;
        try {
          return { ...listing, origin, reach: await requests.run(reading, { signal }) };
        } catch (error) {
          if (error instanceof GapError && finder && (await findWay(finder, { name, store }, error.start))) {
            return await read(all);
          }
          // One that may be anybody's is never chosen among others; what it is named for is told by its own failure.
          if (asked === undefined && isPlaintextRefusal(error)) {
            refused.push({
              name: `${name}, generation ${all.generation}`,
              error: wrapError(error, 'left out'),
            });
            return undefined;
          }
          // Then its objects are of the times that the store gives them.
          if (lenient && hasCode(error, 'corrupt', 'unsupported', 'gap')) return { ...listing, origin };
          throw error;
        }
      };
      const readable = await Promise.all(generations.map(read));
      return { name, generations: readable.filter((listing) => listing !== undefined) };
    }),
  );
  const reaching: ReplicaListing[] = [];
  const failedNow = [...failed];
  for (const [i, outcome] of outcomes.entries()) {
    if (outcome.status === 'fulfilled') {
      reaching.push(outcome.value);
      continue;
    }
    const name = listed[i]?.name ?? '';
    const error = wrapError(outcome.reason, `plan restore from replica ${name}`);
    if (hasCode(error, 'aborted')) throw error;
    failedNow.push({ name, error });
  }
  return { listed: reaching, failed: [...failedNow, ...refused] };
}

/** Whether there is a way where something seems to be missing, which was not known. */
async function findWay(finder: PathFinder, replica: NamedStore, place: Position): Promise<boolean> {
  const { generation, index } = place;
  if (finder.knows(replica.name, generation, index)) return false;
  return 'path' in (await finder.find(replica, place, undefined));
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
      const listing = { generation: name, snapshots, segments };
      return requests.run(() => withoutStrays(store, listing, { signal }), { signal });
    }),
  );
}
