/** Carries one plan out: fetches its objects in order and puts the database together, verifying everything on the way. */

import type { FileHandle } from 'node:fs/promises';
import { throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError, assert, wrapError } from '../base/errors.ts';
import { LogDuration, type Logger } from '../base/logger.ts';
import { type Lz4End, startLz4Thread } from '../format/lz4-frame.ts';
import type { SnapshotTrailer } from '../format/object-trailer.ts';
import { formatPosition, type Position } from '../format/position.ts';
import { DATABASE_HEADER_SIZE, parseDatabaseHeader } from '../sqlite/database-header.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import type { LeftoverWal } from './leftover-wal.ts';
import { PageWriter, writeFully } from './page-writer.ts';
import type { Damage } from './restore-chain.ts';
import { type Content, type DecodedContent, decodeInOrder } from './restore-content.ts';
import { fetchInOrder } from './restore-fetch.ts';
import { GapError, type RestorePlan } from './restore-plan.ts';
import { type DiskSpaceOf, requireRoom } from './restore-room.ts';
import { routeObjects } from './restore-route.ts';
import { WalApplier, checkSegmentTrailer } from './restore-wal.ts';
import { segmentTrailerOf, snapshotTrailerOf, trailerOf } from './trailer-reader.ts';

/** Decompressing as many bytes takes longer than starting a thread for it. */
const THREAD_LIMIT = 4 << 20;

/** Bytes and segments of the plan that is being carried out. Bytes are those of the objects as they are stored. */
export interface RestoreProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly segmentsDone: number;
  readonly segmentsTotal: number;
}

export interface RunOptions {
  readonly plan: RestorePlan;
  /** By the names of the replicas. */
  readonly stores: ReadonlyMap<string, ObjectStore>;
  /** New and empty. */
  readonly file: FileHandle;
  /** Of the file. */
  readonly path: string;
  readonly leftover: LeftoverWal | undefined;
  readonly parallelism: number;
  readonly spaceOf: DiskSpaceOf | undefined;
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

  /**
   * @throws LitestreamError 'gap' and 'corrupt' when objects are missing or damaged, 'not-found' when the plan's end is not
   * reached, 'no-backup', 'aborted', and what the stores and the file system give
   */
  async run(): Promise<RunResult> {
    const { generation, snapshot, segments } = this.#plan;
    const { signal, path, parallelism } = this.#options;
    throwIfAborted(signal);
    this.#logger.info('restoring snapshot', { generation, index: snapshot.index, path });
    // The snapshot and the segments in one row: segments are fetched while the snapshot is still being written.
    const { store, objects } = routeObjects(this.#plan, this.#options.stores);
    const onBytes = (byteCount: number): void => this.#advance(byteCount, 0);
    const fetched = fetchInOrder(store, objects, { parallelism, signal, onBytes });
    const thread = this.#bytesTotal < THREAD_LIMIT ? undefined : startLz4Thread();
    const contents = decodeInOrder(fetched, 1 + segments.length, { transient: true, thread });
    try {
      const first = await contents.next();
      assert(first.done !== true, 'there is a snapshot in every plan');
      const { writer, trailer } = await this.#writeSnapshot(first.value);
      const applier = new WalApplier(writer, trailer, this.#options.leftover);
      const position = await this.#applySegments(writer, applier, contents);
      this.#commitMs ??= trailer?.timeMs;
      this.#checkEnd(position);
      return {
        position,
        commitMs: this.#commitMs,
        sizeBytes: writer.fileSizeBytes,
        leftoverRestored: applier.leftoverRestored,
      };
    } finally {
      await contents.return(undefined);
      await thread?.close();
    }
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
    content: DecodedContent<{
      readonly object: RestoreObject;
      readonly key: string;
      readonly sizeBytes: number;
    }>,
  ): Promise<{ writer: PageWriter; trailer: SnapshotTrailer | undefined }> {
    const { file } = this.#options;
    const head = Buffer.alloc(DATABASE_HEADER_SIZE);
    let sizeBytes = 0;
    let writing: Promise<void> = Promise.resolve();
    try {
      for await (const chunk of content.chunks) {
        if (sizeBytes === 0) await this.#requireRoom(content.announcedSizeBytes);
        if (sizeBytes < head.byteLength) head.set(chunk.subarray(0, head.byteLength - sizeBytes), sizeBytes);
        // One write is under way while the next block is decompressed.
        await writing;
        writing = writeFully(file, chunk, sizeBytes);
        sizeBytes += chunk.byteLength;
      }
      await writing;
      const { pageSizeBytes } = parseDatabaseHeader(head.subarray(0, Math.min(sizeBytes, head.byteLength)));
      const trailer = checkSnapshot(this.#plan.snapshot, content.end(), { sizeBytes, pageSizeBytes });
      return { writer: new PageWriter(file, sizeBytes, pageSizeBytes), trailer };
    } catch (error) {
      await writing.catch(() => undefined);
      this.#blame(this.#plan.snapshot);
      throw wrapError(error, `restore snapshot ${this.#plan.snapshot.key}`);
    }
  }

  /** What WAL adds is not known yet. */
  async #requireRoom(neededBytes: number | undefined): Promise<void> {
    const { path, logger, spaceOf } = this.#options;
    if (neededBytes !== undefined) await requireRoom(neededBytes, path, { logger, spaceOf });
  }

  async #applySegments(
    writer: PageWriter,
    applier: WalApplier,
    contents: AsyncIterable<Content<{ readonly key: string; readonly sizeBytes: number }>>,
  ): Promise<Position> {
    const { generation, snapshot, segments, indexMax } = this.#plan;
    let position: Position = { generation, index: snapshot.index, offset: 0 };
    if (segments.length === 0) {
      this.#finish(applier, position);
      this.#logger.info('snapshot only, finalizing database');
      return position;
    }
    this.#logger.info('restoring wal files', { generation, index_min: snapshot.index, index_max: indexMax });
    this.#indexStartedAt = performance.now();
    let i = 0;
    for await (const content of contents) {
      const segment = segments[i++];
      if (segment === undefined) break;
      await this.#applySegment(applier, segment, content);
      this.#advance(0, 1);
      if (segments[i]?.index === segment.index) continue;
      position = applier.closeIndex(generation, segment.index);
      this.#logIndex(segment.index);
    }
    this.#finish(applier, position);
    await writer.finish();
    return position;
  }

  async #applySegment(
    applier: WalApplier,
    segment: SegmentInfo,
    { chunks, end }: Pick<Content<never>, 'chunks' | 'end'>,
  ): Promise<void> {
    const endOffset = segment.index === this.#plan.indexMax ? this.#plan.endOffset : undefined;
    const before = applier.end;
    try {
      await applier.applySegment(segment, chunks, endOffset);
      const trailer = segmentTrailerOf(segment, trailerOf(end()));
      if (!trailer) return;
      const whole = endOffset === undefined || endOffset >= trailer.end;
      checkSegmentTrailer(trailer, before, whole ? applier.end : undefined);
      const commit = trailer.commits.findLast(({ offset }) => offset <= (endOffset ?? Infinity));
      this.#commitMs = commit?.timeMs ?? this.#commitMs;
    } catch (error) {
      if (error instanceof GapError) {
        this.#blameHole(error.start);
        throw error;
      }
      this.#blame(segment);
      throw wrapError(error, `apply WAL segment ${segment.key}`);
    }
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

/**
 * Compares a snapshot with what it says of itself, if it does.
 * @throws LitestreamError 'corrupt'
 */
export function checkSnapshot(
  snapshot: SnapshotInfo,
  end: Lz4End,
  { sizeBytes, pageSizeBytes }: { readonly sizeBytes: number; readonly pageSizeBytes: number },
): SnapshotTrailer | undefined {
  const trailer = snapshotTrailerOf(snapshot, trailerOf(end));
  if (trailer === undefined) return undefined;
  const same =
    trailer.sizeBytes === sizeBytes &&
    trailer.pageSizeBytes === pageSizeBytes &&
    trailer.contentChecksum === end.contentChecksum;
  if (!same) throw new LitestreamError('corrupt', 'the trailer is that of another database file');
  return trailer;
}
