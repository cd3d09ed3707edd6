/**
 * Checks one generation of a replica object by object: that each decodes to its end and is what it says it is, and that
 * the WAL is one chain from the first snapshot on that leads through the position of each later one. Goes on behind
 * damage, so that all of it is named; what cannot be judged because of it is not damage.
 */

import { type LitestreamError, hasCode, messageOf } from '../base/errors.ts';
import { isPlaintextRefusal } from '../base/plaintext-refusal.ts';
import { segmentKey, snapshotKey } from '../format/names.ts';
import type { ChainEnd, SegmentTrailer, SnapshotTrailer } from '../format/object-trailer.ts';
import type { Position } from '../format/position.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import { describeLeftOut } from './index-path.ts';
import type { PageSink } from './page-writer.ts';
import type { FoundPath, NoPath } from './path-finder.ts';
import type { Content } from './restore-content.ts';
import { missingSegmentError } from './restore-plan.ts';
import { WalApplier, checkSegmentTrailer } from './restore-wal.ts';
import { type SnapshotContent, readSnapshot } from './snapshot-content.ts';
import { segmentTrailerOf, trailerOf } from './trailer-reader.ts';
import type { GenerationRange, Problem } from './verification-result.ts';

/** What of an object is known to be wrong with it: other failures are the store's. */
export function isDamage(error: unknown): error is LitestreamError {
  return hasCode(error, 'corrupt', 'gap', 'not-found');
}

/** As PathFinder.find(), of the generation that is checked. */
export type FindPath = (index: number, through: ChainEnd | undefined) => Promise<FoundPath | NoPath>;

/** Keeps nothing of the pages but how many there are. */
function discard(pageSizeBytes: number, onSize: (sizeBytes: number) => void): PageSink {
  return {
    pageSizeBytes,
    put: () => undefined,
    cut: (pageCount) => onSize(pageCount * pageSizeBytes),
    full: false,
    flush: () => Promise.resolve(),
  };
}

/** The chain from one snapshot on. */
interface Chain {
  applier: WalApplier;
  /** Another one, for the index that follows. */
  readonly begin: () => WalApplier;
  readonly snapshot: SnapshotInfo;
  /** The index whose segments come next: the one that is open, or the one after the last that was closed. */
  nextIndex: number;
}

/** Takes the objects of a generation in order: each snapshot before the segments of its index. */
export class GenerationCheck {
  readonly problems: Problem[] = [];
  /** What is left out of the chain and is no damage, in words. */
  readonly notes: string[] = [];
  readonly #generation: string;
  readonly #find: FindPath;
  /** The index whose way was found: all of its segments were read for that. */
  #followed: number | undefined;
  /** Segments of later indexes are another branch's, up to the next snapshot. */
  #endedAt = Infinity;
  /** Undefined before the first snapshot and behind damage: then each object is looked at for itself. */
  #chain: Chain | undefined;
  /** End of the whole chain so far, also across snapshots. */
  #end: ChainEnd | undefined;
  #fromMs: number | undefined;
  #toMs: number | undefined;
  /** The first segment without a snapshot before it. */
  #headless: { readonly segment: SegmentInfo; readonly trailer: SegmentTrailer | undefined } | undefined;
  /** Of the last segment without a snapshot. */
  #committedMs: number | undefined;
  #snapshotCount = 0;
  #objectCount = 0;
  #plaintextCount = 0;
  #sizeBytes = 0;
  #restoredSizeBytes = 0;

  constructor(generation: string, find: FindPath) {
    this.#generation = generation;
    this.#find = find;
  }

  /** Where the chain ends; undefined when there is none, or its end is damaged. */
  get end(): Position | undefined {
    const chain = this.#chain;
    if (!chain) return undefined;
    const { index, offset } = this.#end ?? { index: chain.snapshot.index, offset: 0 };
    return { generation: this.#generation, index, offset };
  }

  /** Of the largest database file that is restored on the way. */
  get restoredSizeBytes(): number {
    return this.#restoredSizeBytes;
  }

  /** @throws what the store throws */
  async snapshot(content: Content<SnapshotInfo>): Promise<void> {
    const { object } = content;
    this.#snapshotCount++;
    this.#count(object);
    this.#closeBefore(object);
    let found: SnapshotContent;
    try {
      found = await readSnapshot(content, () => undefined);
    } catch (error) {
      // The chain goes on from the snapshot before, if there is one.
      this.#damaged(error, object.key, `snapshot ${object.key}`);
      return;
    }
    const { sizeBytes, pageSizeBytes, trailer } = found;
    const grow = (size: number): void => {
      this.#restoredSizeBytes = Math.max(this.#restoredSizeBytes, size);
    };
    grow(sizeBytes);
    const timeMs = trailer?.timeMs ?? object.createdAt.getTime();
    this.#fromMs ??= timeMs;
    this.#toMs = Math.max(this.#toMs ?? timeMs, timeMs);
    const begin = (needed?: SnapshotTrailer): WalApplier =>
      new WalApplier(discard(pageSizeBytes, grow), needed);
    this.#chain = { applier: begin(trailer), begin, snapshot: object, nextIndex: object.index };
  }

  /** @param next the segment after it, if there is one */
  async segment(content: Content<SegmentInfo>, next: SegmentInfo | undefined): Promise<void> {
    const { object } = content;
    this.#count(object);
    if (object.index > this.#endedAt) return this.#readAlone(content);
    if (this.#followed !== object.index) {
      if (this.#chain && object.index > this.#chain.nextIndex) this.#missingIndex(this.#chain);
      const chain = this.#chain;
      if (!chain || !(await this.#follow(chain, content))) await this.#readAlone(content);
    }
    if (object.index > this.#endedAt) return;
    if (this.#chain && next?.index !== object.index) this.#closeIndex(this.#chain);
  }

  /** Applies a segment to the chain; false when there is a hole before it. */
  async #follow(chain: Chain, content: Content<SegmentInfo>): Promise<boolean> {
    const { object } = content;
    const before = this.#end;
    let trailer: SegmentTrailer | undefined;
    try {
      await chain.applier.applySegment(object, content.chunks);
      trailer = segmentTrailerOf(object, trailerOf(content.end()));
      if (trailer) checkSegmentTrailer(trailer, before, chain.applier.end);
      this.#advance(chain.applier.end, trailer?.commits.at(-1)?.timeMs ?? object.createdAt.getTime());
      return true;
    } catch (error) {
      if (isDamage(error) && (await this.#wayAround(chain, object, trailer))) return true;
      const isGap = hasCode(error, 'gap');
      this.#damaged(error, isGap ? missingBefore(object, before) : object.key, `WAL segment ${object.key}`);
      this.#breakChain();
      return !isGap;
    }
  }

  #advance(end: ChainEnd | undefined, timeMs: number): void {
    this.#end = end;
    this.#toMs = Math.max(this.#toMs ?? timeMs, timeMs);
  }

  /**
   * Whether there is a way through the index of a segment that does not continue the chain, as a restore takes it.
   * @param trailer the segment's, if it was applied: then it does not follow the end of the index before it
   */
  async #wayAround(
    chain: Chain,
    segment: SegmentInfo,
    trailer: SegmentTrailer | undefined,
  ): Promise<boolean> {
    const follows = trailer?.start === 0 && this.#end?.index === segment.index - 1;
    const index = follows ? segment.index - 1 : segment.index;
    if (index < chain.snapshot.index || index === this.#followed) return false;
    const found = await this.#find(index, chain.applier.neededOf(index));
    if (!('path' in found)) return false;
    const { path, committedMs } = found;
    if (follows && path.goesOn) {
      if (!isDamaged(() => checkSegmentTrailer(trailer, path.end, chain.applier.end))) {
        this.notes.push(...describeLeftOut(this.#generation, path));
        this.#advance(chain.applier.end, committedMs);
        return true;
      }
      return false;
    }
    this.notes.push(...describeLeftOut(this.#generation, path));
    this.#followed = index;
    this.#advance(path.end, committedMs);
    if (!path.goesOn) this.#endedAt = index;
    if (!follows) chain.applier = chain.begin();
    return true;
  }

  /** Whether a segment is sound for itself. */
  async #readAlone({ object, chunks, end }: Content<SegmentInfo>): Promise<void> {
    try {
      await drain(chunks);
      const trailer = segmentTrailerOf(object, trailerOf(end()));
      if (this.#snapshotCount > 0) return;
      this.#headless ??= { segment: object, trailer };
      this.#committedMs = trailer?.commits.at(-1)?.timeMs ?? this.#committedMs;
    } catch (error) {
      this.#damaged(error, object.key, `WAL segment ${object.key}`);
    }
  }

  /** Ends the generation. */
  finish(): void {
    this.#endChain();
    if (this.#headless && (this.#snapshotCount === 0 || this.#headless.trailer)) {
      // v0.3.13 deletes snapshots before segments, so its own are left over at times.
      const { index } = this.#headless.segment;
      const key = snapshotKey(this.#generation, index);
      this.#add(
        key,
        `missing snapshot ${key}: WAL that follows it is there, and cannot be restored without it`,
      );
    }
  }

  /**
   * A generation without any snapshot whose first segment is there: replication may have ended before one was stored.
   * Undefined when it is not so.
   */
  get begun(): { readonly committedMs: number; readonly missing: Problem } | undefined {
    const { segment, trailer } = this.#headless ?? {};
    const missing = this.problems.at(-1);
    if (!segment || !trailer || !missing || this.#snapshotCount > 0 || this.#committedMs === undefined)
      return;
    const isFirst = trailer.previous === undefined && segment.offset === 0;
    return isFirst ? { committedMs: this.#committedMs, missing } : undefined;
  }

  /** Whether none of its objects is encrypted where all have to be: then nothing else is said of them. */
  get isPlaintext(): boolean {
    return this.#plaintextCount > 0 && this.#plaintextCount === this.#objectCount;
  }

  get range(): GenerationRange {
    const iso = (ms: number | undefined): string | null =>
      ms === undefined ? null : new Date(ms).toISOString();
    return {
      generation: this.#generation,
      from: iso(this.#fromMs),
      to: iso(this.#toMs),
      objectCount: this.#objectCount,
      sizeBytes: this.#sizeBytes,
    };
  }

  #count({ sizeBytes }: SnapshotInfo | SegmentInfo): void {
    this.#objectCount++;
    this.#sizeBytes += sizeBytes;
  }

  /** All indexes up to that of a later snapshot must be there. */
  #closeBefore(snapshot: SnapshotInfo): void {
    if (snapshot.index > this.#endedAt) {
      this.#endedAt = Infinity;
      this.#breakChain();
      return;
    }
    const chain = this.#chain;
    if (chain && chain.nextIndex < snapshot.index) this.#missingIndex(chain);
    else this.#endChain();
  }

  #missingIndex({ nextIndex, snapshot }: Chain): void {
    const generation = this.#generation;
    const { index, offset } = this.#end ?? { index: snapshot.index, offset: 0 };
    const start = { generation, index: nextIndex, offset: 0 };
    this.#add(
      segmentKey(generation, nextIndex, 0),
      missingSegmentError({ generation, index, offset }, start).message,
    );
    this.#breakChain();
  }

  #closeIndex(chain: Chain): void {
    const end = this.#end;
    if (!end) return;
    try {
      const position = chain.applier.closeIndex(this.#generation, end.index);
      chain.applier.finish(position, undefined);
      chain.nextIndex = end.index + 1;
    } catch (error) {
      this.#damaged(error, segmentKey(this.#generation, end.index, end.offset), undefined);
      this.#breakChain();
    }
  }

  /** A snapshot that no segment follows must not need any. */
  #endChain(): void {
    const chain = this.#chain;
    if (!chain || chain.nextIndex !== chain.snapshot.index) return;
    const start = { generation: this.#generation, index: chain.snapshot.index, offset: 0 };
    try {
      chain.applier.finish(start, undefined);
    } catch (error) {
      this.#damaged(error, segmentKey(start.generation, start.index, 0), undefined);
      this.#breakChain();
    }
  }

  #breakChain(): void {
    this.#chain = undefined;
    this.#end = undefined;
  }

  /** @throws `error` when it does not tell of damage */
  #damaged(error: unknown, object: string, context: string | undefined): void {
    if (!isDamage(error)) throw error;
    if (isPlaintextRefusal(error)) this.#plaintextCount++;
    const text = messageOf(error);
    this.#add(object, context === undefined || hasCode(error, 'gap') ? text : `${context}: ${text}`);
  }

  #add(object: string, message: string): void {
    this.problems.push({ object, page: null, message });
  }
}

/** @throws what is no damage */
function isDamaged(check: () => void): boolean {
  try {
    check();
    return false;
  } catch (error) {
    if (!isDamage(error)) throw error;
    return true;
  }
}

async function drain(chunks: AsyncIterable<Uint8Array>): Promise<void> {
  const iterator = chunks[Symbol.asyncIterator]();
  while ((await iterator.next()).done !== true);
}

/** The key of the segment that is missing before `segment`; the chain ends at `before`. */
function missingBefore({ generation, index, offset }: SegmentInfo, before: ChainEnd | undefined): string {
  const fromEnd = before && (before.index === index || offset === 0);
  return fromEnd ? segmentKey(generation, before.index, before.offset) : segmentKey(generation, index, 0);
}
