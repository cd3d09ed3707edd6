/** The replication of one generation into one replica, from learning where it stands to the end of the generation. */

import { linkSignals } from '../base/concurrency.ts';
import { LitestreamError, hasCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { formatIndex } from '../format/names.ts';
import { type Position, formatPosition } from '../format/position.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { SnapshotInfo } from './catalog.ts';
import { EncryptionMemory } from './encryption-record.ts';
import { warnOfOlderHistory } from './older-history.ts';
import { type ReplicaContext, persist } from './replica-context.ts';
import { sayingOnce } from './replica-failure.ts';
import { keepRetention } from './replica-housekeeping.ts';
import { NOTHING_STORED, learnPosition } from './replica-position.ts';
import { ReplicaProgress } from './replica-progress.ts';
import { type VerificationTarget, keepVerifying } from './replica-verification.ts';
import { pause } from './replica-wait.ts';
import { removeSpool, snapshotAddsTo, snapshotDueAtMs, takeSnapshot } from './snapshot.ts';

/** How often to look whether a generation that was given up has been replaced. */
const RESTART_POLL_MS = 1000;

/** How far a replica is behind its database. */
export interface ReplicaLag {
  /** Committed WAL bytes that are not stored; 0 before that is known. */
  readonly bytes: number;
  /** For how long something committed has been waiting, in milliseconds. */
  readonly ms: number;
}

export class GenerationReplication {
  readonly generation: string;
  readonly #context: ReplicaContext;
  readonly #controller = new AbortController();
  #progress: ReplicaProgress | undefined;
  #target: VerificationTarget | undefined;
  #snapshot: SnapshotInfo | undefined;
  /** Since when something committed has been waiting, in epoch milliseconds. */
  #behindSinceMs: number | undefined;
  /** The next pass does not wait for its interval. */
  #hurried = false;
  /** Cuts such a wait short. */
  #hurrying = new AbortController();
  /** Somebody asked for a snapshot: it is due when it would hold something new. */
  #snapshotWanted = false;
  /** Cuts the wait for the next snapshot short. */
  #wanting = new AbortController();

  constructor(context: ReplicaContext) {
    this.#context = context;
    this.#behindSinceMs = context.now();
    this.generation = context.source.position().generation;
  }

  /** Ends run() at once. */
  abort(): void {
    this.#controller.abort();
  }

  /** The next upload does not wait for its interval. */
  hurry(): void {
    this.#hurried = true;
    this.#hurrying.abort();
  }

  /** Has the next snapshot taken as soon as it would hold something new, whatever the interval. */
  wantSnapshot(): void {
    this.#snapshotWanted = true;
    this.#wanting.abort();
  }

  /** To be called when the source's position has advanced. */
  advanced(): void {
    this.#behindSinceMs ??= this.#context.now();
    if (this.over) this.abort();
  }

  /** Whether the source has left the generation. */
  get over(): boolean {
    return this.#context.source.position().generation !== this.generation;
  }

  /** Whether everything committed can be restored from the replica. */
  get complete(): boolean {
    return this.#snapshot !== undefined && this.#progress?.isComplete() === true;
  }

  /** Whether it is known what the replica holds. */
  get learnt(): boolean {
    return this.#progress !== undefined;
  }

  /** Whether there is a snapshot to restore from, as far as we know. */
  get restorable(): boolean {
    return this.#snapshot !== undefined;
  }

  /** What can be verified; undefined while there is no snapshot to restore from. */
  get verifiable(): VerificationTarget | undefined {
    return this.restorable ? this.#target : undefined;
  }

  /** End of what is stored; undefined while nothing is. */
  get stored(): Position | undefined {
    return this.#progress?.stored;
  }

  /** Whether everything up to `position`, of this or an earlier generation, can be restored from the replica. */
  holds(position: Position): boolean {
    if (!this.restorable) return false;
    if (position.generation === this.generation) return this.#progress?.holds(position) === true;
    // A snapshot has everything from before its generation.
    return !this.over;
  }

  /** Undefined when everything committed can be restored from the replica. */
  get lag(): ReplicaLag | undefined {
    if (this.complete) return undefined;
    const now = this.#context.now();
    return { bytes: this.#progress?.backlogBytes ?? 0, ms: now - (this.#behindSinceMs ?? now) };
  }

  /** In words what is not stored, undefined when everything is. */
  get unstored(): string | undefined {
    if (!this.#progress || this.over) return 'it is not known what is stored';
    if (!this.#snapshot) return `no snapshot of generation ${this.generation} is stored`;
    if (this.complete || !this.#progress.stored) return undefined;
    const from = formatPosition(this.#progress.stored);
    const to = formatPosition(this.#context.source.position());
    return `wal from ${from} to ${to} (${this.#progress.backlogBytes} bytes) is not stored`;
  }

  /**
   * Replicates until the generation ends or abort() is called (rejects with 'aborted'), or until everything is
   * stored after a stop (resolves).
   */
  async run(): Promise<void> {
    const { signal } = this.#controller;
    const context = this.#context;
    await persist(context, 'snapshotter', signal, () => removeSpool(context.source, context.options.name));
    const store = await persist(context, 'monitor', signal, () => context.store());
    const progress = await this.#learn(store);
    if (!progress) return;
    this.#progress = progress;
    this.#target = { store, progress, snapshotKey: () => this.#snapshot?.key, signal };
    if (progress.isComplete()) this.#behindSinceMs = undefined;
    // Somebody may wait for what is stored already.
    context.bell.ring();
    const activities = [
      this.#upload(store, progress),
      this.#keepSnapshots(store, progress),
      keepRetention(context, {
        store,
        generation: this.generation,
        restorable: () => this.#snapshot !== undefined,
        signal,
      }),
      keepVerifying(context, this.#target),
    ];
    for (const activity of activities) activity.catch(() => this.abort());
    const results = await Promise.allSettled(activities);
    const failed = results
      .filter((result) => result.status === 'rejected')
      .map(({ reason }) => reason as unknown);
    const cause = failed.find((error) => !hasCode(error, 'aborted')) ?? failed[0];
    if (cause !== undefined) throw cause as Error;
  }

  /** Undefined when the generation cannot be continued and a stop came before the next one. */
  async #learn(store: ObjectStore): Promise<ReplicaProgress | undefined> {
    const { source, logger, stats, schedule } = this.#context;
    const { signal } = this.#controller;
    const memory = new EncryptionMemory(this.#context, this.generation);
    const untouched = schedule.begun !== this.generation && source.isNewGeneration(this.generation);
    const start = await persist(this.#context, 'monitor', signal, async () => {
      const record = await memory.recall();
      const { recipients } = memory;
      const learning = { store, source, generation: this.generation, recipients, record, signal };
      const point = untouched ? NOTHING_STORED : await learnPosition(learning);
      if (point.broken === undefined) await memory.begin(record);
      return point;
    });
    if (start.broken !== undefined) {
      await this.#restart(start.broken);
      return undefined;
    }
    if (!start.stored && !start.snapshot && source.isFirstGeneration()) {
      void warnOfOlderHistory(this.#context, store, signal);
    }
    schedule.begun = this.generation;
    this.#setSnapshot(start.snapshot);
    stats.oldestSnapshotAtMs ??= start.oldestSnapshotAtMs;
    const context = { store, source, logger, stats, memory };
    return new ReplicaProgress(context, this.generation, start.stored, start.end);
  }

  #setSnapshot(snapshot: SnapshotInfo | undefined): void {
    const { stats } = this.#context;
    this.#snapshot = snapshot;
    stats.snapshot = snapshot && { ...snapshot, createdAtMs: snapshot.createdAt.getTime() };
    stats.oldestSnapshotAtMs ??= stats.snapshot?.createdAtMs;
  }

  /** Gives the generation up and waits for its end. */
  async #restart(reason: string): Promise<void> {
    const { source, stopping } = this.#context;
    if (!this.over) source.restartGeneration(reason);
    await this.#ended(stopping);
  }

  /** Rejects with 'aborted' when the generation is over; resolves when a stop comes first. */
  async #ended(stopping: AbortSignal): Promise<void> {
    while (!stopping.aborted) {
      if (this.over) this.abort();
      await pause(RESTART_POLL_MS, this.#controller.signal, stopping);
    }
  }

  /**
   * An index that has grown beyond what names can hold stays incomplete for good. Once the WAL is past it, a new
   * generation mends the replica; before that a new one would begin with the same WAL.
   */
  async #outgrown(progress: ReplicaProgress): Promise<void> {
    const { source, stopping } = this.#context;
    const index = progress.stored?.index ?? 0;
    while (!this.over && source.position().index <= index) {
      if (stopping.aborted) return;
      await pause(RESTART_POLL_MS, this.#controller.signal, stopping);
    }
    return this.#restart(`wal index ${formatIndex(index)} has outgrown the format of replicas`);
  }

  /** The first commit after a quiet time goes out at once, then there is at most one pass per sync interval. */
  async #upload(store: ObjectStore, progress: ReplicaProgress): Promise<void> {
    const { bell, stopping, options, now } = this.#context;
    const { signal } = this.#controller;
    let passedAtMs = -Infinity;
    for (;;) {
      if (this.over) this.abort();
      if (progress.isAhead()) return this.#restart('replica is ahead of the shadow wal');
      if (stopping.aborted && this.complete) return;
      if (!progress.stored || progress.isComplete()) {
        await bell.wait(signal);
        continue;
      }
      const waitMs = passedAtMs + options.syncIntervalMs - performance.now();
      if (waitMs > 0) await this.#interval(waitMs);
      this.#hurried = false;
      passedAtMs = performance.now();
      const startedAtMs = now();
      const refusal = await persist(this.#context, 'monitor', signal, () => this.#pass(store, progress));
      if (refusal === undefined) {
        // What came during the pass has been waiting for as long as the pass took, at most.
        this.#behindSinceMs = progress.isComplete() ? undefined : startedAtMs;
        bell.ring();
        continue;
      }
      if (refusal.code === 'gap') return this.#restart(refusal.message);
      this.#context.failures.failed('monitor', refusal);
      return this.#outgrown(progress);
    }
  }

  /** Resolves after `waitMs`, at a stop, or when somebody is in a hurry. */
  async #interval(waitMs: number): Promise<void> {
    if (this.#hurried) return;
    this.#hurrying = new AbortController();
    const { signal: cut, unlink } = linkSignals(this.#context.stopping, this.#hurrying.signal);
    try {
      await pause(waitMs, this.#controller.signal, cut);
    } finally {
      unlink();
    }
  }

  /** One upload of all that is committed; gives the error that no retry can mend. */
  async #pass(store: ObjectStore, progress: ReplicaProgress): Promise<LitestreamError | undefined> {
    try {
      const lost = await this.#lostSnapshot(store);
      if (lost !== undefined) return new LitestreamError('gap', `replica no longer holds ${lost}`);
      await this.#context.source.freshen();
      await progress.upload(this.#controller.signal);
      return undefined;
    } catch (error) {
      if (this.over) this.abort();
      progress.failed(error);
      if (hasCode(error, 'gap', 'unsupported')) return error;
      throw error;
    }
  }

  /**
   * The key of the newest snapshot if it is gone: a folder that was deleted, or a mount that vanished, takes uploads as
   * if nothing had happened, and nothing can be restored from them. Where looking costs a request, retention looks.
   */
  async #lostSnapshot(store: ObjectStore): Promise<string | undefined> {
    const key = this.#snapshot?.key;
    if (key === undefined || !store.capabilities.local) return undefined;
    for await (const object of store.list(key, { signal: this.#controller.signal })) {
      if (object.key === key) return undefined;
    }
    return key;
  }

  async #keepSnapshots(store: ObjectStore, progress: ReplicaProgress): Promise<void> {
    const { signal } = this.#controller;
    const { stopping, bell, schedule } = this.#context;
    for (;;) {
      if (this.#snapshot) {
        await this.#snapshotDue(this.#snapshot);
        if (stopping.aborted) return;
      }
      const logger = sayingOnce(this.#context.logger);
      const taken = await persist(this.#context, 'snapshotter', signal, () =>
        this.#takeSnapshot(store, progress, logger),
      );
      if (!taken) {
        await pause(RESTART_POLL_MS, signal, stopping);
        continue;
      }
      this.#setSnapshot(taken);
      this.#snapshotWanted = false;
      this.#context.stats.lastUploadAtMs = Date.now();
      schedule.retentionSettled = false;
      bell.ring();
    }
  }

  /** Resolves when another snapshot is due and would hold something new, or when a stop comes. */
  async #snapshotDue(newest: SnapshotInfo): Promise<void> {
    const { source, options, now, stopping, bell } = this.#context;
    const { signal } = this.#controller;
    while (!stopping.aborted) {
      const waitMs = this.#snapshotWanted ? 0 : snapshotDueAtMs(newest, options) - now();
      if (waitMs > 0) await this.#pauseUnlessWanted(waitMs);
      else if (snapshotAddsTo(newest, source.position())) return;
      else await bell.wait(signal);
    }
  }

  async #pauseUnlessWanted(waitMs: number): Promise<void> {
    this.#wanting = new AbortController();
    const { signal: cut, unlink } = linkSignals(this.#context.stopping, this.#wanting.signal);
    try {
      await pause(waitMs, this.#controller.signal, cut);
    } finally {
      unlink();
    }
  }

  /** A stop ends any snapshot but the generation's first, without which nothing can be restored. */
  async #takeSnapshot(
    store: ObjectStore,
    progress: ReplicaProgress,
    logger: Logger,
  ): Promise<SnapshotInfo | undefined> {
    const { source, options, bell, stopping } = this.#context;
    const newest = this.#snapshot;
    const life = this.#controller.signal;
    const { signal, unlink } = newest ? linkSignals(life, stopping) : linkSignals(life);
    try {
      return await takeSnapshot({
        name: options.name,
        store,
        source,
        logger,
        signal,
        accept: (position) => position.generation === this.generation && snapshotAddsTo(newest, position),
        segmentsStored: (position, { held, signal }) => {
          progress.begin(position.index);
          bell.ring();
          return progress.storedThrough(position, { signal, failFast: held });
        },
      });
    } catch (error) {
      if (this.over) this.abort();
      if (newest && stopping.aborted) return undefined;
      throw error;
    } finally {
      unlink();
    }
  }
}
