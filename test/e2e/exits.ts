/**
 * Code 0 stands for the result, whatever happens to a command or to its replica: each one is interrupted or killed at
 * random moments while its replica has random damage, or gets it meanwhile.
 */

import { existsSync, promises as fs, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect } from 'vitest';
import {
  type LitestreamProcess,
  type RunResult,
  pause,
  runLitestream,
  startLitestream,
  withTempDir,
} from '../support/process.ts';
import { withSqlite } from '../support/sqlite.ts';
import { generator } from '../support/workload.ts';
import { type Damage, KINDS, PROGRAM, PROGRAM_ROW, type Place, RESTORES, restored } from './exit-kinds.ts';

/** So that LZ4 is decompressed in a thread: random bytes, in the snapshot and in the segment after it. */
const HALF_SIZE = 16 << 20;
const SIGNALS = ['SIGTERM', 'SIGINT', 'SIGKILL'] as const;
const DAMAGES: readonly Damage[] = ['flipped', 'cut', 'deleted'];

type Random = () => number;

/** What happens to a command while it runs. */
interface Strike {
  /** After it has begun to restore; else after its start. */
  readonly aimed: boolean;
  readonly atMs: number;
}

/** How commands ended. */
export interface ExitTally {
  rounds: number;
  /** With code 0, each of them checked. */
  succeeded: number;
  signalled: number;
  damaged: number;
}

export class ExitRounds {
  readonly tally: ExitTally = { rounds: 0, succeeded: 0, signalled: 0, damaged: 0 };
  readonly #dir: string;
  readonly #random: Random;
  /** How long each takes in all, and after it has begun to restore. */
  readonly #durations = new Map<string, { readonly allMs: number; readonly restoreMs: number }>();
  readonly #expected: Buffer;
  #places = 0;

  constructor(dir: string, random: Random, expected: Buffer) {
    this.#dir = dir;
    this.#random = random;
    this.#expected = expected;
  }

  /** One command, left alone: it must do what it is for. */
  async calm(name: string): Promise<void> {
    const { endless = RESTORES, code = 0 } = KINDS[name]!;
    const place = await this.#place(name, endless !== RESTORES, false);
    const beside = await this.#beside(name, place);
    const startedAt = performance.now();
    const running = this.#start(name, place);
    await running.waitForLine(endless).catch(() => undefined);
    const begunAt = performance.now();
    if (endless !== RESTORES) running.signal('SIGTERM');
    const exit = await running.exited;
    const endedAt = performance.now();
    await beside?.kill();
    this.#durations.set(name, { allMs: endedAt - startedAt, restoreMs: endedAt - begunAt });
    const output = running.lines.join('\n');
    expect(exit.code, output).toBe(code);
    await this.#check(name, place, { ...exit, stdout: output, stderr: '' });
  }

  /** One command that is interrupted, damaged, or both. */
  async rough(name: string): Promise<void> {
    const { damages = DAMAGES, endless, beside: isBeside = false } = KINDS[name]!;
    const turn = this.#random();
    const damage = turn < 0.4 || damages.length === 0 ? undefined : this.#pick(damages);
    const interrupted = (turn >= 0.1 && turn < 0.7) || endless !== undefined;
    const signal = this.#pick(SIGNALS);
    const hitsBeside = isBeside && this.#random() < 0.5;
    const later = damage !== undefined && name.startsWith('restore') && this.#random() < 0.5;
    const strike = this.#strike(name);
    const damageAt = this.#strike(name);
    const place = await this.#place(name, interrupted && !hitsBeside, later);
    const beside = await this.#beside(name, place);
    const replica = join(place.dir, 'replica');
    if (damage !== undefined && !later) place.damage = await this.#damage(replica, damage, 'anew');
    const running = this.#start(name, place);
    await Promise.all([
      interrupted && this.#when(running, strike, () => (hitsBeside ? beside! : running).signal(signal)),
      later &&
        this.#when(running, damageAt, async () => {
          place.damage = await this.#damage(replica, damage, 'in place');
        }),
    ]);
    const exit = await running.exited;
    await beside?.kill();
    this.#add(exit.code, place);
    const output = running.lines.join('\n');
    try {
      expect(output).not.toMatch(/without finishing|bug in litestream/);
      await this.#check(name, place, { ...exit, stdout: output, stderr: '' });
    } catch (error) {
      const sent = `${signal}${hitsBeside ? ' to replicate' : ''} ${describe(strike)}`;
      const hurt = `${place.damage || 'whole'}${later ? ` ${describe(damageAt)}` : ''}`;
      const told = `${name}, replica ${hurt}, ${interrupted ? sent : 'no signal'}`;
      if (error instanceof Error) error.message += `\n${told}: ${JSON.stringify(exit)}\n${output}`;
      throw error;
    }
    rmSync(place.dir, { recursive: true });
  }

  #add(code: number | null, { signalled, damage }: Place): void {
    this.tally.rounds++;
    if (code === 0) this.tally.succeeded++;
    if (signalled) this.tally.signalled++;
    if (damage !== '') this.tally.damaged++;
  }

  /** Of restores most while they restore: what comes before that takes longer. */
  #strike(name: string): Strike {
    const { allMs, restoreMs } = this.#durations.get(name)!;
    const aimed = this.#random() < 0.7 && name.startsWith('restore');
    return { aimed, atMs: this.#random() * (aimed ? restoreMs : allMs * 1.1) };
  }

  /** Does something when it is time for it, unless the command has ended by then. */
  async #when(
    running: LitestreamProcess,
    { aimed, atMs }: Strike,
    act: () => Promise<void> | void,
  ): Promise<void> {
    if (aimed) await running.waitForLine(RESTORES).catch(() => undefined);
    await Promise.race([pause(atMs), running.exited]);
    if (running.running) await act();
  }

  #start(name: string, place: Place): LitestreamProcess {
    const args = [name.replace(/ .*/, ''), ...KINDS[name]!.args(place)];
    return startLitestream({ binary: 'ours', args, cwd: place.dir });
  }

  /** The replicate that runs beside the command, with a commit that it stores in an hour unless it is asked to. */
  async #beside(name: string, { config, database }: Place): Promise<LitestreamProcess | undefined> {
    if (KINDS[name]!.beside !== true) return undefined;
    const replicate = startLitestream({ binary: 'ours', args: ['replicate', '-config', config] });
    await replicate.waitForLine(/snapshot written/);
    await withSqlite({ path: database, timeoutMs: 5000 }, async (app) => {
      // The first one after a quiet time is stored at once.
      await app.exec('INSERT INTO t VALUES (3)');
      const args = ['sync', '-wait', '-config', config];
      const { code, stderr } = await runLitestream({ binary: 'ours', args });
      expect(code, stderr).toBe(0);
      await app.exec('INSERT INTO t VALUES (4)');
    });
    return replicate;
  }

  async #check(name: string, place: Place, result: RunResult): Promise<void> {
    const killed = result.signal === 'SIGKILL';
    const left = readdirSync(place.dir).filter((file) => file.includes('.tmp') || file.endsWith('-journal'));
    if (!killed) expect(left, 'nothing is left behind').toEqual([]);
    const { existing = false, check } = KINDS[name]!;
    if (result.code === 0) await check(place, result, this.#expected);
    else if (killed && !existing && existsSync(place.database)) await restored(place, result, this.#expected);
    else expect(existsSync(place.database)).toBe(existing);
  }

  /** @param own the objects are the place's own, and may be changed where they are */
  async #place(name: string, signalled: boolean, own: boolean): Promise<Place> {
    const { existing = false, beside = false } = KINDS[name]!;
    const dir = join(this.#dir, `round-${this.#places++}`);
    const database = join(dir, 'app.db');
    const config = join(dir, 'config.yml');
    await fs.mkdir(dir);
    const names = beside ? [] : await fs.readdir(join(this.#dir, 'replica'), { recursive: true });
    for (const object of names) {
      const [from, to] = [join(this.#dir, 'replica', object), join(dir, 'replica', object)];
      if (!object.endsWith('.lz4')) await fs.mkdir(to, { recursive: true });
      else await (own ? fs.copyFile(from, to) : fs.link(from, to));
    }
    const interval = beside ? ', sync-interval: 1h' : '';
    const replica = `{path: ${join(dir, 'replica')}${interval}}`;
    await fs.writeFile(config, `dbs: [{path: ${database}, replicas: [${replica}]}]\n`);
    if (existing) await fs.copyFile(join(this.#dir, 'old.db'), database);
    return { dir, config, database, damage: '', signalled };
  }

  /** @returns what was done, in words */
  async #damage(replica: string, damage: Damage, how: 'anew' | 'in place'): Promise<string> {
    const names = (await fs.readdir(replica, { recursive: true })).filter((name) => name.endsWith('.lz4'));
    // That the last segment is gone cannot be told from a replica.
    const last = damage === 'deleted' ? -1 : undefined;
    const path = join(replica, this.#pick(names.sort().slice(0, last)));
    const content = await fs.readFile(path);
    const at = Math.floor(this.#random() * content.byteLength);
    content[at]! ^= 1 << Math.floor(this.#random() * 8);
    if (how === 'anew' || damage === 'deleted') await fs.rm(path);
    if (damage !== 'deleted') {
      const file = await fs.open(path, how === 'anew' ? 'wx' : 'r+');
      await file.write(damage === 'cut' ? content.subarray(0, at) : content, 0, undefined, 0);
      if (damage === 'cut') await file.truncate(at);
      await file.close();
    }
    return `${damage} ${path.slice(replica.length)} at ${at}`;
  }

  #pick<T>(values: readonly T[]): T {
    return values[Math.floor(this.#random() * values.length)]!;
  }
}

function describe({ aimed, atMs }: Strike): string {
  return `${atMs} ms after ${aimed ? 'it has begun to restore' : 'its start'}`;
}

/** A replica of two halves, as `old.db` the first of them, and a program. @returns the whole database */
async function prepare(dir: string): Promise<Buffer> {
  const path = join(dir, 'app.db');
  const config = join(dir, 'config.yml');
  await fs.writeFile(config, `dbs: [{path: ${path}, replicas: [{path: ${join(dir, 'replica')}}]}]\n`);
  const sqlite = pathToFileURL(createRequire(import.meta.url).resolve('better-sqlite3')).href;
  await fs.writeFile(
    join(dir, PROGRAM),
    `import Database from '${sqlite}';
    new Database(process.argv[2], { timeout: 5000 }).exec('INSERT INTO t VALUES (${PROGRAM_ROW})');\n`,
  );
  await withSqlite({ path, pragmas: ['journal_mode=WAL'] }, async (app) => {
    await app.exec('CREATE TABLE t (x)');
    await app.exec(`INSERT INTO t VALUES (randomblob(${HALF_SIZE}))`);
    await app.checkpoint('TRUNCATE');
    await fs.copyFile(path, join(dir, 'old.db'));
    const replicate = startLitestream({ binary: 'ours', args: ['replicate', '-config', config] });
    await replicate.waitForLine(/snapshot written/);
    await app.exec(`INSERT INTO t VALUES (randomblob(${HALF_SIZE}))`);
    await runLitestream({ binary: 'ours', args: ['sync', '-wait', '-config', config] });
    await app.exec('INSERT INTO t VALUES (1)');
    expect(await replicate.stop()).toEqual({ code: 0, signal: null });
  });
  const out = join(dir, 'expected.db');
  const args = ['restore', '-o', out, `file://${dir}/replica`];
  const result = await runLitestream({ binary: 'oracle', args });
  expect(result.code, result.stderr).toBe(0);
  return fs.readFile(out);
}

/** Runs `body` with rounds of this seed, which is added to the message of a failure. */
export async function withExits(seed: number, body: (rounds: ExitRounds) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    try {
      await body(new ExitRounds(dir, generator(seed), await prepare(dir)));
    } catch (error) {
      if (error instanceof Error) error.message = `LITESTREAM_SEED=${seed}: ${error.message}`;
      throw error;
    }
  });
}
