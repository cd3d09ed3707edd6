/** Cases of a live `replicate` whose store lies for a while, beside an application that goes on writing. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { callControl } from '../../src/control/client.ts';
import { Application } from '../crash/application.ts';
import { pause, startLitestream, until, type LitestreamProcess } from '../support/process.ts';
import { Chance } from './chance.ts';
import { HostileServer } from './hostile-server.ts';
import { Lies } from './lie.ts';
import { PLANTINGS } from './planting.ts';
import { TELLINGS } from './telling.ts';
import { MemoryWatch, expectSober, runWatched } from './watched.ts';
import { historyOf, lostOf } from './window.ts';
import { chooseWire } from './wire.ts';
import type { Met } from './runner.ts';
import type { Stage } from './stage.ts';
import type { Truth, TrueObject } from './truth.ts';

/** Longer than any back-off after some failures. */
const RECOVERY_MS = 120_000;
const COMMAND_MS = 120_000;
const ROUNDS = 6;
const RETENTION_MS = 3000;

/** What it holds now, as a truth that lies are told around. */
function truthOf(server: HostileServer, commits: number): Truth | undefined {
  const objects = server.held();
  const generations = [...new Set([...objects.keys()].map((key) => key.split('/')[1]!))];
  if (![...objects.keys()].some((key) => key.includes('/snapshots/'))) return undefined;
  const nothing = { moments: [], database: Buffer.alloc(0) };
  return { name: 'live', isTold: true, objects, generations, commits, ...nothing };
}

/** Keeps what `replicate` has put, and sees that no deletion takes what the window needs. */
class Guard {
  readonly #server: HostileServer;
  readonly #put = new Map<string, TrueObject>();
  /** Those that somebody else has overwritten. */
  readonly spoilt = new Set<string>();
  readonly failures: string[] = [];
  readonly #retentionMs: number;

  constructor(server: HostileServer, retentionMs: number) {
    this.#server = server;
    this.#retentionMs = retentionMs;
    server.onStored = (key, object) => {
      if (key.startsWith('generations/')) this.#put.set(key, object);
    };
    server.onDelete = (keys) => this.#judge(keys);
  }

  #judge(keys: readonly string[]): void {
    const held = this.#server.held();
    const there = new Map([...this.#put].filter(([key, { data }]) => held.get(key)?.data === data));
    const before = new Set(there.keys());
    const after = new Set([...before].filter((key) => !keys.includes(key)));
    const lost = lostOf(historyOf(this.#put), Date.now() - this.#retentionMs, before, after);
    if (lost.length > 0) this.failures.push(`E4 the window has lost ${lost.join(', ')} by ${keys.join(' ')}`);
  }
}

class Scene {
  readonly dir: string;
  readonly chance: Chance;
  readonly server: HostileServer;
  readonly application: Application;
  readonly short: boolean;
  readonly #lives: LitestreamProcess[] = [];

  constructor(dir: string, chance: Chance, server: HostileServer, seed: number) {
    this.dir = dir;
    this.chance = chance;
    this.server = server;
    this.application = new Application(seed);
    this.short = chance.comes(0.5);
  }

  get database(): string {
    return join(this.dir, 'db');
  }

  get config(): string {
    return join(this.dir, 'litestream.yml');
  }

  get retentionMs(): number {
    return this.short ? RETENTION_MS : 3600_000;
  }

  get log(): string {
    return this.#lives.map(({ lines }) => lines.slice(-30).join('\n')).join('\n---\n');
  }

  async writeConfig(): Promise<void> {
    const replica = [
      ...this.server.config,
      `retention: ${this.retentionMs}ms`,
      'retention-check-interval: 300ms',
      ...(this.short ? ['snapshot-interval: 700ms'] : []),
    ];
    const lines = ['dbs:', `  - path: ${this.database}`, '    monitor-interval: 20ms'];
    lines.push('    min-checkpoint-page-count: 20', '    replicas:');
    lines.push(...replica.map((line, i) => `${i === 0 ? '      - ' : '        '}${line}`));
    await fs.writeFile(this.config, `${lines.join('\n')}\n`);
  }

  start(): LitestreamProcess {
    const args = ['replicate', '-config', this.config];
    const life = startLitestream({ binary: 'ours', args, env: this.server.env });
    this.#lives.push(life);
    return life;
  }

  /** Whether all is stored by its own word, within a time. */
  async sync(timeoutMs: number): Promise<boolean> {
    const socketPath = join(this.dir, '.db-litestream', 'control.sock');
    const body = { wait: true, timeoutMs };
    const signal = AbortSignal.timeout(timeoutMs + 1000);
    return await callControl(socketPath, { method: 'POST', path: '/sync', body, signal }).then(
      () => true,
      () => false,
    );
  }

  async status(): Promise<unknown> {
    const signal = AbortSignal.timeout(10_000);
    const socketPath = join(this.dir, '.db-litestream', 'control.sock');
    return await callControl(socketPath, { method: 'GET', path: '/status', signal }).catch(String);
  }

  async end(): Promise<void> {
    await Promise.all([...this.#lives.map((life) => life.kill()), this.application.kill()]);
  }
}

/** What the application does meanwhile. */
async function write({ application, chance }: Scene): Promise<void> {
  await application.commit(1 + chance.below(4));
  if (chance.comes(0.3)) await application.checkpoint(chance.of(['PASSIVE', 'RESTART', 'TRUNCATE'] as const));
}

async function lieFor(scene: Scene, restart: boolean, life: LitestreamProcess): Promise<LitestreamProcess> {
  let current = life;
  for (let round = 0; round < ROUNDS; round++) {
    await write(scene);
    await scene.sync(500);
    if (restart && round === 2) {
      await current.kill();
      await write(scene);
      current = scene.start();
      await pause(500);
    }
  }
  return current;
}

/** All is stored again, and what is restored is the present state. */
async function expectRecovery(scene: Scene, lies: Lies): Promise<void> {
  const { application, dir, config, database, server } = scene;
  await application.commit(2);
  await until(() => scene.sync(1000), {
    timeoutMs: RECOVERY_MS,
    describe: () => `E5 it does not store again`,
  }).catch(async (error: unknown) => {
    throw new Error(`${(error as Error).message}: ${JSON.stringify(await scene.status())}`, { cause: error });
  });
  // Lists are honest now: what the store has lost shows in the next look at it.
  const lists = (): number => server.server.counts().ListObjectsV2 ?? 0;
  const seen = lists();
  await until(() => lists() > seen + 2, { timeoutMs: RECOVERY_MS, describe: () => 'E5 it looks no more' });
  await application.commit(1);
  await until(() => scene.sync(1000), { timeoutMs: RECOVERY_MS, describe: () => 'E5 it does not store' });
  const path = join(dir, 'restored');
  const outcome = await runWatched(
    ['restore', '-config', config, '-o', path, database],
    server.env,
    COMMAND_MS,
  );
  const isOthers = lies.has('adds', 'forges', 'overwrites');
  if (outcome.code !== 0) {
    if (isOthers && outcome.lines.some((line) => line.includes('generations/'))) return;
    throw new Error(`E3 restore fails: ${outcome.lines.join('\n')}`);
  }
  if (lies.has('forges')) return;
  const { n } = await application.inspect(path).catch((error: unknown) => {
    throw new Error(`E3 ${(error as Error).message}`, { cause: error });
  });
  if (n === application.n) return;
  if (isOthers && outcome.lines.some((line) => /level=(WARN|ERROR)/.test(line))) return;
  throw new Error(
    `E3 ${application.n} commits are claimed as stored, ${n} are restored: ${outcome.lines.join('\n')}`,
  );
}

async function play(scene: Scene, stage: Stage, name: string): Promise<number> {
  const { chance, server, application } = scene;
  await scene.writeConfig();
  await application.open(scene.database);
  await application.commit(3);
  const guard = new Guard(server, scene.retentionMs);
  let life = scene.start();
  await until(() => scene.sync(1000), {
    timeoutMs: 60_000,
    describe: () => `E5 the first life stores nothing`,
  });
  await write(scene);
  const ready = (): Truth | undefined => truthOf(server, application.n);
  const truth = await until(ready, { timeoutMs: 60_000, describe: () => 'E5 no snapshot is stored' });
  const makers = chance.of([PLANTINGS, TELLINGS, TELLINGS, [...PLANTINGS, ...TELLINGS]]);
  const lies = new Lies(Array.from({ length: 1 + chance.below(2) }, () => chance.of(makers)(chance, truth)));
  const wire = chance.comes(0.2) ? chooseWire(chance) : undefined;
  const restart = chance.comes(0.3);
  stage.enter(
    `replicate/${name}`,
    `${lies.describe()} ${wire?.name ?? ''}${restart ? ', killed' : ''}${scene.short ? ', short' : ''}`,
  );
  const memory = new MemoryWatch(life.pid);
  const held = server.held();
  lies.plant(held, truth);
  server.put(held);
  server.lie(lies);
  if (wire) server.onWire = wire.answer;
  life = await lieFor(scene, restart, life);
  server.lie(undefined);
  server.onWire = () => undefined;
  await expectRecovery(scene, lies);
  await application.expectAlive().catch((error: unknown) => {
    throw new Error(`E6 ${(error as Error).message}`, { cause: error });
  });
  const { code } = await life.stop();
  memory.stop('replicate');
  expectSober('replicate', life.lines);
  if (code !== 0) throw new Error(`E5 replicate exits ${code}`);
  if (guard.failures.length > 0) throw new Error(guard.failures.join('\n'));
  return lies.met.size;
}

/** Runs one case. */
export async function replicateCase(stage: Stage, seed: number): Promise<Met> {
  const chance = new Chance(seed);
  const server = await HostileServer.start(new Map(), undefined);
  const dir = stage.freePath();
  await fs.mkdir(dir);
  const scene = new Scene(dir, chance, server, seed);
  try {
    return { kind: 'replicate', met: await play(scene, stage, String(seed)) };
  } catch (error) {
    if (error instanceof Error) error.message += `\n${scene.log}`;
    throw error;
  } finally {
    await scene.end();
    await server.close();
    await fs.rm(dir, { recursive: true, force: true });
  }
}
