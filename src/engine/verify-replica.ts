/**
 * Checks a replica with no database at hand: reads every object of every generation, and nothing is written. What
 * retention deletes meanwhile is no damage.
 */

import { startLz4Thread } from '../format/lz4-frame.ts';
import type { Position } from '../format/position.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { withRetry } from '../storage/retrying-store.ts';
import {
  type SegmentInfo,
  type SnapshotInfo,
  listGenerations,
  listSegments,
  listSnapshots,
} from './catalog.ts';
import { PathFinder } from './path-finder.ts';
import { describeFuture } from './future-commits.ts';
import { decodeInOrder } from './restore-content.ts';
import { fetchInOrder } from './restore-fetch.ts';
import { planProven } from './retention.ts';
import type { GenerationRange, Problem } from './verification-result.ts';
import { GenerationCheck } from './verify-chain.ts';

/** Listed and found changed so often at most. */
const ATTEMPTS = 3;
const REQUEST_ATTEMPTS = 6;
/** Decompressing as many bytes takes longer than starting a thread for it. */
const THREAD_LIMIT = 4 << 20;

export interface ReplicaCheckOptions {
  /** Requests at once; >= 1. */
  readonly parallelism: number;
  /** What has left this window is not looked at, as it may be deleted at any time; undefined or <= 0: all counts. */
  readonly retentionMs?: number | undefined;
  /** Only this generation, from its newest snapshot on. */
  readonly latestOf?: string | undefined;
  readonly signal: AbortSignal;
}

export interface ReplicaCheck {
  /** None when the replica is whole. */
  readonly problems: readonly Problem[];
  /** What is of no use to a restore and is no damage, in words. */
  readonly notes: readonly string[];
  /** In the order of their ranges, the newest last. */
  readonly generations: readonly GenerationRange[];
  /** Where the chain of each generation ends, if it is whole to its end. */
  readonly ends: ReadonlyMap<string, Position>;
  /** Keys of all objects that were checked. */
  readonly keys: ReadonlySet<string>;
  /** A restore takes no more disk. */
  readonly restoredSizeBytes: number;
}

interface Listing {
  readonly generation: string;
  /** By index. */
  readonly snapshots: readonly SnapshotInfo[];
  /** By index and offset. */
  readonly segments: readonly SegmentInfo[];
}

/** @throws what the store throws after some attempts, 'unsupported' for objects of a newer format, 'aborted' by the signal */
export async function checkReplica(
  replica: ObjectStore,
  options: ReplicaCheckOptions,
): Promise<ReplicaCheck> {
  const store = withRetry(replica, { attempts: REQUEST_ATTEMPTS, signal: options.signal });
  for (let attempt = 1; ; attempt++) {
    const listings = await list(store, options);
    const check = await checkListings(store, listings, options);
    if (check.problems.length === 0 || attempt === ATTEMPTS) return check;
    const now = new Set((await list(store, options)).flatMap(objectsOf).map(({ key }) => key));
    if ([...check.keys].every((key) => now.has(key))) return check;
  }
}

async function list(store: ObjectStore, options: ReplicaCheckOptions): Promise<Listing[]> {
  const { latestOf, signal } = options;
  const listings: Listing[] = [];
  for (const generation of await listGenerations(store, { signal })) {
    if (latestOf !== undefined && generation !== latestOf) continue;
    // Snapshots first: retention deletes them last.
    const snapshots = await listSnapshots(store, generation, { signal });
    const segments = await listSegments(store, generation, { signal });
    listings.push({ generation, snapshots, segments });
  }
  const doomed = new Set(await deletionsOf(store, listings, options));
  const stays = ({ key }: SnapshotInfo | SegmentInfo): boolean => !doomed.has(key);
  return listings
    .map(({ generation, snapshots, segments }) => ({
      generation,
      snapshots: snapshots.filter(stays),
      segments: segments.filter(stays),
    }))
    .map((listing) => (latestOf === undefined ? listing : fromNewestSnapshot(listing)))
    .filter(({ snapshots, segments }) => snapshots.length + segments.length > 0);
}

/** Keys of what has left the window. */
async function deletionsOf(
  store: ObjectStore,
  listings: readonly Listing[],
  { retentionMs = 0, signal }: ReplicaCheckOptions,
): Promise<readonly string[]> {
  const snapshots = listings.flatMap((listing) => listing.snapshots);
  const segments = listings.flatMap((listing) => listing.segments);
  // Without a grace period: retention waits for that, we do not.
  const window = { retentionMs, currentGeneration: undefined, now: Date.now(), graceMs: 0 };
  const { plan, breach } = await planProven({ store, snapshots, segments, ...window, signal });
  return breach === undefined ? plan.deletions : [];
}

function fromNewestSnapshot({ generation, snapshots, segments }: Listing): Listing {
  const newest = snapshots.at(-1);
  if (!newest) return { generation, snapshots, segments };
  return {
    generation,
    snapshots: [newest],
    segments: segments.filter(({ index }) => index >= newest.index),
  };
}

function isSegment(object: SnapshotInfo | SegmentInfo): object is SegmentInfo {
  return 'offset' in object;
}

/** In the order of their history: a snapshot comes before the segments of its index. */
function objectsOf({ snapshots, segments }: Listing): (SnapshotInfo | SegmentInfo)[] {
  const offsetOf = (object: SnapshotInfo | SegmentInfo): number => (isSegment(object) ? object.offset : -1);
  return [...snapshots, ...segments].sort((a, b) => a.index - b.index || offsetOf(a) - offsetOf(b));
}

async function checkListings(
  store: ObjectStore,
  listings: readonly Listing[],
  options: ReplicaCheckOptions,
): Promise<ReplicaCheck> {
  const problems: Problem[] = [];
  const notes: string[] = [];
  const begun: NonNullable<GenerationCheck['begun']>[] = [];
  const generations: GenerationRange[] = [];
  const ends = new Map<string, Position>();
  const keys = new Set<string>();
  let restoredSizeBytes = 0;
  const checks: GenerationCheck[] = [];
  for (const listing of listings) {
    for (const { key } of objectsOf(listing)) keys.add(key);
    checks.push(await checkGeneration(store, listing, options));
  }
  for (const check of checks) {
    const { generation } = check.range;
    if (check.isPlaintext && !checks.every(({ isPlaintext }) => isPlaintext)) {
      // A restore does not choose it: it is from before encryption was turned on, or somebody else's.
      notes.push(
        `generation ${generation} is not encrypted, and was not looked at: either it is from before encryption was turned ` +
          'on, or somebody has put it there (age.allow-plaintext: true in the config file has it read)',
      );
      continue;
    }
    for (const note of check.notes) notes.push(note);
    if (check.begun) begun.push(check.begun);
    for (const problem of check.problems) problems.push(problem);
    generations.push(check.range);
    restoredSizeBytes = Math.max(restoredSizeBytes, check.restoredSizeBytes);
    if (check.end) ends.set(generation, check.end);
  }
  for (const { committedMs, missing } of begun) {
    // What the database was later is all in a generation that began after this one had ended.
    if (!generations.some(({ from }) => from !== null && Date.parse(from) >= committedMs)) continue;
    problems.splice(problems.indexOf(missing), 1);
    notes.push(
      `a generation was given up before its snapshot was stored, and is of no use: ${missing.message}`,
    );
  }
  notes.push(...futureNotes(generations));
  generations.sort((a, b) => (a.to ?? '').localeCompare(b.to ?? ''));
  return { problems, notes, generations, ends, keys, restoredSizeBytes };
}

async function checkGeneration(
  store: ObjectStore,
  listing: Listing,
  { parallelism, signal }: ReplicaCheckOptions,
): Promise<GenerationCheck> {
  const objects = objectsOf(listing);
  const { generation } = listing;
  const finder = new PathFinder({ parallelism, signal });
  const check = new GenerationCheck(generation, (index, through) =>
    finder.find({ name: '', store }, { generation, index }, through),
  );
  const fetched = fetchInOrder(store, objects, { parallelism, signal });
  const bytesTotal = objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const thread = bytesTotal < THREAD_LIMIT ? undefined : startLz4Thread();
  const contents = decodeInOrder(fetched, objects.length, { transient: true, thread });
  let segmentCount = 0;
  try {
    for await (const { object, chunks, end } of contents) {
      if (isSegment(object)) await check.segment({ object, chunks, end }, listing.segments[++segmentCount]);
      else await check.snapshot({ object, chunks, end });
    }
    check.finish();
  } finally {
    await contents.return(undefined);
    await thread?.close();
  }
  return check;
}

function futureNotes(generations: readonly GenerationRange[]): string[] {
  return generations.flatMap(({ generation, to }) => {
    const future = to === null ? undefined : describeFuture(Date.parse(to), Date.now());
    return future === undefined ? [] : `generation ${generation}: ${future}`;
  });
}

/** In words how much was checked. */
export function describeExtent({ generations, keys }: ReplicaCheck): string {
  const count = generations.length;
  return `${keys.size} objects of ${count} ${count === 1 ? 'generation' : 'generations'}`;
}

/** What is left out, to be put behind the message of a good result; empty when nothing is. */
export function describeNotes({ notes }: ReplicaCheck): string {
  const [first] = notes;
  if (first === undefined) return '';
  const more = notes.length > 1 ? ` (and ${notes.length - 1} more such notes)` : '';
  return `; note: ${first}${more}`;
}
