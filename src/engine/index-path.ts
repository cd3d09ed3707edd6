/**
 * The way through the segments of one WAL index when they do not simply follow each other: several processes have
 * written them. A segment belongs to the chain when it begins at a place that is proven by checksum, wherever in another
 * one that is. What does not continue the chain is left out, if it is known that the chain does not need it. Pure.
 */

import { LitestreamError } from '../base/errors.ts';
import { greatestOf } from '../base/extremes.ts';
import { segmentKey } from '../format/names.ts';
import type { ChainEnd } from '../format/object-trailer.ts';
import { formatPosition } from '../format/position.ts';
import { WAL_HEADER_SIZE, checksumsEqual } from '../sqlite/wal.ts';
import type { Cut, SegmentInfo } from './catalog.ts';
import { missingSegmentError } from './restore-plan.ts';
import type { FrameRun, SegmentContent } from './segment-content.ts';

/** Why a segment is left out. */
export type LeftOutKind =
  /** It adds nothing to the others. */
  | 'contained'
  /** It goes on from a place of the chain with other content, as the chain does with newer objects. */
  | 'branch'
  /** What it continues is not there, and another process wrote that. */
  | 'foreign'
  /** Damaged, and not needed. */
  | 'damaged';

export interface LeftOut {
  readonly segment: SegmentInfo;
  readonly kind: LeftOutKind;
}

export interface IndexPath {
  /** In order, without a hole or an overlap: each is left where the next one begins. */
  readonly segments: readonly SegmentInfo[];
  readonly end: ChainEnd;
  /** Whether the WAL of the next index continues it, as far as it is there. */
  readonly goesOn: boolean;
  readonly leftOut: readonly LeftOut[];
  /** So many segments of later indexes are left out too. */
  readonly leftOutBehind: number;
}

/** What is known of the indexes behind. */
export interface Following {
  /** End of the index, as the first segment of the next one tells; undefined when it does not. */
  readonly previous: ChainEnd | undefined;
  /** Store's time of the newest segment behind, in epoch milliseconds. */
  readonly newestMs: number;
  /** When the last commit of that first segment was seen; undefined when it does not tell. */
  readonly committedMs: number | undefined;
  readonly segmentCount: number;
}

export interface IndexSupply {
  readonly generation: string;
  readonly index: number;
  /** By offset. */
  readonly contents: readonly SegmentContent[];
  /** Undefined: there is no later index. */
  readonly following: Following | undefined;
  /** The position of the snapshot that is to be restored, if it is of this index. */
  readonly through: ChainEnd | undefined;
}

export type PathOutcome =
  | { readonly path: IndexPath }
  | {
      /** Why the chain is not known to be complete. */
      readonly failure: LitestreamError;
      /**
       * As far as it is proven, to `end`; segments behind that are of use if what is missing is found elsewhere.
       * Undefined: nothing is.
       */
      readonly proven: IndexPath | undefined;
      /** There are other ways, but none leads through the snapshot's position. */
      readonly snapshotForeign: boolean;
    };

/** A segment that continues the chain. */
interface Branch {
  readonly segment: SegmentInfo;
  readonly frames: FrameRun;
  /** The one in which the place is where it begins; undefined for that with the header. */
  readonly parent: Branch | undefined;
}

/** Segments up to a place. */
interface Way {
  readonly steps: readonly { readonly branch: Branch; readonly until: Cut }[];
  readonly end: Cut;
  /** The next index continues it. */
  readonly linked: boolean;
}

export function findIndexPath(supply: IndexSupply): PathOutcome {
  const { generation, index, contents, following, through } = supply;
  const branches = attach(contents);
  const all = waysOf(branches, following?.previous);
  const ways = through && through.offset > 0 ? all.filter((way) => leadsThrough(way, through)) : all;
  const way = ways.reduce<Way | undefined>(
    (best, other) => (best && !isNewer(other, best, following) ? best : other),
    undefined,
  );
  if (way === undefined) {
    const key = segmentKey(generation, index, 0);
    const failure = new LitestreamError('gap', `no WAL segment continues ${key}`);
    return { failure, proven: undefined, snapshotForeign: all.length > 0 };
  }
  const used = new Set(way.steps.map(({ branch }) => branch.segment));
  const leftOut: LeftOut[] = [];
  /** What continues the way if something that is missing is found elsewhere. */
  const unexplained: SegmentInfo[] = [];
  let failure: LitestreamError | undefined;
  const judge = new Judge(branches, contents, way);
  for (const content of contents) {
    if (used.has(content.segment)) continue;
    const kind = judge.kindOf(content);
    if (kind) leftOut.push({ segment: content.segment, kind });
    else failure ??= content.damage ?? missing(supply, way.end);
    if (!kind && !content.damage) unexplained.push(content.segment);
  }
  const goesOn = continues(way, following);
  if (!goesOn && following && !judge.isForeign(following)) failure ??= missing(supply, way.end);
  const path: IndexPath = {
    segments: way.steps.map(({ branch: { segment, frames }, until }) =>
      until.offset === frames.endOffset ? segment : { ...segment, cut: until },
    ),
    end: { index, ...way.end },
    goesOn,
    leftOut,
    leftOutBehind: goesOn ? 0 : (following?.segmentCount ?? 0),
  };
  if (!failure) return { path };
  const proven = { ...path, segments: [...path.segments, ...unexplained], goesOn: true };
  return { failure, proven, snapshotForeign: false };
}

function missing({ generation, index }: IndexSupply, { offset }: Cut): LitestreamError {
  return missingSegmentError({ generation, index, offset });
}

/** A segment's start lies in one that begins before it. */
function attach(contents: readonly SegmentContent[]): Branch[] {
  const branches: Branch[] = [];
  for (const { segment, frames } of contents) {
    if (!frames) continue;
    const parent = branches.find((branch) => branch.frames.has(frames.start));
    if (parent || (segment.offset === 0 && branches.length === 0)) branches.push({ segment, frames, parent });
  }
  return branches;
}

/** To each place where no other segment goes on, and to the one where the next index does. */
function waysOf(branches: readonly Branch[], link: ChainEnd | undefined): Way[] {
  const ways: Way[] = [];
  const holder = link && branches.find(({ frames }) => frames.has(link));
  if (link && holder) ways.push(wayTo(holder, link, true));
  for (const [i, branch] of branches.entries()) {
    const { end } = branch.frames;
    const goesOn = branches.some(
      (other, n) => n !== i && other.frames.has(end) && (n < i || other.frames.endOffset > end.offset),
    );
    if (goesOn || (link && holder && isPlace(link, end))) continue;
    ways.push(wayTo(branch, end, false));
  }
  return ways;
}

function isPlace(a: Cut, b: Cut): boolean {
  return a.offset === b.offset && checksumsEqual(a.checksum, b.checksum);
}

function wayTo(last: Branch, { offset, checksum }: Cut, linked: boolean): Way {
  const end = { offset, checksum };
  const steps: Way['steps'][number][] = [];
  let until: Cut = end;
  for (let branch: Branch | undefined = last; branch; branch = branch.parent) {
    if (until.offset > branch.segment.offset) steps.push({ branch, until });
    until = branch.frames.start;
  }
  return { steps: steps.reverse(), end, linked };
}

function leadsThrough({ steps }: Way, place: Cut): boolean {
  return steps.some(({ branch, until }) => place.offset <= until.offset && branch.frames.has(place));
}

/** By the store's times of the objects that one way has alone; then the longer one. */
function isNewer(a: Way, b: Way, following: Following | undefined): boolean {
  const [aMs, bMs] = [aloneMs(a, b, following), aloneMs(b, a, following)];
  if (aMs !== bMs) return aMs > bMs;
  if (a.linked !== b.linked) return a.linked;
  return a.end.offset > b.end.offset;
}

function aloneMs(way: Way, other: Way, following: Following | undefined): number {
  const isShared = ({ branch, until }: Way['steps'][number]): boolean =>
    other.steps.some((step) => step.branch === branch && step.until.offset >= until.offset);
  const times = way.steps.filter((step) => !isShared(step)).map(({ branch }) => storedMs(branch.segment));
  if (way.linked && following) times.push(following.newestMs);
  return greatestOf(times);
}

function committedMs({ trailer }: SegmentContent): number | undefined {
  return trailer?.commits.at(-1)?.timeMs;
}

function storedMs({ createdAt, createdNs = 0 }: SegmentInfo): number {
  return createdAt.getTime() + createdNs / 1e6;
}

/** Whether what stands in later indexes may be applied behind the way: what it says itself is asked for then. */
function continues({ linked }: Way, following: Following | undefined): boolean {
  return linked || (following !== undefined && following.previous === undefined);
}

/** Says of what is not on the way why it can be left out. */
class Judge {
  readonly #branches: ReadonlyMap<SegmentInfo, Branch>;
  readonly #way: Way;
  /** When the newest segment that is on the way or adds nothing to it was stored, and its last commit was seen. */
  readonly #newestMs: number;
  readonly #committedMs: number;
  /** Runs that do not continue the chain. */
  readonly #strays: readonly FrameRun[];

  constructor(branches: readonly Branch[], contents: readonly SegmentContent[], way: Way) {
    this.#branches = new Map(branches.map((branch) => [branch.segment, branch]));
    this.#way = way;
    const own = contents.filter(({ frames }) => frames && leadsThrough(way, frames.end));
    this.#newestMs = greatestOf(own.map(({ segment }) => storedMs(segment)));
    this.#committedMs = greatestOf(own.map((content) => committedMs(content) ?? -Infinity));
    this.#strays = contents.flatMap(({ segment, frames }) =>
      frames && !this.#branches.has(segment) ? [frames] : [],
    );
  }

  /** Undefined: what continues the way may be missing before it, or be in it. */
  kindOf(content: SegmentContent): LeftOutKind | undefined {
    const { segment, frames, anotherWal } = content;
    const { end, linked } = this.#way;
    const branch = this.#branches.get(segment);
    if (branch) return leadsThrough(this.#way, branch.frames.end) ? 'contained' : 'branch';
    if (anotherWal) return 'foreign';
    if (!frames) {
      // It may be the one that goes on from the end.
      const isOlder = segment.offset < end.offset && storedMs(segment) < this.#newestMs;
      return linked || isOlder ? 'damaged' : undefined;
    }
    const isForeign =
      linked || this.#rootOf(frames).offset <= end.offset || this.#isEarlier(committedMs(content));
    return isForeign ? 'foreign' : undefined;
  }

  /**
   * In one chain the times of commits do not decrease: what comes behind and is earlier is of another one. The store's
   * times do not tell, since copying changes them.
   */
  #isEarlier(ms: number | undefined): boolean {
    return ms !== undefined && ms < this.#committedMs;
  }

  /** Whether the later indexes are another process's: they continue a place that the way passes elsewhere. */
  isForeign(following: Following): boolean {
    const { previous } = following;
    if (!previous) return false;
    const isKnown = [...this.#branches.values()].some(({ frames }) => frames.has(previous));
    return isKnown || previous.offset <= this.#way.end.offset || this.#isEarlier(following.committedMs);
  }

  /** Where the first of the strays begins that lead to one: nothing that is there ends in that place. */
  #rootOf(frames: FrameRun): Cut {
    let { start } = frames;
    for (;;) {
      const before = this.#strays.find((run) => run.startOffset < start.offset && run.has(start));
      if (!before) return start;
      ({ start } = before);
    }
  }
}

/** In words what a way leaves out and why, for the log and verification. */
export function describeLeftOut(generation: string, { end, leftOut, leftOutBehind }: IndexPath): string[] {
  const of = (...kinds: LeftOutKind[]): LeftOut[] => leftOut.filter(({ kind }) => kinds.includes(kind));
  const at = formatPosition({ generation, ...end });
  const texts: string[] = [];
  const [contained, strange, damaged] = [of('contained'), of('branch', 'foreign'), of('damaged')];
  const behind = leftOutBehind === 0 ? '' : ` and ${leftOutBehind} of later indexes`;
  if (contained.length > 0) {
    texts.push(`${namesOf(contained)} left out: all that is in them is in other segments too; ${ADVICE}`);
  }
  if (strange.length > 0 || behind !== '') {
    const names = strange.length > 0 ? namesOf(strange) : 'segments';
    texts.push(
      `${names}${behind} left out: they do not continue the chain that is restored, which ends at ${at}; ${ADVICE}. ` +
        'What only that process has stored is not restored from this generation',
    );
  }
  if (damaged.length > 0) texts.push(`${namesOf(damaged)} left out: damaged, and others hold what is needed`);
  return texts;
}

const ADVICE =
  'another process has written into this generation: let one litestream alone replicate a database to a place';
/** Of what is left out, so many are named. */
const NAMES = 5;

function namesOf(leftOut: readonly LeftOut[]): string {
  const keys = leftOut.slice(0, NAMES).map(({ segment }) => segment.key);
  const more = leftOut.length > NAMES ? ` (and ${leftOut.length - NAMES} more)` : '';
  return `WAL ${leftOut.length === 1 ? 'segment' : 'segments'} ${keys.join(', ')}${more}`;
}

/** Whether a chain that stands at `state` is on a path: then what is left of the path can be applied to it. */
export function isOnPath({ segments, end }: IndexPath, runs: readonly SegmentContent[], state: Cut): boolean {
  if (state.offset <= WAL_HEADER_SIZE) return true;
  if (state.offset > end.offset) return false;
  return segments.some((segment) => {
    const until = segment.cut?.offset ?? Infinity;
    const content = runs.find(({ segment: { key } }) => key === segment.key);
    return state.offset <= until && content?.frames?.has(state) === true;
  });
}
