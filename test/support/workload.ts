/**
 * Applications that use one database in every way that makes following its WAL hard: several writers, rollbacks, small page caches,
 * RESTART and TRUNCATE checkpoints, long readers, writers that are killed; and the check that a database is an exact
 * prefix of their commits.
 */

import { openSqlite, withSqlite, type LoadOptions, type SqliteProcess } from './sqlite.ts';
import { shimEnvironment } from './shim.ts';

/** The generator of sqlite-worker.mjs (mulberry32): numbers in [0, 1), the same for the same seed. */
export function generator(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** `LITESTREAM_SEED` to repeat a failed run, else a fresh one. Put it in the message of what may fail. */
export function chooseSeed(): number {
  return Number(process.env['LITESTREAM_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
}

export interface WorkloadOptions {
  readonly path: string;
  readonly seed: number;
  readonly writers?: number;
  /** For the writers; their seeds and numbers are added. */
  readonly load?: Omit<LoadOptions, 'kind' | 'seed' | 'writer'>;
  /** An application that checkpoints with RESTART and TRUNCATE, with random pauses up to this long; 0: none. */
  readonly checkpointEveryMs?: number;
  /** An application whose read transactions last up to this long; 0: none. */
  readonly readerHoldMs?: number;
  /** Library of buildShim(): the writers die in a random WAL sync and are started again. */
  readonly shim?: string;
  /** Writers are killed at random after up to this long and started again; 0: never. */
  readonly killEveryMs?: number;
}

/** A commit at least every so many syncs of the WAL dies in one when the shim is loaded. */
const SHIM_MAX_SYNCS = 60;

/** Running applications. `stop()` or `crash()` must be called on every path. */
export class Workload {
  readonly #options: WorkloadOptions;
  readonly #random: () => number;
  readonly #running = new Set<SqliteProcess>();
  readonly #loops: Promise<void>[] = [];
  #stopping = false;
  #deaths = 0;
  #failure: Error | undefined;

  private constructor(options: WorkloadOptions) {
    this.#options = options;
    this.#random = generator(options.seed);
  }

  static async start(options: WorkloadOptions): Promise<Workload> {
    const workload = new Workload(options);
    const { writers = 3, checkpointEveryMs = 0, readerHoldMs = 0 } = options;
    // The first one creates the schema, so that others find it.
    await withSqlite({ path: options.path, pragmas: ['journal_mode=WAL'] }, (sqlite) =>
      sqlite.load({ kind: 'write', seed: options.seed, writer: 0, steps: 3, rollbackShare: 0 }),
    );
    for (let writer = 1; writer <= writers; writer++) workload.#loops.push(workload.#writer(writer));
    if (checkpointEveryMs > 0) {
      workload.#loops.push(workload.#application({ kind: 'checkpoint', pauseMs: checkpointEveryMs }));
    }
    if (readerHoldMs > 0) {
      workload.#loops.push(workload.#application({ kind: 'read', holdMs: readerHoldMs, pauseMs: 50 }));
    }
    return workload;
  }

  /** How many writers died so far. */
  get deaths(): number {
    return this.#deaths;
  }

  /** Ends the loads after their present transaction. The WAL stays. Rejects with what failed in a process. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#running].map((sqlite) => sqlite.stop().catch(() => undefined)));
    await Promise.all(this.#loops);
    if (this.#failure) throw this.#failure;
  }

  /** Kills every process at once, as a power loss does. */
  async crash(): Promise<void> {
    this.#stopping = true;
    await Promise.all([...this.#running].map((sqlite) => sqlite.kill()));
    await Promise.all(this.#loops);
    if (this.#failure) throw this.#failure;
  }

  /** Writers differ: one spills its small cache into the WAL, one has autocheckpoints of its own size. */
  #pragmas(writer: number): string[] {
    const synchronous = this.#options.shim === undefined ? 'NORMAL' : 'FULL';
    const pragmas = [`synchronous=${synchronous}`];
    if (writer === 1) pragmas.push('cache_size=20');
    if (writer === 2) pragmas.push('wal_autocheckpoint=50');
    return pragmas;
  }

  async #writer(writer: number): Promise<void> {
    const { shim, killEveryMs = 0, load = {} } = this.#options;
    while (!this.#stopping && !this.#failure) {
      const syncs = 1 + Math.floor(this.#random() * SHIM_MAX_SYNCS);
      const env = shim === undefined ? {} : shimEnvironment(shim, syncs);
      const kill = killEveryMs > 0 ? 20 + this.#random() * killEveryMs : 0;
      await this.#run(
        { kind: 'write', writer, seed: Math.floor(this.#random() * 2 ** 31), ...load },
        { env, kill, pragmas: this.#pragmas(writer) },
      );
    }
  }

  async #application(load: Omit<LoadOptions, 'seed'>): Promise<void> {
    while (!this.#stopping && !this.#failure) {
      await this.#run(
        { seed: Math.floor(this.#random() * 2 ** 31), ...load },
        { env: {}, kill: 0, pragmas: [] },
      );
    }
  }

  /** One life of a process: until it is stopped, killed, or dies of the shim. */
  async #run(
    load: LoadOptions,
    { env, kill, pragmas }: { env: Record<string, string>; kill: number; pragmas: string[] },
  ): Promise<void> {
    let sqlite: SqliteProcess | undefined;
    let timer: NodeJS.Timeout | undefined;
    try {
      sqlite = await openSqlite({ path: this.#options.path, pragmas }, env);
      this.#running.add(sqlite);
      if (this.#stopping) return;
      const victim = sqlite;
      if (kill > 0) timer = setTimeout(() => void victim.kill(), kill);
      await sqlite.load(load);
    } catch (error) {
      // A death by signal is the plan of this workload; anything else (a corrupt database) is a finding.
      if (String(error).includes('SIGKILL')) this.#deaths++;
      else if (!this.#stopping) this.#failure ??= error as Error;
    } finally {
      clearTimeout(timer);
      if (sqlite) {
        await sqlite.kill();
        this.#running.delete(sqlite);
      }
    }
  }
}

export interface CommitLog {
  /** The number of the last commit. */
  readonly last: number;
  /** One line a commit: number, writer, the writer's own number, and what the payload held. */
  readonly lines: readonly string[];
}

/**
 * Reads the commits of a database and proves that it holds exactly what they say.
 * @throws when rows are missing, there is a hole in the numbers, or integrity_check fails
 */
export async function readCommits(path: string): Promise<CommitLog> {
  return await withSqlite({ path, readonly: true }, async (sqlite) => {
    const rows = await sqlite.all('SELECT n, writer, seq, payload_rows, payload_sum FROM commits ORDER BY n');
    const [payload] = await sqlite.all('SELECT count(*) AS n, total(v) AS sum FROM payload');
    const [integrity] = await sqlite.all('PRAGMA integrity_check');
    const seqs = new Map<unknown, number>();
    rows.forEach((row, i) => {
      const seq = (seqs.get(row['writer']) ?? 0) + 1;
      seqs.set(row['writer'], seq);
      if (row['n'] !== i + 1 || row['seq'] !== seq) throw new Error(`${path}: commit ${i + 1} is missing`);
    });
    const last = rows.at(-1);
    if (integrity?.['integrity_check'] !== 'ok') throw new Error(`${path}: ${JSON.stringify(integrity)}`);
    if (last?.['payload_rows'] !== payload?.['n'] || last?.['payload_sum'] !== payload?.['sum']) {
      throw new Error(`${path}: payload is not that of commit ${rows.length}`);
    }
    return { last: rows.length, lines: rows.map((row) => Object.values(row).join(' ')) };
  });
}

/** Throws unless the commits of `part` are the first ones of `whole`. */
export function expectPrefix(part: CommitLog, whole: CommitLog): void {
  const wrong = part.lines.findIndex((line, i) => line !== whole.lines[i]);
  if (wrong >= 0)
    throw new Error(`commit ${wrong + 1} is "${part.lines[wrong]}", not "${whole.lines[wrong]}"`);
}
