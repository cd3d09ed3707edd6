/**
 * Local state that is lost under a running process: the meta directory or something in it is deleted, as people do who
 * follow the advice for v0.3.13. It is made anew by itself, without waiting for a commit; nobody else is let in.
 */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runLitestream, until, type LitestreamProcess } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { compareDatabases, type SqliteProcess } from '../support/sqlite.ts';

interface Case {
  readonly name: string;
  readonly remove: (rig: Rig) => Promise<void>;
  /** Files of the meta directory that are there again. */
  readonly made: readonly string[];
  readonly newGeneration: boolean;
}

/** It may be made anew while it is being deleted. */
const remove = (path: string) => fs.rm(path, { recursive: true, force: true, maxRetries: 20 });
const META_FILES = ['lock.sqlite', 'lock.owner', 'replicate.json', 'control.sock', 'generation'];

async function newestShadow(rig: Rig): Promise<string> {
  const folder = join(rig.metaDir, 'generations', (await rig.generation()) ?? '', 'wal');
  return join(folder, (await fs.readdir(folder)).sort().at(-1) ?? '');
}

const CASES: readonly Case[] = [
  {
    name: 'the whole meta directory',
    remove: (rig) => remove(rig.metaDir),
    made: META_FILES,
    newGeneration: true,
  },
  {
    name: 'the lock',
    remove: (rig) => remove(join(rig.metaDir, 'lock.sqlite')),
    made: ['lock.sqlite'],
    newGeneration: false,
  },
  {
    name: 'the control socket',
    remove: (rig) => remove(join(rig.metaDir, 'control.sock')),
    made: ['control.sock'],
    newGeneration: false,
  },
  {
    name: 'the record of the process',
    remove: (rig) => remove(join(rig.metaDir, 'replicate.json')),
    made: ['replicate.json'],
    newGeneration: false,
  },
  {
    name: 'the name of the generation',
    remove: (rig) => remove(join(rig.metaDir, 'generation')),
    made: ['generation'],
    newGeneration: false,
  },
  {
    name: 'the shadow WAL',
    remove: (rig) => remove(join(rig.metaDir, 'generations')),
    made: [],
    newGeneration: true,
  },
  {
    name: 'a segment of the shadow WAL',
    remove: async (rig) => remove(await newestShadow(rig)),
    made: [],
    newGeneration: true,
  },
  {
    name: 'the end of a segment of the shadow WAL',
    remove: async (rig) => fs.truncate(await newestShadow(rig), 5000),
    made: [],
    newGeneration: true,
  },
];

const sync = (config: string) =>
  runLitestream({ binary: 'ours', args: ['sync', '-wait', '-timeout', '20s', '-config', config] });

/** A second one is refused, and names the first. */
async function expectRefused(rig: Rig, first: LitestreamProcess): Promise<void> {
  const second = await rig.replicateUnready();
  expect((await second.exited).code).toBe(1);
  expect(second.lines.join('\n')).toContain(`pid ${first.pid}`);
}

async function begin(rig: Rig): Promise<{ app: SqliteProcess; litestream: LitestreamProcess }> {
  const app = await rig.application();
  await app.load({ kind: 'write', seed: 1, steps: 10, rollbackShare: 0 });
  const litestream = await rig.replicate();
  await rig.caughtUp();
  return { app, litestream };
}

describe('what is deleted under a running replicate', () => {
  it.each(CASES)('$name: is made anew without a commit', { timeout: 120_000 }, async (test) => {
    await withRig(async (rig) => {
      const { app, litestream } = await begin(rig);
      const before = await rig.generation();
      await test.remove(rig);
      await until(
        async () => {
          const there = await fs.readdir(rig.metaDir).catch(() => [] as string[]);
          const changed = (await rig.generation()) !== before;
          return test.made.every((name) => there.includes(name)) && changed === test.newGeneration;
        },
        { describe: () => 'it is not made anew' },
      );
      const config = await rig.config();
      expect(await sync(config)).toMatchObject({ code: 0 });
      const status = await runLitestream({ binary: 'ours', args: ['status', '-json', '-config', config] });
      expect(status).toMatchObject({ code: 0 });
      await app.load({ kind: 'write', seed: 2, steps: 10, rollbackShare: 0 });
      await rig.caughtUp();
      await expectRefused(rig, litestream);
      // A crash, and another start.
      await litestream.kill();
      const next = await rig.replicate();
      await app.load({ kind: 'write', seed: 3, steps: 10, rollbackShare: 0 });
      await rig.caughtUp();
      await app.close();
      expect((await next.stop()).code).toBe(0);
      expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
    });
  });
});

describe('a second replicate right after the lock was deleted', () => {
  const slow = { database: ['monitor-interval: 1h'] };

  it.skipIf(process.platform !== 'linux')(
    'is refused and names the first, which has noticed nothing yet (needs /proc)',
    async () => {
      await withRig(async (rig) => {
        const app = await rig.application();
        await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
        const first = await rig.replicate(slow);
        await rig.caughtUp();
        // Stopped, so that it cannot notice.
        first.signal('SIGSTOP');
        try {
          await remove(rig.metaDir);
          await expectRefused(rig, first);
        } finally {
          first.signal('SIGCONT');
        }
        await app.load({ kind: 'write', seed: 2, steps: 5, rollbackShare: 0 });
        await rig.caughtUp();
        await app.close();
        expect((await first.stop()).code).toBe(0);
        expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
      });
    },
  );

  it('that took the lock all the same makes the first one stop, which names it and goes on when it has ended', async () => {
    await withRig(async (rig) => {
      const { app, litestream } = await begin(rig);
      // As one in another container: nothing of the first can be seen.
      const lock = await rig.application({ path: join(rig.metaDir, 'other.sqlite'), pragmas: [] });
      await lock.exec('BEGIN EXCLUSIVE');
      await fs.writeFile(join(rig.metaDir, 'lock.owner'), 'pid 77 on elsewhere\n');
      await fs.rename(join(rig.metaDir, 'other.sqlite'), join(rig.metaDir, 'lock.sqlite'));
      await litestream.waitForLine(/level=ERROR .*already \(pid 77 on elsewhere\)/);
      const files = await rig.replicaFiles();
      await app.load({ kind: 'write', seed: 2, steps: 10, rollbackShare: 0 });
      const { code, stdout } = await runLitestream({
        binary: 'ours',
        args: ['status', '-config', await rig.config()],
      });
      expect(code).not.toBe(0);
      expect(stdout).toContain('pid 77 on elsewhere');
      expect(await rig.replicaFiles()).toEqual(files);
      await lock.kill();
      await rig.caughtUp();
      await app.close();
      expect((await litestream.stop()).code).toBe(0);
      expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
    });
  });
});
