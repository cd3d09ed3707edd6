/**
 * One configured database: finds its file, follows it through a session, copies commits into the shadow WAL, rotates
 * the WAL, and gives replicas what they need. It never uploads anything itself.
 *
 *      file there            replaced, moved away, WAL gone, disk full
 *   waiting ───────► following ───────────────► waiting (closed, problem set, tried again with back-off)
 *                     │   ▲
 *                     └───┘ continuity lost: new generation
 */

import { realpath, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { Mutex, sleep } from '../base/concurrency.ts';
import { LitestreamError, assert, hasCode, messageOf, systemCode, wrapError } from '../base/errors.ts';
import { makeDirectories } from '../base/durable-file.ts';
import type { Logger } from '../base/logger.ts';
import { comparePositions, type Position } from '../format/position.ts';
import { walFrameCount, type WalChecksum } from '../sqlite/wal.ts';
import type { Checkpointer } from './checkpointer.ts';
import { DatabaseLock } from './database-lock.ts';
import { DatabaseProblem, REPEAT_LOG_MS } from './database-problem.ts';
import { DatabaseSession } from './database-session.ts';
import type { DirectoryWatch } from './directory-watch.ts';
import type { DatabaseOptions } from './options.ts';
import { RotationSchedule, type WalExtent } from './rotation-schedule.ts';
import type { SegmentSource, SnapshotHold } from './segment-source.ts';
import type { ShadowWal } from './shadow-wal.ts';
import type { DatabaseStats } from './stats.ts';
import { SyncPace } from './sync-pace.ts';
import { WakeTimer } from './wake-timer.ts';

export interface DatabaseParts {
  readonly options: DatabaseOptions;
  readonly logger: Logger;
  readonly checkpointer: Checkpointer;
  readonly watch: DirectoryWatch;
}

/** After something was in the way. */
const RETRY_MS = 10;
/** Of the last copy, so that a stop does not wait for more than about a second. */
const FINAL_ATTEMPTS = 50;
/** A monitor-interval of a few nanoseconds, which `5` means, must not keep a core busy. */
const MIN_INTERVAL_MS = 10;
/** A file that appears is given time to become a database. */
const REOPEN_AFTER_EVENT_MS = 50;
/** v0.3.13 does not see offsets of more than eight hex digits: the WAL has to start over before. */
const WARN_WAL_BYTES = 1 << 30;

/** `DIR/.FILE-litestream`, where v0.3.13 has it too. */
export function defaultMetaPath(databasePath: string): string {
  return join(dirname(databasePath), `.${basename(databasePath)}-litestream`);
}

export class Database implements SegmentSource {
  readonly path: string;
  readonly metaPath: string;
  readonly stats: DatabaseStats;
  readonly #options: DatabaseOptions;
  readonly #intervalMs: number;
  readonly #logger: Logger;
  readonly #parts: DatabaseParts;
  readonly #mutex = new Mutex();
  readonly #timer = new WakeTimer();
  readonly #listeners = new Set<() => void>();
  /** Oldest index that each replica needs; undefined until it has said so. */
  readonly #retained = new Map<string, number | undefined>();
  #lock: DatabaseLock | undefined;
  #session: DatabaseSession | undefined;
  /** As of the last session, which it outlives: replicas can go on with what was copied. */
  #lastShadow: ShadowWal | undefined;
  /** The position that listeners know of; present as soon as the database was opened once. */
  #announced: Position | undefined;
  #pageSizeBytes = 0;
  #rotation: RotationSchedule;
  #restartReason: string | undefined;
  #unwatch: (() => void)[] = [];
  #identityDoubtful = false;
  readonly #pace = new SyncPace();
  #nextPollMs = 0;
  #walWarnedAtMs = -Infinity;
  readonly #problem: DatabaseProblem;
  #stopping = false;
  #loop: Promise<void> | undefined;
  #markOpened: () => void = () => undefined;
  /** Resolves when the database is followed for the first time: before that a replica has nothing to do. */
  readonly opened: Promise<void> = new Promise((resolve) => {
    this.#markOpened = resolve;
  });

  constructor(parts: DatabaseParts) {
    this.#parts = parts;
    this.#options = parts.options;
    this.path = parts.options.path;
    this.metaPath = parts.options.metaPath ?? defaultMetaPath(parts.options.path);
    this.#logger = parts.logger.with({ db: parts.options.path });
    this.#rotation = new RotationSchedule(parts.options, performance.now());
    for (const replica of parts.options.replicas) this.#retained.set(replica.name, undefined);
    this.stats = {
      path: this.path,
      problem: 'starting',
      sizeBytes: 0,
      walSizeBytes: 0,
      totalWalBytes: 0,
      shadowWalIndex: 0,
      shadowWalSizeBytes: 0,
      syncCount: 0,
      syncErrorCount: 0,
      syncSeconds: 0,
      checkpoints: new Map([['PASSIVE', { count: 0, errorCount: 0, seconds: 0 }]]),
      writerBlockedSeconds: 0,
      replicas: [],
    };
    this.#intervalMs = Math.max(MIN_INTERVAL_MS, parts.options.monitorIntervalMs);
    this.#problem = new DatabaseProblem(this.#logger, this.stats, this.#intervalMs);
  }

  /**
   * Tries to open the database and goes on in the background, whatever came of it.
   * @throws LitestreamError 'busy' when another process replicates it: nothing that waiting would mend
   */
  async start(): Promise<void> {
    this.#watchFiles([this.path]);
    await this.#open();
    this.#timer.wakeIn(0);
    this.#loop = this.#run();
  }

  /** Copies what is committed by now. Called once, before the replicas' last upload. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#timer.wakeNow();
    await this.#loop;
    await this.#mutex.run(async () => {
      if (!this.#session) return;
      try {
        await this.#finalSync(this.#session);
      } catch (error) {
        // Counted as a failure: what the replicas hold may not be all that is committed.
        this.#problem.failed(wrapError(error, 'final sync'), true);
      }
    });
  }

  /** A sync that does not leave it at a writer being in the way. @throws LitestreamError 'busy' when it lasts */
  async #finalSync(session: DatabaseSession): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      if (await this.#sync(session)) return;
      if (attempt === FINAL_ATTEMPTS) throw new LitestreamError('busy', 'a writer is in the way');
      await sleep(RETRY_MS);
    }
  }

  /** Why a database that is there is not followed; undefined when it is, or when there is none. */
  get broken(): string | undefined {
    return this.#problem.broken;
  }

  /** Lets go of everything: after the replicas are done. */
  async close(): Promise<void> {
    for (const unwatch of this.#unwatch) unwatch();
    await this.#mutex.run(() => this.#closeSession());
    this.#lock?.release();
    this.#lock = undefined;
  }

  get pageSizeBytes(): number {
    return this.#pageSizeBytes;
  }

  /** Straight from the session: in step with indexEnd(), also in the middle of a rotation. */
  position(): Position {
    const position = this.#session?.position ?? this.#announced;
    assert(position !== undefined, 'position() after the database was opened');
    return position;
  }

  get #shadow(): ShadowWal | undefined {
    return this.#session?.shadow ?? this.#lastShadow;
  }

  onAdvance(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  freshen(): Promise<void> {
    return this.#mutex.run(async () => {
      try {
        if (this.#session?.hasNews()) await this.#sync(this.#session);
      } catch (error) {
        // The loop meets the same problem at once, and deals with it.
        this.#logger.debug('sync failed before an upload', { error: messageOf(error) });
        this.#timer.wakeNow();
      }
    });
  }

  indexEnd(index: number): number {
    return this.#shadow?.endOf(index) ?? 0;
  }

  hasIndex(index: number): boolean {
    return this.#shadow?.has(index) ?? false;
  }

  readShadow(index: number, start: number, end: number): Promise<Uint8Array> {
    if (!this.#shadow) throw new LitestreamError('not-found', `no shadow wal of ${this.path}`);
    return this.#shadow.read(index, start, end);
  }

  async contains(index: number, offset: number, checksum: WalChecksum): Promise<boolean> {
    return (await this.#shadow?.contains(index, offset, checksum)) ?? false;
  }

  retainFrom(replica: string, index: number): void {
    if (this.#retained.get(replica) === index) return;
    this.#retained.set(replica, index);
    this.#prune();
  }

  restartGeneration(reason: string): void {
    this.#restartReason ??= reason;
    this.#timer.wakeNow();
  }

  holdSnapshot(options?: { signal?: AbortSignal | undefined }): Promise<SnapshotHold> {
    return this.#mutex.run(async () => {
      if (!this.#session) throw new LitestreamError('busy', `database ${this.path} is not open`);
      const hold = await this.#session.hold();
      this.#advanced(this.#session);
      return hold;
    }, options);
  }

  /** Brings the sizes in `stats` up to date. */
  refreshStats(): DatabaseStats {
    const sizes = this.#session?.sizes();
    this.stats.sizeBytes = sizes?.databaseBytes ?? 0;
    this.stats.walSizeBytes = sizes?.walBytes ?? 0;
    this.stats.shadowWalIndex = this.#announced?.index ?? 0;
    this.stats.shadowWalSizeBytes = this.#announced ? this.indexEnd(this.#announced.index) : 0;
    return this.stats;
  }

  async #run(): Promise<void> {
    while (!this.#stopping) {
      await this.#timer.wait();
      await this.#mutex.run(() => this.#tick());
    }
  }

  async #tick(): Promise<void> {
    if (this.#stopping) return;
    const session = this.#session;
    try {
      if (!session) await this.#open();
      else await this.#follow(session);
    } catch (error) {
      await this.#fail(error);
    }
  }

  async #follow(session: DatabaseSession): Promise<void> {
    const nowMs = performance.now();
    const polling = nowMs >= this.#nextPollMs;
    if (polling) this.#nextPollMs = nowMs + this.#intervalMs;
    if (polling || this.#identityDoubtful) {
      this.#identityDoubtful = false;
      if (!session.isCurrent(this.path)) {
        throw new LitestreamError(
          'not-found',
          `database ${this.path} or its wal was moved, replaced or deleted`,
        );
      }
    }
    if (this.#restartReason !== undefined) {
      const reason = this.#restartReason;
      this.#restartReason = undefined;
      await this.#newGeneration(session, reason);
    } else if (session.hasNews()) {
      const waitMs = this.#pace.waitMs(nowMs);
      if (waitMs > 0) this.#timer.wakeIn(waitMs);
      else await this.#sync(session);
    }
    await this.#rotateIfDue(session);
    this.#problem.recovered();
    const endMs = performance.now();
    this.#timer.wakeIn(Math.min(this.#nextPollMs - endMs, this.#pace.nextLookMs(endMs) ?? Infinity));
  }

  /** @returns false when a writer was in the way: it is tried again soon */
  async #sync(session: DatabaseSession): Promise<boolean> {
    const startMs = performance.now();
    this.stats.syncCount++;
    const outcome = await session.sync();
    const endMs = performance.now();
    this.stats.syncSeconds += (endMs - startMs) / 1000;
    this.#pace.copied(outcome.kind === 'ok' && outcome.copiedBytes > 0, endMs);
    switch (outcome.kind) {
      case 'ok':
        this.stats.totalWalBytes += outcome.copiedBytes;
        this.#advanced(session);
        return true;
      case 'retry':
        this.#logger.debug('sync: later', { reason: outcome.reason });
        this.#timer.wakeIn(RETRY_MS);
        return false;
      case 'lost':
        await this.#newGeneration(session, outcome.reason);
        return true;
    }
  }

  async #newGeneration(session: DatabaseSession, reason: string): Promise<void> {
    await session.newGeneration(reason);
    // What replicas still need was said of the generation that is over.
    for (const name of this.#retained.keys()) this.#retained.set(name, undefined);
    this.#advanced(session);
  }

  async #rotateIfDue(session: DatabaseSession): Promise<void> {
    const wal = walExtent(session);
    if (!wal || !this.#rotation.isDue(wal, performance.now())) return;
    const startMs = performance.now();
    const stats = this.stats.checkpoints.get('PASSIVE');
    const outcome = await session.rotate();
    this.#advanced(session);
    const nowMs = performance.now();
    if (stats) {
      stats.count++;
      stats.seconds += (nowMs - startMs) / 1000;
    }
    if (outcome.kind === 'rotated') {
      this.#rotation.rotated(walExtent(session) ?? wal, nowMs);
      this.#logger.debug('checkpoint: wal will be restarted', { frames: wal.frames });
    } else {
      this.#rotation.failed(wal, nowMs);
      this.#timer.wakeIn(RETRY_MS);
    }
    if (outcome.kind === 'unsynced') return;
    this.stats.writerBlockedSeconds += outcome.blockedMs / 1000;
    if (outcome.kind === 'rotated') return;
    this.#logger.debug('checkpoint: later', { reason: outcome.reason });
    const { walBytes } = session.sizes();
    if (walBytes < WARN_WAL_BYTES || nowMs - this.#walWarnedAtMs < REPEAT_LOG_MS) return;
    this.#walWarnedAtMs = nowMs;
    this.#logger.warn('wal is large and cannot be restarted', {
      'wal-size': walBytes,
      reason: outcome.reason,
    });
  }

  async #open(): Promise<void> {
    try {
      const realPath = await this.#resolve();
      await this.#acquireLock();
      const { checkpointer } = this.#parts;
      const logger = this.#logger;
      const session = await DatabaseSession.open({ realPath, metaPath: this.metaPath, checkpointer, logger });
      this.#session = session;
      this.#pageSizeBytes = session.pageSizeBytes;
      this.#rotation = new RotationSchedule(this.#options, performance.now());
      this.#nextPollMs = 0;
      this.#pace.event(true, performance.now());
      this.#watchFiles([this.path, realPath, `${realPath}-wal`]);
      this.#advanced(session);
      this.#problem.recovered();
      this.#markOpened();
      this.#timer.wakeIn(0);
    } catch (error) {
      if (hasCode(error, 'busy') && !this.#lock) throw error;
      await this.#fail(error);
    }
  }

  async #resolve(): Promise<string> {
    try {
      const path = await realpath(this.path);
      if (!(await stat(path)).isFile()) {
        throw new LitestreamError('config', `${this.path} is not a file: give the path of a SQLite database`);
      }
      return path;
    } catch (error) {
      if (systemCode(error) === 'ENOENT')
        throw new LitestreamError('not-found', `database ${this.path} is not there`);
      throw wrapError(error, `find database ${this.path}`);
    }
  }

  async #acquireLock(): Promise<void> {
    if (this.#lock) return;
    try {
      await makeDirectories(this.metaPath, 0o700);
    } catch (error) {
      throw wrapError(error, `create meta directory ${this.metaPath}`);
    }
    this.#lock = new DatabaseLock(this.metaPath, this.path);
  }

  async #closeSession(): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    await session?.close();
  }

  /** Closes what is open, says why, and tries again with back-off. */
  async #fail(error: unknown): Promise<void> {
    this.#timer.wakeIn(this.#problem.failed(error, this.#session !== undefined));
    try {
      await this.#closeSession();
      // The spool goes: the disk is the application's. What was not uploaded is in the snapshot of the next generation.
      if (hasCode(error, 'disk-full')) {
        await rm(join(this.metaPath, 'generations'), { recursive: true, force: true });
      }
    } catch (closeError) {
      this.#logger.error('cannot let go of the database', { error: messageOf(closeError) });
    }
  }

  #advanced(session: DatabaseSession): void {
    const { position } = session;
    const before = this.#announced;
    this.#lastShadow = session.shadow;
    this.#announced = position;
    if (before?.generation === position.generation && comparePositions(before, position) === 0) return;
    if (before?.index !== position.index) this.#prune();
    for (const listener of this.#listeners) listener();
  }

  #prune(): void {
    const needed = [...this.#retained.values()];
    if (!this.#shadow || needed.includes(undefined)) return;
    const oldest = Math.min(this.#announced?.index ?? 0, ...needed.map((index) => index ?? 0));
    this.#shadow
      .prune(oldest)
      .catch((error: unknown) => this.#problem.report(`remove old shadow wal: ${messageOf(error)}`));
  }

  #watchFiles(paths: readonly string[]): void {
    for (const unwatch of this.#unwatch) unwatch();
    this.#unwatch = [...new Set(paths)].map((path) =>
      this.#parts.watch.add(path, (event) => {
        if (event === 'rename') this.#identityDoubtful = true;
        const lookInMs = this.#pace.event(!path.endsWith('-wal'), performance.now());
        this.#timer.wakeIn(this.#session ? lookInMs : REOPEN_AFTER_EVENT_MS);
      }),
    );
  }
}

/** The WAL that the follower is in; undefined while it has no commits. */
function walExtent(session: DatabaseSession): WalExtent | undefined {
  const { header, offset } = session.chain;
  if (!header) return undefined;
  return { salt1: header.salt1, salt2: header.salt2, frames: walFrameCount(offset, header.pageSizeBytes) };
}
