/** One stress run: applications and litestream on one database, mishaps, and at the end the proof that nothing is lost. */

import { promises as fs } from 'node:fs';
import { pause, type LitestreamProcess } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { buildShim } from '../support/shim.ts';
import { checkPointsInTime } from '../support/points-in-time.ts';
import { compareDatabases, withSqlite } from '../support/sqlite.ts';
import { Workload, generator, readCommits, type WorkloadOptions } from '../support/workload.ts';

export interface StressOptions extends Omit<WorkloadOptions, 'path' | 'shim'> {
  readonly durationMs: number;
  /** Writers die in their WAL sync. */
  readonly shim?: boolean;
  /** litestream is killed after a random time up to this long and started again. */
  readonly killReplicatorEveryMs?: number;
  /** So many times everything is killed and the WAL is cut. */
  readonly powerLosses?: number;
  /** Lines of the database's config. */
  readonly database?: readonly string[];
}

export interface StressResult {
  readonly seed: number;
  readonly commits: number;
  /** Of writers. */
  readonly deaths: number;
  readonly replicatorKills: number;
  /** Power losses that took frames of the WAL away. */
  readonly walCuts: number;
  readonly generations: number;
  readonly indexes: number;
  readonly pointsInTime: number;
}

/** Runs to the end and rejects, naming the seed, when a restore is not what was committed. */
export async function runStress(options: StressOptions): Promise<StressResult> {
  let result: StressResult | undefined;
  try {
    await withRig(async (rig) => {
      result = await new Stress(rig, options).run();
    });
  } catch (error) {
    if (error instanceof Error) error.message = `LITESTREAM_SEED=${options.seed}: ${error.message}`;
    throw error;
  }
  return result!;
}

class Stress {
  readonly #rig: Rig;
  readonly #options: StressOptions;
  readonly #random: () => number;
  #litestream: LitestreamProcess | undefined;
  #deaths = 0;
  #replicatorKills = 0;
  #walCuts = 0;

  constructor(rig: Rig, options: StressOptions) {
    this.#rig = rig;
    this.#options = options;
    this.#random = generator(options.seed ^ 0x5eed);
  }

  async run(): Promise<StressResult> {
    const lives = 1 + (this.#options.powerLosses ?? 0);
    for (let life = 1; life <= lives; life++) await this.#live(life === lives);
    const restored = await this.#rig.restored();
    // Before the checkpoint: v0.3.13's own commits and ours are compared as they were stored.
    const whole = await readCommits(this.#rig.database);
    const difference = await compareDatabases(this.#rig.database, restored);
    if (difference !== undefined) throw new Error(`restore differs from the database: ${difference}`);
    const pointsInTime = await checkPointsInTime(this.#rig, (await this.#rig.generation()) ?? '', whole);
    const files = await this.#rig.replicaFiles();
    const indexes = new Set(files.filter((name) => name.includes('/wal/')).map((name) => name.split('_')[0]));
    return {
      seed: this.#options.seed,
      commits: whole.last,
      deaths: this.#deaths,
      replicatorKills: this.#replicatorKills,
      walCuts: this.#walCuts,
      generations: new Set(files.map((name) => name.split('/')[0])).size,
      indexes: indexes.size,
      pointsInTime,
    };
  }

  /** A workload with litestream beside it; the last life ends in order, the others in a power loss. */
  async #live(last: boolean): Promise<void> {
    const { durationMs, powerLosses = 0, killReplicatorEveryMs = 0, shim = false, ...rest } = this.#options;
    const preload = shim ? { shim: await buildShim(this.#rig.dir) } : {};
    const workload = await Workload.start({
      ...rest,
      ...preload,
      path: this.#rig.database,
      seed: Math.floor(this.#random() * 2 ** 31),
    });
    const deadline = Date.now() + durationMs / (powerLosses + 1);
    try {
      await this.#start();
      while (Date.now() < deadline) {
        const slice = killReplicatorEveryMs > 0 ? this.#random() * killReplicatorEveryMs : Infinity;
        await pause(Math.min(slice, Math.max(deadline - Date.now(), 0)));
        if (killReplicatorEveryMs > 0 && Date.now() < deadline) await this.#restart();
      }
    } finally {
      await (last ? workload.stop() : workload.crash());
      this.#deaths += workload.deaths;
    }
    if (last) {
      await this.#overwriteGhost();
      const exit = await this.#litestream!.stop();
      if (exit.code !== 0) throw new Error(`litestream exited ${exit.code ?? exit.signal}`);
      return;
    }
    await this.#litestream!.kill();
    if (await cutWal(this.#rig.database, this.#random)) this.#walCuts++;
  }

  /**
   * The last writer may have died between writing its commit frame and publishing it. Nobody has committed that, and
   * litestream rightly leaves it; but when all processes are gone, the recovery by the next one to open the database
   * takes it for committed, and the comparison would be with another state. One more commit goes over it.
   */
  async #overwriteGhost(): Promise<void> {
    await withSqlite({ path: this.#rig.database }, (sqlite) => sqlite.exec('PRAGMA user_version = 1'));
  }

  async #start(): Promise<void> {
    this.#litestream = await this.#rig.replicate({
      // Uploads race with the follower all the time.
      replica: [`path: ${this.#rig.replica}`, 'sync-interval: 1ms'],
      database: this.#options.database ?? [
        'min-checkpoint-page-count: 200',
        'max-checkpoint-page-count: 2000',
      ],
    });
    await this.#rig.snapshotStored();
  }

  async #restart(): Promise<void> {
    await this.#litestream!.kill();
    this.#replicatorKills++;
    await this.#start();
  }
}

/**
 * Cuts the WAL as a power loss may: somewhere after the frames that a checkpoint had begun to move into the database
 * (those were synced before), at a frame's end or inside one. No process may have the database open.
 * @returns false when there was nothing that could be lost
 */
async function cutWal(database: string, random: () => number): Promise<boolean> {
  const shm = await fs.readFile(`${database}-shm`);
  const wal = `${database}-wal`;
  const { size } = await fs.stat(wal);
  // Offsets of the wal-index header (page size, mxFrame) and of WalCkptInfo.nBackfillAttempted.
  const [stored, frames, backfilled] = [shm.readUInt16LE(14), shm.readUInt32LE(16), shm.readUInt32LE(128)];
  const pageSize = stored === 1 ? 65536 : stored;
  if (frames <= backfilled) return false;
  const frame = backfilled + Math.floor(random() * (frames - backfilled));
  const inside = random() < 0.5 ? Math.floor(random() * pageSize) : 0;
  await fs.truncate(wal, Math.min(size, 32 + frame * (24 + pageSize) + inside));
  return true;
}
