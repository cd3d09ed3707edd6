/**
 * Faults at the n-th file call of replication, for every n: the process is killed before, in the middle of or after it, it
 * fails once or ten times, does half of what was asked, or the process stops there. NAME is SCENARIO/FAULT/N.
 */

import type { Life } from './life.ts';
import type { Group } from './case.ts';
import { NAMES, OPENS, READS, SYNCS, WRITES, type Fault } from './shim.ts';
import { World, type WorldOptions } from './world.ts';
import { pause, until } from '../support/process.ts';

/** For how long a process that was stopped stays so. */
const STOPPED_MS = 300;

type FaultKind = Omit<Fault, 'at'>;

const ALL = WRITES | SYNCS | NAMES;

export const FAULTS: Readonly<Record<string, FaultKind>> = {
  'kill-before': { action: 'kill-before', classes: ALL },
  'kill-middle': { action: 'kill-middle', classes: WRITES },
  'kill-after': { action: 'kill-after', classes: ALL },
  eio: { action: 'fail', classes: ALL, error: 'EIO' },
  'eio-10': { action: 'fail', classes: ALL, error: 'EIO', times: 10 },
  'eio-read': { action: 'fail', classes: READS | OPENS, error: 'EIO' },
  enospc: { action: 'fail', classes: WRITES | NAMES, error: 'ENOSPC' },
  emfile: { action: 'fail', classes: NAMES | OPENS, error: 'EMFILE' },
  eacces: { action: 'fail', classes: NAMES | OPENS, error: 'EACCES' },
  short: { action: 'short', classes: WRITES },
  'short-read': { action: 'short', classes: READS },
  none: { action: 'fail', classes: 0 },
  stop: { action: 'stop', classes: ALL },
  // The wal-index, which is read before each copy: the application goes on in between.
  'stop-read': { action: 'stop', classes: READS, path: 'db-shm' },
  'short-object': { action: 'short', classes: WRITES, path: '.lz4.tmp' },
  // From then on no segment is stored, and then it is killed: nothing that needs them may be there.
  'segments-fail': { action: 'fail', classes: NAMES, error: 'EIO', path: '.wal.lz4.tmp', times: 1e6 },
  // The name of a new generation: few calls, which much depends on.
  'eio-generation': { action: 'fail', classes: ALL, error: 'EIO', path: '/generation.tmp' },
};

/** So many calls at most have a path that a fault is aimed at. */
const AIMED_CALLS = 60;
const AIMED: Readonly<Record<string, number>> = {
  'stop-read': AIMED_CALLS,
  'segments-fail': 8,
  'eio-generation': 4,
  'short-object': 6,
};

export interface Scenario {
  readonly options: WorldOptions;
  /** What happened before the life with the fault. */
  prelude(world: World): Promise<void>;
  /** The application's part of that life. Ends early when litestream does. */
  live(world: World, life: Life): Promise<void>;
}

/** Commits, and has it stored, so often; once the fault has struck, nothing is waited for. */
async function work(world: World, life: Life, rounds: number, commits = 3): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    await world.app.commit(commits);
    await world.claim(life, () => life.control.hits > 0);
  }
}

async function begin(world: World): Promise<void> {
  await world.app.open(world.db);
  await world.app.commit(2);
}

/** A life that ends in order. */
async function liveBefore(world: World, rounds: number): Promise<void> {
  await begin(world);
  const life = await world.start();
  await world.expectClaim(life, 'before the faults');
  await work(world, life, rounds);
  await world.stop(life);
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  first: { options: {}, prelude: begin, live: (world, life) => work(world, life, 3) },
  continued: {
    options: {},
    prelude: async (world) => {
      await liveBefore(world, 2);
      await world.app.commit(3);
    },
    live: (world, life) => work(world, life, 3),
  },
  rotation: {
    options: { database: ['checkpoint-interval: 100ms'] },
    prelude: begin,
    live: (world, life) => work(world, life, 6, 5),
  },
  snapshot: {
    options: { replica: ['snapshot-interval: 150ms'] },
    prelude: begin,
    live: async (world, life) => {
      for (let round = 0; round < 5 && life.running; round++) {
        await work(world, life, 1);
        await pause(100);
      }
    },
  },
  // Snapshots overtake the segments that they need, if they are let.
  'late-segments': {
    options: {
      database: ['min-checkpoint-page-count: 60'],
      replica: ['sync-interval: 250ms', 'snapshot-interval: 100ms'],
    },
    prelude: begin,
    live: async (world, life) => {
      await work(world, life, 1);
      for (let round = 0; round < 40 && life.running; round++) {
        await world.app.commit(2);
        await pause(30);
      }
    },
  },
  retention: {
    options: {
      replica: ['snapshot-interval: 150ms', 'retention: 300ms', 'retention-check-interval: 100ms'],
    },
    prelude: (world) => liveBefore(world, 1),
    live: async (world, life) => {
      for (let round = 0; round < 8 && life.running; round++) {
        await work(world, life, 1);
        await pause(100);
      }
      await life.sees(/snapshot deleted/, 2000);
    },
  },
  generation: {
    options: {},
    prelude: async (world) => {
      await liveBefore(world, 1);
      // The WAL is started over while nobody follows it: what comes cannot be continued.
      await world.app.commit(2);
      await world.app.checkpoint('TRUNCATE');
      await world.app.commit(2);
    },
    live: (world, life) => work(world, life, 2),
  },
  restart: {
    // No checkpoint, after which the WAL would be started over while a fault has closed the database: that begins a generation too.
    options: { database: ['min-checkpoint-page-count: 1000'] },
    prelude: (world) => liveBefore(world, 1),
    live: async (world, life) => {
      await work(world, life, 1);
      // The backup is gone: a new generation begins while it runs.
      await world.loseReplica();
      await work(world, life, 3);
    },
  },
};

/** How many calls of some classes there are in a scenario without faults; it is checked as well. */
async function countCalls(name: string): Promise<(classes: number) => number> {
  const scenario = SCENARIOS[name]!;
  let counted: (classes: number) => number = () => 0;
  await World.run(1, scenario.options, async (world) => {
    await scenario.prelude(world);
    const life = await world.start();
    await scenario.live(world, life);
    await world.expectAll(life, 'without a fault');
    const counts = [WRITES, SYNCS, NAMES, READS, OPENS].map((bit) => [bit, life.control.count(bit)] as const);
    counted = (classes) => counts.reduce((sum, [bit, count]) => sum + (classes & bit ? count : 0), 0);
  });
  return counted;
}

async function runCase(name: string, seed: number): Promise<string> {
  const [scenarioName = '', faultName = '', number = ''] = name.split('/');
  const scenario = SCENARIOS[scenarioName];
  const kind = FAULTS[faultName];
  const at = Number(number);
  if (!scenario || !kind || !(at >= 1)) throw new Error(`${name}: no such case`);
  return await World.run(seed, scenario.options, async (world) => {
    await scenario.prelude(world);
    const life = await world.start({ fault: { ...kind, at } });
    if (kind.action === 'stop') await stopAndGoOn(world, life, scenario);
    else await scenario.live(world, life);
    world.struck = life.struck;
    const dies = kind.action.startsWith('kill') || faultName === 'segments-fail';
    if (faultName === 'segments-fail') await life.kill();
    if (dies) {
      await dieAndRecover(world, life, !['retention', 'restart'].includes(scenarioName));
    } else await endure(world, life);
  });
}

/** As `live`, for a process that stops itself at some time in it. */
async function stopAndGoOn(world: World, life: Life, scenario: Scenario): Promise<void> {
  const over = new AbortController();
  const waking = wakeUp(world, life, over.signal);
  try {
    await scenario.live(world, life);
    life.control.disarm();
  } finally {
    over.abort();
    await waking;
  }
}

/**
 * Lets a process that has stopped itself go on, after a while in which the application starts the WAL over if it can.
 * @param over fires when it cannot stop any more
 */
async function wakeUp(world: World, life: Life, over: AbortSignal): Promise<void> {
  const { control } = life;
  await until(() => control.hits > 0 || over.aborted, { timeoutMs: Infinity });
  if (control.hits === 0) return;
  const working = world.app
    .commit(2)
    .then(() => world.app.checkpoint('TRUNCATE'))
    .then(() => world.app.commit(2));
  await Promise.race([working, pause(STOPPED_MS)]);
  life.signal('SIGCONT');
  await working;
}

/** @param ordered nothing was deleted from the replica */
async function dieAndRecover(world: World, life: Life, ordered: boolean): Promise<void> {
  // The calls of an orderly end count as well.
  if (life.running) await world.stop(life);
  world.struck = life.struck;
  if (ordered) await world.expectOrder(`after the kill ${world.struck}`);
  await world.expectClaimed(`after the kill ${world.struck}`);
  await world.expectClaimed(`after the kill ${world.struck}`, 'oracle');
  await world.recover();
}

/** The process has met faults that have passed, and goes on by itself. */
async function endure(world: World, life: Life): Promise<void> {
  if (!life.running) throw new Error(`I5: litestream ended by itself ${world.struck}`);
  await world.app.commit(1);
  life.control.disarm();
  await world.expectAll(life, `after the faults ${world.struck}`);
}

/** One group a scenario. */
export const CALLS: readonly Group[] = Object.keys(SCENARIOS).map((scenario) => ({
  name: `calls/${scenario}`,
  list: async (sample, random) => {
    // What fails without a fault is a case as well.
    const counted = await countCalls(scenario).catch(() => undefined);
    if (!counted) return ['none/1'];
    const places = Object.entries(FAULTS)
      .filter(([fault]) => fault !== 'none')
      .map(([fault, { classes }]) => ({
        fault,
        count: Math.min(counted(classes), AIMED[fault] ?? Infinity),
      }));
    if (sample === undefined) {
      return places.flatMap(({ fault, count }) =>
        Array.from({ length: count }, (_, i) => `${fault}/${i + 1}`),
      );
    }
    // Each fault in turn, at places spread over the life.
    return Array.from({ length: sample }, (_, i) => {
      const { fault, count } = places[i % places.length]!;
      return `${fault}/${1 + Math.floor(random() * count)}`;
    });
  },
  run: (name, seed) => runCase(`${scenario}/${name}`, seed),
}));
