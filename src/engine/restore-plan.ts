/**
 * Which objects make up the database that a restore asks for: a pure decision over the listings of the replicas. What
 * cannot be seen in a listing (a hole inside an index, damaged bytes) is found when the plan is carried out.
 */

import { LitestreamError, type ErrorCode } from '../base/errors.ts';
import { formatIndex, segmentKey } from '../format/names.ts';
import { type Position, formatPosition } from '../format/position.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';

export interface GenerationListing {
  readonly generation: string;
  /** By index. */
  readonly snapshots: readonly SnapshotInfo[];
  /** By index and offset. */
  readonly segments: readonly SegmentInfo[];
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
}

/**
 * Cuts a listing to what was there at `timestamp`. Segments form a chain, so one that was written (again) later but
 * stands before one that was there in time belongs to it.
 */
function candidateOf(replica: string, listing: GenerationListing, timestamp: Date | undefined): Candidate {
  const limit = timestamp?.getTime() ?? Infinity;
  const snapshots = listing.snapshots.filter(({ createdAt }) => createdAt.getTime() <= limit);
  const last = listing.segments.findLastIndex(({ createdAt }) => createdAt.getTime() <= limit);
  const segments = listing.segments.slice(0, last + 1);
  const times = [...snapshots, ...segments]
    .map(({ createdAt }) => createdAt.getTime())
    .filter((ms) => ms <= limit);
  const snapshotEnd = { index: snapshots.at(-1)?.index ?? -1, offset: -1 };
  const segmentEnd = segments.at(-1) ?? snapshotEnd;
  return {
    replica,
    generation: listing.generation,
    snapshots,
    segments,
    all: listing.segments,
    newestMs: times.reduce((a, b) => Math.max(a, b), -Infinity),
    end: segmentEnd.index >= snapshotEnd.index ? segmentEnd : snapshotEnd,
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

/** The candidate with the newest object. */
function freshest(candidates: readonly Candidate[]): Candidate | undefined {
  return candidates.reduce<Candidate | undefined>(
    (best, candidate) => (best === undefined || candidate.newestMs > best.newestMs ? candidate : best),
    undefined,
  );
}

/** A newer generation that has no snapshot yet cannot be restored: the user must know that its data are left out. */
function unrestorableWarnings(candidates: readonly Candidate[], chosen: Candidate): string[] {
  return candidates
    .filter(({ snapshots, newestMs }) => snapshots.length === 0 && newestMs > chosen.newestMs)
    .map(
      ({ replica, generation }) =>
        `generation ${generation} in replica ${replica} is newer but has no snapshot: restoring generation ${chosen.generation}`,
    );
}

function nothingFound(
  listings: readonly GenerationListing[],
  generation: string | undefined,
  timestamp: Date | undefined,
): PlanFailure {
  const snapshots = listings.flatMap((listing) => listing.snapshots);
  const earliest = snapshots.reduce((ms, { createdAt }) => Math.min(ms, createdAt.getTime()), Infinity);
  let detail = '';
  if (timestamp !== undefined && snapshots.length > 0) {
    detail = `: the earliest is of ${new Date(earliest).toISOString()}, after ${timestamp.toISOString()}`;
  } else if (listings.length > 0) {
    detail =
      generation === undefined ? ': there is no snapshot' : `: generation ${generation} has no snapshot`;
  } else if (generation !== undefined) {
    detail = `: there is no generation ${generation}`;
  }
  return { code: 'no-backup', message: `no matching backups found${detail}` };
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
  const snapshot = candidate.snapshots.findLast(({ index }) => index <= indexMax);
  if (snapshot === undefined) {
    const first = candidate.snapshots[0]?.index ?? 0;
    return {
      code: 'no-backup',
      message: `no matching backups found: the first snapshot of generation ${candidate.generation} has index ${bothForms(first)}, after ${bothForms(indexMax)}`,
    };
  }
  const plan = planFrom(candidate, snapshot, indexMax, target.upTo?.offset);
  if ('code' in plan || !mayBeAhead(candidate, snapshot, indexMax, target)) return plan;
  // Through the whole index of an earlier snapshot every page gets its right image.
  const earlier = candidate.snapshots.findLast(({ index }) => index < snapshot.index);
  const safe = earlier && planFrom(candidate, earlier, indexMax, target.upTo?.offset);
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
  { segments, all }: Candidate,
  snapshot: SnapshotInfo,
  indexMax: number,
  { timestamp }: RestoreTarget,
): boolean {
  if (timestamp === undefined || indexMax !== snapshot.index) return false;
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

/** A hole inside an index, found while the segments are applied. `position` is where the chain ends. */
export function missingSegmentError(position: Position): LitestreamError {
  const key = segmentKey(position.generation, position.index, position.offset);
  return new LitestreamError(
    'gap',
    `missing WAL segment ${key}: the last consistent point before it is ${formatPosition(position)}`,
  );
}
