/** One database with its replicas: started, asked, stopped, and put in the place of one that stands still, together. */

import { Mutex, abortedError, isTimeout } from '../base/concurrency.ts';
import { LitestreamError, hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Position } from '../format/position.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import type { DatabaseParts } from './database-parts.ts';
import { Database } from './database.ts';
import { STORED_END_TIMEOUT_MS, type StoredEnd } from './read-only-continue.ts';
import { Replica } from './replica.ts';
import type { DatabaseStats, SnapshotStats } from './stats.ts';
import { type DatabaseStatus, type Lasting, databaseStatus } from './status.ts';
import {
  type VerificationDepth,
  type VerificationResult,
  describeStop,
  inconclusive,
} from './verification-result.ts';

export interface PipelineParts extends DatabaseParts {
  readonly openStore: (config: StoreConfig) => Promise<ObjectStore>;
}

/** Commits that are not in a replica when replication ends. */
export interface UnstoredReplica {
  readonly database: string;
  readonly replica: string;
  /** In words. */
  readonly reason: string;
}

/** What came of the wish for a snapshot. */
export interface SnapshotRequestResult {
  readonly replica: string;
  readonly snapshot: SnapshotStats | undefined;
}

/** Something that should be moving. */
export interface Suspect {
  readonly name: string;
  /** Differ from one time to the next as long as it moves. */
  readonly marks: string;
  /** How often it does something when all is well. */
  readonly intervalMs: number;
  readonly kind: 'follower' | 'replica';
  /** What it means when it does not move. */
  readonly reason: string;
}

export class Pipeline {
  readonly #parts: PipelineParts;
  readonly #logger: Logger;
  #database: Database;
  #replicas: readonly Replica[];
  #stuck: Lasting | undefined;
  readonly #verifying = new Mutex();
  #beginTrying: () => void = () => undefined;
  /** Resolves when start() is called, and then #tried when opening the database was tried once. */
  readonly #begun: Promise<void> = new Promise((resolve) => {
    this.#beginTrying = resolve;
  });
  #tried: Promise<void> = Promise.resolve();
  #stopping = false;
  /** In epoch milliseconds, as far as somebody has asked. */
  #unfollowedSinceMs: number | undefined = Date.now();
  #restarting: Promise<void> = Promise.resolve();

  constructor(parts: PipelineParts) {
    this.#parts = parts;
    this.#logger = parts.logger.with({ db: parts.options.path });
    this.#database = this.#newDatabase();
    this.#replicas = this.#newReplicas();
  }

  get path(): string {
    return this.#database.path;
  }

  get metaPath(): string {
    return this.#database.meta.path;
  }

  #newDatabase(): Database {
    return new Database({ ...this.#parts, findStoredEnds: (pageSize) => this.#storedEnds(pageSize) });
  }

  /** As FindStoredEnds: a replica that cannot be asked in time is as one that holds nothing. */
  async #storedEnds(pageSizeBytes: number): Promise<StoredEnd[]> {
    const signal = AbortSignal.timeout(STORED_END_TIMEOUT_MS);
    const ends = this.#replicas.map(async (replica) => {
      try {
        return await raceAbort(replica.storedEnd(pageSizeBytes, signal), signal);
      } catch (error) {
        const why = { replica: replica.stats.name, error: messageOf(error) };
        this.#logger.warn('cannot tell whether the generation of a replica goes on', why);
        return undefined;
      }
    });
    return (await Promise.all(ends)).filter((end) => end !== undefined);
  }

  #newReplicas(): readonly Replica[] {
    const { options, openStore, logger } = this.#parts;
    const source = this.#database;
    const lookIntervalMs = options.monitorIntervalMs;
    const replicas = options.replicas.map(
      (replica) => new Replica({ options: replica, source, openStore, logger, lookIntervalMs }),
    );
    source.stats.replicas.push(...replicas.map(({ stats }) => stats));
    return replicas;
  }

  /** @throws LitestreamError 'busy' when another process replicates the database */
  async start(): Promise<void> {
    const replicas = this.#replicas;
    const database = this.#database;
    const tried = database.start();
    this.#tried = tried.catch(() => undefined);
    this.#beginTrying();
    await tried;
    void database.opened.then(() => {
      for (const replica of replicas) replica.start();
    });
  }

  /** Stores what is committed, as far as `signal` permits, and closes everything. @returns what is not stored */
  async stop(signal: AbortSignal): Promise<UnstoredReplica[]> {
    this.#stopping = true;
    await this.#restarting;
    const database = this.#database;
    await database.stop();
    const unstored = await Promise.all(
      this.#replicas.map(async (replica) => {
        const { unstored } = await replica.stop(signal);
        const reason = unstored ?? database.broken;
        return reason === undefined ? [] : [{ database: this.path, replica: replica.stats.name, reason }];
      }),
    );
    await database.close();
    return unstored.flat();
  }

  stats(): DatabaseStats {
    return this.#database.refreshStats();
  }

  /** @param nowMs epoch milliseconds */
  status(nowMs: number): DatabaseStatus {
    const replicas = this.#replicas.map((replica) => replica.facts());
    if (this.followed) this.#unfollowedSinceMs = undefined;
    else this.#unfollowedSinceMs ??= nowMs;
    const unfollowedSinceMs = this.#unfollowedSinceMs;
    const facts = { ...this.#database.facts(), stuck: this.#stuck, unfollowedSinceMs, replicas };
    return databaseStatus(facts, nowMs);
  }

  /**
   * Resolves when everything that is committed now can be restored from every replica. What fails is tried again until
   * `signal` fires: then it rejects and says what is not stored, and why.
   * @throws LitestreamError 'timeout' or 'aborted' by the signal, 'busy' when the database is not followed, 'config'
   *   without replicas
   */
  async sync(signal: AbortSignal): Promise<void> {
    if (this.#replicas.length === 0) throw new LitestreamError('config', `${this.path} has no replica`);
    const left = new Set(this.#replicas);
    try {
      // Asked while it is being opened for the first time, it is no answer that it is not open.
      await raceAbort(
        this.#begun.then(() => this.#tried),
        signal,
      );
      const replicas = this.#replicas;
      left.clear();
      for (const replica of replicas) left.add(replica);
      const position: Position = await raceAbort(this.#database.sync(signal), signal);
      const stored = replicas.map(async (replica) => {
        await replica.storedThrough(position, signal);
        left.delete(replica);
      });
      await Promise.all(stored);
    } catch (error) {
      if (!hasCode(error, 'aborted')) throw error;
      const reasons = [...left].map(
        ({ stats, unstored }) => `replica ${stats.name}: ${unstored ?? 'not asked'}`,
      );
      throw new LitestreamError(
        isTimeout(signal) ? 'timeout' : 'aborted',
        `not everything of ${this.path} is stored in time: ${reasons.join('; ')}`,
        { cause: error },
      );
    }
  }

  /**
   * Has every replica take a snapshot now. One that would hold nothing new waits for the next commit behind the WAL's end.
   * @returns for each replica its snapshot, or undefined when it is not taken yet when `signal` fires
   * @throws LitestreamError 'busy' when the database is not followed
   */
  async snapshot(signal: AbortSignal): Promise<readonly SnapshotRequestResult[]> {
    if (!this.#database.followed) {
      throw new LitestreamError('busy', `${this.path} is not followed at present: see its status`);
    }
    this.#database.rotateSoon();
    return Promise.all(
      this.#replicas.map(async (replica) => {
        const { name } = replica.stats;
        try {
          return { replica: name, snapshot: await replica.snapshotSoon(signal) };
        } catch (error) {
          if (!hasCode(error, 'aborted')) throw error;
          return { replica: name, snapshot: undefined };
        }
      }),
    );
  }

  /**
   * Verifies the replicas, one after the other; whoever asks while it is done waits. When `signal` fires the result is
   * inconclusive.
   * @param name of one replica; undefined: all
   * @throws LitestreamError 'not-found' when there is no such replica, 'config' without replicas
   */
  async verify(
    { name, depth }: { readonly name: string | undefined; readonly depth: VerificationDepth },
    signal: AbortSignal,
  ): Promise<readonly VerificationResult[]> {
    const chosen = this.#replicas.filter(({ stats }) => name === undefined || stats.name === name);
    if (chosen.length === 0) {
      if (name === undefined) throw new LitestreamError('config', `${this.path} has no replica`);
      throw new LitestreamError('not-found', `${this.path} has no replica ${name}`);
    }
    const all = async (): Promise<VerificationResult[]> => {
      const results: VerificationResult[] = [];
      for (const replica of chosen) results.push(await this.#verifyReplica(replica, depth, signal));
      return results;
    };
    try {
      return await this.#verifying.run(all, { signal });
    } catch (error) {
      const message = describeStop('waiting for another verification of the database', error, signal);
      return chosen.map(({ stats }) => inconclusive(stats.name, message));
    }
  }

  async #verifyReplica(
    replica: Replica,
    depth: VerificationDepth,
    signal: AbortSignal,
  ): Promise<VerificationResult> {
    const { name } = replica.stats;
    if (!this.#database.followed) {
      const { problem } = this.#database.stats;
      return inconclusive(name, `the database is not followed: ${problem ?? 'it is being opened'}`);
    }
    try {
      return await replica.verify(depth, signal);
    } catch (error) {
      const stage = `waiting until the replica can be restored: ${replica.unstored ?? 'it is verified already'}`;
      return inconclusive(name, describeStop(stage, error, signal));
    }
  }

  /**
   * Lets go of the database, so that another process can replace it, with everything stored as far as `signal` permits. It
   * is taken up again when it has been replaced.
   */
  async release(signal: AbortSignal): Promise<void> {
    try {
      await this.sync(signal);
    } catch (error) {
      this.#logger.warn('letting go of the database with commits that are not stored', {
        error: messageOf(error),
      });
    }
    await this.#database.lend();
  }

  /** What should be moving and has no explanation for not doing so. */
  async suspects(): Promise<Suspect[]> {
    const { options } = this.#parts;
    const suspects: Suspect[] = [];
    const standing = await this.#database.standing();
    if (!standing) return suspects;
    if (standing.behind) {
      suspects.push({
        name: 'follower',
        marks: standing.marks,
        intervalMs: options.monitorIntervalMs,
        kind: 'follower',
        reason: 'the wal has commits that are not copied',
      });
    }
    for (const replica of this.#replicas) {
      const { stats, replication, syncIntervalMs } = replica.facts();
      if (!replication?.lag || stats.failures.length > 0) continue;
      suspects.push({
        name: `replica ${stats.name}`,
        marks: `${stats.walBytes} ${stats.requests.activity}`,
        intervalMs: syncIntervalMs,
        kind: 'replica',
        reason: `replica ${stats.name} does not store what is committed`,
      });
    }
    return suspects;
  }

  /** Why it was found to stand still; undefined when it does not. */
  get stuck(): string | undefined {
    return this.#stuck?.reason;
  }

  get followed(): boolean {
    return this.#database.followed;
  }

  /** It moves again. */
  recovered(): void {
    if (!this.#stuck) return;
    this.#stuck = undefined;
    this.#logger.info('replication moves again');
  }

  /**
   * Lets go of everything and begins anew, for what stands still. Never rejects: what fails is logged and stays the
   * state until another restart succeeds.
   */
  restart(reason: string): Promise<void> {
    this.#stuck = { reason, sinceMs: this.#stuck?.sinceMs ?? Date.now() };
    this.#logger.error('replication stands still, restarting it', { reason });
    this.#restarting = this.#replace().catch((error: unknown) => {
      this.#logger.error('cannot restart replication', { error: messageOf(error) });
    });
    return this.#restarting;
  }

  async #replace(): Promise<void> {
    await Promise.all(this.#replicas.map((replica) => replica.stop(AbortSignal.abort())));
    await this.#database.abandon();
    if (this.#stopping) return;
    this.#database = this.#newDatabase();
    this.#replicas = this.#newReplicas();
    await this.start();
  }
}

/** `promise`, or a rejection with 'aborted' as soon as `signal` fires. */
async function raceAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  let onAbort: () => void = () => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(abortedError(signal));
    if (signal.aborted) onAbort();
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
