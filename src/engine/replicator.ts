/** The set of databases that one process replicates: starts them, stops them in the right order, adds up numbers. */

import type { Logger } from '../base/logger.ts';
import { LitestreamError, assert, messageOf } from '../base/errors.ts';
import { checkSqliteVersion } from '../sqlite/connection.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import { Checkpointer } from './checkpointer.ts';
import { Database } from './database.ts';
import { DirectoryWatch } from './directory-watch.ts';
import type { DatabaseOptions } from './options.ts';
import { Replica } from './replica.ts';
import type { DatabaseStats } from './stats.ts';

export interface ReplicatorOptions {
  readonly databases: readonly DatabaseOptions[];
  readonly openStore: (config: StoreConfig) => Promise<ObjectStore>;
  readonly logger: Logger;
}

/** Commits that are not in a replica when replication ends. */
export interface UnstoredReplica {
  readonly database: string;
  readonly replica: string;
  /** In words. */
  readonly reason: string;
}

interface Member {
  readonly database: Database;
  readonly replicas: readonly Replica[];
}

export class Replicator {
  readonly #options: ReplicatorOptions;
  readonly #members: Member[] = [];
  readonly #checkpointer = new Checkpointer();
  readonly #watch: DirectoryWatch;
  #started = false;

  constructor(options: ReplicatorOptions) {
    this.#options = options;
    this.#watch = new DirectoryWatch(options.logger);
  }

  /**
   * Starts following all databases. Resolves when each has been tried once: a database that is missing or a store
   * that does not answer holds up nobody and is tried again in the background.
   * @throws LitestreamError 'busy' when another process replicates one of them (all are let go of again),
   *   'unsupported' when SQLite is too old
   */
  async start(): Promise<void> {
    assert(!this.#started, 'a replicator starts once');
    this.#started = true;
    checkSqliteVersion();
    const { databases, logger, openStore } = this.#options;
    for (const options of databases) {
      const database = new Database({
        options,
        logger,
        checkpointer: this.#checkpointer,
        watch: this.#watch,
      });
      const replicas = options.replicas.map(
        (replica) => new Replica({ options: replica, source: database, openStore, logger }),
      );
      database.stats.replicas.push(...replicas.map((replica) => replica.stats));
      this.#members.push({ database, replicas });
    }
    const results = await Promise.allSettled(this.#members.map(startMember));
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
    const unstored = await Promise.all(this.#members.map((member) => stopMember(member, signal)));
    return unstored.flat();
  }

  /** Present numbers of all databases, in the order of the config. */
  stats(): DatabaseStats[] {
    return this.#members.map(({ database }) => database.refreshStats());
  }
}

async function startMember({ database, replicas }: Member): Promise<void> {
  await database.start();
  void database.opened.then(() => {
    for (const replica of replicas) replica.start();
  });
}

async function stopMember({ database, replicas }: Member, signal: AbortSignal): Promise<UnstoredReplica[]> {
  await database.stop();
  const unstored = await Promise.all(
    replicas.map(async (replica) => {
      const { unstored } = await replica.stop(signal);
      const reason = unstored ?? database.broken;
      return reason === undefined ? [] : [{ database: database.path, replica: replica.stats.name, reason }];
    }),
  );
  await database.close();
  return unstored.flat();
}
