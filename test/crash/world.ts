/**
 * The world of one case: a folder with a database and its replica, the application, litestream with or without faults, and
 * what was claimed to be stored. Its checks are the invariants; each throws an error that names the one that is broken:
 * I1 what was claimed as stored is restored, I2 what is restored is an exact prefix of the commits, I3 nothing is healthy while it is
 * not stored, I4 the application is never locked out, and its database stays whole, I5 everything recovers by itself,
 * I6 nothing is lost around checkpoints.
 */

import { promises as fs, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { callControl } from '../../src/control/client.ts';
import { openFileStore } from '../../src/storage/file/file-store.ts';
import { expectChain } from '../support/replica-chain.ts';
import { runLitestream, type Binary, type RunResult } from '../support/process.ts';
import { Application, type Content } from './application.ts';
import { Life } from './life.ts';
import { buildShim, Control, shimEnvironment, type Fault, type ShimOptions } from './shim.ts';

/** Longer than any back-off after a few failures. */
const RECOVERY_MS = 90_000;

export interface WorldOptions {
  /** Lines of the database's entry of the config. */
  readonly database?: readonly string[];
  /** Lines of the replica's entry. */
  readonly replica?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

export interface LifeOptions extends Partial<Omit<ShimOptions, 'library' | 'folder' | 'control'>> {
  readonly fault?: Fault | undefined;
  readonly clockSeconds?: number;
  readonly options?: WorldOptions;
  /** Another place than the world's: a clone. */
  readonly data?: string;
}

/** Those of `defaults` whose key `lines` do not set. */
function unless(lines: readonly string[], defaults: readonly string[]): string[] {
  const keyOf = (line: string): string => line.split(':')[0]!;
  return defaults.filter((line) => !lines.some((own) => keyOf(own) === keyOf(line)));
}

let library: Promise<string> | undefined;

/** Compiled once for all cases. Rejects when there is no compiler. */
export function shimLibrary(): Promise<string> {
  library ??= fs.mkdtemp(join(tmpdir(), 'litestream-shim-')).then((dir) => {
    process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
    return buildShim(dir);
  });
  return library;
}

/** A folder in memory where there is one: what a disk loses is made by the suite, not awaited. */
async function makeFolder(): Promise<string> {
  const base = process.env['CRASH_DIR'] ?? (await fs.access('/dev/shm').then(() => '/dev/shm', tmpdir));
  return await fs.realpath(await fs.mkdtemp(join(base, 'litestream-crash-')));
}

export class World {
  readonly dir: string;
  readonly seed: number;
  readonly library: string;
  app: Application;
  options: WorldOptions;
  /** So many commits were claimed to be stored. */
  claimed = 0;
  /** Where the last fault struck, in brackets; empty when it did not. */
  struck = '';
  readonly #lives: Life[] = [];
  readonly #apps: Application[] = [];
  readonly #controls: Control[] = [];
  readonly #log: string[] = [];
  #count = 0;

  private constructor(dir: string, seed: number, library_: string, app: Application, options: WorldOptions) {
    this.dir = dir;
    this.seed = seed;
    this.library = library_;
    this.app = app;
    this.options = options;
    this.#apps.push(app);
  }

  /** Runs one case; what struck in it. What it started ends, whatever happens; `CRASH_KEEP` keeps the folder when it fails. */
  static async run(
    seed: number,
    options: WorldOptions,
    body: (world: World) => Promise<void>,
    appEnv: (dir: string, library: string) => Record<string, string> = () => ({}),
  ): Promise<string> {
    const shim = await shimLibrary();
    const dir = await makeFolder();
    await fs.mkdir(join(dir, 'data'));
    const world = new World(dir, seed, shim, new Application(seed, appEnv(dir, shim)), options);
    let failed = true;
    try {
      await body(world);
      failed = false;
      return world.struck;
    } catch (error) {
      if (error instanceof Error) error.message = await world.#explain(error.message);
      throw error;
    } finally {
      await world.#end();
      if (failed && process.env['CRASH_KEEP'] !== undefined) await world.#keep();
      else await fs.rm(dir, { recursive: true, force: true });
    }
  }

  get data(): string {
    return join(this.dir, 'data');
  }
  get db(): string {
    return join(this.data, 'db');
  }
  get meta(): string {
    return join(this.data, '.db-litestream');
  }
  get replica(): string {
    return join(this.data, 'replica');
  }

  /** Goes on with another application. It is ended with the world. */
  use(app: Application): void {
    this.#apps.push(app);
    this.app = app;
  }

  /** Removes the backup under litestream. What was claimed of it is no longer. */
  async loseReplica(): Promise<void> {
    await fs.rm(this.replica, { recursive: true, force: true, maxRetries: 20, retryDelay: 5 });
    this.claimed = 0;
  }

  note(line: string): void {
    this.#log.push(line);
  }

  /** Writes a config; its path. */
  async config({ options = this.options, data = this.data }: LifeOptions = {}): Promise<string> {
    const path = join(this.dir, `litestream-${this.#count++}.yml`);
    const { database: own = [], replica = [] } = options;
    const defaults = ['monitor-interval: 20ms', 'min-checkpoint-page-count: 12'];
    const database = [`path: ${join(data, 'db')}`, ...unless(own, defaults), ...own];
    const place = replica.some((line) => line.startsWith('type:')) ? [] : [`path: ${this.replica}`];
    const lines = [
      'dbs:',
      ...database.map((line, i) => `${i === 0 ? '  - ' : '    '}${line}`),
      '    replicas:',
      ...[...place, ...unless(replica, ['sync-interval: 20ms']), ...replica].map(
        (line, i) => `${i === 0 ? '      - ' : '        '}${line}`,
      ),
    ];
    await fs.writeFile(path, `${lines.join('\n')}\n`);
    return path;
  }

  /** Starts `replicate`, and does not wait for anything. */
  async start(given: LifeOptions = {}): Promise<Life> {
    const config = await this.config(given);
    const control = new Control(join(this.dir, `control-${this.#count++}`), given.fault);
    if (given.clockSeconds !== undefined) control.setClock(given.clockSeconds);
    const { library: shim, data: folder } = this;
    const env = {
      ...shimEnvironment({ library: shim, folder: given.data ?? folder, control, ...given }),
      ...(given.options ?? this.options).env,
    };
    const life = new Life({ config, control, env, metaDir: join(given.data ?? folder, '.db-litestream') });
    this.#lives.push(life);
    return life;
  }

  /** Has `life` claim that everything is stored. Whether it did, in time and before it is `over`. */
  async claim(life: Life, over?: () => boolean): Promise<boolean> {
    const { n } = this.app;
    const done = await life.sync(RECOVERY_MS, over);
    if (done) this.claimed = n;
    return done;
  }

  /** SIGTERM. Exit code 0 claims that everything is stored. */
  async stop(life: Life): Promise<void> {
    const { n } = this.app;
    const { code, signal } = await life.stop();
    this.note(`stopped: ${code ?? signal}`);
    if (code === 0) this.claimed = n;
  }

  /** Restores to a file of its own, in a process of its own. */
  async restore(
    binary: Binary = 'ours',
    args: readonly string[] = [],
  ): Promise<RunResult & { readonly path: string }> {
    const path = join(this.dir, `restored-${this.#count++}`);
    const remote = this.options.replica?.some((line) => line.startsWith('type:')) === true;
    const source = remote ? ['-config', await this.config(), this.db] : [`file://${this.replica}`];
    const env = this.options.env ?? {};
    return {
      path,
      ...(await runLitestream({ binary, args: ['restore', '-o', path, ...args, ...source], env })),
    };
  }

  /**
   * I1 and I2 at this moment: what is restored is an exact prefix of what was committed, with all that was claimed.
   * @returns the content, undefined when there is nothing to restore and nothing was claimed
   */
  async expectClaimed(
    when: string,
    binary: Binary = 'ours',
    atLeast = this.claimed,
  ): Promise<Content | undefined> {
    const { code, path, stdout, stderr } = await this.#restoreWhole(binary);
    const whose = binary === 'ours' ? 'restore' : "v0.3.13's restore";
    if (code !== 0) {
      if (atLeast === 0) return undefined;
      throw new Error(
        `I1 ${when}: ${atLeast} commits were claimed, ${whose} exits ${code}: ${stdout}${stderr}`,
      );
    }
    const content = await this.app.inspect(path).catch((error: unknown) => {
      throw new Error(`I2 ${when} (${whose}): ${(error as Error).message}`, { cause: error });
    });
    if (content.n < atLeast)
      throw new Error(`I1 ${when}: ${atLeast} commits were claimed, ${whose} gives ${content.n}`);
    return content;
  }

  /**
   * v0.3.13 takes a generation whose first snapshot is not stored yet, and fails: its user names the one before then. The WAL
   * must be there first nevertheless, since a snapshot alone would be restored to a malformed database.
   */
  async #restoreWhole(binary: Binary): ReturnType<World['restore']> {
    const result = await this.restore(binary);
    const before = await this.#newestWithSnapshot();
    if (binary === 'ours' || before === undefined || !/no snapshots available/.test(result.stderr))
      return result;
    return await this.restore(binary, ['-generation', before]);
  }

  /** Of a file replica: the generation with the newest snapshot. */
  async #newestWithSnapshot(): Promise<string | undefined> {
    const names = await fs.readdir(this.replica, { recursive: true }).catch(() => [] as string[]);
    const found = await Promise.all(
      names
        .filter((name) => /^generations\/[0-9a-f]{16}\/snapshots\/.*\.lz4$/.test(name))
        .map(async (name) => ({
          generation: name.split('/')[1]!,
          ms: (await fs.stat(join(this.replica, name))).mtimeMs,
        })),
    );
    return found.sort((a, b) => b.ms - a.ms)[0]?.generation;
  }

  /** Nothing in a file replica stands before what it needs. Not after retention. */
  async expectOrder(when: string): Promise<void> {
    await expectChain(openFileStore({ type: 'file', path: this.replica })).catch((error: unknown) => {
      throw new Error(`I2 ${when}: ${(error as Error).message}`, { cause: error });
    });
  }

  /** Everything is committed, claimed, and restored by both programs; the live database is whole, and all is healthy. */
  async expectAll(life: Life, when: string): Promise<void> {
    await this.expectClaim(life, when);
    await life.expectHealthy(when);
    await this.stop(life);
    if (this.claimed !== this.app.n) throw new Error(`I5 ${when}: SIGTERM did not end it with exit code 0`);
    await this.expectStored(when);
  }

  /** Restores by a process that meets `fault`, to the arguments' path. */
  async restoreWith(
    fault: Fault,
    args: readonly string[],
  ): Promise<RunResult & { readonly control: Control }> {
    const control = new Control(join(this.dir, `control-${this.#count++}`), fault);
    const env = shimEnvironment({ library: this.library, folder: this.data, control });
    const options = { binary: 'ours', args: ['restore', ...args, `file://${this.replica}`], env } as const;
    this.#controls.push(control);
    return { ...(await runLitestream(options)), control };
  }

  /** That of the last restoreWith(). */
  get lastControl(): Control | undefined {
    return this.#controls.at(-1);
  }

  /** I3 and I5: it claims, by itself and in time, that everything is stored. */
  async expectClaim(life: Life, when: string): Promise<void> {
    if (await this.claim(life)) return;
    const status = await life.status().catch((error: unknown) => ({ error: String(error) }));
    throw new Error(`I5 ${when}: nothing is claimed as stored; status: ${JSON.stringify(status)}`);
  }

  /** Both programs restore all commits; the live database has them too. */
  async expectStored(when: string, binaries: readonly Binary[] = ['ours', 'oracle']): Promise<void> {
    await this.app.expectAlive().catch((error: unknown) => {
      throw new Error(`I4 ${when}: ${(error as Error).message}`, { cause: error });
    });
    for (const binary of binaries) {
      const content = await this.expectClaimed(when, binary, this.app.n);
      if (content && !this.app.isPrefix(content))
        throw new Error(`I1 ${when}: ${binary} restores a history that was given up`);
    }
  }

  /** The faults have ended: a life without them, with commits before and during it, and then everything is checked. */
  async recover(given: LifeOptions = {}): Promise<void> {
    await this.app.commit(2);
    const life = await this.start(given);
    await this.app.commit(3);
    await this.expectAll(life, `after the faults ${this.struck}`);
  }

  /** A call on the control socket of a running litestream. */
  async ask(life: Life, method: 'GET' | 'POST', path: string, body?: object): Promise<unknown> {
    return await callControl(life.socket, { method, path, body, signal: AbortSignal.timeout(20_000) });
  }

  async #explain(message: string): Promise<string> {
    const logs = this.#lives.map((life, i) => `--- life ${i + 1}${life.summary()}\n${life.tail()}`);
    const names = await fs.readdir(this.data, { recursive: true }).catch(() => [] as string[]);
    const notes = this.#log.length > 0 ? [`--- notes\n${this.#log.join('\n')}`] : [];
    return [message, ...notes, ...logs, `--- files\n${names.sort().join('\n')}`].join('\n');
  }

  async #end(): Promise<void> {
    await Promise.all([...this.#lives.map((life) => life.end()), ...this.#apps.map((app) => app.kill())]);
    for (const control of this.#controls) control.close();
  }

  /** Moves the folder to where it is looked at. */
  async #keep(): Promise<void> {
    const kept = process.env['CRASH_KEEP']!;
    await fs.mkdir(kept, { recursive: true });
    await fs.cp(this.dir, join(kept, this.dir.split('/').at(-1)!), {
      recursive: true,
      preserveTimestamps: true,
    });
    await fs.rm(this.dir, { recursive: true, force: true });
  }
}
