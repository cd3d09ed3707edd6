/** Files that are exchanged, overwritten or removed under a running litestream. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { until } from '../support/process.ts';
import type { Life } from './life.ts';
import type { World } from './world.ts';
import { beginStored, situationGroup, type Situation } from './situations.ts';

/** Enough for some rotations, and some commits that none follows. */
async function workOn(world: World): Promise<void> {
  await world.app.commit(20);
  await world.app.commit(3);
}

/** The application is stopped, something is done to its files, and it starts again. */
async function betweenRuns(world: World, act: () => Promise<void>): Promise<void> {
  await world.app.close();
  await act();
  await world.app.open(world.db);
}

/** The live database is an earlier one now: no claim about what came later stands. */
async function acceptState(world: World): Promise<void> {
  const content = await world.app.look();
  if (content.problem !== undefined) throw new Error(`I4: the application finds ${content.problem}`);
  world.app.wentBackTo(content);
  world.claimed = Math.min(world.claimed, content.n);
}

/** A copy of the database at an earlier state, which the database file alone holds. */
async function earlierCopy(world: World, random: () => number): Promise<string> {
  const path = join(world.dir, 'earlier');
  await truncate(world);
  await fs.copyFile(world.db, path);
  await world.app.commit(1 + Math.floor(random() * 8));
  return path;
}

/** An application's checkpoint that leaves no WAL. */
async function truncate(world: World): Promise<void> {
  for (let attempt = 0; attempt < 20; attempt++) if (!(await world.app.checkpoint('TRUNCATE'))) return;
  throw new Error('I4: the application cannot checkpoint');
}

/** Everything is claimed and stored by the life that met the mishap, and by the next one. */
async function expectHealed(world: World, life: Life): Promise<void> {
  await workOn(world);
  await world.expectAll(life, `after ${world.struck}`);
  await world.recover();
}

const exchangeShm =
  (exchange: (path: string) => Promise<void>): Situation['run'] =>
  async (world) => {
    const life = await beginStored(world);
    await workOn(world);
    await betweenRuns(world, () => exchange(`${world.db}-shm`));
    await expectHealed(world, life);
  };

const replaceDatabase =
  (replace: (world: World, copy: string) => Promise<void>): Situation['run'] =>
  async (world, random) => {
    const life = await beginStored(world);
    const copy = await earlierCopy(world, random);
    await world.expectClaim(life, 'before the mishap');
    await truncate(world);
    await betweenRuns(world, () => replace(world, copy));
    await acceptState(world);
    await expectHealed(world, life);
  };

const removeFrom =
  (path: (world: World) => string): Situation['run'] =>
  async (world) => {
    const life = await beginStored(world);
    await workOn(world);
    await fs.rm(path(world), { recursive: true, force: true, maxRetries: 20, retryDelay: 5 });
    await expectHealed(world, life);
  };

async function shadowFolder(world: World): Promise<string> {
  const [generation = ''] = await fs.readdir(join(world.meta, 'generations'));
  return join(world.meta, 'generations', generation, 'wal');
}

const SITUATIONS: Readonly<Record<string, Situation>> = {
  'shm-removed': { run: exchangeShm((path) => fs.rm(path, { force: true })) },
  'shm-replaced': {
    run: exchangeShm(async (path) => {
      await fs.copyFile(path, `${path}.copy`);
      await fs.rename(`${path}.copy`, path);
    }),
  },
  'wal-removed': {
    run: async (world) => {
      const life = await beginStored(world);
      await workOn(world);
      await world.app.close();
      await fs.rm(`${world.db}-wal`, { force: true });
      // Nobody can use the wal-index that litestream has, until it lets go of it.
      await until(
        () =>
          world.app.open(world.db).then(
            () => true,
            () => false,
          ),
        { timeoutMs: 90_000, describe: () => 'I4: the application cannot open its database' },
      );
      await acceptState(world);
      await expectHealed(world, life);
    },
  },
  'database-overwritten': {
    run: replaceDatabase(async ({ db }, copy) => fs.writeFile(db, await fs.readFile(copy))),
  },
  'database-renamed-over': {
    run: replaceDatabase(async ({ db }, copy) => {
      for (const end of ['-wal', '-shm']) await fs.rm(`${db}${end}`, { force: true });
      await fs.copyFile(copy, `${db}.new`);
      await fs.rename(`${db}.new`, db);
    }),
  },
  'overwritten-between-lives': {
    run: async (world, random) => {
      const life = await beginStored(world);
      const copy = await earlierCopy(world, random);
      await truncate(world);
      await world.expectClaim(life, 'before the mishap');
      await world.stop(life);
      await betweenRuns(world, async () => {
        for (const end of ['-wal', '-shm']) await fs.rm(`${world.db}${end}`, { force: true });
        await fs.writeFile(world.db, await fs.readFile(copy));
      });
      await acceptState(world);
      await world.recover();
    },
  },
  'meta-removed': { run: removeFrom(({ meta }) => meta) },
  'lock-removed': { run: removeFrom(({ meta }) => join(meta, 'lock.sqlite')) },
  'meta-removed-between-lives': {
    run: async (world) => {
      const life = await beginStored(world);
      await workOn(world);
      await world.expectClaim(life, 'before the mishap');
      await world.stop(life);
      await fs.rm(world.meta, { recursive: true });
      await world.recover();
    },
  },
  'shadow-removed': {
    run: async (world) => {
      const life = await beginStored(world);
      await workOn(world);
      await fs.rm(await shadowFolder(world), { recursive: true });
      await expectHealed(world, life);
    },
  },
  'replica-emptied': {
    run: async (world) => {
      const life = await beginStored(world);
      await workOn(world);
      await world.expectClaim(life, 'before the mishap');
      await world.loseReplica();
      // Nothing is committed: nothing wakes it.
      await world.expectClaim(life, `after ${world.struck}`);
      await world.expectStored(`after ${world.struck}`, ['ours']);
      await expectHealed(world, life);
    },
  },
  'snapshots-removed': {
    run: async (world) => {
      const life = await beginStored(world);
      await workOn(world);
      await world.expectClaim(life, 'before the mishap');
      const [generation = ''] = await fs.readdir(join(world.replica, 'generations'));
      await fs.rm(join(world.replica, 'generations', generation, 'snapshots'), { recursive: true });
      world.claimed = 0;
      await world.expectClaim(life, `after ${world.struck}`);
      await world.expectStored(`after ${world.struck}`, ['ours']);
      await expectHealed(world, life);
    },
  },
};

export const FILES = situationGroup('files', SITUATIONS);
