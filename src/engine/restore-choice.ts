/**
 * Which generation a restore takes: the one after which no other comes by the names in its objects; where these tell
 * nothing, the one that the store got last. Clocks of those who wrote order commits of one generation, and nothing else.
 */

import type { GenerationOrder } from './generation-order.ts';
import type { Candidate } from './restore-candidate.ts';
import { CLOCK_STEP_MS } from './steady-clock.ts';

export interface Choice {
  readonly chosen: Candidate | undefined;
  /** Where another choice could have been meant. */
  readonly warnings: readonly string[];
}

/** The candidates of one generation in all replicas. */
interface Rival {
  readonly generation: string;
  /** The freshest of them. */
  readonly candidate: Candidate;
  /** When the store got the newest of its objects, in epoch milliseconds. */
  readonly storedMs: number;
  /** Whether it was written to after the time that is asked for, by its own times. */
  readonly isOpen: boolean;
}

/**
 * @param candidates all that can be restored, cut to the time
 * @param listed names of all generations that have a snapshot, whatever its time
 * @param timestamp undefined: the latest state
 */
export function chooseGeneration(
  candidates: readonly Candidate[],
  listed: readonly string[],
  order: GenerationOrder,
  timestamp: Date | undefined,
): Choice {
  const rivals = rivalsOf(candidates, timestamp?.getTime() ?? Infinity);
  if (timestamp === undefined) {
    const { chosen, warnings } = storedLast(order.latest(rivals));
    return { chosen, warnings: [...warnings, ...writtenOn(chosen, rivals, order)] };
  }
  const last = new Set(
    order.latest(listed.map((generation) => ({ generation }))).map((one) => one.generation),
  );
  const { left, twice } = atTime(rivals, order, last);
  const { chosen, warnings } = left.some(({ isOpen }) => isOpen)
    ? { chosen: freshest(left.map(({ candidate }) => candidate)), warnings: [] }
    : storedLast(left);
  const others = twice.filter(({ generation }) => generation !== chosen?.generation);
  return {
    chosen,
    warnings: [...warnings, ...others.map((other) => twiceWarning(other, chosen, timestamp))],
  };
}

/**
 * Of generations that follow each other the later one counts, unless it was over by that time while the earlier one
 * went on: its clock was behind then. A generation that nothing follows is never over: its last state lasts.
 */
function atTime(
  rivals: readonly Rival[],
  order: GenerationOrder,
  last: ReadonlySet<string>,
): { readonly left: readonly Rival[]; readonly twice: readonly Rival[] } {
  const out = new Set<Rival>();
  const twice = new Set<Rival>();
  for (const later of rivals) {
    const lasts = later.isOpen || last.has(later.generation);
    for (const earlier of rivals) {
      if (!order.isAfter(later.generation, earlier.generation)) continue;
      out.add(earlier.isOpen && !lasts ? later : earlier);
      if (earlier.isOpen) twice.add(lasts ? earlier : later);
    }
  }
  return { left: rivals.filter((rival) => !out.has(rival)), twice: [...twice] };
}

function twiceWarning(other: Rival, chosen: Candidate | undefined, timestamp: Date): string {
  return (
    `${timestamp.toISOString()} came twice, as a clock was wrong: restoring generation ${chosen?.generation ?? ''}; ` +
    `-generation ${other.generation} restores the other state`
  );
}

function rivalsOf(candidates: readonly Candidate[], timeMs: number): Rival[] {
  const byName = new Map<string, Candidate[]>();
  for (const candidate of candidates) {
    const own = byName.get(candidate.generation);
    if (own) own.push(candidate);
    else byName.set(candidate.generation, [candidate]);
  }
  return [...byName].flatMap(([generation, own]) => {
    const candidate = freshest(own);
    if (candidate === undefined) return [];
    const storedMs = own.reduce((ms, one) => Math.max(ms, one.storedMs), -Infinity);
    return { generation, candidate, storedMs, isOpen: own.some((one) => wentOn(one, timeMs)) };
  });
}

function wentOn({ reach, segments, all }: Candidate, timeMs: number): boolean {
  return reach?.range ? reach.range.latestMs > timeMs : segments.length < all.length;
}

/** The candidate with the newest commit or, where that is not known, object. */
export function freshest(candidates: readonly Candidate[]): Candidate | undefined {
  const startMs = ({ reach }: Candidate): number => reach?.range?.earliestMs ?? -Infinity;
  return candidates.reduce<Candidate | undefined>((best, candidate) => {
    if (best === undefined || candidate.newestMs > best.newestMs) return candidate;
    const isNewer = candidate.newestMs === best.newestMs && startMs(candidate) > startMs(best);
    return isNewer ? candidate : best;
  }, undefined);
}

/** By the store's times: of generations of which no names tell the order. */
function storedLast(rivals: readonly Rival[]): Choice {
  const [best, ...others] = rivals.toSorted(
    (a, b) => b.storedMs - a.storedMs || b.candidate.newestMs - a.candidate.newestMs,
  );
  if (best === undefined) return { chosen: undefined, warnings: [] };
  const doubtful = others.find((other) => committedMs(other) > committedMs(best) || mayBeCopies(best, other));
  const warnings = doubtful ? [disagreement(best, doubtful)] : [];
  return { chosen: best.candidate, warnings };
}

/** Time of its newest commit, by the clock of who wrote it; of v0.3.13's the time of the object is all there is. */
function committedMs({ candidate, storedMs }: Rival): number {
  return candidate.reach ? candidate.newestMs : storedMs;
}

/** Whether times of two kinds are compared, and those of the objects are not when they were written. */
function mayBeCopies(a: Rival, b: Rival): boolean {
  const [known, ...more] = [a, b].filter(({ candidate }) => candidate.reach !== undefined);
  if (known === undefined || more.length > 0) return false;
  const last = known.candidate.segments.at(-1) ?? known.candidate.snapshots.at(-1);
  const writtenMs = last?.createdAt.getTime() ?? known.storedMs;
  return Math.abs(writtenMs - known.candidate.newestMs) > CLOCK_STEP_MS;
}

function disagreement(best: Rival, other: Rival): string {
  const [mine, others] = [best, other].map((rival) => new Date(committedMs(rival)).toISOString());
  return (
    `nothing tells which of two generations is the latest: ${best.generation} was stored last, with commits up to ${mine ?? ''}, ` +
    `${other.generation} has commits up to ${others ?? ''}: restoring ${best.generation}; -generation ${other.generation} restores the other`
  );
}

/** A generation that is followed by the chosen one, and yet was written to for longer: somebody may still write it. */
function writtenOn(
  chosen: Candidate | undefined,
  rivals: readonly Rival[],
  order: GenerationOrder,
): string[] {
  const mine = rivals.find(({ candidate }) => candidate === chosen);
  if (mine === undefined) return [];
  return rivals
    .filter((other) => order.isAfter(mine.generation, other.generation))
    .filter(
      (other) =>
        Math.min(other.storedMs - mine.storedMs, committedMs(other) - committedMs(mine)) > CLOCK_STEP_MS,
    )
    .map(
      ({ generation, storedMs }) =>
        `generation ${generation} was written to until ${new Date(storedMs).toISOString()}, though ${mine.generation} follows it: ` +
        `restoring ${mine.generation}; if another host still writes ${generation}, -generation ${generation} restores that`,
    );
}
