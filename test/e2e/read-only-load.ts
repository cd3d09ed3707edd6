/**
 * An application that uses its database in every way while litestream may only read it: steadily, in bursts, with long
 * readers, with TRUNCATE checkpoints of its own, closing and opening it. Nothing of that may see a lock of ours.
 */

import { promises as fs } from 'node:fs';
import { checkPointsInTime } from '../support/points-in-time.ts';
import { pause, type LitestreamProcess } from '../support/process.ts';
import type { ReadOnlySite } from '../support/read-only.ts';
import { compareDatabases, type LoadOptions, type SqliteProcess } from '../support/sqlite.ts';
import { generator, readCommits } from '../support/workload.ts';

export interface ReadOnlyLoad {
  readonly seed: number;
  readonly durationMs: number;
  readonly phases: readonly Phase[];
  /** A process whose read transactions last up to this long; 0: none. */
  readonly readerHoldMs?: number;
  /** A process that checkpoints with RESTART and TRUNCATE, with pauses up to this long; 0: none. */
  readonly checkpointEveryMs?: number;
  /** So many processes write all the time beside the writer, which has to wait for them. */
  readonly saturatingWriters?: number;
  /** Of the writer's connection. */
  readonly pragmas?: readonly string[];
}

/** What the writer does next, in random order. */
export type Phase = 'steady' | 'burst' | 'idle' | 'reopen' | 'large';

export interface ReadOnlyResult {
  readonly seed: number;
  readonly commits: number;
  readonly generations: number;
  /** Reasons that were logged, one a generation. */
  readonly reasons: readonly string[];
  readonly indexes: number;
  readonly maxWalBytes: number;
  /** Restores to an index or a time that were tried. */
  readonly pointsInTime: number;
}

/** Fails the load on the first "database is locked". */
const STRICT = { mayBeBusy: false } as const;
const LOADS: Record<'steady' | 'burst' | 'large', Partial<LoadOptions>> = {
  steady: { steps: 60, pauseMs: 20, maxRows: 30 },
  burst: { steps: 120, pauseMs: 0, maxRows: 40 },
  large: { steps: 3, pauseMs: 0, maxRows: 4000 },
};
const IDLE_MS = 400;
const WAL_SAMPLE_MS = 20;

/** Runs to the end. Rejects, naming the seed, when a restore is not what was committed or a process saw a lock. */
export async function runReadOnlyLoad(site: ReadOnlySite, load: ReadOnlyLoad): Promise<ReadOnlyResult> {
  try {
    return await new Run(site, load).run();
  } catch (error) {
    if (error instanceof Error) error.message = `LITESTREAM_SEED=${load.seed}: ${error.message}`;
    throw error;
  }
}

class Run {
  readonly #site: ReadOnlySite;
  readonly #load: ReadOnlyLoad;
  readonly #random: () => number;
  readonly #others: { readonly process: SqliteProcess; readonly done: Promise<unknown> }[] = [];
  #maxWalBytes = 0;
  #writer!: SqliteProcess;

  constructor(site: ReadOnlySite, load: ReadOnlyLoad) {
    this.#site = site;
    this.#load = load;
    this.#random = generator(load.seed);
  }

  async run(): Promise<ReadOnlyResult> {
    const { rig, database } = this.#site;
    const { durationMs } = this.#load;
    this.#writer = await this.#open();
    await this.#write({ steps: 5 });
    const litestream = await this.#site.replicate({
      replica: [`path: ${rig.replica}`, 'sync-interval: 5ms'],
    });
    await rig.snapshotStored();
    await this.#startOthers();
    const sampling = new AbortController();
    const sampler = this.#sampleWal(sampling.signal);
    try {
      const deadline = Date.now() + durationMs;
      while (Date.now() < deadline) await this.#phase();
    } finally {
      sampling.abort();
      await sampler;
    }
    for (const { process, done } of this.#others) {
      await process.stop();
      await done;
    }
    const exit = await litestream.stop();
    if (exit.code !== 0) throw new Error(`litestream exited ${exit.code ?? exit.signal}`);
    const whole = await readCommits(database);
    const difference = await compareDatabases(database, await rig.restored());
    if (difference !== undefined) throw new Error(`restore differs from the database: ${difference}`);
    const files = await rig.replicaFiles();
    const generations = [...new Set(files.map((name) => name.slice(0, 16)))];
    let pointsInTime = 0;
    for (const generation of generations) {
      if (files.some((name) => name.startsWith(`${generation}/snapshots`)))
        pointsInTime += await checkPointsInTime(rig, generation, whole);
    }
    const indexes = new Set(files.filter((name) => name.includes('/wal/')).map((name) => name.split('_')[0]));
    return {
      seed: this.#load.seed,
      commits: whole.last,
      generations: generations.length,
      reasons: reasonsOf(litestream),
      indexes: indexes.size,
      maxWalBytes: this.#maxWalBytes,
      pointsInTime,
    };
  }

  #open(): Promise<SqliteProcess> {
    return this.#site.application({ pragmas: ['journal_mode=WAL', ...(this.#load.pragmas ?? [])] });
  }

  async #write(load: Partial<LoadOptions>): Promise<void> {
    const seed = Math.floor(this.#random() * 2 ** 31);
    await this.#writer.load({ kind: 'write', seed, writer: 1, ...STRICT, ...load });
  }

  async #phase(): Promise<void> {
    const { phases } = this.#load;
    const phase = phases[Math.floor(this.#random() * phases.length)] ?? 'steady';
    if (phase === 'idle') return pause(this.#random() * IDLE_MS);
    if (phase !== 'reopen') return this.#write(LOADS[phase]);
    await this.#writer.close();
    await pause(this.#random() * 50);
    this.#writer = await this.#open();
  }

  async #startOthers(): Promise<void> {
    const { readerHoldMs = 0, checkpointEveryMs = 0, saturatingWriters = 0, seed } = this.#load;
    const writers = Array.from({ length: saturatingWriters }, (_, i) => i + 2);
    const loads: LoadOptions[] = [
      ...(readerHoldMs > 0 ? [{ kind: 'read', holdMs: readerHoldMs, pauseMs: 50, seed } as const] : []),
      ...(checkpointEveryMs > 0 ? [{ kind: 'checkpoint', pauseMs: checkpointEveryMs, seed } as const] : []),
      ...writers.map((writer) => ({ kind: 'write', writer, seed: seed + writer, maxRows: 20 }) as const),
    ];
    for (const load of loads) {
      const process = await this.#site.application();
      this.#others.push({ process, done: process.load({ ...load, ...STRICT }) });
    }
  }

  async #sampleWal(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const { size } = await fs.stat(`${this.#site.database}-wal`).catch(() => ({ size: 0 }));
      this.#maxWalBytes = Math.max(this.#maxWalBytes, size);
      await pause(WAL_SAMPLE_MS);
    }
  }
}

/** Why generations were started, in order. */
export function reasonsOf({ lines }: LitestreamProcess): string[] {
  return lines.flatMap((line) => {
    const [, reason] = /sync: new generation.*reason="?([^"]*)/.exec(line) ?? [];
    return reason === undefined ? [] : [reason];
  });
}
