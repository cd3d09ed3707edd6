/** Carries one plan out: fetches its objects in order and puts the database together, verifying everything on the way. */

import type { FileHandle } from 'node:fs/promises';
import { throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError, assert, hasCode, wrapError } from '../base/errors.ts';
import { LogDuration, type Logger } from '../base/logger.ts';
import { startLz4Thread } from '../format/lz4-frame.ts';
import type { Lz4Thread } from '../format/lz4-thread.ts';
import type { ChainEnd, SnapshotTrailer } from '../format/object-trailer.ts';
import { formatPosition, type Position } from '../format/position.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import type { IndexPath } from './index-path.ts';
import type { LeftoverWal } from './leftover-wal.ts';
import { PageWriter, writeFully } from './page-writer.ts';
import { type FoundPath, type NoPath, PathChanged } from './path-finder.ts';
import type { Damage } from './restore-chain.ts';
import { type Content, type DecodedContent, decodeInOrder } from './restore-content.ts';
import { fetchInOrder } from './restore-fetch.ts';
import { GapError, type RestorePlan } from './restore-plan.ts';
import { type DiskSpaceOf, RoomWatch, requireRoom, requireWithin } from './restore-room.ts';
import { type RoutedObject, routeObjects } from './restore-route.ts';
import { WalApplier, checkSegmentTrailer } from './restore-wal.ts';
import { readSnapshot } from './snapshot-content.ts';
import { segmentTrailerOf, trailerOf } from './trailer-reader.ts';

/** Decompressing as many bytes takes longer than starting a thread for it. */
const THREAD_LIMIT = 4 << 20;

/** Bytes and segments of the plan that is being carried out. Bytes are those of the objects as they are stored. */
export interface RestoreProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly segmentsDone: number;
  readonly segmentsTotal: number;
}

/** The ways through the generation of a plan, in the replica that it is from. */
export interface Paths {
  /** Whether the one through an index is known: then the plan takes it. */
  knows(index: number): boolean;
  /** As PathFinder.find(). */
  find(index: number, through: ChainEnd | undefined): Promise<FoundPath | NoPath>;
}

export interface RunOptions {
  readonly plan: RestorePlan;
  readonly paths: Paths;
  /** Whether the plan's end was found by the times of commits. */
  readonly timed: boolean;
  /** By the names of the replicas. */
  readonly stores: ReadonlyMap<string, ObjectStore>;
  /** New and empty. */
  readonly file: FileHandle;
  /** Of the file. */
  readonly path: string;
  readonly leftover: LeftoverWal | undefined;
  readonly parallelism: number;
  readonly spaceOf: DiskSpaceOf | undefined;
  /** What the file may have, in bytes. */
  readonly limitBytes: number;
  readonly signal: AbortSignal | undefined;
  readonly logger: Logger;
  readonly onProgress: ((progress: RestoreProgress) => void) | undefined;
}

export interface RunResult {
  /** The end of the last applied commit, or offset 0 of the snapshot's index for a snapshot alone. */
  readonly position: Position;
  /** When that commit was made, epoch milliseconds; undefined where the objects do not say. */
  readonly commitMs: number | undefined;
  readonly sizeBytes: number;
  /** Whether the left-over WAL has nothing that is not in the file. */
  readonly leftoverRestored: boolean;
}

type RestoreObject = SnapshotInfo | SegmentInfo;

export class RestoreRun {
  readonly #options: RunOptions;
  readonly #plan: RestorePlan;
  readonly #logger: Logger;
  readonly #bytesTotal: number;
  #bytesDone = 0;
  #segmentsDone = 0;
  #indexStartedAt = 0;
  #commitMs: number | undefined;
  #culprit: Omit<Damage, 'error'> | undefined;
  #proven: IndexPath | undefined;
  /** The first segment of an index was applied, and follows another end of the index before it. */
  #linkBroken = false;
  #thread: Lz4Thread | undefined;
  #contents: AsyncGenerator<DecodedContent<RoutedObject>, undefined> | undefined;

  constructor(options: RunOptions) {
    this.#options = options;
    this.#plan = options.plan;
    this.#logger = options.logger.with({ replica: options.plan.replica });
    const objects = [options.plan.snapshot, ...options.plan.segments];
    this.#bytesTotal = objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  /** What made run() fail, if it is an object or that one is missing. */
  get culprit(): Omit<Damage, 'error'> | undefined {
    return this.#culprit;
  }

  /** What is proven of the index in which run() failed, when it is known that nothing more is. */
  get proven(): IndexPath | undefined {
    return this.#proven;
  }

  /**
   * @throws LitestreamError 'gap' and 'corrupt' when objects are missing or damaged, 'not-found' when the plan's end is not
   * reached, 'no-backup', 'aborted', and what the stores and the file system give
   */
  async run(): Promise<RunResult> {
    const { generation, snapshot, segments } = this.#plan;
    const { signal, path } = this.#options;
    throwIfAborted(signal);
    this.#logger.info('restoring snapshot', { generation, index: snapshot.index, path });
    // The snapshot and the segments in one row: segments are fetched while the snapshot is still being written.
    this.#thread = this.#bytesTotal < THREAD_LIMIT ? undefined : startLz4Thread();
    try {
      this.#fetch(segments, 0);
      const { writer, trailer } = await this.#writeSnapshot(await this.#next());
      const applier = new WalApplier(writer, trailer, this.#options.leftover);
      const position = await this.#applySegments(writer, applier);
      this.#commitMs ??= trailer?.timeMs;
      this.#checkEnd(position);
      return {
        position,
        commitMs: this.#commitMs,
        sizeBytes: writer.fileSizeBytes,
        leftoverRestored: applier.leftoverRestored,
      };
    } finally {
      await this.#contents?.return(undefined);
      await this.#thread?.close();
    }
  }

  /** Begins to fetch the snapshot and these segments, but for so many of them. */
  #fetch(segments: readonly SegmentInfo[], skipped: number): void {
    const { signal, parallelism, stores } = this.#options;
    const { store, objects } = routeObjects({ ...this.#plan, segments }, stores);
    const onBytes = (byteCount: number): void => this.#advance(byteCount, 0);
    const wanted = objects.slice(skipped);
    const fetched = fetchInOrder(store, wanted, { parallelism, signal, onBytes });
    this.#contents = decodeInOrder(fetched, wanted.length, { transient: true, thread: this.#thread });
  }

  async #next(): Promise<DecodedContent<RoutedObject>> {
    const result = await this.#contents?.next();
    assert(result !== undefined && result.done !== true, 'as many contents are asked for as were fetched');
    return result.value;
  }

  #checkEnd(position: Position): void {
    const { endOffset, indexMax } = this.#plan;
    if (endOffset === undefined || position.offset === endOffset) return;
    const wanted = formatPosition({ ...position, index: indexMax, offset: endOffset });
    throw new LitestreamError(
      'not-found',
      `${wanted} is not in the replica: it ends at ${formatPosition(position)}`,
    );
  }

  /** Decompresses the snapshot into the file. */
  async #writeSnapshot(
    content: DecodedContent<RoutedObject>,
  ): Promise<{ writer: PageWriter; trailer: SnapshotTrailer | undefined }> {
    const { file, path, limitBytes } = this.#options;
    const watch = new RoomWatch(path, this.#options);
    let writing: Promise<void> = Promise.resolve();
    const write = async (chunk: Uint8Array, at: number): Promise<void> => {
      const { announcedSizeBytes } = content;
      requireWithin(announcedSizeBytes ?? at + chunk.byteLength, limitBytes);
      // One write is under way while the next block is decompressed.
      await writing;
      if (announcedSizeBytes === undefined) await watch.look(at);
      // What WAL adds is not known yet.
      else if (at === 0) await requireRoom(announcedSizeBytes, path, this.#options);
      writing = writeFully(file, chunk, at);
    };
    try {
      const object = this.#plan.snapshot;
      const { sizeBytes, pageSizeBytes, trailer } = await readSnapshot({ ...content, object }, write);
      await writing;
      return { writer: new PageWriter(file, { sizeBytes, pageSizeBytes, limitBytes }), trailer };
    } catch (error) {
      await writing.catch(() => undefined);
      this.#blame(this.#plan.snapshot);
      throw wrapError(error, `restore snapshot ${this.#plan.snapshot.key}`);
    }
  }

  async #applySegments(writer: PageWriter, applier: WalApplier): Promise<Position> {
    const { generation, snapshot, segments, indexMax } = this.#plan;
    let position: Position = { generation, index: snapshot.index, offset: 0 };
    if (segments.length === 0) {
      this.#finish(applier, position);
      this.#logger.info('snapshot only, finalizing database');
      return position;
    }
    this.#logger.info('restoring wal files', { generation, index_min: snapshot.index, index_max: indexMax });
    this.#indexStartedAt = performance.now();
    let row = segments;
    for (let at = 0; ;) {
      const segment = row[at++];
      if (segment === undefined) break;
      const { index } = segment;
      try {
        await this.#applySegment(applier, segment, await this.#next(), row[at]);
      } catch (error) {
        row = await this.#wayAround(error, segment, applier, row.slice(at));
        at = 0;
      }
      this.#advance(0, 1);
      if (row[at]?.index === index) continue;
      position = applier.closeIndex(generation, index);
      this.#logIndex(index);
    }
    this.#finish(applier, position);
    await writer.finish();
    return position;
  }

  async #applySegment(
    applier: WalApplier,
    segment: SegmentInfo,
    { chunks, end }: Pick<Content<never>, 'chunks' | 'end'>,
    next: SegmentInfo | undefined,
  ): Promise<void> {
    const endOffset = this.#endIn(segment);
    const before = applier.end;
    try {
      await applier.applySegment(segment, chunks, endOffset);
      const trailer = segmentTrailerOf(segment, trailerOf(end()));
      if (!trailer) return;
      const whole = endOffset >= trailer.end;
      this.#linkBroken = segment.offset === 0;
      checkSegmentTrailer(trailer, before, whole ? applier.end : undefined);
      this.#linkBroken = false;
      const commit = trailer.commits.findLast(({ offset }) => offset <= endOffset);
      this.#commitMs = commit?.timeMs ?? this.#commitMs;
      const overlaps = next?.index === segment.index && next.offset < trailer.end;
      if (overlaps && this.#options.timed && segment.index === this.#plan.indexMax) {
        await this.#checkTimes(segment);
      }
    } catch (error) {
      if (error instanceof PathChanged) throw error;
      if (error instanceof GapError) {
        this.#blameHole(error.start);
        throw error;
      }
      this.#blame(segment);
      throw wrapError(error, `apply WAL segment ${segment.key}`);
    }
  }

  /** Frames of the segment's index from there on are left out. */
  #endIn({ index, cut }: SegmentInfo): number {
    const endOffset = (index === this.#plan.indexMax ? this.#plan.endOffset : undefined) ?? Infinity;
    return Math.min(endOffset, cut?.offset ?? Infinity);
  }

  /** Times in segments that overlap are those of two processes: the plan's end may be in the wrong one. */
  async #checkTimes({ index, cut }: SegmentInfo): Promise<void> {
    const { paths } = this.#options;
    if (cut || paths.knows(index)) return;
    if ('path' in (await paths.find(index, undefined))) throw new PathChanged();
  }

  /**
   * What is left to apply when a segment does not continue the chain, but others do.
   * @param left what comes after the segment
   * @throws PathChanged when what was applied is not on the way that is to be taken; `error` when there is none
   */
  async #wayAround(
    error: unknown,
    segment: SegmentInfo,
    applier: WalApplier,
    left: readonly SegmentInfo[],
  ): Promise<readonly SegmentInfo[]> {
    const { paths } = this.#options;
    const { snapshot, sources, indexMax } = this.#plan;
    if (error instanceof PathChanged || !hasCode(error, 'corrupt', 'gap', 'not-found')) throw error;
    if (sources.has(segment)) throw error;
    const index = this.#linkBroken ? segment.index - 1 : segment.index;
    if (index < snapshot.index || paths.knows(index)) throw error;
    const found = await paths.find(index, applier.neededOf(index));
    if (!('path' in found)) {
      const { proven, failure, snapshotForeign } = found;
      this.#proven = proven;
      if (snapshotForeign) this.#blame(snapshot);
      // Nothing is wrong with the segment itself.
      const isContained = proven?.leftOut.some(
        ({ segment: { key }, kind }) => key === segment.key && kind === 'contained',
      );
      if (isContained !== true || !(failure instanceof GapError)) throw error;
      this.#blameHole(failure.start);
      throw failure;
    }
    const state = applier.end?.index === index ? applier.end : undefined;
    const behind = left.filter((next) => next.index > index);
    if (this.#linkBroken || !this.#leadsOn(found, state, behind)) throw new PathChanged();
    const { segments, end } = found.path;
    const endOffset = (index === indexMax ? this.#plan.endOffset : undefined) ?? Infinity;
    const own = segments.filter((next, i) => {
      const until = segments[i + 1]?.offset ?? end.offset;
      return until > (state?.offset ?? 0) && next.offset < endOffset;
    });
    const rest = [...own, ...behind];
    await this.#contents?.return(undefined);
    this.#fetch(rest, 1);
    return rest;
  }

  /** Whether a way goes on from what was applied of its index, to where the plan ends. */
  #leadsOn(
    { path, passes }: FoundPath,
    state: ChainEnd | undefined,
    behind: readonly SegmentInfo[],
  ): boolean {
    if (this.#options.timed && path.end.index === this.#plan.indexMax) return false;
    return (path.goesOn || behind.length === 0) && (state === undefined || passes(state));
  }

  #finish(applier: WalApplier, position: Position): void {
    try {
      applier.finish(position, this.#plan.endOffset);
    } catch (error) {
      if (error instanceof GapError) this.#blameHole(error.start);
      throw error;
    }
  }

  #blame(object: RestoreObject): void {
    const { generation, index, key } = object;
    const replica = this.#plan.sources.get(object) ?? this.#plan.replica;
    const place =
      'offset' in object
        ? { kind: 'segment' as const, offset: object.offset }
        : { kind: 'snapshot' as const, offset: 0 };
    this.#culprit = { replica, generation, key, index, ...place };
  }

  #blameHole({ generation, index, offset }: Position): void {
    const { replica } = this.#plan;
    this.#culprit = { replica, generation, key: undefined, kind: 'segment', index, offset };
  }

  #logIndex(index: number): void {
    const now = performance.now();
    const elapsed = new LogDuration(now - this.#indexStartedAt);
    this.#indexStartedAt = now;
    this.#logger.info('downloaded wal', { generation: this.#plan.generation, index, elapsed });
    this.#logger.info('applied wal', { generation: this.#plan.generation, index, elapsed });
  }

  #advance(byteCount: number, segmentCount: number): void {
    this.#bytesDone += byteCount;
    this.#segmentsDone += segmentCount;
    this.#options.onProgress?.({
      bytesDone: this.#bytesDone,
      bytesTotal: this.#bytesTotal,
      segmentsDone: this.#segmentsDone,
      segmentsTotal: this.#plan.segments.length,
    });
  }
}
