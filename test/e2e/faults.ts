/**
 * One run of replication to an S3 server at which every kind of request fails, falls silent, loses its answer or is cut,
 * at random, in phases from none to all. What is in the bucket at any moment must restore; when the faults end, what is
 * left must be stored without a new commit or a restart.
 */

import { join } from 'node:path';
import { createLogger } from '../../src/base/logger.ts';
import { DATABASE_DEFAULTS, REPLICA_DEFAULTS } from '../../src/engine/options.ts';
import type * as engineModule from '../../src/engine/replicator.ts';
import { restore } from '../../src/engine/restore.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openS3Store } from '../../src/storage/s3/s3-store.ts';
import type * as driverModule from '../../src/storage/s3/s3-store.ts';
import { pause, until, withTempDir } from '../support/process.ts';
import { expectChain, snapshotsAlone } from '../support/replica-chain.ts';
import { S3Server } from '../support/s3-server.ts';
import type { Fault, S3Operation } from '../support/s3-server.ts';
import { compareDatabases } from '../support/sqlite.ts';
import { Workload, expectPrefix, generator, readCommits, type CommitLog } from '../support/workload.ts';

export interface FaultsOptions {
  readonly seed: number;
  readonly durationMs: number;
}

export interface FaultsResult {
  readonly seed: number;
  readonly commits: number;
  /** Of the bucket while it was written to. */
  readonly restores: number;
  readonly faults: Readonly<Partial<Record<S3Operation, number>>>;
}

/** Short, so that a silent server is found out in the time of a test. */
const TIMEOUTS = { connectMs: 2000, idleMs: 1000 };
/** The compiled engine: its checkpoints run in a thread, which cannot be started from TypeScript. */
const compiled = async <T>(name: string): Promise<T> =>
  (await import(new URL(`../../dist/${name}.js`, import.meta.url).href)) as T;
const SILENT = createLogger({ level: 'ERROR', format: 'text', write: () => undefined });
const FAULTS: readonly Fault[] = [
  'reset',
  'stall',
  'lose-answer',
  { status: 500 },
  { status: 503, headers: { 'retry-after': '0' } },
  { status: 429 },
  { status: 403 },
  { truncateAt: 0 },
  { truncateAt: 100 },
  { truncateAt: 100, stall: true },
];
/** Of requests in a phase with faults, so many are done after they were given up. */
const LATE_SHARE = 0.15;
/** Shares of requests that fail in a phase. */
const SHARES = [0, 0.1, 0.3, 0.6, 1];
const PHASE_MS = 1200;
/** Requests that fail at the end. */
const LAST_FAILURES = 4;
/** The longest back-off of a replica, and time for what is left on a busy machine. */
const RECOVERY_MS = 120_000;

/** Rejects, naming the seed, when anything is lost or does not come back. */
export async function runFaults({ seed, durationMs }: FaultsOptions): Promise<FaultsResult> {
  const server = await S3Server.start();
  try {
    return await withTempDir((dir) => new FaultsRun(server, dir, seed).run(durationMs));
  } catch (error) {
    if (error instanceof Error) error.message = `LITESTREAM_SEED=${seed}: ${error.message}`;
    throw error;
  } finally {
    await server.close();
  }
}

class FaultsRun {
  readonly #server: S3Server;
  readonly #dir: string;
  readonly #seed: number;
  readonly #random: () => number;
  readonly #faults: Partial<Record<S3Operation, number>> = {};
  readonly #seen: CommitLog[] = [];
  #restores = 0;
  #share = 0;

  constructor(server: S3Server, dir: string, seed: number) {
    this.#server = server;
    this.#dir = dir;
    this.#seed = seed;
    this.#random = generator(seed);
    server.onRequest = ({ operation }) => {
      if (this.#random() >= this.#share) return 'pass';
      this.#faults[operation] = (this.#faults[operation] ?? 0) + 1;
      return this.#pick(FAULTS);
    };
    server.beforeAnswer = () => {
      const late = this.#share > 0 && this.#random() < LATE_SHARE;
      return late ? pause(TIMEOUTS.idleMs * (1 + this.#random())) : Promise.resolve();
    };
  }

  /** Faults so far. */
  get #count(): number {
    return Object.values(this.#faults).reduce((sum, count) => sum + count, 0);
  }

  #pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.#random() * items.length)] as T;
  }

  async run(durationMs: number): Promise<FaultsResult> {
    const path = join(this.#dir, 'db');
    const load = { pauseMs: 60, maxRows: 60, maxBlobBytes: 2000, rollbackShare: 0.1 };
    const workload = await Workload.start({ path, seed: this.#seed, writers: 2, load });
    const replicator = await this.#newReplicator(path);
    try {
      await replicator.start();
      await until(
        () =>
          this.#server
            .bucket()
            .keys()
            .some((key) => key.includes('/snapshots/')),
        {
          timeoutMs: RECOVERY_MS,
          describe: () => `no snapshot is stored: ${JSON.stringify(replicator.status())}`,
        },
      );
      for (const end = Date.now() + durationMs; Date.now() < end;) {
        this.#share = this.#pick(SHARES);
        await pause(this.#random() * PHASE_MS);
        const log = await this.#restored(this.#copy());
        if (log) this.#seen.push(log);
        // A phase without faults after each: the back-off of a replica must not outgrow the run.
        this.#share = 0;
        await pause(this.#random() * PHASE_MS);
      }
      // The last commits are made while nothing gets through, until attempts have become rare.
      this.#share = 1;
      const before = this.#count;
      await pause(PHASE_MS);
      await workload.stop();
      await until(() => this.#count >= before + LAST_FAILURES, { timeoutMs: RECOVERY_MS });
      this.#share = 0;
      const live = await readCommits(path);
      await until(async () => (await this.#restored(this.#copy()))?.last === live.last, {
        timeoutMs: RECOVERY_MS,
        describe: () => `not everything is stored: ${JSON.stringify(replicator.status())}`,
      });
      const replica = await this.#copy()();
      for await (const alone of snapshotsAlone(replica)) {
        expectPrefix((await this.#restored(() => Promise.resolve(alone)))!, live);
      }
      return await this.#compare(path, live);
    } finally {
      this.#share = 0;
      await workload.stop().catch(() => undefined);
      await replicator.stop(AbortSignal.timeout(10_000));
    }
  }

  async #newReplicator(path: string): Promise<engineModule.Replicator> {
    const engine = await compiled<typeof engineModule>('engine/replicator');
    const driver = await compiled<typeof driverModule>('storage/s3/s3-store');
    const store = this.#config;
    const replica = {
      ...{ ...REPLICA_DEFAULTS, name: 's3', store, syncIntervalMs: 20 },
      // Snapshots and retention go on beside it.
      ...{ snapshotIntervalMs: 1500, retentionMs: 3600_000, retentionCheckIntervalMs: 500 },
    };
    const options = { ...DATABASE_DEFAULTS, path, minCheckpointPageCount: 100, replicas: [replica] };
    return new engine.Replicator({
      databases: [options],
      openStore: () => Promise.resolve(driver.openS3Store(store, TIMEOUTS)),
      logger: SILENT,
    });
  }

  get #config() {
    const { endpoint, credentials } = this.#server;
    const place = { type: 's3', bucket: 'bucket', path: 'db', endpoint } as const;
    return { ...place, forcePathStyle: true, skipVerify: false, ...credentials };
  }

  /** What is in the bucket at this moment: what a crash would leave. */
  #copy(): () => Promise<ObjectStore> {
    const bucket = this.#server.bucket();
    const objects = bucket.keys().map((key) => bucket.get(key));
    return async () => {
      const store = openMemoryStore();
      for (const { key, data } of objects) await store.put(key.slice('db/'.length), data);
      return store;
    };
  }

  /** Undefined while there is no snapshot. */
  async #restored(open: () => Promise<ObjectStore>): Promise<CommitLog | undefined> {
    const store = await open();
    const outputPath = join(this.#dir, `restored-${this.#restores++}`);
    await expectChain(store);
    for await (const { key } of store.list('')) {
      if (!key.includes('/snapshots/')) continue;
      await restore({ replicas: [{ name: 's3', store }], outputPath, parallelism: 4, logger: SILENT });
      return await readCommits(outputPath);
    }
    return undefined;
  }

  async #compare(path: string, live: CommitLog): Promise<FaultsResult> {
    for (const log of this.#seen) expectPrefix(log, live);
    const store = openS3Store(this.#config);
    const outputPath = join(this.#dir, 'restored');
    try {
      await restore({ replicas: [{ name: 's3', store }], outputPath, parallelism: 32, logger: SILENT });
    } finally {
      await store.close();
    }
    const difference = await compareDatabases(path, outputPath);
    if (difference !== undefined) throw new Error(`restore differs from the database: ${difference}`);
    return { seed: this.#seed, commits: live.last, restores: this.#seen.length, faults: this.#faults };
  }
}
