/**
 * What one replica holds of one generation as far as this process knows: what it has learnt at its start, and what it
 * has stored since. Compared with what the store shows, since objects go by other hands, and come from other writers.
 */

import { segmentKey } from '../format/names.ts';
import type { ChainEnd, ChecksumWords } from '../format/object-trailer.ts';
import { xxh32 } from '../format/xxh32.ts';
import type { ObjectInfo } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';

/**
 * Numbers for each segment: where it starts, its size, its time in epoch milliseconds, a hash of its version, and the first
 * word of its checksum.
 */
const STRIDE = 5;
const [SIZE, TIME, VERSION, CHECKSUM] = [1, 2, 3, 4];
/** In the place of a version or a checksum. */
const UNKNOWN = -1;

/** Times of one object may be told in whole seconds, and by another clock of the same store: up to this apart. */
const COARSE_MS = 2000;
/** What is beyond a millisecond is cut in one place and rounded in another. */
const ROUNDING_MS = 1;

function isCoarse(timeMs: number): boolean {
  return timeMs % 1000 === 0;
}

function hashOf(version: string | undefined): number {
  return version === undefined ? UNKNOWN : xxh32(Buffer.from(version));
}

/** Whether two times in epoch milliseconds may be what a store tells of one object. */
export function isSameTime(knownMs: number, shownMs: number): boolean {
  const apartMs = Math.abs(knownMs - shownMs);
  return apartMs <= ROUNDING_MS || (apartMs < COARSE_MS && (isCoarse(knownMs) || isCoarse(shownMs)));
}

/** Where a segment begins. */
export interface SegmentPlace {
  readonly index: number;
  readonly start: number;
}

/** A segment and how large it is in the store. */
export interface StoredSegmentObject extends SegmentPlace {
  readonly key: string;
  /** Where it ends in the WAL of its index; undefined when it is not known. */
  readonly end: number | undefined;
  readonly sizeBytes: number;
}

/** What the store tells of an object that is a segment, when it is put or found. */
export interface SegmentObject {
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
  readonly version?: string | undefined;
  /** At its end; undefined where that is not known. */
  readonly checksum?: ChecksumWords | undefined;
}

/** How a listing differs, of what the newest snapshot needs. */
export interface Difference {
  /** Keys that are not shown. */
  readonly missing: readonly string[];
  /** Shown, and not stored by this process or those before it, or of another size. */
  readonly foreign: readonly SegmentInfo[];
  /** Of the size that was stored, and yet perhaps another object: see isDoubtful(). */
  readonly doubtful: readonly SegmentInfo[];
}

/** What outlives the process: enough to tell a list that shows less, or more, than was stored. */
export interface StoredSummary {
  /** The last segment. */
  readonly last: SegmentPlace;
  /** Index of the newest snapshot; undefined while there is none. */
  readonly since: number | undefined;
  /** How many segments there are from that index on, or in all. */
  readonly count: number;
}

export class StoredObjects {
  readonly generation: string;
  /** By index: STRIDE numbers for each segment, one after the other. A busy database has a hundred thousand a day. */
  readonly #segments = new Map<number, number[]>();
  #snapshot: SnapshotInfo | undefined;
  #last: StoredSegmentObject | undefined;
  #sending: string | undefined;
  /** Whether the store tells times to a part of a second when it stores. */
  #tellsTimes = false;
  /** Whether the last segment may be another one's by all that is known: put a moment after ours, of the same size. */
  #lastIsUnproven = false;

  /**
   * @param segments what it holds already, in order
   * @param end where these end, if that is known
   */
  constructor(generation: string, segments: readonly SegmentInfo[] = [], end?: ChainEnd) {
    this.generation = generation;
    for (const { index, offset, sizeBytes, createdAt, version } of segments) {
      const isLast = end?.index === index && offset < end.offset;
      const known = isLast ? end : undefined;
      const place = { index, start: offset, end: known?.offset };
      this.stored(place, { sizeBytes, modifiedAt: createdAt, version, checksum: known?.checksum });
    }
    // Who knows its end has read it.
    this.#lastIsUnproven = false;
  }

  /** The newest one. */
  get snapshot(): SnapshotInfo | undefined {
    return this.#snapshot;
  }

  /** The last segment. */
  get last(): StoredSegmentObject | undefined {
    return this.#last;
  }

  /** Of what is stored; undefined without a segment. */
  summary(): StoredSummary | undefined {
    if (!this.#last) return undefined;
    const { index, start } = this.#last;
    let count = 0;
    for (const known of this.#segments.values()) count += known.length / STRIDE;
    return { last: { index, start }, since: this.#snapshot?.index, count };
  }

  /** A snapshot is stored. What is older than it may go at any time. */
  setSnapshot(snapshot: SnapshotInfo | undefined): void {
    this.#snapshot = snapshot;
    if (!snapshot) return;
    for (const index of this.#segments.keys()) if (index < snapshot.index) this.#segments.delete(index);
  }

  /** From now on there may be such an object. */
  sending({ index, start }: SegmentPlace): void {
    this.#sending = segmentKey(this.generation, index, start);
  }

  /** It is there, for the first time or anew. To be called in their order. */
  stored(
    { index, start, end }: SegmentPlace & { readonly end: number | undefined },
    { sizeBytes, modifiedAt, version, checksum }: SegmentObject,
  ): void {
    const known = this.#segments.get(index) ?? [];
    if (known.at(-STRIDE) === start) known.splice(-STRIDE);
    const timeMs = modifiedAt.getTime();
    known.push(start, sizeBytes, timeMs, hashOf(version), checksum?.[0] ?? UNKNOWN);
    this.#segments.set(index, known);
    this.#last = { key: segmentKey(this.generation, index, start), index, start, end, sizeBytes };
    this.#sending = undefined;
    this.#tellsTimes ||= !isCoarse(timeMs);
    this.#lastIsUnproven = version === undefined && !this.#tellsTimes;
  }

  /**
   * Compares with all that the store shows of the generation.
   * @param until the last segment when the store was asked: what came later need not be shown; undefined: there was none
   */
  compare(segments: readonly SegmentInfo[], until: SegmentPlace | undefined): Difference {
    const shown = new Map<string, SegmentInfo>();
    const from = this.#snapshot?.index ?? 0;
    for (const segment of segments) if (segment.index >= from) shown.set(segment.key, segment);
    const missing: string[] = [];
    const doubtful: SegmentInfo[] = [];
    for (const [index, known] of this.#segments) {
      for (let at = 0; at < known.length; at += STRIDE) {
        const start = known[at] ?? 0;
        const key = segmentKey(this.generation, index, start);
        const segment = shown.get(key);
        const isOlder = until && (index < until.index || (index === until.index && start <= until.start));
        if (!segment && isOlder) missing.push(key);
        if (isOlder && segment?.sizeBytes !== known[at + SIZE]) continue;
        shown.delete(key);
        if (isOlder && segment && this.#mayBeAnother(segment, { index, start }, known, at))
          doubtful.push(segment);
      }
    }
    if (this.#sending !== undefined) shown.delete(this.#sending);
    return { missing, foreign: [...shown.values()], doubtful };
  }

  /**
   * Whether an object of the size that was stored may be another one all the same: the store calls it otherwise, or, where
   * it has no versions, dates it otherwise, as it does after a copy of the whole store; or it is the last one and the times
   * are too coarse to tell. Its content tells.
   */
  isDoubtful(place: SegmentPlace, { modifiedAt, version }: ObjectInfo): boolean {
    const known = this.#find(place);
    return known !== undefined && this.#mayBeAnother({ createdAt: modifiedAt, version }, place, known, 0);
  }

  #mayBeAnother(
    { createdAt, version }: Pick<SegmentInfo, 'createdAt' | 'version'>,
    place: SegmentPlace,
    known: readonly number[],
    at: number,
  ): boolean {
    const [knownMs = 0, knownHash] = [known[at + TIME], known[at + VERSION]];
    if (version !== undefined && knownHash !== UNKNOWN) return hashOf(version) !== knownHash;
    if (!isSameTime(knownMs, createdAt.getTime())) return true;
    return this.#lastIsUnproven && this.#isLast(place);
  }

  #isLast({ index, start }: SegmentPlace): boolean {
    return this.#last?.index === index && this.#last.start === start;
  }

  /** The numbers of a segment and, behind them, the start of the next one; undefined when it is not known. */
  #find({ index, start }: SegmentPlace): number[] | undefined {
    const known = this.#segments.get(index) ?? [];
    for (let at = 0; at < known.length; at += STRIDE)
      if (known[at] === start) return known.slice(at, at + STRIDE + 1);
    return undefined;
  }

  /** Where the segment that begins there ends; undefined when that is not known. */
  endOf(place: SegmentPlace): number | undefined {
    return this.#isLast(place) ? this.#last?.end : this.#find(place)?.[STRIDE];
  }

  /** Whether a segment is known to begin there. */
  has(place: SegmentPlace): boolean {
    return this.#find(place) !== undefined;
  }

  /** Its size in the store; undefined when it is not known. */
  sizeOf(place: SegmentPlace): number | undefined {
    return this.#find(place)?.[SIZE];
  }

  /** Whether the segment that begins there is not known to end in another checksum. */
  mayEndIn(place: SegmentPlace, [first]: ChecksumWords): boolean {
    return [undefined, UNKNOWN, first].includes(this.#find(place)?.[CHECKSUM]);
  }

  /** A segment that is known was found to be what was stored, though it shows another size, time or version by now. */
  proven(place: SegmentPlace, { sizeBytes, createdAt, version }: SegmentInfo): void {
    const known = this.#segments.get(place.index) ?? [];
    for (let at = 0; at < known.length; at += STRIDE)
      if (known[at] === place.start)
        known.splice(at + SIZE, 3, sizeBytes, createdAt.getTime(), hashOf(version));
    if (this.#isLast(place)) this.#lastIsUnproven = false;
  }
}
