/** One generation of one replica as a base for a restore: what of it counts, and the plan that follows. Pure. */

import { greatestOf } from '../base/extremes.ts';
import { type SegmentInfo, type SnapshotInfo, thereFromMs } from './catalog.ts';
import { type PlanFailure, bothForms } from './plan-failure.ts';
import { type Damage, type Hole, assembleChain } from './restore-chain.ts';
import type { GenerationListing, Reach, RestorePlan, RestoreTarget } from './restore-plan.ts';

/** A generation of one replica as far as the target's time reaches. */
export interface Candidate {
  readonly replica: string;
  readonly generation: string;
  readonly snapshots: readonly SnapshotInfo[];
  readonly segments: readonly SegmentInfo[];
  /** Whether `segments` was cut by the target's time. */
  readonly all: readonly SegmentInfo[];
  readonly newestMs: number;
  /** When the store got the newest of these objects, in epoch milliseconds; -Infinity without any. */
  readonly storedMs: number;
  /** Whether the generation has no snapshot at all, of whatever time. */
  readonly headless: boolean;
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
  const storedMs = newestOf(snapshots, segments);
  const headless = listing.snapshots.length === 0;
  return {
    replica,
    generation,
    snapshots,
    segments,
    all,
    newestMs,
    storedMs,
    headless,
    end: { ...end, offset },
    reach,
  };
}

/** When the store got the newest of them, in epoch milliseconds; -Infinity: there is none. */
export function newestOf(snapshots: readonly SnapshotInfo[], segments: readonly SegmentInfo[]): number {
  return greatestOf([...snapshots, ...segments].map(({ createdAt }) => createdAt.getTime()));
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
export function candidateOf(
  replica: string,
  listing: GenerationListing,
  timestamp: Date | undefined,
): Candidate {
  if (listing.reach) return reachingCandidate(replica, listing, listing.reach);
  const limit = timestamp?.getTime() ?? Infinity;
  const snapshots = listing.snapshots.filter((snapshot) => thereFromMs(snapshot) <= limit);
  const first = listing.segments.findIndex((segment) => thereFromMs(segment) > limit);
  const segments = first < 0 ? listing.segments : listing.segments.slice(0, first);
  const storedMs = newestOf(snapshots, segments);
  return {
    replica,
    generation: listing.generation,
    snapshots,
    segments,
    all: listing.segments,
    newestMs: storedMs,
    storedMs,
    headless: listing.snapshots.length === 0,
    end: endOf(snapshots, segments),
    reach: undefined,
  };
}

/** What stands in for a candidate's own objects, and why. */
interface Substitutes {
  readonly others: readonly Candidate[];
  readonly damages: readonly Damage[];
}

export function planCandidate(
  candidate: Candidate,
  target: RestoreTarget,
  substitutes: Substitutes,
): RestorePlan | PlanFailure {
  const wanted = target.upTo?.index ?? target.index;
  if (wanted !== undefined && wanted > candidate.end.index) {
    return {
      code: 'not-found',
      message: `index ${bothForms(wanted)} is not in generation ${candidate.generation}: the last is ${bothForms(candidate.end.index)}`,
    };
  }
  const indexMax = wanted ?? candidate.end.index;
  const endOffset = target.upTo?.offset ?? (wanted === undefined ? candidate.reach?.endOffset : undefined);
  const end: ChainEnd = { indexMax, endOffset, bestEffort: target.bestEffort === true };
  const choices = snapshotChoices(candidate, indexMax, substitutes);
  const [choice] = choices;
  if (choice === undefined) {
    const damage = substitutes.damages.find(
      ({ kind, replica }) => kind === 'snapshot' && replica === candidate.replica,
    );
    if (damage) return damage.error;
    const first = candidate.snapshots[0]?.index ?? 0;
    return {
      code: 'no-backup',
      message: `no matching backups found: the first snapshot of generation ${candidate.generation} has index ${bothForms(first)}, after ${bothForms(indexMax)}`,
    };
  }
  const plan = planFrom(candidate, choice, end, substitutes);
  if ('code' in plan || !mayBeAhead(candidate, choice.snapshot, indexMax, target)) return plan;
  // Through the whole index of an earlier snapshot every page gets its right image.
  const earlier = choices.find(({ snapshot }) => snapshot.index < choice.snapshot.index);
  const safe = earlier && planFrom(candidate, earlier, { ...end, bestEffort: false }, substitutes);
  if (safe && !('code' in safe)) return safe;
  const warning = `snapshot ${choice.snapshot.key} may hold changes later than the requested time: checking the result`;
  return { ...plan, uncertain: true, warnings: [...plan.warnings, warning] };
}

/** A snapshot and the replica that has it. */
interface SnapshotChoice {
  readonly snapshot: SnapshotInfo;
  readonly replica: string;
}

/** Snapshots to begin with, the newest first. Those of other replicas count where the candidate's own is damaged. */
function snapshotChoices(
  candidate: Candidate,
  indexMax: number,
  { others, damages }: Substitutes,
): SnapshotChoice[] {
  const usable = ({ replica, snapshots }: Candidate): SnapshotChoice[] =>
    snapshots
      .filter(
        ({ key, index }) =>
          index <= indexMax && !damages.some((damage) => damage.replica === replica && damage.key === key),
      )
      .map((snapshot) => ({ snapshot, replica }));
  const own = usable(candidate);
  const standIns = candidate.snapshots.length === own.length ? [] : others.flatMap(usable);
  return [...own, ...standIns].sort((a, b) => b.snapshot.index - a.snapshot.index);
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

/** Where a plan ends. */
interface ChainEnd {
  readonly indexMax: number;
  readonly endOffset: number | undefined;
  readonly bestEffort: boolean;
}

function planFrom(
  candidate: Candidate,
  { snapshot, replica: snapshotReplica }: SnapshotChoice,
  { indexMax, endOffset, bestEffort }: ChainEnd,
  { others, damages }: Substitutes,
): RestorePlan | PlanFailure {
  const { replica, generation } = candidate;
  const supplies = [candidate, ...others].map((supply) => ({
    replica: supply.replica,
    segments: supply.segments.filter(
      ({ index, offset }) =>
        index >= snapshot.index &&
        (index < indexMax || (index === indexMax && (endOffset === undefined || offset < endOffset))),
    ),
  }));
  const span = { first: snapshot.index, last: indexMax };
  const chain = assembleChain(generation, supplies, span, damages);
  if (chain.hole && !bestEffort) return chain.hole.failure;
  const sources = new Map<SnapshotInfo | SegmentInfo, string>(chain.sources);
  if (snapshotReplica !== replica) sources.set(snapshot, snapshotReplica);
  const plan = { replica, generation, snapshot, sources, uncertain: false, warnings: chain.warnings };
  if (!chain.hole) return { ...plan, segments: chain.segments, indexMax, endOffset, loss: undefined };
  return { ...plan, ...cutAt(chain.hole, chain.segments, snapshot.index) };
}

/** A chain as far as it goes before a hole. */
function cutAt(
  { index, offset, failure }: Hole,
  chain: readonly SegmentInfo[],
  first: number,
): Pick<RestorePlan, 'segments' | 'indexMax' | 'endOffset' | 'loss'> {
  const isBefore = (segment: SegmentInfo): boolean =>
    segment.index < index || (segment.index === index && segment.offset < offset);
  const segments = chain.filter(isBefore);
  const lost = chain.filter((segment) => !isBefore(segment));
  const untilMs = lost.at(-1)?.createdAt.getTime();
  const loss = { failure, index, offset, segmentCount: lost.length, untilMs };
  return { segments, indexMax: segments.at(-1)?.index ?? first, endOffset: undefined, loss };
}
