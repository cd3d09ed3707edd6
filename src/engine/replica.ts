/**
 * One replica of one database: follows the committed chain into an object store, in its own time. Its failures stay
 * its own: they are counted, logged and retried, and hold back neither the database nor other replicas.
 */

import { Mutex, backoffDelayMs, throwIfAborted } from '../base/concurrency.ts';
import { hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Position } from '../format/position.ts';
import { withCounts } from '../storage/counting-store.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import type { ReplicaOptions } from './options.ts';
import { RETRY, type ReplicaContext } from './replica-context.ts';
import { type StoredEnd, findStoredEnd } from './read-only-continue.ts';
import { ReplicaFailures } from './replica-failure.ts';
import { GenerationReplication, type ReplicaLag } from './replica-generation.ts';
import { verifyTarget } from './replica-verification.ts';
import { Bell, pause } from './replica-wait.ts';
import type { SegmentSource } from './segment-source.ts';
import { SnapshotRecord } from './snapshot-record.ts';
import { type ReplicaStats, type SnapshotStats, newReplicaStats } from './stats.ts';
import type { ReplicaFacts } from './status.ts';
import { readVerification } from './verification-record.ts';
import type { VerificationDepth, VerificationResult } from './verification-result.ts';

/** How long calls that were aborted may take to end before a stop no longer waits for them. */
const ABORT_GRACE_MS = 500;
/** A monitor-interval of a few nanoseconds, which `5` means, must not keep a disk busy. */
const MIN_LOOK_INTERVAL_MS = 10;

export interface ReplicaDependencies {
  readonly options: ReplicaOptions;
  /** Has a position already. Its listeners are also called when the generation changes. */
  readonly source: SegmentSource;
  readonly openStore: (config: StoreConfig) => Promise<ObjectStore>;
  /** Without attributes of the database and the replica: they are added here. */
  readonly logger: Logger;
  /** How often to look whether a local store still holds what was stored, in ms; a second by default. */
  readonly lookIntervalMs?: number;
  /** The time in epoch milliseconds; the system's by default. */
  readonly clock?: () => number;
}

export class Replica {
  readonly stats: ReplicaStats;
  readonly #context: ReplicaContext;
  /** Fires first: upload what is committed, begin nothing else. */
  readonly #stopping = new AbortController();
  /** Fires last: whatever is under way ends. */
  readonly #aborting = new AbortController();
  #store: Promise<ObjectStore> | undefined;
  #running: Promise<void> | undefined;
  #unsubscribe: (() => void) | undefined;
  #current: GenerationReplication | undefined;
  /** As long as nothing can be restored. */
  #unready: { sinceMs: number; movedAtMs: number; activity: number } | undefined;
  /** Where the store is, without secrets; undefined before it was opened. */
  #location: string | undefined;

  constructor(dependencies: ReplicaDependencies) {
    const { options, source, openStore, logger, lookIntervalMs = 1000, clock = Date.now } = dependencies;
    this.stats = newReplicaStats(options.name, options.store.type);
    const ownLogger = logger.with({ db: source.path, replica: options.name });
    this.#context = {
      options,
      source,
      logger: ownLogger,
      plainLogger: logger,
      lookIntervalMs: Math.max(MIN_LOOK_INTERVAL_MS, lookIntervalMs),
      now: clock,
      stats: this.stats,
      failures: new ReplicaFailures(ownLogger, clock, this.stats),
      stopping: this.#stopping.signal,
      bell: new Bell(),
      snapshots: new SnapshotRecord({
        get metaPath(): string {
          return source.metaPath;
        },
        name: options.name,
        isEncrypted: options.store.encryption !== undefined,
        logger: ownLogger,
      }),
      verifying: new Mutex(),
      store: () => this.#open(openStore),
      schedule: {
        retentionCheckedAtMs: clock(),
        retentionSettled: false,
        validatedAtMs: clock(),
        begun: undefined,
        failedCount: 0,
        failedAtMs: undefined,
        verifyNext: false,
        superseded: false,
        lostAtMs: -Infinity,
        futureTold: false,
      },
    };
  }

  /** Begins to replicate, in the background. Call it once; after a stop it does nothing. */
  start(): void {
    if (this.#stopping.signal.aborted) return;
    this.#unsubscribe = this.#context.source.onAdvance(() => this.#advanced());
    this.#running = this.#run();
    void this.#readVerification();
  }

  /**
   * Uploads what is committed, then ends; when `signal` fires it ends at once. Never rejects.
   * @returns `unstored`: in words what the store does not hold; undefined when it holds everything
   */
  async stop(signal: AbortSignal): Promise<{ unstored: string | undefined }> {
    this.#stopping.abort();
    this.#context.bell.ring();
    let timer: NodeJS.Timeout | undefined;
    const givenUp = new Promise<void>((resolve) => {
      const abort = (): void => {
        this.#aborting.abort();
        this.#current?.abort();
        timer = setTimeout(resolve, ABORT_GRACE_MS);
      };
      if (signal.aborted) abort();
      else signal.addEventListener('abort', abort, { once: true });
    });
    await Promise.race([this.#end(), givenUp]);
    clearTimeout(timer);
    return { unstored: this.#current && this.unstored };
  }

  /** In words what the store does not hold, and why; undefined when it holds everything. */
  get unstored(): string | undefined {
    const unstored = this.#current ? this.#current.unstored : 'replication has not begun';
    const { lastError } = this.stats;
    return unstored === undefined || lastError === undefined ? unstored : `${unstored}: ${lastError}`;
  }

  /** How far the store is behind the database; undefined when everything committed can be restored from it. */
  lagging(): ReplicaLag | undefined {
    return this.#current?.lag;
  }

  /**
   * Uploads without regard to the sync interval. Resolves when everything up to `position` can be restored from the
   * store, which is asked whether it still has the newest of it; rejects with 'aborted' when `signal` fires, and not
   * before: what fails is tried again.
   */
  async storedThrough(position: Position, signal: AbortSignal): Promise<void> {
    for (;;) {
      const current = this.#current;
      if (current?.holds(position) !== true) {
        current?.hurry();
        await this.#context.bell.wait(signal);
      } else if (await current.stillThere(signal)) {
        return;
      }
    }
  }

  /**
   * Has a snapshot taken without regard to the interval. Resolves when it is stored; rejects with 'aborted' when
   * `signal` fires: it is taken later all the same, when it would hold something new.
   */
  async snapshotSoon(signal: AbortSignal): Promise<SnapshotStats> {
    const before = this.stats.snapshot;
    for (;;) {
      const { snapshot } = this.stats;
      if (snapshot !== undefined && snapshot !== before) return snapshot;
      this.#current?.wantSnapshot();
      await this.#context.bell.wait(signal);
    }
  }

  /** Where the generation that the store got last ends: see findStoredEnd(). @throws LitestreamError */
  async storedEnd(pageSizeBytes: number, signal: AbortSignal): Promise<StoredEnd | undefined> {
    return findStoredEnd(await this.#context.store(), pageSizeBytes, signal);
  }

  /**
   * Verifies what is stored, when there is a snapshot to restore from and nothing else verifies it; again when a new
   * generation begins before anything was found.
   * @throws LitestreamError 'aborted' when `signal` fires before it is begun, or replication ends
   */
  async verify(depth: VerificationDepth, signal: AbortSignal): Promise<VerificationResult> {
    const stopping = this.#stopping.signal;
    for (;;) {
      const target = this.#current?.verifiable;
      if (!target) {
        await this.#context.bell.wait(AbortSignal.any([signal, stopping]));
        continue;
      }
      const all = AbortSignal.any([signal, stopping, target.signal]);
      const result = await verifyTarget(this.#context, target, { depth, signal: all });
      const isOver = target.signal.aborted && !signal.aborted && !stopping.aborted;
      if (!isOver || result.result === 'failed') return result;
    }
  }

  /** What its status is derived from. */
  facts(): ReplicaFacts {
    const current = this.#current;
    return {
      stats: this.stats,
      location: this.#location,
      syncIntervalMs: this.#context.options.syncIntervalMs,
      unready: this.#watchStart(current?.restorable === true),
      replication: current && {
        learnt: current.learnt,
        restorable: current.restorable,
        position: current.stored,
        lag: current.lag,
      },
    };
  }

  /** Since when nothing can be restored, and whether something has moved since it was asked the last time. */
  #watchStart(restorable: boolean): ReplicaFacts['unready'] {
    if (restorable) return (this.#unready = undefined);
    const { activity } = this.stats.requests;
    const nowMs = this.#context.now();
    const { sinceMs = nowMs } = this.#unready ?? {};
    if (this.#unready?.activity !== activity) this.#unready = { sinceMs, movedAtMs: nowMs, activity };
    return this.#unready;
  }

  async #end(): Promise<void> {
    await this.#running;
    this.#unsubscribe?.();
    try {
      await (await this.#store)?.close();
    } catch (error) {
      this.#context.logger.warn('cannot close the store', { error: messageOf(error) });
    }
  }

  #open(openStore: (config: StoreConfig) => Promise<ObjectStore>): Promise<ObjectStore> {
    const open = async (): Promise<ObjectStore> => {
      const store = withCounts(await openStore(this.#context.options.store), this.stats.requests);
      this.#location = store.location;
      return store;
    };
    this.#store ??= open().catch((error: unknown) => {
      this.#store = undefined;
      throw error;
    });
    return this.#store;
  }

  /** Never rejects. */
  async #readVerification(): Promise<void> {
    const { source, options, logger } = this.#context;
    try {
      const verification = await readVerification(source.metaPath, options.name);
      if (this.stats.verification || !verification) return;
      this.stats.verification = verification;
      // It stays so until it is found to be well.
      if (verification.result === 'failed') this.#context.failures.failed('validation', verification.message);
    } catch (error) {
      logger.warn('cannot tell when the replica was verified last', { error: messageOf(error) });
    }
  }

  #advanced(): void {
    this.#current?.advanced();
    this.#context.bell.ring();
  }

  /** Never rejects. */
  async #run(): Promise<void> {
    try {
      await this.#followGenerations(this.#aborting.signal);
    } catch (error) {
      if (!hasCode(error, 'aborted')) this.#context.failures.failed('monitor', error);
    }
  }

  /** One generation after the other, until everything is stored after a stop. Rejects with 'aborted'. */
  async #followGenerations(signal: AbortSignal): Promise<void> {
    for (let attempt = 0; ; attempt++) {
      const current = new GenerationReplication(this.#context);
      this.#current = current;
      try {
        await current.run();
        return;
      } catch (error) {
        throwIfAborted(signal);
        if (current.over) continue;
        this.#context.failures.failed('monitor', error);
      }
      await pause(backoffDelayMs(attempt, RETRY), signal, this.#stopping.signal);
    }
  }
}
