/** The replication of one generation into one replica, from learning where it stands to the end of the generation. */

import { linkSignals, throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError, hasCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { formatIndex } from '../format/names.ts';
import { type Position, formatPosition } from '../format/position.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { SnapshotInfo } from './catalog.ts';
import { EncryptionMemory } from './encryption-record.ts';
import { warnOfFuture } from './future-commits.ts';
import { warnOfOlderHistory } from './older-history.ts';
import { type ReplicaContext, persist } from './replica-context.ts';
import { sayingOnce } from './replica-failure.ts';
import { keepRetention, lookAtAll } from './replica-housekeeping.ts';
import { NOTHING_STORED, learnPosition } from './replica-position.ts';
import { ReplicaOrigin } from './replica-origin.ts';
import { type Finding, type PresenceTarget, describeFinding, lookForNewest } from './replica-presence.ts';
import { ReplicaProgress } from './replica-progress.ts';
import { type VerificationTarget, keepVerifying } from './replica-verification.ts';
import { Hurry, pause } from './replica-wait.ts';
import { removeSpool, renewalDueAtMs, snapshotAddsTo, snapshotDueAtMs, takeSnapshot } from './snapshot.ts';
import { StoredObjects } from './stored-objects.ts';
import { UploadRecord } from './upload-record.ts';

/** How often to look whether a generation that was given up has been replaced. */
const RESTART_POLL_MS = 1000;

/** Whoever deletes a replica may not be done when the next generation begins: for so long all that is stored is looked at. */
const AFTER_LOSS_MS = 60_000;

/** For how long a store may list less than it holds; then a generation begins that needs none of its lists. */
const LIST_PATIENCE_MS = 60_000;

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
  readonly #origin: ReplicaOrigin;
  #progress: ReplicaProgress | undefined;
  #presence: PresenceTarget | undefined;
  /** Something was found to be wrong with what the replica holds: another generation begins. */
  #given = false;
  #target: VerificationTarget | undefined;
  /** Since when something committed has been waiting, in epoch milliseconds. */
  #behindSinceMs: number | undefined;
  /** The next pass does not wait for its interval. */
  readonly #uploadHurry = new Hurry();
  /** When the newest snapshot was stored, if it was here, by our own clock: a store's may be hours behind. */
  #takenAtMs: number | undefined;
  /** By performance.now(). */
  #lookedAtMs = -Infinity;
  /** Somebody asked for a snapshot: it is due when it would hold something new. */
  readonly #snapshotHurry = new Hurry();

  constructor(context: ReplicaContext) {
    this.#context = context;
    this.#behindSinceMs = context.now();
    this.generation = context.source.position().generation;
    this.#origin = new ReplicaOrigin(context, this.generation, this.#controller.signal);
  }

  /** Ends run() at once. */
  abort(): void {
    this.#controller.abort();
  }

  /** The next upload does not wait for its interval. */
  hurry(): void {
    this.#uploadHurry.want();
  }

  /** Has the next snapshot taken as soon as it would hold something new, whatever the interval. */
  wantSnapshot(): void {
    this.#snapshotHurry.want();
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
    return this.restorable && this.#progress?.isComplete() === true;
  }

  /** Whether it is known what the replica holds. */
  get learnt(): boolean {
    return this.#progress !== undefined;
  }

  /** Whether there is a snapshot to restore from, as far as we know. */
  get restorable(): boolean {
    return this.#snapshot !== undefined && !this.#given;
  }

  get #snapshot(): SnapshotInfo | undefined {
    return this.#presence?.held.snapshot;
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
    if (!this.#progress || this.over || this.#given) return 'it is not known what is stored';
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
    const learnt = await this.#learn(store);
    if (!learnt) return;
    const { progress, presence } = learnt;
    this.#progress = progress;
    const snapshotKey = (): string | undefined => this.#snapshot?.key;
    this.#target = { store, progress, snapshotKey, hurry: () => this.hurry(), signal };
    if (progress.isComplete()) this.#behindSinceMs = undefined;
    // Somebody may wait for what is stored already.
    context.bell.ring();
    const activities = [
      this.#upload(store, progress),
      this.#keepSnapshots(store, progress),
      this.#keepLooking(store),
      keepRetention(context, { ...presence, onFinding: (finding) => void this.#found(finding) }),
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
  async #learn(
    store: ObjectStore,
  ): Promise<{ progress: ReplicaProgress; presence: PresenceTarget } | undefined> {
    const { source, logger, stats, schedule, options, now } = this.#context;
    const { signal } = this.#controller;
    const memory = new EncryptionMemory(this.#context, this.generation);
    const untouched = schedule.begun !== this.generation && source.isNewGeneration(this.generation);
    // A local store does nothing for a process that is gone, and lists what it holds.
    const { local } = store.capabilities;
    const uploads = local ? undefined : new UploadRecord(source.metaPath, options.name, logger);
    const begunAtMs = performance.now();
    const start = await persist(this.#context, 'monitor', signal, async () => {
      const record = await memory.recall();
      const { recipients } = memory;
      const hopeless = performance.now() - begunAtMs > LIST_PATIENCE_MS;
      const sent = await uploads?.recall();
      const learning = {
        store,
        source,
        generation: this.generation,
        recipients,
        record,
        sent,
        hopeless,
        nowMs: now(),
        signal,
      };
      const point = untouched ? NOTHING_STORED : await learnPosition(learning);
      if (point.broken === undefined) await memory.begin(record);
      return point;
    });
    const { oldestSnapshotAtMs: oldestMs, newestObjectAtMs: newestMs } = start;
    const broken = start.broken ?? (await this.#origin.begin(store, { oldestMs, newestMs }));
    if (broken !== undefined) {
      schedule.lostAtMs = performance.now();
      await this.#restart(broken);
      return undefined;
    }
    if (!start.stored && !start.snapshot && source.isFirstGeneration()) {
      void warnOfOlderHistory(this.#context, store, signal);
    }
    schedule.begun = this.generation;
    warnOfFuture(this.#context, this.generation, start.end?.timeMs);
    if (!untouched) stats.lastLookAtMs = now();
    const held = new StoredObjects(this.generation, start.segments, start.end);
    const presence = { store, source, held, signal };
    this.#presence = presence;
    this.#setSnapshot(start.snapshot);
    if (start.snapshot) stats.loss = undefined;
    stats.oldestSnapshotAtMs ??= start.oldestSnapshotAtMs;
    const onForeign = (finding: Finding): string => this.#found(finding);
    const origin = this.#origin;
    const context = { store, source, logger, stats, memory, held, uploads, onForeign, origin };
    return { progress: new ReplicaProgress(context, this.generation, start), presence };
  }

  #setSnapshot(snapshot: SnapshotInfo | undefined): void {
    const { stats } = this.#context;
    this.#presence?.held.setSnapshot(snapshot);
    stats.snapshot = snapshot && { ...snapshot, createdAtMs: snapshot.createdAt.getTime() };
    stats.oldestSnapshotAtMs ??= stats.snapshot?.createdAtMs;
  }

  /**
   * Looks whether the newest of what was stored is there; rejects with 'aborted' when `signal` fires, and not before: a store
   * that does not answer is asked again.
   * @returns false when it is not: another generation begins
   */
  async stillThere(signal: AbortSignal): Promise<boolean> {
    const { signal: both, unlink } = linkSignals(signal, this.#controller.signal);
    try {
      return await persist(this.#context, 'presence', both, () => this.#look(both));
    } catch (error) {
      // Who asked has given up: a store that could not be asked may be well long before it is asked again.
      this.#context.failures.forget('presence');
      throwIfAborted(signal);
      if (hasCode(error, 'aborted')) return false;
      throw error;
    } finally {
      unlink();
    }
  }

  /** Whether the newest of what was stored is there, soon after a loss all of it. What is wrong has its consequences. */
  async #look(signal: AbortSignal): Promise<boolean> {
    if (!this.#presence || !this.restorable) return false;
    const findings: (Finding | undefined)[] = [];
    const target = { ...this.#presence, signal, onFinding: (finding: Finding) => findings.push(finding) };
    if (this.#isAfterLoss) await lookAtAll(this.#context, target);
    else findings.push(await lookForNewest(target));
    this.#context.stats.lastLookAtMs = this.#context.now();
    this.#lookedAtMs = performance.now();
    const [finding] = findings;
    if (finding) this.#found(finding);
    return !finding && this.restorable;
  }

  get #isAfterLoss(): boolean {
    return performance.now() - this.#context.schedule.lostAtMs < AFTER_LOSS_MS;
  }

  /**
   * At a local store, where it costs next to nothing, also while nothing is stored; elsewhere once after a loss, and retention
   * lists what is there.
   */
  async #keepLooking(store: ObjectStore): Promise<void> {
    const { lookIntervalMs, stopping, failures } = this.#context;
    const { local } = store.capabilities;
    const { signal } = this.#controller;
    const intervalMs = local ? lookIntervalMs : AFTER_LOSS_MS / 2;
    for (let waitMs = intervalMs; (local || this.#isAfterLoss) && !stopping.aborted;) {
      await pause(waitMs, signal, stopping);
      // Each upload looks as well, and the next look comes an interval after that.
      const restMs = this.#lookedAtMs + intervalMs - performance.now();
      waitMs = restMs > 0 ? restMs : intervalMs;
      if (!this.restorable) continue;
      try {
        if (restMs <= 0) await this.#look(signal);
        failures.recovered('presence');
      } catch (error) {
        throwIfAborted(signal);
        // Asked again at the next look, without a longer delay: it costs nothing, and health waits for it.
        failures.failed('presence', error);
      }
    }
    // Nobody looks any more, so nobody would find that it answers again.
    if (!local) failures.forget('presence');
  }

  /**
   * Something is wrong with what the replica holds: a generation of our own begins, and until it can be restored the replica
   * is not well.
   * @returns why
   */
  #found(finding: Finding): string {
    const { source, stats, logger, now, bell, schedule } = this.#context;
    const { kind, key } = finding;
    const isOthers = kind === 'foreign' || kind === 'twin';
    const reason = describeFinding(finding);
    if (this.#given || this.over) return reason;
    this.#given = true;
    stats.loss = { reason, sinceMs: stats.loss?.sinceMs ?? now() };
    if (kind === 'lost') schedule.lostAtMs = performance.now();
    if (isOthers) {
      stats.otherWriter = { key, atMs: now() };
      logger.error('two processes write one replica: this one begins a generation of its own', {
        object: key,
        remedy: 'let only one process replicate into it, or give each its own path',
      });
    }
    source.restartGeneration(reason, isOthers);
    bell.ring();
    return reason;
  }

  /** Gives the generation up and waits for its end. */
  async #restart(reason: string): Promise<void> {
    const { source, stopping } = this.#context;
    if (!this.over && !this.#given) source.restartGeneration(reason);
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
      if (waitMs > 0) await this.#uploadHurry.pause(waitMs, signal, stopping);
      this.#uploadHurry.done();
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

  /** One upload of all that is committed; gives the error that no retry can mend. */
  async #pass(store: ObjectStore, progress: ReplicaProgress): Promise<LitestreamError | undefined> {
    try {
      // What takes uploads need not hold what was stored: a folder that was deleted, a mount that vanished.
      if (store.capabilities.local && this.#snapshot && !(await this.#look(this.#controller.signal))) {
        return new LitestreamError('gap', this.#context.stats.loss?.reason ?? 'replica holds something else');
      }
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

  async #keepSnapshots(store: ObjectStore, progress: ReplicaProgress): Promise<void> {
    const { signal } = this.#controller;
    const { stopping, bell, schedule, snapshots } = this.#context;
    for (;;) {
      if (this.#snapshot) {
        await this.#snapshotDue(this.#snapshot);
        if (stopping.aborted) return;
      } else await this.#origin.settled();
      const logger = sayingOnce(this.#context.logger);
      const taken = await persist(this.#context, 'snapshotter', signal, () =>
        this.#takeSnapshot(store, progress, logger),
      );
      if (!taken) {
        await pause(RESTART_POLL_MS, signal, stopping);
        continue;
      }
      this.#setSnapshot(taken);
      this.#takenAtMs = this.#context.now();
      if (this.restorable) this.#context.stats.loss = undefined;
      this.#snapshotHurry.done();
      this.#context.stats.lastUploadAtMs = Date.now();
      schedule.retentionSettled = false;
      bell.ring();
      await snapshots.wrote(taken);
    }
  }

  /**
   * Resolves when another snapshot is due and would hold something new, or when a stop comes. One that would hold nothing
   * new is of the same index and would replace the old one, from which earlier moments are restored: when the old one is
   * too old another generation begins.
   */
  async #snapshotDue(newest: SnapshotInfo): Promise<void> {
    const { source, options, now, stopping, bell } = this.#context;
    const startedMs = performance.now();
    while (!stopping.aborted) {
      // Of a clock that was ahead, a snapshot is none the younger.
      const intervalMs = snapshotDueAtMs(newest, options) - newest.createdAt.getTime();
      const leftMs = intervalMs - (performance.now() - startedMs);
      const dueInMs = Math.min(snapshotDueAtMs(newest, options) - now(), leftMs);
      const waitMs = this.#snapshotHurry.wanted ? 0 : dueInMs;
      const renewalMs = renewalDueAtMs(this.#takenAtMs ?? newest.createdAt.getTime(), options) - now();
      if (waitMs > 0) await this.#snapshotHurry.pause(waitMs, this.#controller.signal, stopping);
      else if (snapshotAddsTo(newest, source.position())) return;
      else if (renewalMs > 0) await bell.waitWithin(renewalMs, this.#controller.signal, stopping);
      else await this.#restart('newest snapshot is older than the retention, and the database is idle');
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
        origin: this.#origin,
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
