/**
 * One configured database: finds its file, follows it through a session, copies commits into the shadow WAL, rotates
 * the WAL, and gives replicas what they need. It never uploads anything itself.
 *
 *      file there            replaced, moved away, WAL gone, disk full
 *   waiting ───────► following ───────────────► waiting (closed, problem set, tried again with back-off)
 *                     │   ▲
 *                     └───┘ continuity lost: new generation
 */

import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Mutex, sleep } from '../base/concurrency.ts';
import { LitestreamError, hasCode, messageOf, wrapError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Position } from '../format/position.ts';
import { ClockWarning } from './clock-warning.ts';
import type { DatabaseParts } from './database-parts.ts';
import { findDatabaseFile } from './database-path.ts';
import { LOCK_FILE } from './database-lock.ts';
import { openDatabase } from './database-opening.ts';
import { DatabaseProblem } from './database-problem.ts';
import type { DatabaseSession, Doubt } from './database-session.ts';
import { type Standing, standingOf } from './database-standing.ts';
import { GenerationRestarts } from './generation-restarts.ts';
import { beginsGeneration, checkLocalState } from './local-state.ts';
import { MetaDirectory } from './meta-directory.ts';
import type { ClosedDatabase } from './read-only-closed.ts';
import { RotationControl } from './rotation-control.ts';
import type { SegmentSource, SnapshotHold } from './segment-source.ts';
import { type CopiedWal, ShadowSource } from './shadow-source.ts';
import { type DatabaseStats, newDatabaseStats } from './stats.ts';
import type { DatabaseFacts, Lasting } from './status.ts';
import { SyncPace } from './sync-pace.ts';
import { WakeTimer } from './wake-timer.ts';
import { WatchedFiles } from './watched-files.ts';

/** After something was in the way. */
const RETRY_MS = 10;
/** Of the last copy, so that a stop does not wait for more than about a second. */
const FINAL_ATTEMPTS = 50;
/** A monitor-interval of a few nanoseconds, which `5` means, must not keep a core busy. */
const MIN_INTERVAL_MS = 10;
/** What hangs is given this long to end when it is abandoned, and closing without it this long. */
const ABANDON_GRACE_MS = 1000;
const ABANDON_CLOSE_MS = 5000;

export class Database extends ShadowSource implements SegmentSource {
  readonly path: string;
  readonly stats: DatabaseStats;
  readonly #intervalMs: number;
  readonly meta: MetaDirectory;
  readonly #logger: Logger;
  readonly #parts: DatabaseParts;
  readonly #mutex = new Mutex();
  readonly #timer = new WakeTimer();
  #session: DatabaseSession | undefined;
  /** In the place of a session while nobody uses a database that can only be read. */
  #closed: ClosedDatabase | undefined;
  #pageSizeBytes = 0;
  readonly #rotation: RotationControl;
  readonly #restarts = new GenerationRestarts();
  /** The WAL does not continue what was copied, and the new generation has to wait for its turn. */
  #lost = false;
  readonly #watched: WatchedFiles;
  #identityDoubtful = false;
  readonly #clock: ClockWarning;
  /** What the next session has to doubt. */
  #doubt: Doubt | undefined;
  readonly #pace: SyncPace;
  readonly #problem: DatabaseProblem;
  #stopping = false;
  #abandoned = false;
  /** Since when copying is put off because a writer is in the way. */
  #delay: Lasting | undefined;
  #closing: Promise<void> | undefined;
  #loop: Promise<void> | undefined;
  #markOpened: () => void = () => undefined;
  /** Resolves when the database is followed for the first time: before that a replica has nothing to do. */
  readonly opened: Promise<void> = new Promise((resolve) => {
    this.#markOpened = resolve;
  });

  constructor(parts: DatabaseParts) {
    super(parts.options.replicas.map(({ name }) => name));
    this.path = parts.options.path;
    this.#logger = parts.logger.with({ db: parts.options.path });
    this.#parts = { ...parts, logger: this.#logger };
    this.meta = new MetaDirectory(this.#parts);
    this.stats = newDatabaseStats(this.path);
    this.#intervalMs = Math.max(MIN_INTERVAL_MS, parts.options.monitorIntervalMs);
    this.#pace = new SyncPace(this.#intervalMs);
    this.#problem = new DatabaseProblem(this.#logger, this.stats, this.#intervalMs);
    this.#clock = new ClockWarning(this.#logger);
    this.#watched = new WatchedFiles(parts.watch, (event, path) => this.#fileChanged(event, path));
    this.#rotation = new RotationControl(parts.options, this.stats, this.#logger);
  }

  /**
   * Tries to open the database and goes on in the background, whatever came of it.
   * @throws LitestreamError 'busy' when another process replicates it: nothing that waiting would mend
   */
  async start(): Promise<void> {
    this.#watched.set([this.path]);
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
      const obstacle = (this.#lost ? this.#delay?.reason : undefined) ?? 'a writer is in the way';
      if (attempt === FINAL_ATTEMPTS) throw new LitestreamError('busy', obstacle);
      await sleep(RETRY_MS);
    }
  }

  /** Why a database that is there is not followed; undefined when it is, or when there is none. */
  get broken(): string | undefined {
    return this.#problem.broken;
  }

  /** Copies what is committed by now. @throws LitestreamError why that cannot be: what keeps it from being followed */
  async sync(signal?: AbortSignal): Promise<Position> {
    return this.#mutex.run(
      async () => {
        if (this.#stopping) throw new LitestreamError('busy', `replication of ${this.path} is being ended`);
        if (!this.#session) {
          const why = this.stats.problem ?? 'it is being opened';
          throw new LitestreamError('busy', `database ${this.path} is not followed: ${why}`);
        }
        // Whatever comes of it here, the loop looks too, and begins anew.
        this.#pace.pollNext();
        this.#session.requireCurrent(this.path);
        await this.#finalSync(this.#session);
        return this.position();
      },
      { signal },
    );
  }

  get followed(): boolean {
    return this.#session !== undefined;
  }

  /** Lets go of the file so that another process can replace it. It is opened again when that has been done. */
  lend(): Promise<void> {
    return this.#mutex.run(() => this.#closeSession(true).then(() => this.meta.lend()));
  }

  /** Lets go of everything: after the replicas are done. */
  async close(): Promise<void> {
    this.#watched.close();
    await this.lend();
  }

  /**
   * Lets go of everything although something in it hangs, so that another object can take its place. What hangs finds
   * everything closed if it ever goes on. Called again after a failure it waits on.
   * @throws LitestreamError 'timeout' when it cannot be closed either: then nothing else may open the database
   */
  async abandon(): Promise<void> {
    this.#stopping = true;
    this.#abandoned = true;
    this.#timer.wakeNow();
    this.#watched.close();
    const waiting = new AbortController();
    const orderly = this.#mutex.run(() => this.#closeSession(), waiting).catch(() => undefined);
    await Promise.race([orderly, sleep(ABANDON_GRACE_MS)]);
    waiting.abort();
    const closed = Promise.allSettled([this.#closeSession()]);
    if ((await Promise.race([closed, sleep(ABANDON_CLOSE_MS)])) === undefined) {
      throw new LitestreamError('timeout', `cannot let go of database ${this.path}: restart this process`);
    }
    this.meta.release();
  }

  get metaPath(): string {
    return this.meta.workPath;
  }

  get pageSizeBytes(): number {
    return this.#pageSizeBytes;
  }

  protected get copied(): CopiedWal | undefined {
    return this.#session;
  }

  override async readShadow(index: number, start: number, end: number): Promise<Uint8Array> {
    if (!this.meta.ousted) return super.readShadow(index, start, end);
    throw new LitestreamError('busy', `the lock of ${this.path} is not held at present`);
  }

  protected pruningFailed(message: string): void {
    this.#problem.report(`remove old shadow wal: ${message}`);
  }

  /** Has the WAL started over soon, however short it is. */
  rotateSoon(): void {
    this.#rotation.want();
    this.#timer.wakeNow();
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

  restartGeneration(reason: string, isFork = false): void {
    this.#restarts.want(reason, isFork);
    this.#timer.wakeNow();
  }

  holdSnapshot(options?: { signal?: AbortSignal | undefined }): Promise<SnapshotHold> {
    return this.#mutex.run(async () => {
      if (!this.#session && this.#closed) return this.#closed.hold();
      if (!this.#session) throw new LitestreamError('busy', `database ${this.path} is not open`);
      const hold = await this.#session.hold();
      this.advanced(this.#session);
      return hold;
    }, options);
  }

  /** What its status is derived from, but for what others know of it. */
  facts(): Omit<DatabaseFacts, 'replicas' | 'stuck'> {
    const session = this.#session;
    return {
      stats: this.refreshStats(),
      metaPath: this.meta.path,
      mode: this.#closed || (session && !session.writable) ? 'read-only' : session && 'read-write',
      monitorIntervalMs: this.#intervalMs,
      position: this.announced,
      followed: this.followed,
      stopping: this.#stopping,
      problem: this.#problem.facts(() => existsSync(dirname(this.path))) ?? session?.problem,
      delay: this.#delay,
      ...(session ? this.#rotation.obstacle(session) : { obstacle: undefined, pin: undefined }),
    };
  }

  /** Where following stands; undefined while it is not followed, or something is known to be in the way. */
  async standing(): Promise<Standing | undefined> {
    const session = this.#session;
    return !session || this.#delay || this.stats.problem !== undefined ? undefined : standingOf(session);
  }

  /** Brings the sizes in `stats` up to date. */
  refreshStats(): DatabaseStats {
    const sizes = this.#session?.sizes();
    this.stats.sizeBytes = sizes?.databaseBytes ?? 0;
    this.stats.walSizeBytes = sizes?.walBytes ?? 0;
    this.stats.shadowWalIndex = this.announced?.index ?? 0;
    this.stats.shadowWalSizeBytes = this.announced ? this.indexEnd(this.announced.index) : 0;
    this.stats.spoolSizeBytes = this.shadow?.sizeBytes() ?? 0;
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
    try {
      if (this.#session) {
        await this.#follow(this.#session);
        return;
      }
      const nowMs = performance.now();
      const waitMs = Math.max(this.#problem.waitMs(nowMs), this.#restarts.waitMs(nowMs));
      if (waitMs > 0) this.#timer.wakeIn(waitMs);
      else await this.#open();
    } catch (error) {
      await this.#fail(error);
    }
  }

  async #follow(session: DatabaseSession): Promise<void> {
    const nowMs = performance.now();
    const looking = this.#pace.isPoll(nowMs) || this.#identityDoubtful || this.#restarts.isForkDue(nowMs);
    this.#identityDoubtful = false;
    const isDue = session.hasNews() && this.#pace.waitMs(nowMs) === 0;
    // A copy looks at the database file by itself.
    if (looking || !isDue) session.requireCurrent(looking ? this.path : undefined);
    if (looking) await this.#checkLocalState(session);
    this.#clock.look(session.clockDoubt(), this.#restarts);
    if (this.#restarts.reason !== undefined) await this.#newGeneration(session, this.#restarts.reason);
    if (this.#lost) {
      this.#timer.wakeIn(this.#restarts.waitMs(nowMs));
      return;
    }
    if (isDue || session.hasNews()) {
      const waitMs = isDue ? 0 : this.#pace.waitMs(nowMs);
      if (waitMs > 0) this.#timer.wakeIn(waitMs);
      else await this.#sync(session);
    } else {
      this.#delay = undefined;
    }
    await this.#rotateIfDue(session);
    this.#problem.recovered();
    const endMs = performance.now();
    this.#pace.closely = session.unguarded;
    this.#watched.narrow(this.#pace.isSteady(endMs));
    this.#timer.wakeIn(Math.min(session.relax() ?? Infinity, this.#pace.nextLookMs(endMs)));
  }

  async #checkLocalState({ shadow }: CopiedWal): Promise<void> {
    const state = { meta: this.meta, shadow, restarts: this.#restarts };
    if (await checkLocalState(state)) this.#watched.renew();
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
        this.#delay = undefined;
        this.advanced(session);
        return true;
      case 'retry':
        this.#delay = { reason: outcome.reason, sinceMs: this.#delay?.sinceMs ?? Date.now() };
        this.#logger.debug('sync: later', { reason: outcome.reason });
        this.#timer.wakeIn(RETRY_MS);
        return false;
      case 'lost':
        this.#restarts.want(outcome.reason);
        this.#lost = true;
        await this.#newGeneration(session, outcome.reason);
        return !this.#lost;
    }
  }

  /** Begins one when it is time for it; the reason stays until then. */
  async #newGeneration(session: DatabaseSession, reason: string): Promise<void> {
    const waitMs = this.#stopping ? 0 : this.#restarts.waitMs(performance.now());
    if (waitMs > 0) {
      const sinceMs = this.#delay?.sinceMs ?? Date.now();
      if (this.#lost) this.#delay = { reason: `one new generation after the other: ${reason}`, sinceMs };
      this.#timer.wakeIn(waitMs);
      return;
    }
    await session.newGeneration(reason);
    this.#changed();
    this.advanced(session);
  }

  /** The generation is another one. */
  #changed(): void {
    this.#restarts.done();
    this.#lost = false;
    this.#delay = undefined;
    this.forgetRetained();
  }

  async #rotateIfDue(session: DatabaseSession): Promise<void> {
    const rotated = await this.#rotation.rotateIfDue(session);
    if (rotated === undefined) return;
    this.advanced(session);
    if (!rotated) this.#timer.wakeIn(RETRY_MS);
  }

  async #open(): Promise<void> {
    if (this.#closed) await this.#checkLocalState(this.#closed);
    if (this.#closed && this.#restarts.reason === undefined && this.#closed.isUnchanged()) {
      this.#timer.wakeIn(this.#intervalMs);
      return;
    }
    try {
      await this.#leaveClosed();
      const realPath = await findDatabaseFile(this.path);
      await this.meta.claim();
      this.#delay = undefined;
      const giveUp = this.#restarts.reason;
      const onNewGeneration = (): boolean => beginsGeneration(this.meta, this.#restarts, !this.announced);
      const opened = await openDatabase({
        ...this.#parts,
        realPath,
        metaPath: this.metaPath,
        giveUp,
        onNewGeneration,
        doubt: this.#doubt,
      });
      if (giveUp !== undefined) this.#changed();
      this.#pageSizeBytes = (opened.kind === 'session' ? opened.session : opened.closed).pageSizeBytes;
      const files = [this.path, realPath, `${realPath}-wal`, `${realPath}-shm`];
      this.#watched.set([...files, this.meta.path, join(this.meta.path, LOCK_FILE)]);
      if (opened.kind === 'session') this.#follows(opened.session);
      else this.#waitsFor(opened.closed, opened.why);
      this.#markOpened();
    } catch (error) {
      if (hasCode(error, 'busy') && !this.meta.claimed) throw error;
      await this.#fail(error);
    }
  }

  #follows(session: DatabaseSession): void {
    this.#session = session;
    this.#doubt = undefined;
    this.#rotation.reset();
    this.#pace.pollNext();
    this.#pace.event(true, performance.now());
    this.advanced(session);
    this.#problem.recovered();
    this.#timer.wakeIn(0);
  }

  /** Nobody uses it, and it can only be read: what it holds goes into a snapshot meanwhile. */
  #waitsFor(closed: ClosedDatabase, why: Error): void {
    this.#closed = closed;
    this.advanced(closed);
    this.#timer.wakeIn(this.#problem.failed(why, false));
  }

  async #leaveClosed(): Promise<void> {
    const closed = this.#closed;
    this.#closed = undefined;
    await closed?.close();
  }

  async #closeSession(inOrder = false): Promise<void> {
    const session = this.#session;
    this.#session = undefined;
    this.#lost = false;
    await this.#leaveClosed();
    this.#watched.narrow(false);
    if (session) this.#closing = session.close(inOrder);
    await this.#closing;
  }

  /** Closes what is open, says why, and tries again with back-off. */
  async #fail(error: unknown): Promise<void> {
    if (this.#abandoned) return;
    this.#timer.wakeIn(this.#problem.failed(error, this.#session !== undefined));
    this.#doubt = this.#session?.findDoubt() ?? this.#doubt;
    try {
      await this.#closeSession();
      // The spool goes: the disk is the application's. What was not uploaded is in the snapshot of the next generation.
      if (hasCode(error, 'disk-full'))
        await rm(join(this.metaPath, 'generations'), { recursive: true, force: true });
    } catch (closeError) {
      this.#logger.error('cannot let go of the database', { error: messageOf(closeError) });
    }
  }

  #fileChanged(event: string, path: string): void {
    if (event === 'rename') this.#identityDoubtful = true;
    const lookInMs = this.#pace.event(!path.endsWith('-wal'), performance.now());
    this.#timer.wakeIn(this.#session ? lookInMs : this.#problem.event());
  }
}
