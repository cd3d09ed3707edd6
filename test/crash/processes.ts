/** Two processes on one database or one replica. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { startLitestream, until } from '../support/process.ts';
import { Application } from './application.ts';
import { beginStored, situationGroup, type Situation } from './situations.ts';
import type { Life } from './life.ts';
import type { World } from './world.ts';

/** A copy of the volume while everything runs, with an application of its own. */
async function clone(world: World): Promise<{ data: string; app: Application; close: () => Promise<void> }> {
  const data = join(world.dir, 'clone');
  const isOwn = (path: string): boolean => !/\.sock$|replicate\.json$|-shm$/.test(path);
  await fs.mkdir(data);
  for (const name of ['.db-litestream', 'db', 'db-wal']) {
    await fs.cp(join(world.data, name), join(data, name), {
      recursive: true,
      preserveTimestamps: true,
      filter: isOwn,
    });
  }
  const app = Application.after(world.app);
  await app.open(join(data, 'db'));
  return { data, app, close: () => app.kill() };
}

/** The clone commits and stores beside the first one, which does so too when `both`. */
const runClone =
  (both: boolean): Situation['run'] =>
  async (world) => {
    const life = await beginStored(world);
    await world.app.commit(4);
    await world.expectClaim(life, 'before the clone');
    const { data, app, close } = await clone(world);
    try {
      const cloned = await world.start({ data });
      for (let round = 0; round < 3; round++) {
        await app.commit(2);
        world.app.learn(app);
        if (both) await world.app.commit(2);
        await cloned.sync(20_000);
        if (both) await world.claim(life);
      }
      await cloned.stop();
    } finally {
      world.app.learn(app);
      await close();
    }
    await world.app.commit(4);
    await world.expectClaim(life, 'after the clone');
    await world.app.commit(4);
    await world.expectAll(life, 'after the clone');
    await world.recover();
  };

/** v0.3.13 on the same config, until it has seen the application's commits. */
async function runOracle(world: World, during: () => Promise<void>): Promise<void> {
  const config = await world.config();
  const oracle = startLitestream({ binary: 'oracle', args: ['replicate', '-config', config] });
  try {
    await oracle.waitForLine(/replicating to/);
    await during();
    await until(() => oracle.lines.some((line) => /wal segment written/.test(line)));
    await oracle.stop();
  } finally {
    await oracle.kill();
  }
}

/** Each round is claimed by `life`, unless it stands back for another process. */
async function commitSome(world: World, life?: Life): Promise<void> {
  const standsBack = (): boolean =>
    life?.lines.some((line) => /another program|by another process already/.test(line)) === true;
  for (let round = 0; round < 3; round++) {
    await world.app.commit(3);
    if (life) await world.claim(life, standsBack);
  }
}

const SITUATIONS: Readonly<Record<string, Situation>> = {
  clone: { run: runClone(false) },
  'clone-beside': { run: runClone(true) },
  'second-replicate': {
    run: async (world) => {
      const life = await beginStored(world);
      const second = await world.start();
      const { code } = await second.exited;
      if (code === 0) throw new Error('I5: a second replicate ended with exit code 0');
      await commitSome(world, life);
      await world.expectAll(life, 'beside a second replicate');
    },
  },
  'second-replicate-without-lock': {
    run: async (world) => {
      const first = await beginStored(world);
      await fs.rm(world.meta, { recursive: true, force: true, maxRetries: 20, retryDelay: 5 });
      const second = await world.start();
      await commitSome(world);
      // One of them stands back, whichever; the other one stores everything.
      await until(() => !first.running || !second.running, {
        describe: () => 'I5: two processes replicate one database',
      });
      const left = first.running ? first : second;
      await commitSome(world, left);
      await world.expectAll(left, 'after two processes met');
    },
  },
  'oracle-turns': {
    run: async (world, random) => {
      await world.app.open(world.db);
      for (let turn = 0; turn < 3; turn++) {
        const life = await world.start();
        await commitSome(world);
        await world.expectClaim(life, 'between turns of v0.3.13');
        if (random() < 0.5) await life.kill();
        else await world.stop(life);
        await runOracle(world, () => commitSome(world));
        // It ends without a promise.
        world.claimed = 0;
      }
      await world.recover();
    },
  },
  'oracle-beside': {
    run: async (world) => {
      const life = await beginStored(world);
      await runOracle(world, () => commitSome(world, life));
      world.claimed = 0;
      await world.app.commit(4);
      await world.expectAll(life, 'after v0.3.13 ran beside it');
      await world.recover();
    },
  },
};

export const PROCESSES = situationGroup('processes', SITUATIONS);
