/** Clocks that step back and ahead, and servers whose clocks differ. Times of files are the kernel's and stay right. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { pause } from '../support/process.ts';
import { beginStored, situationGroup, type Situation } from './situations.ts';
import type { Life } from './life.ts';
import type { World } from './world.ts';

const HOUR = 3600;
/** In January 2038 from any day before. */
const to2038 = (): number => Math.round((Date.UTC(2038, 0, 20) - Date.now()) / 1000);

/** Whatever is in the WAL is over: the next life begins a generation. */
async function breakChain(world: World): Promise<void> {
  await world.app.checkpoint('TRUNCATE');
  await world.app.commit(1);
}

/** A life at another time of day, which has stored everything in the end. */
async function liveAt(world: World, clockSeconds: number): Promise<void> {
  const life = await world.start({ clockSeconds });
  await world.app.commit(3);
  await world.expectClaim(life, `at a clock that differs by ${clockSeconds} s`);
  await world.stop(life);
  await world.expectStored(`after a life at a clock that differs by ${clockSeconds} s`);
}

/** Steps of the clock during a life, each with a commit that is stored, and a generation after it by the right time. */
const steps =
  (...offsets: readonly (() => number)[]): Situation['run'] =>
  async (world) => {
    const life = await beginStored(world);
    for (const offset of offsets) {
      life.control.setClock(offset());
      await world.app.commit(2);
      await world.expectClaim(life, `at a clock that differs by ${offset()} s`);
    }
    await world.stop(life);
    await breakChain(world);
    await world.recover();
  };

/** Two servers, or one whose meta directory is gone: the second one's clock is behind. */
const failover =
  (first: number, second: number): Situation['run'] =>
  async (world) => {
    await world.app.open(world.db);
    await world.app.commit(4);
    await liveAt(world, first);
    await fs.rm(world.meta, { recursive: true });
    await liveAt(world, second);
    await breakChain(world);
    await liveAt(world, second);
  };

/** A restore to a moment by the right clock: it has what was committed well before, and nothing from well after. */
async function expectAt(world: World, moment: Date, commits: number): Promise<void> {
  const { code, path, stderr } = await world.restore('ours', ['-timestamp', moment.toISOString()]);
  if (code !== 0) throw new Error(`I2: ${moment.toISOString()} cannot be restored: ${stderr}`);
  const { n } = await world.app.inspect(path);
  if (n !== commits)
    throw new Error(`I2: at ${moment.toISOString()} there were ${commits} commits, not ${n}`);
}

/** A moment that lies well apart from all commits. */
async function quietMoment(): Promise<Date> {
  await pause(150);
  const moment = new Date();
  await pause(150);
  return moment;
}

async function commitAndStore(world: World, life: Life): Promise<void> {
  await world.app.commit(2);
  await world.expectClaim(life, 'between two moments');
}

/** Commits with a snapshot after each. */
async function snapshots(world: World, life: Life): Promise<void> {
  for (let round = 0; round < 5; round++) {
    await commitAndStore(world, life);
    await pause(200);
  }
}

/** Everything in the replica was written so long before. */
async function age(world: World, seconds: number): Promise<void> {
  for (const name of await fs.readdir(world.replica, { recursive: true })) {
    const path = join(world.replica, name);
    const { mtimeMs } = await fs.stat(path);
    await fs.utimes(path, mtimeMs / 1000 - seconds, mtimeMs / 1000 - seconds);
  }
}

const SITUATIONS: Readonly<Record<string, Situation>> = {
  'hour-ahead': {
    run: steps(
      () => HOUR,
      () => 0,
    ),
  },
  'hour-back': {
    run: steps(
      () => -HOUR,
      () => 0,
    ),
  },
  'spike-2038': { run: steps(to2038, () => 0) },
  'seconds-back': {
    run: steps(
      () => -8,
      () => -30,
    ),
  },
  'failover-behind': { run: failover(60, 0) },
  'failover-hour-behind': { run: failover(HOUR, -HOUR) },
  'failover-ahead': { run: failover(-HOUR, HOUR) },
  'spike-then-moment': {
    run: async (world) => {
      const life = await beginStored(world);
      life.control.setClock(to2038());
      await commitAndStore(world, life);
      life.control.setClock(0);
      await commitAndStore(world, life);
      const { n } = world.app;
      const moment = await quietMoment();
      await commitAndStore(world, life);
      await expectAt(world, moment, n);
      await world.expectAll(life, 'after a spike of the clock');
    },
  },
  'spike-and-retention': {
    options: {
      replica: ['snapshot-interval: 100ms', 'retention: 1h', 'retention-check-interval: 100ms'],
    },
    run: async (world) => {
      const life = await beginStored(world);
      await commitAndStore(world, life);
      const { n } = world.app;
      const moment = await quietMoment();
      for (let round = 0; round < 3; round++) {
        await commitAndStore(world, life);
        await pause(150);
      }
      life.control.setClock(48 * HOUR);
      await pause(400);
      life.control.setClock(0);
      await commitAndStore(world, life);
      await expectAt(world, moment, n);
      await world.expectAll(life, 'after a spike of the clock');
    },
  },
  window: {
    options: { replica: ['snapshot-interval: 100ms', 'retention: 1h', 'retention-check-interval: 100ms'] },
    run: async (world) => {
      await world.app.open(world.db);
      const first = await world.start({ clockSeconds: -2 * HOUR });
      await snapshots(world, first);
      await world.stop(first);
      await age(world, 2 * HOUR);
      const { n } = world.app;
      const second = await world.start();
      await snapshots(world, second);
      await expectAt(world, new Date(Date.now() - (HOUR * 1000) / 2), n);
      await world.expectAll(second, 'after retention');
    },
  },
  random: {
    run: async (world, random) => {
      const offset = (): number => Math.round((random() - 0.5) * 10 ** (1 + random() * 6));
      await world.app.open(world.db);
      await world.app.commit(2);
      for (let life = 0; life < 3; life++) {
        await liveAt(world, offset());
        if (random() < 0.5) await breakChain(world);
      }
      await world.recover();
    },
  },
};

export const CLOCKS = situationGroup('clocks', SITUATIONS);
