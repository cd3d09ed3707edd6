/**
 * The segments of a chain, patched where the first replica has a hole with those of others of the same generation:
 * replicas cut the same WAL at other places, and what a segment repeats of the one before it is compared. Pure.
 */

import type { LitestreamError } from '../base/errors.ts';
import { formatIndex, segmentKey } from '../format/names.ts';
import type { SegmentInfo } from './catalog.ts';
import { type PlanFailure, bothForms } from './plan-failure.ts';

/** What was found to be of no use while a plan was carried out. */
export interface Damage {
  readonly replica: string;
  readonly generation: string;
  /** The object; undefined when it is missing. */
  readonly key: string | undefined;
  readonly kind: 'snapshot' | 'segment';
  readonly index: number;
  /** Where the segment begins, or should; 0 for a snapshot. */
  readonly offset: number;
  readonly error: LitestreamError;
}

/** The segments of one replica that may be used, by index and offset. */
export interface SegmentSupply {
  readonly replica: string;
  readonly segments: readonly SegmentInfo[];
}

/** From an offset on something is missing in an index. */
export interface Hole {
  readonly index: number;
  readonly offset: number;
  readonly failure: PlanFailure;
}

export interface Chain {
  /** In the order in which to apply them. */
  readonly segments: readonly SegmentInfo[];
  /** The replicas of those that are not from the first one. */
  readonly sources: ReadonlyMap<SegmentInfo, string>;
  /** The first hole that no other replica fills. */
  readonly hole: Hole | undefined;
  /** What other replicas fill, in words. */
  readonly warnings: readonly string[];
}

/**
 * @param supplies the first is the preferred one
 * @param span its indexes, from the snapshot's to the last, which is whole or ends with the segments that are given
 */
export function assembleChain(
  generation: string,
  supplies: readonly SegmentSupply[],
  span: { readonly first: number; readonly last: number },
  damages: readonly Damage[],
): Chain {
  const usable = supplies.map(({ replica, segments }) => {
    const own = damages.filter((damage) => damage.replica === replica && damage.kind === 'segment');
    const bad = new Set(own.map(({ key }) => key));
    return { replica, damages: own, segments: segments.filter(({ key }) => !bad.has(key)) };
  });
  const [main, ...others] = usable;
  if (main === undefined) return { segments: [], sources: new Map(), hole: undefined, warnings: [] };
  const sources = new Map<SegmentInfo, string>();
  const warnings: string[] = [];
  let unfilled: Hole | undefined;
  for (const hole of findHoles(generation, main, others, span)) {
    const end = main.segments.find((next) => next.index === hole.index && next.offset > hole.offset)?.offset;
    const filling = others.find((other) => {
      const segments = covering(other, hole, end ?? Infinity);
      for (const segment of segments) sources.set(segment, other.replica);
      return segments.length > 0;
    });
    // Nothing behind it is restored.
    if (!filling) {
      unfilled = hole;
      break;
    }
    warnings.push(`replica ${main.replica}: ${hole.failure.message}; replica ${filling.replica} stands in`);
  }
  const segments = [...main.segments, ...sources.keys()];
  // Sorting is stable: the preferred replica's come before others that begin at the same place.
  if (sources.size > 0) segments.sort((a, b) => a.index - b.index || a.offset - b.offset);
  return { segments, sources, hole: unfilled, warnings };
}

/** What can be used of one replica. */
interface Usable {
  readonly segments: readonly SegmentInfo[];
  readonly damages: readonly Damage[];
}

/**
 * In the order of the chain. A snapshot alone, or with nothing after its index, is whole. Where no replica has anything of
 * several indexes in a row, that is one hole: there are four thousand million numbers between two names.
 */
function findHoles(
  generation: string,
  { segments, damages }: Usable,
  others: readonly Usable[],
  { first, last }: { readonly first: number; readonly last: number },
): Hole[] {
  const inside = ({ index }: SegmentInfo | Damage): boolean => index >= first && index <= last;
  const holes: Hole[] = damages.filter(inside).map(({ index, offset, error }) => ({
    index,
    offset,
    failure: { code: error.code, message: error.message },
  }));
  const damaged = new Set(holes.filter(({ offset }) => offset === 0).map(({ index }) => index));
  const starts = new Set(segments.filter(({ offset }) => offset === 0).map(({ index }) => index));
  const present = new Set(segments.map(({ index }) => index));
  const known = new Set([first, ...present, last]);
  for (const other of others)
    for (const segment of other.segments) if (inside(segment)) known.add(segment.index);
  for (const index of damaged) known.add(index);
  let before: number | undefined;
  for (const index of [...known].sort((a, b) => a - b)) {
    // Of a run that nobody knows anything of, the first index.
    const missing = before !== undefined && before + 1 < index ? [before + 1, index] : [index];
    before = index;
    for (const start of missing) {
      if (starts.has(start) || (start === first && start === last && !present.has(start))) continue;
      if (!damaged.has(start)) holes.push(missingStart(generation, start, first));
    }
  }
  return holes.sort((a, b) => a.index - b.index || a.offset - b.offset);
}

function missingStart(generation: string, index: number, first: number): Hole {
  const before =
    index === first ? `snapshot ${formatIndex(first)}` : `the end of index ${bothForms(index - 1)}`;
  const message = `missing WAL segment ${segmentKey(generation, index, 0)}: the last consistent point before it is ${before}`;
  return { index, offset: 0, failure: { code: 'gap', message } };
}

/** Segments of a replica that hold a WAL from a hole's start to `end`; none when it has a hole there itself. */
function covering(
  { segments, damages }: Usable,
  { index, offset }: Hole,
  end: number,
): readonly SegmentInfo[] {
  const own = segments.filter((segment) => segment.index === index);
  const used = own.filter((segment, i) => segment.offset < end && (own[i + 1]?.offset ?? Infinity) > offset);
  const [first] = used;
  if (first === undefined || first.offset > offset) return [];
  const damaged = damages.some(
    (hole) => hole.index === index && hole.offset >= first.offset && hole.offset < end,
  );
  return damaged ? [] : used;
}
