/**
 * One database file from the moment it is opened to the moment it is closed: its descriptors, connections, follower
 * and shadow WAL. When the file is replaced or its WAL is gone, the session ends and another one begins.
 */

import { sleep } from '../base/concurrency.ts';
import { LitestreamError, assert } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Position } from '../format/position.ts';
import { ReadConnection, WalModeConnection, WriteLockConnection } from '../sqlite/connection.ts';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import type { WritablePath } from '../sqlite/writable-path.ts';
import type { Checkpointer } from './checkpointer.ts';
import { DatabaseFiles } from './database-files.ts';
import { prepareMetaDirectory } from './meta-directory.ts';
import type { DatabaseOptions } from './options.ts';
import { continueClosed } from './read-only-closed.ts';
import { type FindStoredEnds, continueStored } from './read-only-continue.ts';
import { ReadOnlyMarks } from './read-only-marks.ts';
import { openReadOnly } from './read-only-open.ts';
import { ShadowWal, emptyChain, type LoadedShadow, type WalChain } from './shadow-wal.ts';
import { DatabaseHold } from './snapshot-hold.ts';
import { WalFollower, type CopyOutcome } from './wal-follower.ts';
import { rotateWal, type RotationOutcome } from './wal-rotation.ts';

export interface SessionOptions {
  /** Real path: no symlinks. */
  readonly realPath: string;
  readonly metaPath: string;
  /** Undefined: the database or its folder can only be read. */
  readonly writable: WritablePath | undefined;
  /** When it can only be read: from so many pages on, the application is let through to start the WAL over. */
  readonly options: Pick<DatabaseOptions, 'minCheckpointPageCount'>;
  /** For continuing a generation of which nothing is left here but in replicas. */
  readonly findStoredEnds?: FindStoredEnds | undefined;
  readonly checkpointer: Checkpointer;
  readonly logger: Logger;
}

/** A new generation is tried this often while writers are in the way. */
const START_ATTEMPTS = 50;
const START_STEP_MS = 20;

export class DatabaseSession {
  readonly pageSizeBytes: number;
  readonly #options: SessionOptions;
  readonly #files: DatabaseFiles;
  readonly #holds = new Set<DatabaseHold>();
  readonly #marks: ReadOnlyMarks | undefined;
  #follower: WalFollower;
  #shadow: ShadowWal;
  #writeLock: WriteLockConnection | undefined;

  private constructor(
    options: SessionOptions,
    files: DatabaseFiles,
    parts: { readonly follower: WalFollower; readonly shadow: ShadowWal; readonly pageSizeBytes: number },
  ) {
    this.#options = options;
    this.#files = files;
    this.#follower = parts.follower;
    this.#shadow = parts.shadow;
    this.pageSizeBytes = parts.pageSizeBytes;
    this.#marks =
      options.writable === undefined ? new ReadOnlyMarks(options.options.minCheckpointPageCount) : undefined;
  }

  /**
   * Opens the database, continues the generation that the meta directory tells of if that can be proven, else starts
   * a new one and logs why.
   * @throws LitestreamError 'not-found' while the file is empty, or can only be read and nobody uses it, 'busy', 'permission', 'corrupt', 'disk-full', 'io'
   */
  static async open(options: SessionOptions): Promise<DatabaseSession> {
    const files = new DatabaseFiles(options.realPath);
    let reader: ReadConnection | undefined;
    try {
      const { writable } = options;
      const opened = writable === undefined ? openReadOnly(files) : openReader(files, writable);
      ({ reader } = opened);
      await prepareMetaDirectory(options.metaPath);
      const { follower, shadow } = await DatabaseSession.#continueOrStart(options, files, opened);
      await shadow.removeOthers();
      if (writable === undefined)
        options.logger.info('database can only be read: checkpoints are left to its application');
      return new DatabaseSession(options, files, { follower, shadow, pageSizeBytes: opened.pageSizeBytes });
    } catch (error) {
      // Connections first: closing the descriptors would drop their locks.
      reader?.close();
      files.close();
      throw error;
    }
  }

  static async #continueOrStart(
    options: SessionOptions,
    files: DatabaseFiles,
    opened: { readonly reader: ReadConnection; readonly pageSizeBytes: number },
  ): Promise<{ follower: WalFollower; shadow: ShadowWal }> {
    const { reader, pageSizeBytes } = opened;
    const loaded = await loadShadow(options);
    if (loaded.kind === 'none') {
      const continued = await continueLost(options, files, opened);
      return continued ?? startGeneration(options, files, { ...opened, reason: loaded.reason });
    }
    const follower = new WalFollower(files, loaded.shadow, reader, loaded.chain, pageSizeBytes);
    let outcome: CopyOutcome | undefined;
    try {
      outcome = await persist(() => follower.start());
      if (outcome.kind === 'ok') {
        options.logger.info('sync: generation continued', { generation: loaded.shadow.generation });
        return { follower, shadow: loaded.shadow };
      }
    } finally {
      if (outcome?.kind !== 'ok') await loaded.shadow.close();
    }
    return startGeneration(options, files, { ...opened, reason: outcome.reason });
  }

  get realPath(): string {
    return this.#options.realPath;
  }

  /** The permission to rotate(); undefined when the database can only be read. */
  get writable(): WritablePath | undefined {
    return this.#options.writable;
  }

  /** Whether the database is held for a snapshot. */
  get held(): boolean {
    return this.#holds.size > 0;
  }

  get shadow(): ShadowWal {
    return this.#shadow;
  }

  get chain(): WalChain {
    return this.#follower.chain;
  }

  /** End of what is copied. */
  get position(): Position {
    const { index, offset } = this.#follower.chain;
    return { generation: this.#shadow.generation, index, offset };
  }

  /** Whether sync() has something to do. */
  hasNews(): boolean {
    return this.#follower.hasNews();
  }

  /** Whether `path` still leads to this file, and its WAL is the one that is followed. */
  isCurrent(path: string): boolean {
    return this.#files.isAt(path) && this.#files.walIsCurrent();
  }

  /** Sizes in bytes: of the database file and of its WAL file. */
  sizes(): { databaseBytes: number; walBytes: number } {
    return { databaseBytes: this.#files.stat().size, walBytes: this.#files.walSizeBytes() };
  }

  walIndex(): WalIndexHeader | undefined {
    return this.#files.readWalIndex();
  }

  /** Copies what is committed. 'lost' calls for newGeneration(). @throws LitestreamError 'disk-full', 'io' */
  sync(): Promise<CopyOutcome> {
    return this.#marks ? this.#marks.sync(this.#follower) : this.#follower.sync();
  }

  /**
   * Lets the application's checkpoints through when the database can only be read; to be called after each look.
   * @returns in how many ms to look again at the latest, undefined: when there is news
   */
  relax(): number | undefined {
    return this.#marks?.relax(this.#follower);
  }

  /** Whether no mark is held, so that the WAL can be started over at any moment: news must be copied at once. */
  get unguarded(): boolean {
    return !this.#follower.holding;
  }

  /** Gives the present generation up and starts another one. @throws LitestreamError */
  async newGeneration(reason: string): Promise<void> {
    const reader = this.#follower.handOver();
    if (!reader.reading) reader.begin();
    await this.#shadow.close();
    const opened = { reader, pageSizeBytes: this.pageSizeBytes, reason };
    const { follower, shadow } = await startGeneration(this.#options, this.#files, opened);
    this.#follower = follower;
    this.#shadow = shadow;
    // Only now: until this moment replicas were reading the files of the generation that is over.
    await shadow.removeOthers();
  }

  /** Tries to have the WAL started over. Not while the database is held for a snapshot. */
  async rotate(path: WritablePath): Promise<RotationOutcome> {
    if (this.#holds.size > 0) return { kind: 'busy', reason: 'a snapshot is being taken', blockedMs: 0 };
    this.#writeLock ??= new WriteLockConnection(path);
    return rotateWal({
      path,
      files: this.#files,
      follower: this.#follower,
      checkpointer: this.#options.checkpointer,
      writeLock: this.#writeLock,
    });
  }

  /** Holds the database file still at its present end. @throws LitestreamError 'busy' when a writer is in the way */
  async hold(): Promise<DatabaseHold> {
    const reader = new ReadConnection(this.#options.realPath);
    try {
      reader.begin();
      // The mark lies in the index that the follower is in after this, at or before its end.
      const outcome = await this.#follower.sync();
      if (outcome.kind !== 'ok') throw new LitestreamError('busy', `hold database: ${outcome.reason}`);
    } catch (error) {
      reader.close();
      throw error;
    }
    const { index, offset, checksum } = this.chain;
    const position = { generation: this.#shadow.generation, index, offset };
    const [seen] = offset > 0 ? await this.#shadow.commitTimes(index, offset - 1, offset) : [];
    const hold = new DatabaseHold(
      this.#files,
      { verify: () => undefined, release: () => reader.close() },
      { position, checksum, timeMs: seen?.timeMs ?? this.#shadow.now(), pageSizeBytes: this.pageSizeBytes },
      (released) => this.#holds.delete(released),
    );
    this.#holds.add(hold);
    return hold;
  }

  /** Closes everything, whatever fails of it; SQLite leaves the WAL, so that the next session can continue. */
  async close(): Promise<void> {
    try {
      for (const hold of [...this.#holds]) await hold.release();
      await this.#options.checkpointer.close(this.#options.realPath);
    } finally {
      this.#writeLock?.close();
      // Read-only connections last: that is what keeps the WAL. The descriptors after them.
      this.#follower.close();
      this.#files.close();
      await this.#shadow.close();
    }
  }
}

function openReader(
  files: DatabaseFiles,
  writable: WritablePath,
): { reader: ReadConnection; pageSizeBytes: number } {
  let header = files.readHeader();
  if (!header) throw new LitestreamError('not-found', `database ${files.path} is empty yet`);
  const walMode = header.walMode ? undefined : new WalModeConnection(writable);
  try {
    const reader = new ReadConnection(files.path);
    try {
      reader.begin();
      files.openWal();
      header = files.readHeader();
      assert(header !== undefined, 'a database does not become empty');
      return { reader, pageSizeBytes: header.pageSizeBytes };
    } catch (error) {
      reader.close();
      throw error;
    }
  } finally {
    walMode?.close();
  }
}

/** What the last process left, be it only the snapshot of a database that nobody had open. */
async function loadShadow({ metaPath, realPath, writable }: SessionOptions): Promise<LoadedShadow> {
  const loaded = await ShadowWal.load(metaPath);
  if (loaded.kind === 'loaded' || writable !== undefined) return loaded;
  const shadow = await continueClosed(metaPath, realPath);
  return shadow ? { kind: 'loaded', shadow, chain: emptyChain(0) } : loaded;
}

/** The generation of a replica when nothing is known of it here. A folder that can be written keeps its meta directory. */
async function continueLost(
  { metaPath, writable, findStoredEnds, logger }: SessionOptions,
  files: DatabaseFiles,
  opened: { readonly reader: ReadConnection; readonly pageSizeBytes: number },
): Promise<{ follower: WalFollower; shadow: ShadowWal } | undefined> {
  if (writable !== undefined || !findStoredEnds) return undefined;
  const ends = await findStoredEnds(opened.pageSizeBytes);
  const start = (follower: WalFollower): Promise<CopyOutcome> => persist(() => follower.start());
  const continued = await continueStored(ends, { metaPath, files, ...opened, start });
  if (continued) {
    const { generation } = continued.shadow;
    logger.info('sync: generation continued, as its replica ends in the wal', { generation });
  }
  return continued;
}

/** Calls `copy` until it is done with writers that are in the middle of something. */
async function persist(copy: () => Promise<CopyOutcome>): Promise<Exclude<CopyOutcome, { kind: 'retry' }>> {
  for (let attempt = 0; ; attempt++) {
    const outcome = await copy();
    if (outcome.kind !== 'retry') return outcome;
    if (attempt === START_ATTEMPTS) throw new LitestreamError('busy', `start following: ${outcome.reason}`);
    await sleep(START_STEP_MS);
  }
}

async function startGeneration(
  { metaPath, logger }: SessionOptions,
  files: DatabaseFiles,
  { reader, pageSizeBytes, reason }: { reader: ReadConnection; pageSizeBytes: number; reason: string },
): Promise<{ follower: WalFollower; shadow: ShadowWal }> {
  const shadow = await ShadowWal.create(metaPath);
  try {
    logger.info('sync: new generation', { generation: shadow.generation, reason });
    const follower = new WalFollower(files, shadow, reader, emptyChain(0), pageSizeBytes);
    const outcome = await persist(() => follower.start());
    if (outcome.kind === 'lost') throw new LitestreamError('corrupt', `start generation: ${outcome.reason}`);
    return { follower, shadow };
  } catch (error) {
    // A descriptor that stays open would keep the space of a file that is removed.
    await shadow.close();
    throw error;
  }
}
