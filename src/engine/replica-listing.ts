/** What a whole replica holds, generation by generation: what the listing commands and the library show. */

import { Semaphore } from '../base/concurrency.ts';
import { greatestOf, leastOf } from '../base/extremes.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import { withRetry } from '../storage/retrying-store.ts';
import { listGenerations, listSegments, listSnapshots } from './catalog.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';

const BRIEF_ATTEMPTS = 4;

/** A generation with the times of its oldest and its newest object. */
export interface GenerationSpan {
  readonly generation: string;
  readonly start: Date;
  readonly end: Date;
}

/**
 * Asks a store for somebody who waits: a passing failure is tried again, but not for long. Closes the store in the end.
 * @param signal ends the waits between attempts
 */
export async function askBriefly<T>(
  store: ObjectStore,
  ask: (store: ObjectStore) => Promise<T>,
  signal?: AbortSignal,
): Promise<T> {
  try {
    return await ask(withRetry(store, { attempts: BRIEF_ATTEMPTS, signal }));
  } finally {
    await store.close();
  }
}

/** The span of each generation, in the order of `generations`; those without objects are left out. */
export async function generationSpans(
  store: ObjectStore,
  generations: readonly string[],
  options?: CallOptions,
): Promise<GenerationSpan[]> {
  const spans = await mapGenerations(store, generations, (generation) => spanOf(store, generation, options));
  return spans.filter((span) => span !== undefined);
}

async function spanOf(
  store: ObjectStore,
  generation: string,
  options: CallOptions | undefined,
): Promise<GenerationSpan | undefined> {
  const objects = [
    ...(await listSnapshots(store, generation, options)),
    ...(await listSegments(store, generation, options)),
  ];
  const times = objects.map(({ createdAt }) => createdAt.getTime());
  if (times.length === 0) return undefined;
  return { generation, start: new Date(leastOf(times)), end: new Date(greatestOf(times)) };
}

/** All snapshots, by generation and index. */
export async function listAllSnapshots(store: ObjectStore, options?: CallOptions): Promise<SnapshotInfo[]> {
  const generations = await listGenerations(store, options);
  const lists = await mapGenerations(store, generations, (name) => listSnapshots(store, name, options));
  return lists.flat();
}

/** The segments of `generations`, by generation, index and offset. */
export async function listSegmentsOf(
  store: ObjectStore,
  generations: readonly string[],
  options?: CallOptions,
): Promise<SegmentInfo[]> {
  const lists = await mapGenerations(store, generations, (name) => listSegments(store, name, options));
  return lists.flat();
}

/** Applies `list` to every generation, several at a time; results in the order of `generations`. */
async function mapGenerations<T>(
  store: ObjectStore,
  generations: readonly string[],
  list: (generation: string) => Promise<T>,
): Promise<T[]> {
  const semaphore = new Semaphore(store.capabilities.concurrency);
  return Promise.all(generations.map((generation) => semaphore.run(() => list(generation))));
}
