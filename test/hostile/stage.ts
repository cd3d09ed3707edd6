/** What all cases share: the truths, the application that knows their states, a folder, and who watches over the time. */

import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { Application } from '../crash/application.ts';
import { type Truth, writeTruths } from './truth.ts';

/** An event loop that stands still for so long ends everything: no timer of its own would tell. */
const STANDSTILL_MS = 60_000;
const BEAT_MS = 250;

/** Kills this process, and says what it was at, when the beats cease. */
const WATCHER = `
  const { workerData } = require('node:worker_threads');
  const { beats, text, limit } = workerData;
  const last = { count: -1, at: Date.now() };
  setInterval(() => {
    const count = Atomics.load(beats, 0);
    if (count !== last.count) { last.count = count; last.at = Date.now(); return; }
    if (Date.now() - last.at < limit) return;
    const end = text.indexOf(0);
    const what = Buffer.from(text.slice(0, end < 0 ? undefined : end)).toString();
    require('node:fs').writeSync(2, 'E1 stands still in one of:\\n' + what + '\\n');
    process.kill(process.pid, 'SIGKILL');
  }, 1000);`;

export class Stage {
  readonly dir: string;
  readonly truths: readonly Truth[];
  readonly application: Application;
  readonly #beats = new Int32Array(new SharedArrayBuffer(4));
  readonly #text = new Uint8Array(new SharedArrayBuffer(32_768));
  readonly #watcher: Worker;
  readonly #beat: NodeJS.Timeout;
  readonly #active = new Map<string, string>();
  #count = 0;

  private constructor(dir: string, truths: readonly Truth[], application: Application) {
    this.dir = dir;
    this.truths = truths;
    this.application = application;
    const workerData = { beats: this.#beats, text: this.#text, limit: STANDSTILL_MS };
    this.#watcher = new Worker(WATCHER, { eval: true, workerData });
    this.#beat = setInterval(() => Atomics.add(this.#beats, 0, 1), BEAT_MS);
  }

  static async set(seed: number): Promise<Stage> {
    const base = await fs.access('/dev/shm').then(() => '/dev/shm', tmpdir);
    const dir = await fs.realpath(await fs.mkdtemp(join(base, 'litestream-hostile-')));
    const application = new Application(seed);
    try {
      await fs.mkdir(join(dir, 'truth'));
      return new Stage(dir, await writeTruths(join(dir, 'truth'), application), application);
    } catch (error) {
      await application.kill();
      await fs.rm(dir, { recursive: true, force: true });
      throw error;
    }
  }

  /** Says what is being done, for the case that it never ends. */
  enter(name: string, what: string): void {
    this.#active.set(name, what);
    this.#tell();
    if (process.env['HOSTILE_VERBOSE'] !== undefined) console.log(`${name} ${what}`);
  }

  leave(name: string): void {
    this.#active.delete(name);
    this.#tell();
  }

  /** What is known of a case that has been entered. */
  whatOf(name: string): string {
    return this.#active.get(name) ?? '';
  }

  #tell(): void {
    const lines = [...this.#active].map(([name, what]) => `HOSTILE_CASE=${name} ${what}`);
    this.#text.fill(0);
    this.#text.set(Buffer.from(lines.join('\n')).subarray(0, this.#text.length - 1));
  }

  /** A name of a file that is not there, in a folder of its own. */
  freePath(): string {
    return join(this.dir, `restored-${this.#count++}`);
  }

  async strike(): Promise<void> {
    clearInterval(this.#beat);
    await this.#watcher.terminate();
    await this.application.kill();
    await fs.rm(this.dir, { recursive: true, force: true });
  }
}
