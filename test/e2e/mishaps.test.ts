/** What goes wrong beside a database: a full disk, a second replicator, one broken replica of two. */

import { execFileSync } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { until } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { compareDatabases, withSqlite } from '../support/sqlite.ts';

const ROOT_ON_LINUX = process.platform === 'linux' && process.getuid?.() === 0;

/** Runs `body` while a file system with so little room is mounted at `path`. */
async function withSmallDisk(path: string, size: string, body: () => Promise<void>): Promise<void> {
  await fs.mkdir(path);
  execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path]);
  try {
    await body();
  } finally {
    // Lazily: after a failure somebody still has files open there.
    execFileSync('umount', ['-l', path]);
  }
}

/** Lets the spool outgrow the disk that `meta` is on while nothing can be stored; then lets things get better. */
async function fillSpool(rig: Rig, meta: string): Promise<void> {
  const app = await rig.application();
  await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
  // A file in place of the folder: nothing can be stored, so the spool grows.
  await fs.writeFile(rig.replica, '');
  const litestream = await rig.replicate({ database: [`meta-path: ${meta}`] });
  const before = await until(() => fs.readFile(join(meta, 'generation'), 'utf8').catch(() => ''));
  await app.exec('CREATE TABLE big (v); INSERT INTO big VALUES (randomblob(3000000))');
  await litestream.waitForLine(/level=ERROR .*no space left/);
  await app.exec('DELETE FROM big; INSERT INTO big VALUES (1)');
  // As long as the WAL is larger than the disk it cannot be spooled; it may be held for a moment when we try.
  await until(async () => {
    const [row] = await app.all('PRAGMA wal_checkpoint(TRUNCATE)');
    return row?.['busy'] === 0;
  });
  await fs.rm(rig.replica);
  await until(async () => {
    const { code, path } = await rig.restore();
    if (code !== 0) return false;
    return withSqlite({ path, readonly: true }, async (sqlite) => {
      const rows = await sqlite.all('SELECT v FROM big').catch(() => []);
      return JSON.stringify(rows) === '[{"v":1}]';
    });
  });
  expect(await fs.readFile(join(meta, 'generation'), 'utf8')).not.toBe(before);
  await app.close();
  expect((await litestream.stop()).code).toBe(0);
  expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
}

describe('a full disk under the meta directory', () => {
  it.skipIf(!ROOT_ON_LINUX)(
    'is said, costs the application nothing, and ends in a new generation that holds everything (needs root: mounts a tmpfs)',
    async () => {
      await withRig(async (rig) => {
        const disk = join(rig.dir, 'small');
        await withSmallDisk(disk, '1m', () => fillSpool(rig, join(disk, 'meta')));
      });
    },
  );
});

describe('a second replicate on the same database', () => {
  it('is refused, names the first, and leaves it alone; a killed one leaves no lock behind', async () => {
    await withRig(async (rig) => {
      const app = await rig.application();
      await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
      const first = await rig.replicate();
      const second = await rig.replicateUnready();
      const { code } = await second.exited;
      expect(code).toBe(1);
      expect(second.lines.join('\n')).toContain(
        `replicated by another process already (pid ${first.pid} on `,
      );
      await app.load({ kind: 'write', seed: 2, steps: 5, rollbackShare: 0 });
      await rig.caughtUp();
      await first.kill();
      const third = await rig.replicate();
      await app.load({ kind: 'write', seed: 3, steps: 5, rollbackShare: 0 });
      await rig.caughtUp();
      expect((await third.stop()).code).toBe(0);
    });
  });
});

describe('one broken replica of two', () => {
  it(
    'holds back neither the other nor the database, and catches up in the same generation',
    { timeout: 150_000 },
    async () => {
      await withRig(async (rig) => {
        const broken = join(rig.dir, 'broken');
        await fs.writeFile(broken, '');
        const app = await rig.application();
        await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
        const both = await rig.replicate({
          database: ['min-checkpoint-page-count: 20'],
          moreReplicas: [[`path: ${broken}`, 'name: broken', 'sync-interval: 20ms']],
        });
        await rig.snapshotStored();
        const generation = await rig.generation();
        for (let round = 0; round < 10; round++) {
          await app.load({ kind: 'write', seed: round, steps: 20, rollbackShare: 0 });
          await rig.caughtUp();
        }
        await fs.rm(broken);
        // No new write: the retry alone brings it up. On a slow machine the pauses before it have grown to half a minute.
        const url = `file://${broken}`;
        await until(async () => (await rig.restore({ url })).code === 0, { timeoutMs: 60_000 });
        const caughtUp = await rig.caughtUp({ url });
        expect(caughtUp).toBeDefined();
        expect(await rig.generation()).toBe(generation);
        await app.close();
        expect((await both.stop()).code).toBe(0);
        expect(await compareDatabases(rig.database, await rig.restored({ url }))).toBeUndefined();
      });
    },
  );
});

describe('a replica whose folder is deleted while it is written to', () => {
  it('gets a new generation with a snapshot: segments alone cannot be restored', async () => {
    await withRig(async (rig) => {
      const app = await rig.application();
      await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
      const litestream = await rig.replicate();
      await rig.caughtUp();
      const before = await rig.generation();
      await fs.rm(rig.replica, { recursive: true });
      await app.load({ kind: 'write', seed: 2, steps: 5, rollbackShare: 0 });
      await rig.caughtUp();
      expect(await rig.generation()).not.toBe(before);
      await app.close();
      expect((await litestream.stop()).code).toBe(0);
      expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
    });
  });
});

describe('something else in the place of a database', () => {
  const things = {
    'a text file': (path: string) =>
      fs.writeFile(path, 'this is a text file that is longer than a header'.repeat(10)),
    'a folder': (path: string) => fs.mkdir(path),
  };
  it.each(Object.entries(things))('%s is said, and the end is a failure', async (_, make) => {
    await withRig(async (rig) => {
      await make(rig.database);
      const litestream = await rig.replicate();
      await litestream.waitForLine(/level=ERROR .*(not a SQLite database|is not a file)/);
      expect((await litestream.stop()).code).toBe(1);
      expect(litestream.lines.join('\n')).toMatch(/not a SQLite database|is not a file/);
    });
  });
});
