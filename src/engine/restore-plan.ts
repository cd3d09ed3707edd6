/**
 * Which objects make up the database that a restore asks for: a pure decision over the listings of the replicas. What
 * cannot be seen in a listing (a hole inside an index, damaged bytes) is found when the plan is carried out.
 */

import { LitestreamError, type ErrorCode } from '../base/errors.ts';
import { formatIndex, segmentKey, snapshotKey } from '../format/names.ts';
import { type Position, formatPosition } from '../format/position.ts';
import { type SegmentInfo, type SnapshotInfo, thereFromMs } from './catalog.ts';

/** How far a generation reaches at the target's time, by what its objects say of themselves. */
export interface Reach {
  /** Time of the newest commit that counts: epoch milliseconds. */
  readonly newestMs: number;
  /** So many of the first segments count, ... */
  readonly segmentCount: number;
  /** ... the index of the last one up to this offset; undefined: whole. */
  readonly endOffset: number | undefined;
  /** So many of the first snapshots count; 0: the generation does not reach back to that time. */
  readonly snapshotCount: number;
  /** The last of these snapshots may hold pages from after the target. */
  readonly uncertain: boolean;
  /** Times of the first and the last restorable commit; undefined when no time was asked for. */
  readonly range: { readonly earliestMs: number; readonly latestMs: number } | undefined;
  /** Why the state at the target's time may be one of this generation that cannot be restored. */
  readonly doubt: LitestreamError | undefined;
}

export interface GenerationListing {
  readonly generation: string;
  /** By index. */
  readonly snapshots: readonly SnapshotInfo[];
  /** By index and offset. */
  readonly segments: readonly SegmentInfo[];
  /** Undefined: the times of the objects count. */
  readonly reach?: Reach | undefined;
}

export interface ReplicaListing {
  readonly name: string;
  readonly generations: readonly GenerationListing[];
}

/** What to restore; nothing: the latest state. At most one of index, timestamp and upTo. */
export interface RestoreTarget {
  readonly generation?: string | undefined;
  /** The last WAL index to apply, whole. */
  readonly index?: number | undefined;
  /** Everything that the replica held at this time. */
  readonly timestamp?: Date | undefined;
  /** Exactly the commits up to this position, which must not lie before the snapshot's. */
  readonly upTo?: Position | undefined;
}

export interface RestorePlan {
  readonly replica: string;
  readonly generation: string;
  readonly snapshot: SnapshotInfo;
  /** To apply in this order: from the start of the snapshot's index, each index from offset 0, no index left out. */
  readonly segments: readonly SegmentInfo[];
  /** The last index that is restored. */
  readonly indexMax: number;
  /** Where to stop inside the last index; undefined: at its last commit. */
  readonly endOffset: number | undefined;
  /**
   * The snapshot may already hold pages from after the target: the result must pass an integrity check, and even then
   * it may be later than asked for.
   */
  readonly uncertain: boolean;
  /** What the user should know about the choice. */
  readonly warnings: readonly string[];
}

/** Why there is no plan. */
export interface PlanFailure {
  readonly code: ErrorCode;
  readonly message: string;
}

export type PlanOutcome =
  /** The first is the best; the others restore the same generation from other replicas. Never empty. */
  { readonly plans: readonly RestorePlan[] } | { readonly failure: PlanFailure };

/** `00000010 (16)`: as names and -index have it, and as the tables print it. */
function bothForms(index: number): string {
  return `${formatIndex(index)} (${index})`;
}

/** A generation of one replica as far as the target's time reaches. */
interface Candidate {
  readonly replica: string;
  readonly generation: string;
  readonly snapshots: readonly SnapshotInfo[];
  readonly segments: readonly SegmentInfo[];
  /** Whether `segments` was cut by the target's time. */
  readonly all: readonly SegmentInfo[];
  readonly newestMs: number;
  readonly end: { readonly index: number; readonly offset: number };
  readonly reach: Reach | undefined;
}

/** As far as the objects themselves say. */
function reachingCandidate(replica: string, listing: GenerationListing, reach: Reach): Candidate {
  const { generation, segments: all } = listing;
  const snapshots = listing.snapshots.slice(0, reach.snapshotCount);
  const segments = all.slice(0, reach.segmentCount);
  const { newestMs } = reach;
  const end = endOf(snapshots, segments);
  const offset = reach.endOffset ?? end.offset;
  return { replica, generation, snapshots, segments, all, newestMs, end: { ...end, offset }, reach };
}

function endOf(snapshots: readonly SnapshotInfo[], segments: readonly SegmentInfo[]): Candidate['end'] {
  const snapshotEnd = { index: snapshots.at(-1)?.index ?? -1, offset: -1 };
  const segmentEnd = segments.at(-1) ?? snapshotEnd;
  return segmentEnd.index >= snapshotEnd.index ? segmentEnd : snapshotEnd;
}

/**
 * Cuts a listing to what was there at `timestamp`, by v0.3.13's rule: the first segment that was not there yet ends it,
 * whatever the times of those behind it.
 */
function candidateOf(replica: string, listing: GenerationListing, timestamp: Date | undefined): Candidate {
  if (listing.reach) return reachingCandidate(replica, listing, listing.reach);
  const limit = timestamp?.getTime() ?? Infinity;
  const snapshots = listing.snapshots.filter((snapshot) => thereFromMs(snapshot) <= limit);
  const first = listing.segments.findIndex((segment) => thereFromMs(segment) > limit);
  const segments = first < 0 ? listing.segments : listing.segments.slice(0, first);
  const times = [...snapshots, ...segments].map(({ createdAt }) => createdAt.getTime());
  return {
    replica,
    generation: listing.generation,
    snapshots,
    segments,
    all: listing.segments,
    newestMs: times.reduce((a, b) => Math.max(a, b), -Infinity),
    end: endOf(snapshots, segments),
    reach: undefined,
  };
}

/**
 * Plans a restore.
 * @param replicas the listings of those that could be listed, in the order of preference among equals
 */
export function planRestore(replicas: readonly ReplicaListing[], target: RestoreTarget): PlanOutcome {
  const generation = target.upTo?.generation ?? target.generation;
  const listings = replicas.flatMap(({ name, generations }) =>
    generations
      .filter((listing) => generation === undefined || listing.generation === generation)
      .map((listing) => ({ name, listing })),
  );
  const candidates = listings.map(({ name, listing }) => candidateOf(name, listing, target.timestamp));
  const restorable = candidates.filter(({ snapshots }) => snapshots.length > 0);
  const newest = freshest(restorable);
  const doubt = doubtOf(candidates, newest, target.timestamp);
  if (doubt) return { failure: doubt };
  if (newest === undefined) {
    return {
      failure: nothingFound(
        listings.map(({ listing }) => listing),
        generation,
        target.timestamp,
      ),
    };
  }
  const warnings = unrestorableWarnings(candidates, newest);
  const failures: { replica: string; failure: PlanFailure }[] = [];
  const plans: RestorePlan[] = [];
  for (const candidate of restorable
    .filter((other) => other.generation === newest.generation)
    .sort((a, b) => b.end.index - a.end.index || b.end.offset - a.end.offset)) {
    // The state at a time is one: another replica that does not hold all of it is no substitute.
    const ends = [candidate, newest].map(({ end, reach }) => reach?.range && `${end.index}:${end.offset}`);
    if (ends[0] !== ends[1]) continue;
    const plan = planCandidate(candidate, target);
    if ('code' in plan) failures.push({ replica: candidate.replica, failure: plan });
    else plans.push(plan);
  }
  const [failed] = failures;
  const [best, ...others] = plans;
  if (best === undefined) {
    return { failure: failed?.failure ?? { code: 'no-backup', message: 'no matching backups found' } };
  }
  const skipped = failures.map(
    ({ replica, failure }) => `cannot restore from replica ${replica}: ${failure.message}`,
  );
  return { plans: [{ ...best, warnings: [...warnings, ...skipped, ...best.warnings] }, ...others] };
}

/** The candidate with the newest commit or, where that is not known, object. */
function freshest(candidates: readonly Candidate[]): Candidate | undefined {
  const startMs = ({ reach }: Candidate): number => reach?.range?.earliestMs ?? -Infinity;
  return candidates.reduce<Candidate | undefined>((best, candidate) => {
    if (best === undefined || candidate.newestMs > best.newestMs) return candidate;
    const isNewer = candidate.newestMs === best.newestMs && startMs(candidate) > startMs(best);
    return isNewer ? candidate : best;
  }, undefined);
}

/**
 * Why the state at the time may be that of a generation that cannot be restored; undefined when the one that was found
 * went on after that time.
 */
function doubtOf(
  candidates: readonly Candidate[],
  found: Candidate | undefined,
  timestamp: Date | undefined,
): PlanFailure | undefined {
  const timeMs = timestamp?.getTime() ?? Infinity;
  if (found?.reach?.range && found.reach.range.latestMs > timeMs) return undefined;
  const doubt = candidates
    .filter(({ generation }) => generation !== found?.generation)
    .flatMap(({ reach }) => reach?.doubt ?? [])[0];
  return doubt && { code: doubt.code, message: doubt.message };
}

/** A newer generation that has no snapshot yet cannot be restored: the user must know that its data are left out. */
function unrestorableWarnings(candidates: readonly Candidate[], chosen: Candidate): string[] {
  return candidates
    .filter(({ snapshots, newestMs }) => snapshots.length === 0 && newestMs > chosen.newestMs)
    .map(({ replica, generation, all }) => {
      const key = snapshotKey(generation, all[0]?.index ?? 0);
      return `generation ${generation} in replica ${replica} is newer but has no snapshot (${key}): restoring generation ${chosen.generation}`;
    });
}

function nothingFound(
  listings: readonly GenerationListing[],
  generation: string | undefined,
  timestamp: Date | undefined,
): PlanFailure {
  const ranges = listings.filter(({ snapshots }) => snapshots.length > 0).map(rangeOf);
  let detail = '';
  if (timestamp !== undefined && ranges.length > 0) {
    const earliestMs = ranges.reduce((ms, range) => Math.min(ms, range.earliestMs), Infinity);
    const latestMs = ranges.reduce((ms, range) => Math.max(ms, range.latestMs), -Infinity);
    const [earliest, latest] = [earliestMs, latestMs].map((ms) => new Date(ms).toISOString());
    detail = ` for ${timestamp.toISOString()}: earliest ${earliest}, latest ${latest}`;
  } else if (listings.length > 0) {
    detail =
      generation === undefined ? ': there is no snapshot' : `: generation ${generation} has no snapshot`;
  } else if (generation !== undefined) {
    detail = `: there is no generation ${generation}`;
  }
  return { code: 'no-backup', message: `no matching backups found${detail}` };
}

function rangeOf({ snapshots, segments, reach }: GenerationListing): NonNullable<Reach['range']> {
  if (reach?.range) return reach.range;
  const times = [...snapshots, ...segments].map(({ createdAt }) => createdAt.getTime());
  const latestMs = times.reduce((a, b) => Math.max(a, b), -Infinity);
  return { earliestMs: Math.min(...snapshots.map(thereFromMs)), latestMs };
}

function planCandidate(candidate: Candidate, target: RestoreTarget): RestorePlan | PlanFailure {
  const wanted = target.upTo?.index ?? target.index;
  if (wanted !== undefined && wanted > candidate.end.index) {
    return {
      code: 'not-found',
      message: `index ${bothForms(wanted)} is not in generation ${candidate.generation}: the last is ${bothForms(candidate.end.index)}`,
    };
  }
  const indexMax = wanted ?? candidate.end.index;
  const endOffset = target.upTo?.offset ?? (wanted === undefined ? candidate.reach?.endOffset : undefined);
  const snapshot = candidate.snapshots.findLast(({ index }) => index <= indexMax);
  if (snapshot === undefined) {
    const first = candidate.snapshots[0]?.index ?? 0;
    return {
      code: 'no-backup',
      message: `no matching backups found: the first snapshot of generation ${candidate.generation} has index ${bothForms(first)}, after ${bothForms(indexMax)}`,
    };
  }
  const plan = planFrom(candidate, snapshot, indexMax, endOffset);
  if ('code' in plan || !mayBeAhead(candidate, snapshot, indexMax, target)) return plan;
  // Through the whole index of an earlier snapshot every page gets its right image.
  const earlier = candidate.snapshots.findLast(({ index }) => index < snapshot.index);
  const safe = earlier && planFrom(candidate, earlier, indexMax, endOffset);
  if (safe && !('code' in safe)) return safe;
  const warning = `snapshot ${snapshot.key} may hold changes later than the requested time: checking the result`;
  return { ...plan, uncertain: true, warnings: [warning] };
}

/**
 * Whether pages from after the target may be in the snapshot. v0.3.13 checkpoints before it copies the database, so the
 * copy may be ahead of the segments that are stored at that time. Uploads follow each other: the second segment that
 * came after the snapshot was begun after it, and by then all that the snapshot holds is covered. A whole index is
 * always enough.
 */
function mayBeAhead(
  { segments, all, reach }: Candidate,
  snapshot: SnapshotInfo,
  indexMax: number,
  { timestamp }: RestoreTarget,
): boolean {
  if (timestamp === undefined || indexMax !== snapshot.index) return false;
  if (reach) return reach.uncertain;
  const isOfIndex = ({ index }: SegmentInfo): boolean => index === snapshot.index;
  if (segments.filter(isOfIndex).length === all.filter(isOfIndex).length) return false;
  const after = segments.filter((segment) => isOfIndex(segment) && segment.createdAt > snapshot.createdAt);
  return after.length < 2;
}

function planFrom(
  { replica, generation, segments }: Candidate,
  snapshot: SnapshotInfo,
  indexMax: number,
  endOffset: number | undefined,
): RestorePlan | PlanFailure {
  const chain = segments.filter(
    ({ index, offset }) =>
      index >= snapshot.index &&
      (index < indexMax || (index === indexMax && (endOffset === undefined || offset < endOffset))),
  );
  const gap = findGap(generation, chain, snapshot.index, indexMax);
  if (gap) return gap;
  return {
    replica,
    generation,
    snapshot,
    segments: chain,
    indexMax,
    endOffset,
    uncertain: false,
    warnings: [],
  };
}

/** The first missing index, or missing start of an index. A snapshot alone, or with nothing after its index, is whole. */
function findGap(
  generation: string,
  chain: readonly SegmentInfo[],
  first: number,
  indexMax: number,
): PlanFailure | undefined {
  const starts = new Set(chain.filter(({ offset }) => offset === 0).map(({ index }) => index));
  const present = new Set(chain.map(({ index }) => index));
  for (let index = first; index <= indexMax; index++) {
    if (starts.has(index) || (index === first && index === indexMax && !present.has(index))) continue;
    const before =
      index === first ? `snapshot ${formatIndex(first)}` : `the end of index ${bothForms(index - 1)}`;
    return {
      code: 'gap',
      message: `missing WAL segment ${segmentKey(generation, index, 0)}: the last consistent point before it is ${before}`,
    };
  }
  return undefined;
}

/**
 * A hole that listings alone do not show.
 * @param end of the chain before it
 * @param start of the missing segment, where the chain ends unless it is a later index
 */
export function missingSegmentError(end: Position, start: Position = end): LitestreamError {
  const key = segmentKey(start.generation, start.index, start.offset);
  return new LitestreamError(
    'gap',
    `missing WAL segment ${key}: the last consistent point before it is ${formatPosition(end)}`,
  );
}
