/**
 * One database file from the moment it is opened to the moment it is closed: its descriptors, connections, follower
 * and shadow WAL. When the file is replaced or its WAL is gone, the session ends and another one begins.
 */

import { sleep } from '../base/concurrency.ts';
import { LitestreamError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Origin } from '../format/origin-frame.ts';
import type { Position } from '../format/position.ts';
import { ReadConnection, WriteLockConnection } from '../sqlite/connection.ts';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import type { WritablePath } from '../sqlite/writable-path.ts';
import type { Checkpointer } from './checkpointer.ts';
import { clockStepSince, noteClock } from './clock-record.ts';
import { type ClockDoubt, describeStep } from './commit-log.ts';
import { DatabaseFiles } from './database-files.ts';
import type { DatabaseProblemFacts } from './database-problem.ts';
import { type MainFileState, awaitSettled } from './main-file.ts';
import { findRewrittenSince, noteMainFile } from './main-file-record.ts';
import { prepareMetaDirectory } from './meta-directory.ts';
import type { DatabaseOptions } from './options.ts';
import { findHardLink, findOtherName } from './other-names.ts';
import { continueClosed } from './read-only-closed.ts';
import { type FindStoredEnds, continueStored } from './read-only-continue.ts';
import { ReadOnlyMarks } from './read-only-marks.ts';
import { openReadOnly } from './read-only-open.ts';
import { openReadWrite } from './read-write-open.ts';
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
  /** Why the generation that the meta directory tells of shall not be continued. */
  readonly giveUp?: string | undefined;
  /** Called before a generation is begun, which may fail. @returns whether another process goes on with the one before */
  readonly onNewGeneration?: (() => boolean) | undefined;
  readonly checkpointer: Checkpointer;
  readonly logger: Logger;
  /** Why the files are not taken for those of the last session: a new generation begins. */
  readonly doubt?: Doubt | undefined;
}

export interface Doubt {
  /** In words. */
  readonly reason: string;
  /** `-wal` or `-shm` were deleted or replaced: it is made sure that nobody goes on with the old ones. */
  readonly divided: boolean;
}

/** A new generation is tried this often while writers are in the way. */
const START_ATTEMPTS = 50;
const START_STEP_MS = 20;
/** Until it is known whether it was a checkpoint. */
const FILE_CHANGES = 'the database file is being changed, and not by a checkpoint';
/** So often a WAL that cannot be copied is tried to be started over before that is a failure. */
const ROTATION_ATTEMPTS = 10;

export class DatabaseSession {
  readonly pageSizeBytes: number;
  readonly #options: SessionOptions;
  readonly #files: DatabaseFiles;
  readonly #holds = new Set<DatabaseHold>();
  readonly #marks: ReadOnlyMarks | undefined;
  #follower: WalFollower;
  #shadow: ShadowWal;
  #writeLock: WriteLockConnection | undefined;
  readonly #openedAtMs = Date.now();
  /** Another name of the file that does not go while it is open. */
  readonly #mount: string | undefined;

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
    const otherName = findOtherName(files.path);
    this.#mount = otherName === findHardLink(files.path) ? undefined : otherName;
    if (otherName !== undefined) options.logger.error('database has another name', { reason: otherName });
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
      if (options.doubt?.divided === false) await awaitSettled(files);
      const opened =
        writable === undefined
          ? openReadOnly(files)
          : openReadWrite(files, writable, options.doubt?.divided === true);
      ({ reader } = opened);
      await prepareMetaDirectory(options.metaPath);
      const { follower, shadow } = await DatabaseSession.#continueOrStart(options, files, opened);
      await shadow.removeOthers();
      await noteClock(options.metaPath);
      await noteMainFile({ files, shadow, chain: follower.chain });
      if (writable === undefined)
        options.logger.info('database can only be read: checkpoints are left to its application');
      return new DatabaseSession(options, files, { follower, shadow, pageSizeBytes: opened.pageSizeBytes });
    } catch (error) {
      await options.checkpointer.close(options.realPath);
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
    const giveUp = options.doubt?.reason ?? options.giveUp;
    if (giveUp !== undefined) return startGeneration(options, files, { ...opened, reason: giveUp });
    const loaded = await loadShadow(options);
    if (loaded.kind === 'none') {
      const continued = await continueLost(options, files, opened);
      return continued ?? startGeneration(options, files, { ...opened, reason: loaded.reason });
    }
    const end = loaded.shadow.endAt(loaded.chain);
    const stepMs = await clockStepSince(options.metaPath);
    if (stepMs !== undefined) {
      await loaded.shadow.close();
      const reason = `the clock was set ${describeStep(stepMs)} since the last run`;
      return startGeneration(options, files, { ...opened, reason, end, clockWasWrong: true });
    }
    if (options.writable !== undefined) files.watchMainFile(loaded.chain.offset === 0);
    const follower = new WalFollower(files, loaded.shadow, reader, loaded.chain, pageSizeBytes);
    let outcome: CopyOutcome | undefined;
    try {
      outcome = await persist(() => follower.start());
      const rewritten =
        outcome.kind === 'ok' &&
        (await findRewrittenSince({ files, ...opened, shadow: loaded.shadow, chain: follower.chain }));
      if (rewritten) outcome = { kind: 'lost', reason: rewritten };
      if (outcome.kind === 'ok') {
        options.logger.info('sync: generation continued', { generation: loaded.shadow.generation });
        return { follower, shadow: loaded.shadow };
      }
    } finally {
      if (outcome?.kind !== 'ok') await loaded.shadow.close();
    }
    return startGeneration(options, files, { ...opened, reason: outcome.reason, end });
  }

  /** What keeps it from being replicated for certain although it is followed. */
  get problem(): DatabaseProblemFacts | undefined {
    const otherName = this.#mount ?? findHardLink(this.realPath);
    if (otherName === undefined) return undefined;
    const message = `whoever uses the database by its other name has another -wal, which is not followed: ${otherName}`;
    return { message, code: 'unsupported', sinceMs: this.#openedAtMs, kind: 'broken' };
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

  /**
   * To be asked before anything is said or done by this session.
   * @param path as the user spells it: also where the names lead is looked at, which costs a few stat(); undefined: only
   *   whether the database file is written by checkpoints alone
   * @throws LitestreamError 'not-found' when a file is not the one that was opened: the session has to be closed
   */
  requireCurrent(path: string | undefined): void {
    const replaced = path === undefined ? undefined : this.#files.findReplaced(path);
    if (replaced !== undefined) throw this.#changed(replaced);
    const state = this.#lookAtFile();
    if (state.kind === 'rewritten') throw this.#changed(state.reason);
  }

  #changed(reason: string): LitestreamError {
    return new LitestreamError('not-found', `database ${this.realPath}: ${reason}`);
  }

  /** Whether the database file is written by checkpoints alone. Cheap enough for each look. */
  #lookAtFile(): MainFileState {
    return this.#files.mainFile?.look() ?? { kind: 'same' };
  }

  /** Why the next session shall not take its files for those of this one, though the database is the same file. */
  findDoubt(): Doubt | undefined {
    try {
      if (!this.#files.isAt(this.realPath)) return undefined;
      const replaced = this.#files.findReplaced();
      if (replaced !== undefined) return { reason: replaced, divided: true };
      const state = this.#lookAtFile();
      return state.kind === 'rewritten' ? { reason: state.reason, divided: false } : undefined;
    } catch {
      return undefined; // What cannot be looked at says so when it is opened.
    }
  }

  /** Whether the wal-index has commits that were neither copied nor left out. */
  isBehind(): boolean {
    const walIndex = this.#files.readWalIndex();
    return walIndex !== undefined && walIndex.mxFrame > this.#follower.framesOf(walIndex);
  }

  /** Sizes in bytes: of the database file and of its WAL file. */
  sizes(): { databaseBytes: number; walBytes: number } {
    return { databaseBytes: this.#files.stat().size, walBytes: this.#files.walSizeBytes() };
  }

  walIndex(): WalIndexHeader | undefined {
    return this.#files.readWalIndex();
  }

  /** As CommitLog.clockDoubt(). */
  clockDoubt(): ClockDoubt | undefined {
    return this.#shadow.clockDoubt();
  }

  /** Copies what is committed. 'lost' calls for newGeneration(). @throws LitestreamError 'disk-full', 'io' */
  async sync(): Promise<CopyOutcome> {
    const state = this.#lookAtFile();
    if (state.kind === 'rewritten') throw this.#changed(state.reason);
    if (state.kind === 'unclear') return { kind: 'retry', reason: FILE_CHANGES };
    return this.#marks ? this.#marks.sync(this.#follower) : this.#follower.sync();
  }

  /** Whether something writes to the database file that is no checkpoint, as far as can be told yet. */
  #isUnclear(): boolean {
    return this.#lookAtFile().kind !== 'same';
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

  /**
   * Gives the present generation up and starts another one.
   * @throws LitestreamError 'not-found' when the database file is not what checkpoints have made it: see requireCurrent()
   */
  async newGeneration(reason: string): Promise<void> {
    // The next one watches the file from what it is now on.
    this.requireCurrent(undefined);
    const reader = this.#follower.handOver();
    if (!reader.reading) reader.begin();
    await this.#shadow.close();
    const end = this.#shadow.endAt(this.#follower.chain);
    const clockWasWrong = this.#shadow.clockDoubt()?.isSettled === true;
    const opened = { reader, pageSizeBytes: this.pageSizeBytes, reason, end, clockWasWrong };
    const { follower, shadow } = await startGeneration(this.#options, this.#files, opened);
    this.#follower = follower;
    this.#shadow = shadow;
    // Only now: until this moment replicas were reading the files of the generation that is over.
    await shadow.removeOthers();
    await noteClock(this.#options.metaPath);
  }

  /** Tries to have the WAL started over. Not while the database is held for a snapshot. */
  async rotate(path: WritablePath): Promise<RotationOutcome> {
    if (this.#holds.size > 0) return { kind: 'busy', reason: 'a snapshot is being taken', blockedMs: 0 };
    if (this.#isUnclear()) return { kind: 'busy', reason: FILE_CHANGES, blockedMs: 0 };
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
    const replaced = this.#files.findReplaced();
    if (replaced !== undefined) throw new LitestreamError('busy', `hold database: ${replaced}`);
    this.#requireSteady();
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
      { verify: () => this.#requireSteady(), release: () => reader.close() },
      { position, checksum, timeMs: seen?.timeMs ?? this.#shadow.now(), pageSizeBytes: this.pageSizeBytes },
      (released) => this.#holds.delete(released),
    );
    this.#holds.add(hold);
    return hold;
  }

  /** A file that was overwritten while it was read is no snapshot. */
  #requireSteady(): void {
    if (this.#isUnclear()) throw new LitestreamError('busy', `hold database: ${FILE_CHANGES}`);
  }

  /**
   * Closes everything, whatever fails of it; SQLite leaves the WAL, so that the next session can continue.
   * @param inOrder tells the next session how the database file is
   */
  async close(inOrder: boolean): Promise<void> {
    try {
      const [shadow, { chain }] = [this.#shadow, this.#follower];
      if (inOrder && this.findDoubt() === undefined)
        await noteMainFile({ files: this.#files, shadow, chain });
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

interface NewGeneration {
  readonly reader: ReadConnection;
  readonly pageSizeBytes: number;
  readonly reason: string;
  /** Where the generation before it stood, if that is known. */
  readonly end?: Origin['end'];
  /** Its times are no bound for those of the new one. */
  readonly clockWasWrong?: boolean;
}

async function startGeneration(
  options: SessionOptions,
  files: DatabaseFiles,
  { reader, pageSizeBytes, reason, end, clockWasWrong }: NewGeneration,
): Promise<{ follower: WalFollower; shadow: ShadowWal }> {
  const { metaPath, writable, logger } = options;
  const isFork = options.onNewGeneration?.() === true;
  const floorMs = clockWasWrong ? undefined : end?.timeMs;
  const shadow = await ShadowWal.create(metaPath, { end, floorMs, isFork });
  const follower = new WalFollower(files, shadow, reader, emptyChain(0), pageSizeBytes);
  if (writable !== undefined) files.watchMainFile(true);
  try {
    logger.info('sync: new generation', { generation: shadow.generation, reason });
    const outcome = await persist(() => follower.start());
    if (outcome.kind === 'lost') {
      if (outcome.unchained !== true || writable === undefined)
        throw new LitestreamError('corrupt', `start generation: ${outcome.reason}`);
      await beginBehind(options, files, { follower, writable, reason: outcome.reason });
    }
    return { follower, shadow };
  } catch (error) {
    follower.giveBack(reader);
    // A descriptor that stays open would keep the space of a file that is removed.
    await shadow.close();
    throw error;
  }
}

/**
 * Begins a generation where a WAL that is no chain of checksums ends: all of it is brought into the database file, as
 * any checkpoint of the application would, and the next commit starts the WAL over.
 * @throws LitestreamError 'busy' while something is in the way
 */
async function beginBehind(
  { checkpointer, logger }: SessionOptions,
  files: DatabaseFiles,
  { follower, writable, reason }: { follower: WalFollower; writable: WritablePath; reason: string },
): Promise<void> {
  logger.warn('wal cannot be copied, and is started over', { reason });
  follower.passOver();
  // What is passed over may hold first pages.
  files.watchMainFile(false);
  const writeLock = new WriteLockConnection(writable);
  try {
    const parts = { path: writable, files, follower, checkpointer, writeLock };
    for (let attempt = 1; ; attempt++) {
      const outcome = await rotateWal(parts);
      if (outcome.kind === 'rotated') {
        follower.settle();
        return;
      }
      if (attempt < ROTATION_ATTEMPTS) await sleep(START_STEP_MS);
      else throw new LitestreamError('busy', `${reason}; it cannot be started over: ${whyNot(outcome)}`);
    }
  } finally {
    writeLock.close();
  }
}

function whyNot(outcome: RotationOutcome): string {
  return outcome.kind === 'busy' ? outcome.reason : 'a writer is in the way';
}
