/**
 * Which objects make up the database that a restore asks for: a pure decision over the listings of the replicas. What
 * cannot be seen in a listing (a hole inside an index, damaged bytes) is found when the plan is carried out.
 */

import { LitestreamError } from '../base/errors.ts';
import { greatestOf, leastOf } from '../base/extremes.ts';
import { segmentKey, snapshotKey } from '../format/names.ts';
import type { Origin } from '../format/origin-frame.ts';
import { type Position, formatPosition } from '../format/position.ts';
import { type SegmentInfo, type SnapshotInfo, thereFromMs } from './catalog.ts';
import { type Following, GenerationOrder } from './generation-order.ts';
import type { PlanFailure } from './plan-failure.ts';
import { type Candidate, newestOf, candidateOf, planCandidate } from './restore-candidate.ts';
import type { Damage } from './restore-chain.ts';
import { chooseGeneration } from './restore-choice.ts';
import { type Stray, describeStray } from './stray-objects.ts';

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
  /** Which generations its objects say it follows; undefined where they say nothing, or were not asked. */
  readonly origin?: Origin | undefined;
  /** What is not among them, as it does not belong to the generation. */
  readonly strays?: readonly Stray[] | undefined;
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
  /** Where something is missing, restore what comes before it. */
  readonly bestEffort?: boolean | undefined;
}

/** What a best effort leaves out. */
export interface Loss {
  /** What is missing, and where the rest begins: nothing from there on is restored. */
  readonly failure: PlanFailure;
  readonly index: number;
  readonly offset: number;
  /** Segments that are there in vain, and the time of the last object of them. */
  readonly segmentCount: number;
  readonly untilMs: number | undefined;
}

export interface RestorePlan {
  readonly replica: string;
  readonly generation: string;
  readonly snapshot: SnapshotInfo;
  /** To apply in this order: from the start of the snapshot's index, each index from offset 0, no index left out. */
  readonly segments: readonly SegmentInfo[];
  /** The replicas of those objects that are not from `replica`. */
  readonly sources: ReadonlyMap<SnapshotInfo | SegmentInfo, string>;
  /** The last index that is restored. */
  readonly indexMax: number;
  /** Where to stop inside the last index; undefined: at its last commit. */
  readonly endOffset: number | undefined;
  /**
   * The snapshot may already hold pages from after the target: the result must pass an integrity check, and even then
   * it may be later than asked for.
   */
  readonly uncertain: boolean;
  /** Undefined: nothing of what was asked for is left out. */
  readonly loss: Loss | undefined;
  /** What the user should know about the choice. */
  readonly warnings: readonly string[];
}

export type PlanOutcome =
  /** The first is the best; the others restore the same generation from other replicas. Never empty. */
  { readonly plans: readonly RestorePlan[] } | { readonly failure: PlanFailure };

/**
 * Plans a restore.
 * @param replicas the listings of those that could be listed, in the order of preference among equals
 * @param damages what is known to be of no use: other replicas stand in, object by object
 */
export function planRestore(
  replicas: readonly ReplicaListing[],
  target: RestoreTarget,
  damages: readonly Damage[] = [],
): PlanOutcome {
  const generation = target.upTo?.generation ?? target.generation;
  const listings = replicas.flatMap(({ name, generations }) =>
    generations
      .filter((listing) => generation === undefined || listing.generation === generation)
      .map((listing) => ({ name, listing })),
  );
  const candidates = listings.map(({ name, listing }) => candidateOf(name, listing, target.timestamp));
  const restorable = candidates.filter(({ snapshots }) => snapshots.length > 0);
  const order = new GenerationOrder(followings(listings.map(({ listing }) => listing)));
  const withSnapshot = listings.map(({ listing }) => listing).filter(({ snapshots }) => snapshots.length > 0);
  const names = withSnapshot.map((listing) => listing.generation);
  const choice = chooseGeneration(restorable, names, order, target.timestamp);
  const newest = choice.chosen;
  // What comes before the one that was found is not what is asked for, whatever ails it.
  const rivals = candidates.filter((other) => !newest || !order.isAfter(newest.generation, other.generation));
  const doubt = doubtOf(rivals, newest, target.timestamp);
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
  const strays = listings.flatMap(({ listing }) => listing.strays ?? []).map(describeStray);
  const warnings = [...strays, ...choice.warnings, ...unrestorableWarnings(candidates, newest, order)];
  // The state at a time is one: another replica that does not hold all of it is no substitute.
  const endOf = ({ end, reach }: Candidate): string | undefined =>
    reach?.range && `${end.index}:${end.offset}`;
  const able = restorable
    .filter((other) => other.generation === newest.generation && endOf(other) === endOf(newest))
    .sort((a, b) => b.end.index - a.end.index || furtherCommit(b, a) || b.end.offset - a.end.offset);
  const failures: { replica: string; failure: PlanFailure }[] = [];
  const plans: RestorePlan[] = [];
  for (const candidate of able) {
    const others = able.filter((other) => other !== candidate);
    const plan = planCandidate(candidate, target, { others, damages });
    if ('code' in plan) failures.push({ replica: candidate.replica, failure: plan });
    else plans.push(plan);
  }
  const [failed] = failures;
  // Whatever is whole comes before what a best effort can do.
  const [best, ...others] = plans.sort((a, b) => Number(a.loss !== undefined) - Number(b.loss !== undefined));
  if (best === undefined) {
    return { failure: failed?.failure ?? { code: 'no-backup', message: 'no matching backups found' } };
  }
  const skipped = failures.map(
    ({ replica, failure }) => `cannot restore from replica ${replica}: ${failure.message}`,
  );
  return { plans: [{ ...best, warnings: [...warnings, ...skipped, ...best.warnings] }, ...others] };
}

/** Where a last segment begins does not tell where it ends; the times of commits are the same in all replicas. */
function furtherCommit(a: Candidate, b: Candidate): number {
  return a.reach && b.reach ? a.newestMs - b.newestMs : 0;
}

/**
 * Which generations follow which. One that went on beyond the place where another one left it is followed by none: the
 * two were written beside each other, as by a clone of a volume, and no name tells which of them came last.
 */
function followings(listings: readonly GenerationListing[]): Following[] {
  const wentOn = new Set(
    listings.flatMap(({ origin }) => {
      const [before] = origin?.generations ?? [];
      const isBeyond = listings.some(
        ({ generation, segments }) => generation === before && endsBeyond(segments, origin?.end),
      );
      return isBeyond && before !== undefined ? before : [];
    }),
  );
  return listings.map(({ generation, origin }) => ({
    generation,
    follows: (origin?.generations ?? []).filter((name) => !wentOn.has(name)),
  }));
}

function endsBeyond(segments: readonly SegmentInfo[], end: Origin['end']): boolean {
  const last = segments.at(-1);
  if (end === undefined || last === undefined) return false;
  return last.index > end.index || (last.index === end.index && last.offset >= end.offset);
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
function unrestorableWarnings(
  candidates: readonly Candidate[],
  chosen: Candidate,
  order: GenerationOrder,
): string[] {
  const isNewer = ({ generation, storedMs }: Candidate): boolean =>
    order.isAfter(generation, chosen.generation) ||
    (!order.isAfter(chosen.generation, generation) && storedMs > chosen.storedMs);
  return candidates
    .filter((candidate) => candidate.headless && candidate.segments.length > 0 && isNewer(candidate))
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
  // Something was stored, and cannot be restored: that there is no backup would be a reason to begin with an empty database.
  const withWal = listings.filter(({ segments }) => segments.length > 0);
  if (ranges.length === 0 && withWal.length > 0) return noSnapshot(withWal);
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

function noSnapshot(listings: readonly GenerationListing[]): PlanFailure {
  const storedMsOf = ({ segments }: GenerationListing): number => newestOf([], segments);
  const newest = listings.reduce((a, b) => (storedMsOf(b) > storedMsOf(a) ? b : a));
  const key = snapshotKey(newest.generation, newest.segments[0]?.index ?? 0);
  return {
    code: 'gap',
    message:
      `missing snapshot ${key}: WAL was stored until ${new Date(storedMsOf(newest)).toISOString()}, and without a snapshot it ` +
      `cannot be restored; to begin with a new database, remove generation ${newest.generation} from the replica`,
  };
}

function rangeOf({ snapshots, segments, reach }: GenerationListing): NonNullable<Reach['range']> {
  if (reach?.range) return reach.range;
  const times = [...snapshots, ...segments].map(({ createdAt }) => createdAt.getTime());
  return { earliestMs: leastOf(snapshots.map(thereFromMs)), latestMs: greatestOf(times) };
}

/** Something is missing in the middle of a chain. */
export class GapError extends LitestreamError {
  /** Where what is missing begins. */
  readonly start: Position;

  constructor(message: string, start: Position) {
    super('gap', message);
    this.start = start;
  }
}

/**
 * A hole that listings alone do not show.
 * @param end of the chain before it
 * @param start of the missing segment, where the chain ends unless it is a later index
 */
export function missingSegmentError(end: Position, start: Position = end): GapError {
  const key = segmentKey(start.generation, start.index, start.offset);
  return new GapError(
    `missing WAL segment ${key}: the last consistent point before it is ${formatPosition(end)}`,
    start,
  );
}
