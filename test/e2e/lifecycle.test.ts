/** Databases and replicas that come, go, move and change under a running `replicate`. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { pause, until } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { S3Server } from '../support/s3-server.ts';
import { compareDatabases, openSqlite, withSqlite } from '../support/sqlite.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

const IDLE_MS = 2000;
const PARTS = ['', '-wal', '-shm'];

/** The number of the last commit in a restore, or undefined when there is none to restore. */
async function lastRestored(rig: Rig): Promise<unknown> {
  const { code, path } = await rig.restore();
  if (code !== 0) return undefined;
  return await withSqlite({ path, readonly: true }, async (sqlite) => {
    const [row] = await sqlite.all('SELECT max(n) AS n FROM commits').catch(() => []);
    return row?.['n'];
  });
}

/** Stops litestream in order and compares. */
async function expectRestoreEqual(rig: Rig, database: string = rig.database): Promise<void> {
  expect(await compareDatabases(database, await rig.restored())).toBeUndefined();
}

/** A database in `path` with so many commits, closed. */
async function makeDatabase(path: string, steps: number): Promise<void> {
  const sqlite = await openSqlite({ path, pragmas: ['journal_mode=WAL'] });
  await sqlite.load({ kind: 'write', seed: steps, steps, rollbackShare: 0 });
  await sqlite.close();
}

describe('a database', () => {
  it('that is missing at the start is followed when it is there', async () => {
    await withRig(async (rig) => {
      const litestream = await rig.replicate();
      const app = await rig.application();
      await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
      await rig.caughtUp();
      expect((await litestream.stop()).code).toBe(0);
      await expectRestoreEqual(rig);
    });
  });

  it('that is moved away and another one put there gets a new generation', async () => {
    await withRig(async (rig) => {
      await makeDatabase(rig.database, 5);
      const litestream = await rig.replicate();
      await rig.caughtUp();
      const before = await rig.generation();
      for (const part of PARTS) {
        await fs.rename(`${rig.database}${part}`, `${rig.dir}/away${part}`).catch((error: unknown) => {
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
        });
      }
      await pause(100);
      expect(litestream.running).toBe(true);
      await makeDatabase(rig.database, 9);
      await until(async () => (await lastRestored(rig)) === 9);
      expect(await rig.generation()).not.toBe(before);
      expect((await litestream.stop()).code).toBe(0);
      await expectRestoreEqual(rig);
    });
  });

  it('that is replaced by another file in one step gets a new generation made of the new file', async () => {
    await withRig(async (rig) => {
      await makeDatabase(rig.database, 5);
      const litestream = await rig.replicate();
      await rig.caughtUp();
      const next = `${rig.dir}/next`;
      await makeDatabase(next, 9);
      await fs.rm(`${rig.database}-wal`, { force: true });
      await fs.rm(`${rig.database}-shm`, { force: true });
      await fs.rename(next, rig.database);
      const app = await rig.application();
      await app.load({ kind: 'write', seed: 3, steps: 2, rollbackShare: 0 });
      await until(async () => (await lastRestored(rig)) === 11);
      expect((await litestream.stop()).code).toBe(0);
      await expectRestoreEqual(rig);
    });
  });

  it('behind a symbolic link is followed beside its target', async () => {
    await withRig(async (rig) => {
      await fs.mkdir(`${rig.dir}/data`);
      await makeDatabase(`${rig.dir}/data/real`, 3);
      await fs.symlink('data/real', rig.database);
      const app = await rig.application({ path: `${rig.dir}/data/real` });
      const litestream = await rig.replicate();
      await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
      await rig.caughtUp();
      expect((await litestream.stop()).code).toBe(0);
      await expectRestoreEqual(rig, `${rig.dir}/data/real`);
    });
  });

  it('in a symbolically linked folder is followed', async () => {
    await withRig(async (rig) => {
      await fs.mkdir(`${rig.dir}/release-1`);
      await fs.symlink('release-1', `${rig.dir}/current`);
      const inner = { path: `${rig.dir}/release-1/db` };
      const app = await rig.application(inner);
      const litestream = await rig.replicate({ path: `${rig.dir}/current/db` });
      await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
      await until(async () => (await lastRestored(rig)) === 5);
      expect((await litestream.stop()).code).toBe(0);
      await expectRestoreEqual(rig, inner.path);
    });
  });

  it('with a rollback journal is switched to WAL', async () => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: ['journal_mode=DELETE'] });
      await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
      const litestream = await rig.replicate();
      await rig.snapshotStored();
      await app.load({ kind: 'write', seed: 2, steps: 5, rollbackShare: 0 });
      expect(await app.all('PRAGMA journal_mode')).toEqual([{ journal_mode: 'wal' }]);
      await rig.caughtUp();
      expect((await litestream.stop()).code).toBe(0);
      await expectRestoreEqual(rig);
    });
  });

  it.each(['NONE', 'INCREMENTAL', 'FULL'])('with auto_vacuum=%s shrinks and is vacuumed', async (mode) => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: [`auto_vacuum=${mode}`, 'journal_mode=WAL'] });
      const litestream = await rig.replicate();
      for (let round = 0; round < 3; round++) {
        await app.load({ kind: 'write', seed: round, steps: 8, rollbackShare: 0 });
        await app.exec('DELETE FROM payload WHERE id % 2 = 0; PRAGMA incremental_vacuum');
        if (round === 1) await app.exec('VACUUM');
        await app.checkpoint('TRUNCATE', 5000);
      }
      expect((await litestream.stop()).code).toBe(0);
      await expectRestoreEqual(rig);
    });
  });
});

describe('a file replica', () => {
  it('that cannot be written at the start recovers with no new write', async () => {
    await withRig(async (rig) => {
      await makeDatabase(rig.database, 5);
      // Permissions do not bind root: a file where the folder should be does.
      await fs.writeFile(rig.replica, '');
      const litestream = await rig.replicate();
      await litestream.waitForLine(/level=ERROR/);
      await fs.rm(rig.replica);
      await until(async () => (await lastRestored(rig)) === 5, { timeoutMs: 40_000 });
      expect((await litestream.stop()).code).toBe(0);
      await expectRestoreEqual(rig);
    });
  });

  it('that cannot be written for a while recovers with no new write', async () => {
    await withRig(async (rig) => {
      const app = await rig.application();
      await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
      const litestream = await rig.replicate();
      await rig.caughtUp();
      const wal = join(rig.replica, 'generations', (await rig.generation()) ?? '', 'wal');
      await fs.rename(wal, `${rig.dir}/aside`);
      await fs.writeFile(wal, '');
      await app.load({ kind: 'write', seed: 2, steps: 5, rollbackShare: 0 });
      await litestream.waitForLine(/level=ERROR/);
      await fs.rm(wal);
      await fs.rename(`${rig.dir}/aside`, wal);
      await until(async () => (await lastRestored(rig)) === 10, { timeoutMs: 40_000 });
      expect((await litestream.stop()).code).toBe(0);
      await expectRestoreEqual(rig);
    });
  });
});

describe('an S3 replica', () => {
  let server: S3Server;
  beforeEach(async () => {
    server = await S3Server.start();
  });
  afterEach(async () => {
    await server.close();
  });

  it('of an idle database gets no request', async () => {
    await withRig(async (rig) => {
      const options = { replica: s3Replica(server.endpoint), env: s3Environment(server) };
      const app = await rig.application();
      await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
      const litestream = await rig.replicate(options);
      await rig.caughtUp({ config: await rig.config(options), env: options.env });
      server.clearRequests();
      await pause(IDLE_MS);
      expect(server.counts()).toEqual({});
      // It is not idle because it is dead.
      await app.load({ kind: 'write', seed: 2, steps: 1, rollbackShare: 0 });
      await until(() => (server.counts().PutObject ?? 0) > 0);
      expect((await litestream.stop()).code).toBe(0);
    });
  });

  it('that answers 503 for a while recovers with no new write', async () => {
    await withRig(async (rig) => {
      const options = { replica: s3Replica(server.endpoint), env: s3Environment(server) };
      const app = await rig.application();
      const litestream = await rig.replicate(options);
      await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
      const restore = { config: await rig.config(options), env: options.env };
      await rig.caughtUp(restore);
      server.onRequest = () => ({ status: 503 });
      await app.load({ kind: 'write', seed: 2, steps: 5, rollbackShare: 0 });
      await litestream.waitForLine(/level=ERROR/, 40_000);
      server.onRequest = () => 'pass';
      const restored = await rig.caughtUp(restore);
      expect((await litestream.stop()).code).toBe(0);
      expect(await compareDatabases(rig.database, restored)).toBeUndefined();
    });
  });
});
