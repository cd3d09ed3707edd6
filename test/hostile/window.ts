/**
 * Which commits can be restored from a set of true objects, told from their trailers alone: independent of what plans and
 * guards retention.
 */

import { placeOf } from './planting.ts';
import { trailerIn } from '../support/trailers.ts';
import type { Objects } from './truth.ts';

interface Commit {
  /** For messages. */
  readonly name: string;
  /** From then on it was the state of the database. */
  readonly fromMs: number;
  /** Until then. */
  readonly toMs: number;
  /** Each of them is enough: a snapshot, and all segments from its index to the commit. */
  readonly ways: readonly (readonly string[])[];
}

interface TrueSegment {
  readonly key: string;
  readonly index: number;
  readonly end: number;
  readonly times: readonly number[];
}

interface TrueSnapshot {
  readonly key: string;
  readonly index: number;
  readonly offset: number;
  readonly timeMs: number;
}

interface Chain {
  readonly segments: TrueSegment[];
  readonly snapshots: TrueSnapshot[];
}

function chainsOf(objects: Objects): Chain[] {
  const chains = new Map<string, Chain>();
  for (const [key, { data }] of objects) {
    const { generation } = placeOf(key);
    const chain = chains.get(generation) ?? { segments: [], snapshots: [] };
    chains.set(generation, chain);
    const trailer = trailerIn(data);
    if (trailer?.kind === 'segment') {
      const { index, end, commits } = trailer;
      chain.segments.push({ key, index, end, times: commits.map(({ timeMs }) => timeMs) });
    } else if (trailer) {
      chain.snapshots.push({ key, ...trailer });
    }
  }
  for (const { segments } of chains.values()) segments.sort((a, b) => a.index - b.index || a.end - b.end);
  return [...chains.values()];
}

/** States at ends of segments, and of snapshots, of objects that say what they are. */
function statesOf({ segments, snapshots }: Chain): Omit<Commit, 'toMs'>[] {
  const waysTo = (index: number, end: number): string[][] =>
    snapshots
      .filter((snapshot) => snapshot.index < index || (snapshot.index === index && snapshot.offset <= end))
      .map((snapshot) => [
        snapshot.key,
        ...segments
          .filter(
            (one) =>
              one.index >= snapshot.index && (one.index < index || (one.index === index && one.end <= end)),
          )
          .map(({ key }) => key),
      ]);
  const states = segments.map(({ key, index, end, times }) => ({
    name: key,
    fromMs: Math.min(...times),
    ways: waysTo(index, end),
  }));
  const first = snapshots.toSorted((a, b) => a.index - b.index)[0];
  if (first && first.offset === 0)
    states.push({ name: first.key, fromMs: first.timeMs, ways: [[first.key]] });
  return states;
}

/** All states of a true replica, each until the next one. */
export function historyOf(objects: Objects): readonly Commit[] {
  const states = chainsOf(objects)
    .flatMap(statesOf)
    .sort((a, b) => a.fromMs - b.fromMs);
  return states.map((state, i) => ({ ...state, toMs: states[i + 1]?.fromMs ?? Infinity }));
}

/**
 * The states of the time since `sinceMs` that could be restored, and cannot any more, in words.
 * @param before true objects that were there
 * @param after those that are left
 */
export function lostOf(
  history: readonly Commit[],
  sinceMs: number,
  before: ReadonlySet<string>,
  after: ReadonlySet<string>,
): string[] {
  const isThere = (keys: ReadonlySet<string>, { ways }: Commit): boolean =>
    ways.some((way) => way.every((key) => keys.has(key)));
  return history
    .filter(({ toMs }) => toMs > sinceMs)
    .filter((commit) => isThere(before, commit) && !isThere(after, commit))
    .map(({ name, fromMs }) => `${name} of ${new Date(fromMs).toISOString()}`);
}
