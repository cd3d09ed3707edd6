/**
 * How far a generation reaches at the time that a restore asks for, by what its objects say of themselves: exact to the
 * commit, and the same wherever the objects were copied to. A few requests for the ends of objects, however many there
 * are. Generations of v0.3.13 say nothing; there the times of the objects count (restore-plan.ts).
 */

import { LitestreamError, hasCode } from '../base/errors.ts';
import { snapshotKey } from '../format/names.ts';
import type { CommitTime, SegmentTrailer, SnapshotTrailer } from '../format/object-trailer.ts';
import { checksumsEqual } from '../sqlite/wal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { isPlaintextRefusal } from '../base/plaintext-refusal.ts';
import { type SegmentInfo, type SnapshotInfo, thereFromMs } from './catalog.ts';
import {
  type GenerationListing,
  type Reach,
  type RestoreTarget,
  missingSegmentError,
} from './restore-plan.ts';
import { readSegmentTrailer, readSnapshotTrailer } from './trailer-reader.ts';

/** What an object says of itself; a trailer is undefined for one of v0.3.13's, and damage is no news yet. */
interface Said<T> {
  readonly trailer: T | undefined;
  readonly damage: LitestreamError | undefined;
}

/** Where a restore stops: after so many segments, at an offset of the last one's index (undefined: at its end). */
interface Stop {
  readonly segmentCount: number;
  readonly index: number;
  readonly offset: number | undefined;
  /** Of the last commit: epoch milliseconds. */
  readonly timeMs: number;
}

/**
 * Reads how far `listing` reaches at the target's time; without one, how new it is.
 * @returns undefined when its objects say nothing
 * @throws LitestreamError 'gap' when a segment is missing before that time, 'corrupt' when damage leaves the answer open,
 * and what the store throws
 */
export async function readReach(
  store: ObjectStore,
  listing: GenerationListing,
  target: RestoreTarget,
  signal: AbortSignal | undefined,
): Promise<Reach | undefined> {
  const reader = new ReachReader(store, listing, signal);
  if (target.timestamp) return reader.at(target.timestamp.getTime());
  if (target.upTo) return reader.upTo(target.upTo.index, target.upTo.offset);
  return reader.latest();
}

class ReachReader {
  readonly #store: ObjectStore;
  readonly #listing: GenerationListing;
  readonly #signal: AbortSignal | undefined;
  readonly #said = new Map<string, Promise<Said<never>>>();

  constructor(store: ObjectStore, listing: GenerationListing, signal: AbortSignal | undefined) {
    this.#store = store;
    this.#listing = listing;
    this.#signal = signal;
  }

  async latest(): Promise<Reach | undefined> {
    const { segments, snapshots } = this.#listing;
    const timeMs = await this.#newestMs();
    if (timeMs === undefined) return undefined;
    return {
      newestMs: timeMs,
      segmentCount: segments.length,
      snapshotCount: snapshots.length,
      endOffset: undefined,
      uncertain: false,
      range: undefined,
      doubt: undefined,
    };
  }

  /** A snapshot of the same index may be later than the position. */
  async upTo(index: number, offset: number): Promise<Reach> {
    const { segments, snapshots } = this.#listing;
    const stop = { segmentCount: segments.length, index, offset, timeMs: 0 };
    const usable = await this.#usableSnapshots(stop, Infinity);
    return {
      newestMs: 0,
      segmentCount: segments.length,
      // All, so that the reason why none will do is found where it is known.
      snapshotCount: usable.count === 0 ? snapshots.length : usable.count,
      endOffset: undefined,
      uncertain: false,
      range: undefined,
      doubt: undefined,
    };
  }

  async at(timestampMs: number): Promise<Reach | undefined> {
    const { segments, snapshots } = this.#listing;
    const latestMs = await this.#newestMs();
    if (latestMs === undefined) return undefined;
    const first = snapshots[0] && (await this.#snapshot(snapshots[0]));
    const located = await this.#locate(timestampMs);
    const stop = laterOf(located, first?.trailer && startOf(first.trailer, segments));
    const earliestMs =
      first?.trailer?.timeMs ?? (await this.#firstMs()) ?? snapshots[0]?.createdAt.getTime() ?? latestMs;
    const range = { earliestMs, latestMs };
    const startedLater = first?.trailer && first.trailer.timeMs > timestampMs;
    if (first === undefined || stop === undefined || startedLater === true) {
      const doubt = located && !first?.damage ? this.#missingSnapshot() : first?.damage;
      const nothing = { newestMs: earliestMs, segmentCount: 0, snapshotCount: 0, endOffset: undefined };
      return { ...nothing, uncertain: false, range, doubt };
    }
    await this.#checkNext(stop, timestampMs);
    const usable = await this.#usableSnapshots(stop, timestampMs);
    return {
      newestMs: stop.timeMs,
      segmentCount: stop.segmentCount,
      snapshotCount: usable.count,
      endOffset: stop.offset,
      uncertain: usable.uncertain,
      range,
      doubt: usable.count > 0 ? undefined : this.#uncertainSnapshot(timestampMs),
    };
  }

  #segment(segment: SegmentInfo): Promise<Said<SegmentTrailer>> {
    return this.#once(segment.key, async () => {
      const trailer = await readSegmentTrailer(this.#store, segment, { signal: this.#signal });
      return trailer && cutTrailer(trailer, segment.cut);
    });
  }

  #snapshot(snapshot: SnapshotInfo): Promise<Said<SnapshotTrailer>> {
    return this.#once(snapshot.key, () =>
      readSnapshotTrailer(this.#store, snapshot, { signal: this.#signal }),
    );
  }

  /** Reads each object once. */
  #once<T>(key: string, read: () => Promise<T | undefined>): Promise<Said<T>> {
    const known = this.#said.get(key);
    if (known) return known;
    const said = read().then(
      (trailer) => ({ trailer, damage: undefined }),
      (error: unknown) => {
        if (!hasCode(error, 'corrupt', 'unsupported') || isPlaintextRefusal(error)) throw error;
        return { trailer: undefined, damage: error };
      },
    );
    this.#said.set(key, said as Promise<Said<never>>);
    return said;
  }

  /** Time of the newest commit, or of another one when damage hides it; undefined when the objects say nothing. */
  async #newestMs(): Promise<number | undefined> {
    const { segments, snapshots } = this.#listing;
    const lastSegment = segments.at(-1);
    const last = lastSegment && (await this.#segment(lastSegment));
    if (last?.trailer) return last.trailer.commits.at(-1)?.timeMs;
    let damage = last?.damage;
    for (const snapshot of new Set([snapshots.at(-1), snapshots[0]])) {
      const said = snapshot && (await this.#snapshot(snapshot));
      // A segment of v0.3.13's that came after ours has no other time than that of the object.
      if (said?.trailer)
        return damage ? said.trailer.timeMs : (lastSegment?.createdAt.getTime() ?? said.trailer.timeMs);
      damage ??= said?.damage;
    }
    if (damage) throw damage;
    return undefined;
  }

  /** Time of the first segment's first commit. */
  async #firstMs(): Promise<number | undefined> {
    const [segment] = this.#listing.segments;
    return segment && (await this.#segment(segment)).trailer?.commits[0]?.timeMs;
  }

  /** The last commit that is not after the time; undefined when there is none in the segments. */
  async #locate(timestampMs: number): Promise<Stop | undefined> {
    const { segments } = this.#listing;
    let low = -1;
    for (let high = segments.length; high - low > 1;) {
      const middle = Math.floor((low + high) / 2);
      if ((await this.#firstMsOf(middle)) <= timestampMs) low = middle;
      else high = middle;
    }
    // Those at the very end may be damaged: what comes before them may do.
    for (; low >= 0; low--) {
      const segment = segments[low];
      const said = segment && (await this.#segment(segment));
      if (!said || said.damage) continue;
      const place = { segmentCount: low + 1, index: segment.index };
      if (!said.trailer) return { ...place, offset: undefined, timeMs: thereFromMs(segment) };
      const commit = lastUpTo(said.trailer.commits, timestampMs);
      if (commit) return { ...place, ...commit };
    }
    return undefined;
  }

  /** Segments without the snapshot to which they were applied. */
  #missingSnapshot(): LitestreamError {
    const { generation, segments } = this.#listing;
    const key = snapshotKey(generation, segments[0]?.index ?? 0);
    return new LitestreamError(
      'gap',
      `missing snapshot ${key}: WAL from the requested time is there; -generation restores another one`,
    );
  }

  /** The only snapshot is one of v0.3.13's. */
  #uncertainSnapshot(timestampMs: number): LitestreamError {
    const key = this.#listing.snapshots[0]?.key ?? '';
    const time = new Date(timestampMs).toISOString();
    return new LitestreamError(
      'no-backup',
      `snapshot ${key} may be later than ${time}: it does not tell its time`,
    );
  }

  /** When the first commit of a segment was seen: never after that of a later segment. */
  async #firstMsOf(number: number): Promise<number> {
    const segment = this.#listing.segments[number];
    if (segment === undefined) return -Infinity;
    const { trailer, damage } = await this.#segment(segment);
    if (trailer) return trailer.commits[0]?.timeMs ?? -Infinity;
    if (damage) return this.#firstMsOf(number + 1);
    // v0.3.13's: the time of the object, but copying may have changed it.
    return Math.min(thereFromMs(segment), await this.#firstMsOfOurs(number));
  }

  /** When the first commit of ours behind a segment of v0.3.13's was seen, which goes on to the end. */
  async #firstMsOfOurs(number: number): Promise<number> {
    const { segments } = this.#listing;
    let high = segments.length - 1;
    const last = segments[high];
    if (!last || !(await this.#segment(last)).trailer) return Infinity;
    for (let low = number; high - low > 1;) {
      const middle = Math.floor((low + high) / 2);
      const segment = segments[middle];
      if (segment && (await this.#segment(segment)).trailer) high = middle;
      else low = middle;
    }
    const ours = segments[high];
    return (ours && (await this.#segment(ours)).trailer?.commits[0]?.timeMs) ?? Infinity;
  }

  /**
   * Nothing may be missing between the stop and the first segment that comes after the time: its commits could be from
   * before the time.
   * @throws LitestreamError 'gap', or the damage of that segment
   */
  async #checkNext(stop: Stop, timestampMs: number): Promise<void> {
    const { segments, generation } = this.#listing;
    const next = segments[stop.segmentCount];
    const last = segments[stop.segmentCount - 1];
    if (next === undefined) return;
    const ended = last && (await this.#segment(last)).trailer;
    // Commits of the same segment come after the time: then nothing that follows can be from before.
    if (ended && (ended.commits.at(-1)?.timeMs ?? 0) > timestampMs) return;
    if (last && !ended) return;
    const end = { generation, index: stop.index, offset: stop.offset ?? 0 };
    const missing = missingSegmentError(end);
    const { trailer, damage } = await this.#segment(next);
    if (damage) throw damage;
    const following = next.index - end.index;
    if (following === 0 ? next.offset > end.offset : end.offset === 0) throw missing;
    // Of another process: what comes behind it in the listing may be from before the time all the same.
    if (following === 0 && ended && next.offset < ended.end) throw missing;
    if (following > 1 || (following === 1 && next.offset > 0)) {
      throw missingSegmentError(end, { ...end, index: end.index + 1, offset: 0 });
    }
    const { previous } = trailer ?? {};
    if (!ended || !previous || next.index === end.index) return;
    const follows = previous.index === end.index && previous.offset === end.offset;
    if (!follows || !checksumsEqual(previous.checksum, ended.checksum)) throw missing;
  }

  /** How many snapshots do not lie behind the stop, and whether that is uncertain of the last of them. */
  async #usableSnapshots(stop: Stop, timestampMs: number): Promise<{ count: number; uncertain: boolean }> {
    const { snapshots } = this.#listing;
    // Who names a position knows that the snapshot is not beyond it.
    const asked = timestampMs !== Infinity;
    const before = snapshots.filter(({ index }) => index < stop.index).length;
    const same = snapshots[before];
    if (same?.index !== stop.index) return { count: before, uncertain: false };
    const { trailer, damage } = await this.#snapshot(same);
    // One that is damaged is better left alone, if there is another.
    if (damage) return { count: Math.max(before, 1), uncertain: false };
    if (trailer) {
      const holdsMore = stop.offset !== undefined && trailer.offset > stop.offset;
      return { count: holdsMore ? before : before + 1, uncertain: false };
    }
    if (asked && (before > 0 || thereFromMs(same) > timestampMs)) return { count: before, uncertain: false };
    return { count: before + 1, uncertain: asked && stop.offset !== undefined };
  }
}

/** The state that a snapshot says it holds, as a stop. */
function startOf(trailer: SnapshotTrailer, segments: readonly SegmentInfo[]): Stop {
  const { index, offset, timeMs } = trailer;
  const segmentCount = segments.filter(
    (segment) => segment.index < index || (segment.index === index && segment.offset < offset),
  ).length;
  return { segmentCount, index, offset, timeMs };
}

function laterOf(located: Stop | undefined, start: Stop | undefined): Stop | undefined {
  if (!located || !start) return located ?? start;
  const isLater =
    located.index > start.index ||
    (located.index === start.index && (located.offset ?? Infinity) >= (start.offset ?? 0));
  return isLater ? located : start;
}

/** Without what is beyond the place where the way leaves the segment. */
function cutTrailer(trailer: SegmentTrailer, cut: SegmentInfo['cut']): SegmentTrailer {
  if (!cut) return trailer;
  const after = trailer.commits.findIndex(({ offset }) => offset >= cut.offset);
  const commits = trailer.commits.slice(0, after + 1);
  const last = commits.pop();
  if (last) commits.push({ ...last, offset: cut.offset });
  return { ...trailer, end: cut.offset, checksum: cut.checksum, commits };
}

function lastUpTo(commits: readonly CommitTime[], timestampMs: number): CommitTime | undefined {
  return commits.findLast(({ timeMs }) => timeMs <= timestampMs);
}
