/**
 * One run of `litestream replicate` behind a network that fails at random, killed with SIGKILL again and again: at random
 * times and in the middle of requests. What is in the bucket at the moment of each kill, and after it, must restore to a
 * prefix of the commits that has at least what `sync` had confirmed. When the faults end, what is left must be stored
 * without a new commit or a restart.
 */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { callControl } from '../../src/control/client.ts';
import { createLogger } from '../../src/base/logger.ts';
import { restore } from '../../src/engine/restore.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import {
  startFaultProxy,
  type FaultProxy,
  type ProxiedRequest,
  type ProxyFault,
} from '../support/fault-proxy.ts';
import { pause, until, type LitestreamProcess } from '../support/process.ts';
import { withRig, type ReplicateOptions, type Rig } from '../support/process-rig.ts';
import { expectChain, snapshotsAlone } from '../support/replica-chain.ts';
import { S3Server } from '../support/s3-server.ts';
import { compareDatabases, compareFiles, withSqlite, type SqliteProcess } from '../support/sqlite.ts';
import { Workload, expectPrefix, generator, readCommits, type CommitLog } from '../support/workload.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

export interface KillsOptions {
  readonly seed: number;
  readonly kills: number;
  /** At the end, whoever waits for an answer that never comes finds that out by himself; false: connections break. */
  readonly patient: boolean;
}

export interface KillsResult {
  readonly seed: number;
  readonly commits: number;
  /** How often more was confirmed to be stored. */
  readonly confirmations: number;
  readonly faults: number;
  /** What it was doing when it was killed. */
  readonly moments: readonly string[];
  readonly generations: number;
  readonly segments: number;
  readonly snapshots: number;
}

const SILENT = createLogger({ level: 'ERROR', format: 'text', write: () => undefined });
/** Of the network; whatever meets them can be tried again at once. */
const PASSING_FAULTS: readonly ProxyFault[] = [
  'reset',
  { status: 500 },
  { status: 503, headers: { 'retry-after': '0' } },
  { status: 429 },
  { cutAfter: 0 },
  { cutAfter: 100 },
  { cutBodyAfter: 10 },
];
const FAULTS: readonly ProxyFault[] = [
  ...PASSING_FAULTS,
  'stall',
  { cutAfter: 50, stall: true },
  { status: 403 },
];
/** Shares of requests that fail in a phase. */
const SHARES = [0, 0, 0.05, 0.3];
/** Of those that come through, so many are done and not answered. */
const LOST_ANSWERS = 0.3;
/** How long some of these take: they are done when whoever sent them is gone, and another one has started. */
const LATE_MS = 2000;
const PHASE_MS = 400;
/** From the first request on; a fifth of it is the shortest life. */
const LIFE_MS = 1500;
/** Many lives end in the middle of a request, or when something is confirmed, after fewer of both. */
const LIFE_REQUESTS = 20;
/** A silent store is given up after 30 s, and then there is a back-off. */
const RECOVERY_MS = 120_000;
/** Random bytes, so that a snapshot is uploaded in three parts. */
const BALLAST_BYTES = 11 << 20;

/** Rejects, naming the seed, when anything is lost or does not come back. */
export async function runKills(options: KillsOptions): Promise<KillsResult> {
  const server = await S3Server.start();
  const proxy = await startFaultProxy('http', { host: '127.0.0.1', port: server.port });
  let result: KillsResult | undefined;
  try {
    await withRig(async (rig) => {
      result = await new KillsRun(rig, server, proxy, options).run();
    });
    return result!;
  } catch (error) {
    if (error instanceof Error) error.message = `LITESTREAM_SEED=${options.seed}: ${error.message}`;
    throw error;
  } finally {
    await proxy.close();
    await server.close();
  }
}

/** What must be found again in what the bucket held. */
interface Sight {
  readonly when: string;
  readonly objects: readonly { readonly key: string; readonly data: Buffer }[];
  /** Commits that were confirmed to be stored. */
  readonly confirmed: number;
}

class KillsRun {
  readonly #rig: Rig;
  readonly #server: S3Server;
  readonly #proxy: FaultProxy;
  readonly #options: KillsOptions;
  readonly #random: () => number;
  readonly #sights: Sight[] = [];
  /** What the bucket held at other times. */
  readonly #glances: Sight['objects'][] = [];
  #share = 0;
  #passingOnly = false;
  #faults = 0;
  #confirmed = 0;
  #confirmations = 0;
  readonly #moments: string[] = [];
  /** Told of each request before it is done and after, and of what is confirmed. */
  #victim: ((moment: string) => void) | undefined;

  constructor(rig: Rig, server: S3Server, proxy: FaultProxy, options: KillsOptions) {
    this.#rig = rig;
    this.#server = server;
    this.#proxy = proxy;
    this.#options = options;
    this.#random = generator(options.seed);
    proxy.onRequest = (request) => this.#fault(request);
    server.onRequest = ({ operation }) => {
      this.#victim?.(`before ${operation}`);
      return this.#random() < this.#share * LOST_ANSWERS ? 'lose-answer' : 'pass';
    };
    server.beforeAnswer = ({ operation }) => {
      const late = operation === 'PutObject' && this.#random() < this.#share / 2;
      return late ? pause(this.#random() * LATE_MS) : Promise.resolve();
    };
    server.onAnswer = ({ operation }) => this.#victim?.(`after ${operation}`);
  }

  #fault({ method, url }: ProxiedRequest): ProxyFault {
    const isPart = url.includes('partNumber=');
    // Parts are few, and each is tried several times: only a failure for good ends an upload.
    if (this.#random() >= (isPart ? Math.sqrt(this.#share) : this.#share)) return 'pass';
    this.#faults++;
    if (this.#passingOnly) return this.#pick(PASSING_FAULTS);
    if (method !== 'PUT' || this.#random() < 0.5) return this.#pick(FAULTS);
    return isPart ? { status: 403 } : { cutBodyAfter: Math.floor(this.#random() * 300) };
  }

  #pick<T>(items: readonly T[]): T {
    return items[Math.floor(this.#random() * items.length)] as T;
  }

  async run(): Promise<KillsResult> {
    const path = this.#rig.database;
    const load = { pauseMs: 25, maxRows: 40, maxBlobBytes: 2000, rollbackShare: 0.1 };
    const ballast = `CREATE TABLE ballast (data); INSERT INTO ballast VALUES (randomblob(${BALLAST_BYTES}))`;
    await withSqlite({ path }, (sqlite) => sqlite.exec(ballast));
    const workload = await Workload.start({ path, seed: this.#options.seed, writers: 1, load });
    const reader = await this.#rig.application({ readonly: true, pragmas: [] });
    const ended = new AbortController();
    const confirming = this.#confirm(reader, ended.signal);
    let litestream = await this.#start();
    try {
      // The first faults meet a replica that can be restored from.
      await until(() => this.#confirmed > 0, { timeoutMs: RECOVERY_MS });
      for (let kill = 1; kill <= this.#options.kills; kill++) {
        await this.#liveAndDie(litestream, kill);
        this.#share = this.#pick(SHARES);
        litestream = await this.#start();
      }
      await this.#phases(this.#random() * LIFE_MS, () => true);
      await workload.stop();
    } finally {
      await workload.stop().catch(() => undefined);
      ended.abort();
      await confirming;
    }
    return await this.#recover(litestream);
  }

  get #replicateOptions(): ReplicateOptions {
    return {
      replica: [...s3Replica(`http://127.0.0.1:${this.#proxy.port}`), 'snapshot-interval: 500ms'],
      database: ['min-checkpoint-page-count: 60'],
      env: s3Environment(this.#server),
    };
  }

  #start(): Promise<LitestreamProcess> {
    return this.#rig.replicateUnready(this.#replicateOptions);
  }

  /** Has everything stored that is committed, again and again, and remembers what was confirmed. */
  async #confirm(reader: SqliteProcess, ended: AbortSignal): Promise<void> {
    while (!ended.aborted) {
      const [row] = await reader.all('SELECT max(n) AS n FROM commits');
      try {
        const body = { wait: true, timeoutMs: RECOVERY_MS };
        await callControl(join(this.#rig.metaDir, 'control.sock'), {
          method: 'POST',
          path: '/sync',
          body,
          signal: ended,
        });
        this.#confirmed = Number(row?.['n'] ?? 0);
        this.#confirmations++;
        this.#victim?.('confirmed');
      } catch {
        // It was killed, or is not there yet.
        await pause(20);
      }
    }
  }

  /** Phases of more and of fewer faults, for so long or until `goesOn` says no. */
  async #phases(durationMs: number, goesOn: () => boolean): Promise<void> {
    for (const end = Date.now() + durationMs; goesOn() && Date.now() < end;) {
      this.#share = this.#pick(SHARES);
      const phaseEnd = Math.min(end, Date.now() + this.#random() * PHASE_MS);
      while (goesOn() && Date.now() < phaseEnd) await pause(10);
      this.#glances.push(this.#keep());
    }
  }

  async #liveAndDie(litestream: LitestreamProcess, kill: number): Promise<void> {
    const before = this.#proxy.count;
    await until(() => this.#proxy.count > before, { timeoutMs: RECOVERY_MS });
    const requests = Math.floor(this.#random() * LIFE_REQUESTS);
    let left = this.#random() < 0.7 ? requests : Infinity;
    const kind = this.#random() < 0.4 ? 'confirmed' : '';
    const die = (moment: string): void => {
      this.#victim = undefined;
      litestream.signal('SIGKILL');
      this.#moments.push(moment);
      this.#see(`at kill ${kill} (${moment})`);
    };
    this.#victim = (moment) => {
      if (left-- <= 0 && moment.startsWith(kind)) die(moment);
    };
    const lives = (): boolean => this.#victim !== undefined;
    await this.#phases((0.2 + this.#random()) * LIFE_MS, lives);
    if (lives()) die('any time');
    await litestream.exited;
    this.#see(`after kill ${kill}`);
  }

  /** Remembers what is in the bucket at this moment. */
  #see(when: string): void {
    this.#sights.push({ when, objects: this.#keep(), confirmed: this.#confirmed });
  }

  #keep(): Sight['objects'] {
    const bucket = this.#server.bucket();
    return bucket.keys().map((key) => bucket.get(key));
  }

  async #copy(objects: Sight['objects']): Promise<ObjectStore> {
    const store = openMemoryStore();
    for (const { key, data } of objects) await store.put(key.slice('db/'.length), data);
    return store;
  }

  /** The commits in what is restored; undefined while there is no snapshot. */
  async #restored(store: ObjectStore): Promise<CommitLog | undefined> {
    const outputPath = join(this.#rig.dir, 'restored');
    for await (const { key } of store.list('')) {
      if (!key.includes('/snapshots/')) continue;
      await restore({ replicas: [{ name: 's3', store }], outputPath, parallelism: 4, logger: SILENT });
      const log = await readCommits(outputPath);
      await fs.rm(outputPath);
      return log;
    }
    return undefined;
  }

  /** The end of the faults: what is committed must be stored although nothing is written and nothing is started again. */
  async #recover(litestream: LitestreamProcess): Promise<KillsResult> {
    this.#share = 0;
    if (!this.#options.patient) {
      await this.#proxy.set('reset');
      await this.#proxy.set('pass');
    }
    const live = await readCommits(this.#rig.database);
    const stored = async (): Promise<boolean> => {
      if (!litestream.running) throw new Error('litestream ended');
      return (await this.#restored(await this.#copy(this.#keep())))?.last === live.last;
    };
    await until(stored, { timeoutMs: RECOVERY_MS, describe: () => 'not everything is stored' });
    const exit = await litestream.stop();
    if (exit.code !== 0) throw new Error(`litestream exited ${exit.code ?? exit.signal}`);
    this.#confirmed = live.last;
    this.#see('at the end');
    for (const objects of this.#glances) await expectChain(await this.#copy(objects));
    for (const sight of this.#sights) await this.#check(sight, live);
    for await (const replica of snapshotsAlone(await this.#copy(this.#keep()))) {
      expectPrefix((await this.#restored(replica))!, live);
    }
    await this.#compare();
    const names = this.#server.bucket().keys();
    return {
      seed: this.#options.seed,
      commits: live.last,
      confirmations: this.#confirmations,
      faults: this.#faults,
      moments: this.#moments,
      generations: new Set(names.map((name) => name.split('/')[2])).size,
      segments: names.filter((name) => name.includes('/wal/')).length,
      snapshots: names.filter((name) => name.includes('/snapshots/')).length,
    };
  }

  async #check({ when, objects, confirmed }: Sight, live: CommitLog): Promise<void> {
    try {
      const store = await this.#copy(objects);
      await expectChain(store);
      const log = await this.#restored(store);
      if (log) expectPrefix(log, live);
      const last = log?.last ?? 0;
      if (last < confirmed) throw new Error(`commit ${confirmed} was confirmed, ${last} is the last one`);
    } catch (error) {
      throw new Error(`${when}: ${(error as Error).message}`, { cause: error });
    }
  }

  /** Both programs restore the database as it is, and ours also behind the network as it fails. */
  async #compare(): Promise<void> {
    const config = await this.#rig.config({ replica: s3Replica(this.#server.endpoint) });
    const env = s3Environment(this.#server);
    const ours = await this.#rig.restored({ binary: 'ours', config, env });
    const difference = await compareDatabases(this.#rig.database, ours);
    if (difference !== undefined) throw new Error(`restore differs from the database: ${difference}`);
    this.#passingOnly = true;
    this.#share = 0.1;
    const proxied = await this.#rig.config(this.#replicateOptions);
    const late = await this.#rig.restored({ binary: 'ours', config: proxied, env });
    this.#share = 0;
    const change = await compareFiles(ours, late);
    if (change !== undefined) throw new Error(`a restore behind the network differs: ${change}`);
    const theirs = await this.#rig.restored({ binary: 'oracle', config, env });
    const disagreement = await compareFiles(ours, theirs);
    if (disagreement !== undefined) throw new Error(`v0.3.13 restores something else: ${disagreement}`);
  }
}
