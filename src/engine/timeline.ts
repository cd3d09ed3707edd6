/**
 * What can be restored from a replica, and what cannot: restorable ranges, gaps and snapshots of each generation, from
 * listings and a few requests for the ends of objects. A hole inside an index shows only when its objects are read.
 */

import { Semaphore } from '../base/concurrency.ts';
import { hasCode } from '../base/errors.ts';
import { leastOf } from '../base/extremes.ts';
import { segmentKey, snapshotKey } from '../format/names.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import {
  type SegmentInfo,
  type SnapshotInfo,
  listGenerations,
  listSegments,
  listSnapshots,
  thereFromMs,
} from './catalog.ts';
import { type Stray, withoutStrays } from './stray-objects.ts';
import { readSegmentTrailer, readSnapshotTrailer } from './trailer-reader.ts';

/** Requests at once. */
const PARALLELISM = 8;

/** Every time from `from` to `to` can be restored. */
export interface TimelineRange {
  readonly generation: string;
  readonly from: Date;
  /** Of the last commit. */
  readonly to: Date;
  readonly minIndex: number;
  readonly maxIndex: number;
  /** Snapshots and segments. */
  readonly objectCount: number;
  /** Compressed. */
  readonly sizeBytes: number;
  /** False where a time is that of an object, as in replicas of v0.3.13. */
  readonly exact: boolean;
}

/** WAL that cannot be restored, as something before it is missing. */
export interface TimelineGap {
  readonly generation: string;
  /** The first object that is missing. */
  readonly missingKey: string;
  readonly from: Date;
  /** When the next snapshot makes the generation restorable again; undefined when none does. */
  readonly to: Date | undefined;
  readonly minIndex: number;
  readonly maxIndex: number;
  /** Segments that are there in vain. */
  readonly objectCount: number;
  readonly sizeBytes: number;
}

export interface TimelineSnapshot {
  readonly generation: string;
  readonly index: number;
  readonly key: string;
  /** The database was in this state at that time. */
  readonly at: Date;
  /** Compressed. */
  readonly sizeBytes: number;
}

/** Everything in the order of time. */
export interface Timeline {
  readonly ranges: readonly TimelineRange[];
  readonly gaps: readonly TimelineGap[];
  readonly snapshots: readonly TimelineSnapshot[];
  /** What does not belong to the generation whose name it has, and is of no use to a restore. */
  readonly leftOut: readonly Stray[];
}

/** @throws LitestreamError what the store throws; a damaged object only makes a time that of the store */
export async function readTimeline(store: ObjectStore, options: CallOptions): Promise<Timeline> {
  const requests = new Semaphore(PARALLELISM);
  const generations = await listGenerations(store, options);
  const timelines = await Promise.all(
    generations.map(async (generation) => {
      const snapshots = await requests.run(() => listSnapshots(store, generation, options), options);
      const segments = await requests.run(() => listSegments(store, generation, options), options);
      const all = { generation, snapshots, segments };
      const listing = await requests.run(() => withoutStrays(store, all, options), options);
      const times = new ObjectTimes(store, requests, options);
      const pieces = splitAtHoles(generation, listing.snapshots, listing.segments);
      return { ...(await timelineOf(generation, pieces, times)), leftOut: listing.strays };
    }),
  );
  const inOrder = <T>(items: T[], timeOf: (item: T) => Date): T[] =>
    items.sort((a, b) => timeOf(a).getTime() - timeOf(b).getTime());
  return {
    ranges: inOrder(
      timelines.flatMap(({ ranges }) => ranges),
      ({ from }) => from,
    ),
    gaps: inOrder(
      timelines.flatMap(({ gaps }) => gaps),
      ({ from }) => from,
    ),
    snapshots: inOrder(
      timelines.flatMap(({ snapshots }) => snapshots),
      ({ at }) => at,
    ),
    leftOut: timelines.flatMap(({ leftOut }) => leftOut),
  };
}

/** Objects of a generation in a row, as far as nothing is missing between them. */
export interface ChainPiece {
  /** What is missing before it; undefined: it begins with a snapshot and is restorable. */
  readonly missingKey: string | undefined;
  readonly snapshots: SnapshotInfo[];
  readonly segments: SegmentInfo[];
  maxIndex: number;
}

/**
 * Cuts a generation where its listing shows a hole. Pure.
 * @param snapshots by index @param segments by index and offset
 */
export function splitAtHoles(
  generation: string,
  snapshots: readonly SnapshotInfo[],
  segments: readonly SegmentInfo[],
): ChainPiece[] {
  const pieces: ChainPiece[] = [];
  const byIndex = new Map<number, SegmentInfo[]>();
  for (const segment of segments) {
    const own = byIndex.get(segment.index);
    if (own) own.push(segment);
    else byIndex.set(segment.index, [segment]);
  }
  const snapshotOf = new Map(snapshots.map((snapshot) => [snapshot.index, snapshot]));
  const begin = (index: number, missingKey?: string): ChainPiece => {
    const piece: ChainPiece = { missingKey, snapshots: [], segments: [], maxIndex: index };
    pieces.push(piece);
    return piece;
  };
  let piece: ChainPiece | undefined;
  for (const index of [...new Set([...byIndex.keys(), ...snapshotOf.keys()])].sort((a, b) => a - b)) {
    const [snapshot, own = []] = [snapshotOf.get(index), byIndex.get(index)];
    const whole = own[0]?.offset === 0 || own.length === 0;
    const follows = piece?.missingKey === undefined && piece?.maxIndex === index - 1 && whole;
    if (!piece || (snapshot && !follows)) {
      piece = begin(index, snapshot ? undefined : snapshotKey(generation, index));
    } else if (!follows && piece.missingKey === undefined) {
      piece = begin(index, segmentKey(generation, piece.maxIndex + 1, 0));
    }
    if (snapshot) piece.snapshots.push(snapshot);
    // The snapshot can be restored, what came after it cannot.
    if (!whole && piece.missingKey === undefined) piece = begin(index, segmentKey(generation, index, 0));
    for (const segment of own) piece.segments.push(segment);
    piece.maxIndex = index;
  }
  return pieces;
}

async function timelineOf(
  generation: string,
  pieces: readonly ChainPiece[],
  times: ObjectTimes,
): Promise<Omit<Timeline, 'leftOut'>> {
  const snapshots: TimelineSnapshot[] = [];
  const ranges: TimelineRange[] = [];
  const gaps: TimelineGap[] = [];
  const spans = await Promise.all(pieces.map((piece) => times.spanOf(piece)));
  for (const [i, { missingKey, maxIndex, ...piece }] of pieces.entries()) {
    const span = spans[i];
    if (!span) continue;
    for (const [n, { index, key, sizeBytes }] of piece.snapshots.entries()) {
      snapshots.push({ generation, index, key, at: span.snapshotsAt[n] ?? span.from, sizeBytes });
    }
    const objects = [...piece.snapshots, ...piece.segments];
    const minIndex = leastOf(objects.map(({ index }) => index));
    const sizeBytes = objects.reduce((sum, object) => sum + object.sizeBytes, 0);
    const common = { generation, minIndex, maxIndex, objectCount: objects.length, sizeBytes };
    if (missingKey === undefined) {
      ranges.push({ ...common, from: span.from, to: span.to, exact: span.exact });
    } else {
      const from = i === 0 ? span.from : (spans[i - 1]?.to ?? span.from);
      gaps.push({ ...common, missingKey, from, to: spans[i + 1]?.from });
    }
  }
  return { ranges, gaps, snapshots };
}

/** From when to when a piece of a chain reaches. */
interface Span {
  readonly from: Date;
  readonly to: Date;
  readonly snapshotsAt: readonly Date[];
  readonly exact: boolean;
}

class ObjectTimes {
  readonly #store: ObjectStore;
  readonly #requests: Semaphore;
  readonly #options: CallOptions;

  constructor(store: ObjectStore, requests: Semaphore, options: CallOptions) {
    this.#store = store;
    this.#requests = requests;
    this.#options = options;
  }

  async spanOf({ snapshots, segments }: ChainPiece): Promise<Span> {
    const [first, last] = [segments[0], segments.at(-1)];
    const [taken, ended] = await Promise.all([
      Promise.all(snapshots.map((snapshot) => this.#ask(() => this.#snapshotMs(snapshot)))),
      last && this.#ask(() => this.#lastCommitMs(last)),
    ]);
    const snapshotsMs = snapshots.map((snapshot, i) => taken[i] ?? thereFromMs(snapshot));
    const fromMs = snapshotsMs[0] ?? (first ? thereFromMs(first) : 0);
    const endsMs = [...snapshotsMs, ended ?? (last ? thereFromMs(last) : fromMs)];
    return {
      from: new Date(fromMs),
      to: new Date(endsMs.reduce((a, b) => Math.max(a, b), fromMs)),
      snapshotsAt: snapshotsMs.map((ms) => new Date(ms)),
      exact: taken.every((ms) => ms !== undefined) && (last === undefined || ended !== undefined),
    };
  }

  async #snapshotMs(snapshot: SnapshotInfo): Promise<number | undefined> {
    return (await readSnapshotTrailer(this.#store, snapshot, this.#options))?.timeMs;
  }

  async #lastCommitMs(segment: SegmentInfo): Promise<number | undefined> {
    return (await readSegmentTrailer(this.#store, segment, this.#options))?.commits.at(-1)?.timeMs;
  }

  /** What an object says of its time; undefined when it says nothing or is damaged. */
  async #ask(read: () => Promise<number | undefined>): Promise<number | undefined> {
    try {
      return await this.#requests.run(read, this.#options);
    } catch (error) {
      // Damage is for a restore or a verification to report; 'not-found' is retention at work, 'encrypted' a host without keys.
      if (hasCode(error, 'corrupt', 'unsupported', 'not-found', 'encrypted')) return undefined;
      throw error;
    }
  }
}
