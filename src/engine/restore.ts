/**
 * Restores a database from its replicas: list, plan, then carry the plan out into a temporary file that gets its final
 * name when everything in it is verified and durable.
 */

import type { FileHandle } from 'node:fs/promises';
import { throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError, hasCode, wrapError } from '../base/errors.ts';
import { LogDuration, type Logger } from '../base/logger.ts';
import { type Lz4End, startLz4Thread } from '../format/lz4-frame.ts';
import type { SnapshotTrailer } from '../format/object-trailer.ts';
import { formatPosition, type Position } from '../format/position.ts';
import { DATABASE_HEADER_SIZE, parseDatabaseHeader } from '../sqlite/database-header.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { withRetry } from '../storage/retrying-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import { PageWriter, writeFully } from './page-writer.ts';
import { type Content, decodeInOrder } from './restore-content.ts';
import { fetchInOrder } from './restore-fetch.ts';
import { listReplicas, type NamedStore } from './restore-listing.ts';
import { RestoreOutput } from './restore-output.ts';
import { planRestore, type RestorePlan, type RestoreTarget } from './restore-plan.ts';
import { WalApplier, checkSegmentTrailer } from './restore-wal.ts';
import { segmentTrailerOf, snapshotTrailerOf, trailerOf } from './trailer-reader.ts';

const ATTEMPTS = 6;
/** Decompressing as many bytes takes longer than starting a thread for it. */
const THREAD_LIMIT = 4 << 20;

/** Compressed bytes and segments of the plan that is being carried out. */
export interface RestoreProgress {
  readonly bytesDone: number;
  readonly bytesTotal: number;
  readonly segmentsDone: number;
  readonly segmentsTotal: number;
}

/** At most one of index, timestamp and upTo; none: the latest state. */
export interface RestoreRequest extends RestoreTarget {
  /** The replicas to choose from; they stay open. Among equally fresh ones the first is used. */
  readonly replicas: readonly NamedStore[];
  /** The database file to make. Missing folders are made with mode 0700, the file with 0600. */
  readonly outputPath: string;
  /** Requests at once; >= 1. */
  readonly parallelism: number;
  /** Set left-over -wal, -shm and -journal files beside the output aside instead of refusing. */
  readonly force?: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly logger: Logger;
  readonly onProgress?: (progress: RestoreProgress) => void;
}

export interface RestoreResult {
  readonly replica: string;
  /** What was restored: the end of the last applied commit, or offset 0 of the snapshot's index for a snapshot alone. */
  readonly position: Position;
  readonly snapshotIndex: number;
  /** Size of the restored database file. */
  readonly sizeBytes: number;
}

/**
 * Restores a database. On any failure and on abort nothing is left behind. When a replica turns out to be damaged, the
 * same generation is tried from the next one.
 * @throws LitestreamError 'no-backup' when nothing matches the request, 'exists' when the output or files that belong to
 * an older database are in the way, 'not-found' for an index that is not there (yet), 'gap' and 'corrupt' when objects
 * are missing or damaged, 'aborted', and what the stores and the file system give
 */
export async function restore(request: RestoreRequest): Promise<RestoreResult> {
  const { logger, signal } = request;
  const output = new RestoreOutput(request.outputPath, { force: request.force === true, logger });
  await output.check();
  const replicas = request.replicas.map(({ name, store }) => ({
    name,
    store: withRetry(store, { attempts: ATTEMPTS, signal }),
  }));
  const plans = await makePlans(request, replicas);
  for (const [i, plan] of plans.entries()) {
    const store = replicas.find(({ name }) => name === plan.replica)?.store;
    if (store === undefined) continue;
    try {
      return await new RestoreRun(request, plan, store, output).run();
    } catch (error) {
      await output.discard();
      const next = plans[i + 1];
      const othersMayDo = hasCode(
        error,
        'gap',
        'corrupt',
        'not-found',
        'unavailable',
        'timeout',
        'permission',
      );
      if (next === undefined || !othersMayDo) throw error;
      logger.warn('cannot restore from replica, trying the next', {
        replica: plan.replica,
        next: next.replica,
        error,
      });
    }
  }
  throw new LitestreamError('no-backup', 'no matching backups found');
}

async function makePlans(
  request: RestoreRequest,
  replicas: readonly NamedStore[],
): Promise<readonly RestorePlan[]> {
  const { parallelism, signal, logger } = request;
  const generation = request.upTo?.generation ?? request.generation;
  const { listed, failed } = await listReplicas(replicas, {
    generation,
    parallelism,
    signal,
    target: request,
  });
  const outcome = planRestore(listed, request);
  const [failure] = failed;
  // "No backup" would be a guess while a replica could not be asked.
  if ('failure' in outcome && failure) throw failure.error;
  for (const { name, error } of failed)
    logger.warn('cannot list replica, using the others', { replica: name, error });
  if ('failure' in outcome) throw new LitestreamError(outcome.failure.code, outcome.failure.message);
  for (const warning of outcome.plans[0]?.warnings ?? []) logger.warn(warning);
  return outcome.plans;
}

/** One plan being carried out. */
class RestoreRun {
  readonly #request: RestoreRequest;
  readonly #plan: RestorePlan;
  readonly #store: ObjectStore;
  readonly #output: RestoreOutput;
  readonly #logger: Logger;
  readonly #bytesTotal: number;
  #bytesDone = 0;
  #segmentsDone = 0;
  #indexStartedAt = 0;

  constructor(request: RestoreRequest, plan: RestorePlan, store: ObjectStore, output: RestoreOutput) {
    this.#request = request;
    this.#plan = plan;
    this.#store = store;
    this.#output = output;
    this.#logger = request.logger.with({ replica: plan.replica });
    this.#bytesTotal = [plan.snapshot, ...plan.segments].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  }

  async run(): Promise<RestoreResult> {
    const { generation, snapshot, segments } = this.#plan;
    throwIfAborted(this.#request.signal);
    const file = await this.#output.open();
    const path = this.#output.temporaryPath;
    this.#logger.info('restoring snapshot', { generation, index: snapshot.index, path });
    const { parallelism, signal } = this.#request;
    const onBytes = (byteCount: number): void => this.#advance(byteCount, 0);
    // The snapshot and the segments in one row: segments are fetched while the snapshot is still being written.
    const fetched = fetchInOrder<SnapshotInfo | SegmentInfo>(this.#store, [snapshot, ...segments], {
      parallelism,
      signal,
      onBytes,
    });
    const thread = this.#bytesTotal < THREAD_LIMIT ? undefined : startLz4Thread();
    const contents = decodeInOrder(fetched, 1 + segments.length, { transient: true, thread });
    try {
      const first = await contents.next();
      if (first.done === true) throw new Error('there is a snapshot in every plan');
      const { writer, trailer } = await this.#writeSnapshot(file, first.value);
      const position = await this.#applySegments(writer, trailer, contents);
      const { endOffset } = this.#plan;
      if (endOffset !== undefined && position.offset !== endOffset) {
        const wanted = formatPosition({ ...position, index: this.#plan.indexMax, offset: endOffset });
        throw new LitestreamError(
          'not-found',
          `${wanted} is not in the replica: it ends at ${formatPosition(position)}`,
        );
      }
      if (this.#plan.uncertain) await this.#checkIntegrity();
      throwIfAborted(signal);
      this.#logger.info('renaming database from temporary location');
      await this.#output.commit();
      return {
        replica: this.#plan.replica,
        position,
        snapshotIndex: snapshot.index,
        sizeBytes: writer.fileSizeBytes,
      };
    } finally {
      await contents.return(undefined);
      await thread?.close();
    }
  }

  /** Decompresses the snapshot into the file. */
  async #writeSnapshot(
    file: FileHandle,
    content: Content<SnapshotInfo | SegmentInfo>,
  ): Promise<{ writer: PageWriter; trailer: SnapshotTrailer | undefined }> {
    const head = Buffer.alloc(DATABASE_HEADER_SIZE);
    let sizeBytes = 0;
    let writing: Promise<void> = Promise.resolve();
    try {
      for await (const chunk of content.chunks) {
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
      throw wrapError(error, `restore snapshot ${this.#plan.snapshot.key}`);
    }
  }

  async #applySegments(
    writer: PageWriter,
    snapshotTrailer: SnapshotTrailer | undefined,
    contents: AsyncIterable<Content<SnapshotInfo | SegmentInfo>>,
  ): Promise<Position> {
    const { generation, snapshot, segments, indexMax } = this.#plan;
    let position: Position = { generation, index: snapshot.index, offset: 0 };
    const applier = new WalApplier(writer, snapshotTrailer);
    if (segments.length === 0) {
      applier.finish(position, this.#plan.endOffset);
      this.#logger.info('snapshot only, finalizing database');
      return position;
    }
    this.#logger.info('restoring wal files', { generation, index_min: snapshot.index, index_max: indexMax });
    this.#indexStartedAt = performance.now();
    let i = 0;
    for await (const { chunks, end } of contents) {
      const segment = segments[i++];
      if (segment === undefined) break;
      const endOffset = segment.index === indexMax ? this.#plan.endOffset : undefined;
      const before = applier.end;
      try {
        await applier.applySegment(segment, chunks, endOffset);
        const trailer = segmentTrailerOf(segment, trailerOf(end()));
        const whole = trailer && (endOffset === undefined || endOffset >= trailer.end);
        if (trailer) checkSegmentTrailer(trailer, before, whole ? applier.end : undefined);
      } catch (error) {
        throw hasCode(error, 'gap') ? error : wrapError(error, `apply WAL segment ${segment.key}`);
      }
      this.#advance(0, 1);
      if (segments[i]?.index === segment.index) continue;
      position = applier.closeIndex(generation, segment.index);
      this.#logIndex(segment.index);
    }
    applier.finish(position, this.#plan.endOffset);
    await writer.finish();
    return position;
  }

  #logIndex(index: number): void {
    const now = performance.now();
    const elapsed = new LogDuration(now - this.#indexStartedAt);
    this.#indexStartedAt = now;
    this.#logger.info('downloaded wal', { generation: this.#plan.generation, index, elapsed });
    this.#logger.info('applied wal', { generation: this.#plan.generation, index, elapsed });
  }

  /** For a snapshot that may be ahead of the target: what SQLite says of the result. */
  async #checkIntegrity(): Promise<void> {
    // Loaded for this rare case only: restoring works where SQLite's native part does not.
    const { ReadConnection } = await import('../sqlite/connection.ts');
    const connection = new ReadConnection(this.#output.temporaryPath);
    try {
      const [problem] = connection.integrityProblems();
      if (problem === undefined) return;
      throw new LitestreamError(
        'corrupt',
        `snapshot ${this.#plan.snapshot.key} is later than the requested time and cannot be taken back to it: ` +
          `choose a later -timestamp, or -index (integrity check: ${problem})`,
      );
    } finally {
      connection.close();
      await this.#output.removeTemporarySidecars();
    }
  }

  #advance(byteCount: number, segmentCount: number): void {
    this.#bytesDone += byteCount;
    this.#segmentsDone += segmentCount;
    this.#request.onProgress?.({
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
