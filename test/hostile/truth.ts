/**
 * True replicas, written by litestream itself days ago by its clock: two generations, several indexes and snapshots, and the
 * states that the application has committed. Everything that a hostile store tells is told around one of these.
 */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { callControl } from '../../src/control/client.ts';
import { decodeLz4FrameBytes, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import type { Application } from '../crash/application.ts';
import { type LitestreamProcess, startLitestream, until } from '../support/process.ts';

const CLOCK = fileURLToPath(new URL('../support/clock.mjs', import.meta.url));
const HOUR_MS = 3600_000;
const STORED_MS = 20_000;

export interface TrueObject {
  readonly data: Buffer;
  readonly modifiedAt: Date;
}

export type Objects = ReadonlyMap<string, TrueObject>;

/** Between two lives of litestream nothing was committed: at this time the database had so many commits. */
export interface Moment {
  readonly atMs: number;
  readonly commits: number;
}

export interface Truth {
  readonly name: string;
  readonly objects: Objects;
  /** From the oldest to the newest. */
  readonly generations: readonly string[];
  readonly moments: readonly Moment[];
  /** Commits of the latest state. */
  readonly commits: number;
  /** Whether its objects say what they are: v0.3.13's do not. */
  readonly isTold: boolean;
  /** The database file, at rest. */
  readonly database: Buffer;
}

/** What litestream does so many hours ago, and whether it begins a generation then. */
interface Past {
  readonly hoursAgo: number;
  readonly isNew?: boolean;
  /** Indexes that are filled; each ends with a checkpoint. */
  readonly indexes: number;
  readonly snapshots: boolean;
}

const PASTS: readonly Past[] = [
  { hoursAgo: 70, indexes: 2, snapshots: false },
  { hoursAgo: 50, indexes: 2, snapshots: true },
  { hoursAgo: 40, indexes: 1, snapshots: false },
  { hoursAgo: 30, indexes: 1, snapshots: true, isNew: true },
  { hoursAgo: 12, indexes: 2, snapshots: true },
  { hoursAgo: 3, indexes: 2, snapshots: false },
];

/** Writes the replica; `application` has it on record what was committed. */
class Writer {
  readonly #dir: string;
  readonly #application: Application;
  readonly #times = new Map<string, Date>();
  readonly #moments: Moment[] = [];

  constructor(dir: string, application: Application) {
    this.#dir = dir;
    this.#application = application;
  }

  get #replica(): string {
    return join(this.#dir, 'replica');
  }

  async write(): Promise<Pick<Truth, 'objects' | 'moments' | 'commits' | 'generations' | 'database'>> {
    const path = join(this.#dir, 'db');
    await this.#application.open(path);
    for (const [number, past] of PASTS.entries()) {
      await this.#live(past);
      const next = PASTS[number + 1];
      const untilMs = next ? next.hoursAgo : 0;
      const atMs = Date.now() - ((past.hoursAgo + untilMs) / 2) * HOUR_MS;
      this.#moments.push({ atMs, commits: this.#application.n });
    }
    await this.#application.checkpoint('TRUNCATE');
    await this.#application.close();
    const objects = new Map<string, TrueObject>();
    for (const [key, modifiedAt] of this.#times)
      objects.set(key, { data: await fs.readFile(join(this.#replica, key)), modifiedAt });
    const firstMs = new Map<string, number>();
    for (const [key, { modifiedAt }] of objects) {
      const generation = key.split('/')[1]!;
      firstMs.set(generation, Math.min(firstMs.get(generation) ?? Infinity, modifiedAt.getTime()));
    }
    const generations = [...firstMs].sort((a, b) => a[1] - b[1]).map(([name]) => name);
    const database = await fs.readFile(path);
    return { objects, moments: this.#moments, commits: this.#application.n, generations, database };
  }

  async #live({ hoursAgo, indexes, snapshots, isNew = false }: Past): Promise<void> {
    const application = this.#application;
    if (isNew) {
      // What is committed while nobody follows is lost to the generation.
      await application.commit(2);
      await application.checkpoint('TRUNCATE');
      await application.commit(1);
      await application.checkpoint('TRUNCATE');
    }
    const litestream = await this.#start(hoursAgo, snapshots);
    for (let index = 0; index < indexes; index++) {
      for (let segment = 0; segment < 2; segment++) {
        await application.commit(2);
        await this.#stored();
      }
      if (index + 1 < indexes || snapshots) await application.checkpoint('TRUNCATE');
    }
    if (snapshots) {
      const seen = litestream.lines.length;
      await application.commit(1);
      await until(() => litestream.lines.slice(seen).some((line) => line.includes('snapshot written')), {
        describe: () => `no snapshot\n${litestream.lines.slice(-20).join('\n')}`,
      });
      await this.#stored();
    }
    const { code } = await litestream.stop();
    if (code !== 0) throw new Error(`litestream exited ${code}\n${litestream.lines.slice(-20).join('\n')}`);
    await this.#dateObjects(hoursAgo);
  }

  async #start(hoursAgo: number, snapshots: boolean): Promise<LitestreamProcess> {
    const clock = join(this.#dir, 'clock');
    await fs.writeFile(clock, String(-hoursAgo * HOUR_MS));
    // It would tell that the clock, and not the time, went on by hours.
    await fs.rm(join(this.#dir, '.db-litestream', 'clock.json'), { force: true });
    const config = join(this.#dir, 'litestream.yml');
    const lines = [
      'dbs:',
      `  - path: ${join(this.#dir, 'db')}`,
      '    monitor-interval: 20ms',
      '    replicas:',
      `      - path: ${this.#replica}`,
      '        sync-interval: 10ms',
      '        retention: 10000h',
      ...(snapshots ? ['        snapshot-interval: 1ms'] : []),
    ];
    await fs.writeFile(config, `${lines.join('\n')}\n`);
    const env = { NODE_OPTIONS: `--import=${CLOCK}`, CLOCK_FILE: clock };
    const litestream = startLitestream({ binary: 'ours', args: ['replicate', '-config', config], env });
    await litestream.waitForLine(/replicating to/);
    await litestream.waitForLine(/"(sync|waiting): /);
    return litestream;
  }

  async #stored(): Promise<void> {
    const socket = join(this.#dir, '.db-litestream', 'control.sock');
    const body = { wait: true, timeoutMs: STORED_MS };
    const signal = AbortSignal.timeout(STORED_MS + 1000);
    await callControl(socket, { method: 'POST', path: '/sync', body, signal });
  }

  /** New objects are as old as the life that wrote them. */
  async #dateObjects(hoursAgo: number): Promise<void> {
    const names = await fs.readdir(this.#replica, { recursive: true });
    for (const key of names.filter((name) => name.endsWith('.lz4'))) {
      if (this.#times.has(key)) continue;
      const { mtimeMs } = await fs.stat(join(this.#replica, key));
      this.#times.set(key, new Date(Math.floor(mtimeMs - hoursAgo * HOUR_MS)));
    }
  }
}

/** The same replica as v0.3.13 would have it: its objects say nothing of themselves. */
function untold(truth: Truth): Truth {
  const objects = new Map<string, TrueObject>();
  for (const [key, { data, modifiedAt }] of truth.objects)
    objects.set(key, { data: Buffer.from(encodeLz4FrameBytes(decodeLz4FrameBytes(data))), modifiedAt });
  return { ...truth, name: 'untold', objects, isTold: false };
}

/** The newest generation alone. */
function newest(truth: Truth): Truth {
  const name = truth.generations.at(-1)!;
  const objects = new Map([...truth.objects].filter(([key]) => key.split('/')[1] === name));
  const firstMs = Math.min(...[...objects.values()].map(({ modifiedAt }) => modifiedAt.getTime()));
  const moments = truth.moments.filter(({ atMs }) => atMs > firstMs);
  return { ...truth, name: 'newest', objects, moments, generations: [name] };
}

/** Writes a replica in `dir` and derives others from it. `application` knows its states from then on. */
export async function writeTruths(dir: string, application: Application): Promise<readonly Truth[]> {
  const written = await new Writer(dir, application).write();
  const whole: Truth = { name: 'whole', isTold: true, ...written };
  return [whole, newest(whole), untold(whole)];
}
