/** The set of databases that one process replicates: starts them, stops them in the right order, adds up numbers. */

import type { Logger } from '../base/logger.ts';
import { LitestreamError, assert, messageOf } from '../base/errors.ts';
import { sqliteDriver } from '../sqlite/driver.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import { Checkpointer } from './checkpointer.ts';
import { DirectoryWatch } from './directory-watch.ts';
import type { DatabaseOptions } from './options.ts';
import { Pipeline, type SnapshotRequestResult, type UnstoredReplica } from './pipeline.ts';
import type { DatabaseStats } from './stats.ts';
import type { DatabaseStatus } from './status.ts';
import type { VerificationDepth, VerificationResult } from './verification-result.ts';
import { Watchdog, type WatchdogOptions } from './watchdog.ts';

export interface ReplicatorOptions {
  readonly databases: readonly DatabaseOptions[];
  readonly openStore: (config: StoreConfig) => Promise<ObjectStore>;
  readonly logger: Logger;
  /**
   * Called when this process has become the one that replicates a database, before it is opened; again when its
   * pipeline is restarted. What it throws keeps the database from being opened.
   */
  readonly onLocked?: ((database: ReplicatedDatabase) => Promise<void>) | undefined;
  readonly watchdog?: WatchdogOptions | undefined;
  /** For the meta directories of databases in read-only folders: see stateDirectories(). */
  readonly stateDirectories?: readonly string[] | undefined;
}

export type { UnstoredReplica } from './pipeline.ts';

export interface ReplicatedDatabase {
  readonly path: string;
  readonly metaPath: string;
}

export class Replicator {
  readonly #options: ReplicatorOptions;
  readonly #pipelines: Pipeline[] = [];
  readonly #checkpointer = new Checkpointer();
  readonly #watch: DirectoryWatch;
  #watchdog: Watchdog | undefined;
  #started = false;

  constructor(options: ReplicatorOptions) {
    this.#options = options;
    this.#watch = new DirectoryWatch(options.logger);
  }

  /**
   * Starts following all databases. Resolves when each has been tried once: a database that is missing or a store
   * that does not answer holds up nobody and is tried again in the background.
   * @throws LitestreamError 'busy' when another process replicates one of them (all are let go of again),
   *   'unsupported' when there is no SQLite that can be used
   */
  async start(): Promise<void> {
    assert(!this.#started, 'a replicator starts once');
    this.#started = true;
    // Without SQLite nothing can be replicated, and waiting changes nothing.
    sqliteDriver();
    const { databases, logger, openStore, onLocked, stateDirectories } = this.#options;
    for (const options of databases) {
      const pipeline: Pipeline = new Pipeline({
        options,
        stateDirectories,
        logger,
        openStore,
        checkpointer: this.#checkpointer,
        watch: this.#watch,
        onLocked: onLocked && (() => onLocked(pipeline)),
      });
      this.#pipelines.push(pipeline);
    }
    const results = await Promise.allSettled(this.#pipelines.map((pipeline) => pipeline.start()));
    this.#watchdog = new Watchdog(this.#pipelines, this.#options.watchdog);
    this.#watchdog.start();
    const failed = results.find((result) => result.status === 'rejected');
    if (!failed) return;
    await this.stop(AbortSignal.abort());
    throw failed.reason instanceof Error
      ? failed.reason
      : new LitestreamError('io', messageOf(failed.reason));
  }

  /**
   * Copies what is committed now, uploads it, and closes everything so that the next start can continue.
   * @param signal bounds the uploads: when it fires, they are given up
   * @returns what is not stored, empty if everything is
   */
  async stop(signal: AbortSignal): Promise<readonly UnstoredReplica[]> {
    this.#watchdog?.stop();
    const unstored = await Promise.all(this.#pipelines.map((pipeline) => pipeline.stop(signal)));
    return unstored.flat();
  }

  /** Present numbers of all databases, in the order of the config. */
  stats(): DatabaseStats[] {
    return this.#pipelines.map((pipeline) => pipeline.stats());
  }

  /** How all databases are at this moment, in the order of the config. */
  status(): DatabaseStatus[] {
    const nowMs = Date.now();
    return this.#pipelines.map((pipeline) => pipeline.status(nowMs));
  }

  /** Where the databases are, in the order of the config. */
  databases(): readonly ReplicatedDatabase[] {
    return this.#pipelines;
  }

  /**
   * Has a snapshot of a database taken in every replica, as Pipeline.snapshot() says.
   * @throws LitestreamError 'not-found' when no such database is replicated, 'busy' when it is not followed
   */
  async snapshot(path: string, signal: AbortSignal): Promise<readonly SnapshotRequestResult[]> {
    return this.#pipelineOf(path).snapshot(signal);
  }

  #pipelineOf(path: string): Pipeline {
    const pipeline = this.#pipelines.find((candidate) => candidate.path === path);
    if (pipeline) return pipeline;
    throw new LitestreamError('not-found', `database ${path} is not replicated by this process`);
  }

  /**
   * Verifies the replicas of a database, as Pipeline.verify() says.
   * @throws LitestreamError 'not-found' when no such database or replica is replicated, 'config' without replicas
   */
  async verify(
    path: string,
    options: { readonly name: string | undefined; readonly depth: VerificationDepth },
    signal: AbortSignal,
  ): Promise<readonly VerificationResult[]> {
    return this.#pipelineOf(path).verify(options, signal);
  }

  /**
   * Resolves when everything that is committed now can be restored from every replica, of one database or of all.
   * What fails is tried again until `signal` fires; then it rejects with what is not stored, and why.
   * @param path as configured; undefined: all databases
   * @throws LitestreamError 'not-found' when no such database is replicated, 'timeout' or 'aborted' by the signal,
   *   'busy' when a database is not followed
   */
  async sync(path: string | undefined, signal: AbortSignal): Promise<void> {
    const chosen = this.#pipelines.filter((pipeline) => path === undefined || pipeline.path === path);
    if (path !== undefined && chosen.length === 0) {
      throw new LitestreamError('not-found', `database ${path} is not replicated by this process`);
    }
    const results = await Promise.allSettled(chosen.map((pipeline) => pipeline.sync(signal)));
    for (const result of results) if (result.status === 'rejected') throw result.reason;
  }

  /**
   * Lets go of a database, so that another process can replace its file; goes on with the new one by itself.
   * @param signal bounds what is stored before
   * @throws LitestreamError 'not-found' when it is not replicated
   */
  async release(path: string, signal: AbortSignal): Promise<void> {
    const pipeline = this.#pipelines.find((candidate) => candidate.path === path);
    if (!pipeline)
      throw new LitestreamError('not-found', `database ${path} is not replicated by this process`);
    await pipeline.release(signal);
  }
}
