/** Cases of the real commands against a hostile S3 server. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { Chance } from './chance.ts';
import { chooseLies, judgeRestored } from './engine-cases.ts';
import { HostileServer } from './hostile-server.ts';
import { chooseWire } from './wire.ts';
import { runWatched, type Outcome } from './watched.ts';
import { historyOf, lostOf } from './window.ts';
import type { Lies } from './lie.ts';
import type { Met } from './runner.ts';
import type { Stage } from './stage.ts';
import type { Truth } from './truth.ts';

const HOUR_MS = 3600_000;
/** With all attempts of all requests, on a busy machine. */
const LIMIT_MS = 180_000;

interface Scene {
  readonly stage: Stage;
  readonly chance: Chance;
  readonly truth: Truth;
  readonly lies: Lies;
  /** Whether the wire is broken beside: then nothing is expected of what is found. */
  readonly wired: boolean;
  readonly server: HostileServer;
  readonly dir: string;
  readonly config: string;
  readonly database: string;
}

type Check = (scene: Scene, run: (...args: string[]) => Promise<Outcome>) => Promise<void>;

const restore: Check = async ({ stage, chance, truth, lies, dir, config, database }, run) => {
  const path = join(dir, 'restored');
  const moment = chance.comes(0.3) ? chance.of(truth.moments) : undefined;
  const at = moment ? ['-timestamp', new Date(moment.atMs).toISOString()] : [];
  const best = chance.comes(0.2) ? ['-best-effort'] : [];
  const { code, lines } = await run('restore', '-config', config, '-o', path, ...at, ...best, database);
  const left = (await fs.readdir(dir)).filter((name) => name.startsWith('restored'));
  if (code !== 0) {
    if (left.length > 0) throw new Error(`E2 a restore that failed has left ${left.join(', ')}`);
    return;
  }
  if (lies.has('forges')) return;
  const { n } = await stage.application.inspect(path).catch((error: unknown) => {
    throw new Error(`E3 ${(error as Error).message}\n${lines.join('\n')}`, { cause: error });
  });
  const warnings = lines.filter((line) => /level=(WARN|ERROR)/.test(line));
  judgeRestored(lies, { asked: moment?.commits ?? truth.commits, found: n }, warnings);
};

const verify: Check = async ({ lies, wired, config, database }, run) => {
  const { code, lines } = await run('verify', '-replica-only', '-config', config, database);
  const damaged = lies.all.some(({ damages }) => damages === true);
  if (damaged && code === 0 && !wired && !lies.has('hides', 'dates', 'garbles'))
    throw new Error(`E3 verify says that all is whole\n${lines.join('\n')}`);
};

const retention: Check = async ({ chance, truth, server, config, database }, run) => {
  const hours = chance.of([2, 10, 24, 35, 45, 60]);
  const now = Date.now();
  const held = server.held();
  const before = new Set(
    [...truth.objects].filter(([key, { data }]) => held.get(key)?.data === data).map(([key]) => key),
  );
  await run('retention', '-config', config, '-retention', `${hours}h`, database);
  if (!truth.isTold) return;
  const left = server.held();
  const after = new Set([...before].filter((key) => left.has(key)));
  const lost = lostOf(historyOf(truth.objects), now - hours * HOUR_MS, before, after);
  if (lost.length > 0) throw new Error(`E4 a window of ${hours} h has lost ${lost.join(', ')}`);
};

const plain =
  (...args: string[]): Check =>
  async ({ config, database }, run) => {
    await run(args[0]!, '-config', config, ...args.slice(1), database);
  };

const alone =
  (name: string): Check =>
  async ({ config }, run) => {
    await run(name, '-config', config);
  };

const CHECKS: Readonly<Record<string, Check>> = {
  restore,
  verify,
  retention,
  'restore -dry-run': async ({ dir, config, database }, run) => {
    await run('restore', '-config', config, '-dry-run', '-o', join(dir, 'nothing'), database);
  },
  'retention -dry-run': plain('retention', '-dry-run'),
  timeline: plain('timeline'),
  snapshots: plain('snapshots'),
  wal: plain('wal'),
  generations: plain('generations'),
  databases: alone('databases'),
  status: alone('status'),
  doctor: alone('doctor'),
  sync: plain('sync'),
};
const NAMES = ['restore', 'restore', 'restore', 'retention', 'verify', ...Object.keys(CHECKS)];

/** Runs one case. */
export async function commandCase(stage: Stage, seed: number): Promise<Met> {
  const chance = new Chance(seed);
  const truth = chance.of(stage.truths);
  const lies = chooseLies(chance, truth);
  const name = chance.of(NAMES);
  const wire = chance.comes(0.25) ? chooseWire(chance) : undefined;
  const what = [lies.describe(), ...(wire ? [wire.name] : [])].join(', ');
  stage.enter(`command/${seed}`, `${name} of ${truth.name}: ${what}`);
  const held = new Map(truth.objects);
  lies.plant(held, truth);
  const server = await HostileServer.start(held, lies);
  if (wire) server.onWire = wire.answer;
  const dir = stage.freePath();
  try {
    await fs.mkdir(dir);
    const database = join(dir, 'db');
    await fs.writeFile(database, truth.database);
    const config = join(dir, 'litestream.yml');
    const lines = ['dbs:', `  - path: ${database}`, '    replicas:'];
    lines.push(...server.config.map((line, i) => `${i === 0 ? '      - ' : '        '}${line}`));
    await fs.writeFile(config, `${lines.join('\n')}\n`);
    const scene = { stage, chance, truth, lies, wired: wire !== undefined, server, dir, config, database };
    await CHECKS[name]!(scene, (...args) => runWatched(args, server.env, LIMIT_MS));
    return { kind: `command ${name}`, met: lies.met.size };
  } finally {
    await server.close();
    await fs.rm(dir, { recursive: true, force: true });
  }
}
