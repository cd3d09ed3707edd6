/** What happens around a database that litestream may only read: nobody has it open, it was closed, state is lost. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { DatabaseStatus } from '../../src/engine/status.ts';
import { runLitestream, startLitestream, until, type RunResult } from '../support/process.ts';
import { BARRIERS, CAN_MOUNT, withReadOnlySite, type ReadOnlySite } from '../support/read-only.ts';
import { compareDatabases, compareFiles, type SqliteProcess } from '../support/sqlite.ts';
import { reasonsOf } from './read-only-load.ts';

const SKIPPED = CAN_MOUNT ? '' : ' (skipped: needs root on Linux)';
/** Older than what times of files may hide. */
const SETTLED_MS = 2500;
const WAITING = /waiting: no process has database/;

async function write(app: SqliteProcess, steps = 20): Promise<void> {
  await app.load({ kind: 'write', seed: steps, steps, rollbackShare: 0, maxRows: 20, mayBeBusy: false });
}

/** A database that was written and closed cleanly, long enough ago. */
async function closedDatabase(site: ReadOnlySite): Promise<void> {
  const app = await site.application();
  await write(app);
  await app.close();
  expect(await fs.readdir(join(site.rig.dir, 'app'))).toEqual(['db']);
  const { ctimeMs } = await fs.stat(site.database);
  await until(() => Date.now() - ctimeMs > SETTLED_MS);
}

/** As another process that has another environment, as a health check may. */
async function ask(site: ReadOnlySite, ...args: string[]): Promise<RunResult> {
  const config = await site.rig.config(site.options());
  return runLitestream({ binary: 'ours', args: [...args, '-config', config], env: site.options().env ?? {} });
}

async function status(site: ReadOnlySite): Promise<DatabaseStatus> {
  const { stdout } = await ask(site, 'status', '-json');
  return (JSON.parse(stdout) as { databases: DatabaseStatus[] }).databases[0]!;
}

async function caughtUp(site: ReadOnlySite): Promise<void> {
  const restored = await until(async () => {
    const { path, code } = await site.rig.restore();
    if (code !== 0) return undefined;
    return (await compareCommits(site, path)) ? path : undefined;
  });
  await fs.rm(restored);
}

async function compareCommits(site: ReadOnlySite, restored: string): Promise<boolean> {
  const app = await site.application({ readonly: true, pragmas: [] });
  const copy = await site.rig.application({ path: restored, readonly: true, pragmas: [] });
  try {
    const last = 'SELECT max(n) AS n FROM commits';
    return JSON.stringify(await app.all(last)) === JSON.stringify(await copy.all(last));
  } finally {
    await Promise.all([app.kill(), copy.kill()]);
  }
}

async function generations(site: ReadOnlySite): Promise<number> {
  return new Set((await site.rig.replicaFiles()).map((name) => name.slice(0, 16))).size;
}

describe.each(BARRIERS)(`a database behind $barrier${SKIPPED}`, { skip: !CAN_MOUNT }, ({ barrier }) => {
  it('does not change by a byte while its application is idle, and says where state is', async () => {
    await withReadOnlySite(barrier, async (site) => {
      const app = await site.application();
      await write(app);
      const before = await site.digest();
      const litestream = await site.replicate();
      await site.rig.snapshotStored();
      await litestream.waitForLine(/its meta directory is elsewhere.*meta-path=\S+/);
      await litestream.waitForLine(/can only be read: checkpoints are left to its application/);
      const { mode, metaPath, state, healthy } = await until(async () => {
        const now = await status(site);
        return now.state === 'ok' ? now : undefined;
      });
      expect({ mode, healthy, state }).toEqual({ mode: 'read-only', healthy: true, state: 'ok' });
      expect(metaPath.startsWith(`${site.state}/db-`)).toBe(true);
      expect((await ask(site, 'status')).stdout).toMatch(/read-only here: .*checkpoints are left/);
      const databases = await ask(site, 'databases');
      expect({
        code: databases.code,
        line: databases.stdout.split('\n')[1]?.split(/\s+/).slice(0, 3),
      }).toEqual({
        code: 0,
        line: [site.seen, 'file', 'ok'],
      });
      expect(JSON.parse((await ask(site, 'databases', '-json')).stdout)).toMatchObject([
        { mode: 'read-only' },
      ]);
      expect((await litestream.stop()).code).toBe(0);
      expect(await site.digest()).toBe(before);
      // An application that starts and ends beside us neither.
      expect(await compareDatabases(site.database, await site.rig.restored())).toBe(undefined);
    });
  });

  it('is waited for while nobody has it open and a WAL is left over, and is well all the same', async () => {
    await withReadOnlySite(barrier, async (site) => {
      const app = await site.application();
      await write(app);
      await app.kill();
      const before = await site.digest();
      const litestream = await site.replicate();
      await litestream.waitForLine(WAITING);
      expect(await status(site)).toMatchObject({ state: 'waiting', healthy: true });
      expect(await site.digest()).toBe(before);
      await site.application();
      await caughtUp(site);
      expect(reasonsOf(litestream)).toEqual(['no generation exists']);
    });
  });

  it('is stored while it is closed, and goes on in the same generation when its application comes', async () => {
    await withReadOnlySite(barrier, async (site) => {
      await closedDatabase(site);
      const before = await site.digest();
      const litestream = await site.replicate();
      await site.rig.snapshotStored();
      expect(await compareFiles(site.database, await site.rig.restored())).toBe(undefined);
      expect(await status(site)).toMatchObject({ state: 'waiting', healthy: true, mode: 'read-only' });
      // A restart of ours while it is closed.
      await litestream.stop();
      const second = await site.replicate();
      await second.waitForLine(/sync: generation continued/);
      expect(await site.digest()).toBe(before);
      const app = await site.application();
      await write(app);
      await caughtUp(site);
      await second.stop();
      expect(await compareDatabases(site.database, await site.rig.restored())).toBe(undefined);
      expect(await generations(site)).toBe(1);
      expect([...reasonsOf(litestream), ...reasonsOf(second)]).toHaveLength(1);
    });
  });

  it('begins a new generation when it was changed since it was stored', async () => {
    await withReadOnlySite(barrier, async (site) => {
      await closedDatabase(site);
      const litestream = await site.replicate();
      await site.rig.snapshotStored();
      await litestream.stop();
      const app = await site.application();
      await write(app);
      await app.close();
      await closedDatabase(site);
      const second = await site.replicate();
      await second.waitForLine(/sync: new generation/);
      await until(async () => (await generations(site)) === 2);
      await until(async () => (await status(site)).replicas[0]?.lastSnapshot !== null);
      expect(await compareFiles(site.database, await site.rig.restored())).toBe(undefined);
    });
  });

  it('continues its generation by its replica when all state was lost', async () => {
    await withReadOnlySite(barrier, async (site) => {
      const app = await site.application();
      await write(app);
      const litestream = await site.replicate();
      await site.rig.snapshotStored();
      await caughtUp(site);
      await litestream.stop();
      await fs.rm(site.state, { recursive: true });
      await fs.mkdir(site.state);
      await fs.chmod(site.state, 0o777);
      await write(app);
      const second = await site.replicate();
      await second.waitForLine(/generation continued, as its replica ends in the wal/);
      await write(app);
      await caughtUp(site);
      await second.stop();
      expect(await generations(site)).toBe(1);
      expect(await compareDatabases(site.database, await site.rig.restored())).toBe(undefined);
    });
  });

  it('begins a new generation when state was lost and the WAL was started over meanwhile', async () => {
    await withReadOnlySite(barrier, async (site) => {
      const app = await site.application();
      await write(app);
      const litestream = await site.replicate();
      await site.rig.snapshotStored();
      await caughtUp(site);
      await litestream.stop();
      await fs.rm(site.state, { recursive: true });
      await fs.mkdir(site.state);
      await fs.chmod(site.state, 0o777);
      await write(app);
      await app.checkpoint('TRUNCATE');
      await write(app);
      const second = await site.replicate();
      await until(async () => (await generations(site)) === 2);
      await caughtUp(site);
      expect(reasonsOf(second)).toEqual(['no generation exists']);
    });
  });
});

describe(`what a read-only volume forbids${SKIPPED}`, { skip: !CAN_MOUNT }, () => {
  it('is told of a database that is not in WAL mode', async () => {
    await withReadOnlySite('read-only mount', async (site) => {
      const app = await site.application({ pragmas: ['journal_mode=DELETE'] });
      await write(app);
      const litestream = await site.replicate();
      await litestream.waitForLine(/not in WAL mode and cannot be switched.*PRAGMA journal_mode=WAL once/);
      expect(await status(site)).toMatchObject({ state: 'failing', healthy: false });
      expect((await ask(site, 'databases')).code).toBe(1);
      await app.exec('PRAGMA journal_mode=WAL');
      await write(app);
      await caughtUp(site);
      expect((await ask(site, 'databases')).code).toBe(0);
    });
  });

  it('is told when there is no place for the meta directory either', async () => {
    await withReadOnlySite('another user', async (site) => {
      await write(await site.application());
      await fs.chmod(site.state, 0o500);
      await fs.chown(site.state, 0, 0);
      const litestream = await site.replicate();
      await litestream.waitForLine(
        /no place for the meta directory: mount a volume at \/var\/lib\/litestream/,
      );
    });
  });

  it('leaves a WAL that its application does not checkpoint, and says so', async () => {
    await withReadOnlySite('read-only mount', async (site) => {
      const app = await site.application({ pragmas: ['journal_mode=WAL', 'wal_autocheckpoint=0'] });
      await write(app);
      await site.replicate({ database: ['max-checkpoint-page-count: 50'] });
      await write(app, 60);
      const { reason } = await until(async () => {
        const now = await status(site);
        return now.state === 'blocked' && !now.healthy ? now : undefined;
      });
      expect(reason).toMatch(/the wal grows .* its application does not finish a checkpoint/);
      await app.checkpoint('TRUNCATE');
      await write(app, 2);
      await until(async () => (await status(site)).state === 'ok');
    });
  });

  it('is no reason for doctor to fail, which names the mode and the place of the meta directory', async () => {
    await withReadOnlySite('read-only mount', async (site) => {
      const app = await site.application();
      await write(app);
      const inUse = await ask(site, 'doctor');
      expect(inUse.stdout).toMatch(
        /ok +writable: it can only be read: .*leaves checkpoints to that application/,
      );
      expect(inUse.stdout).toContain(`meta directory: ${site.state}/db-`);
      expect(inUse.code).toBe(0);
      await app.close();
      expect((await ask(site, 'doctor')).stdout).toMatch(/\(none has now\)/);
    });
  });

  it('is found by a process with another environment', async () => {
    await withReadOnlySite('read-only mount', async (site) => {
      await write(await site.application());
      const config = await site.rig.config(site.options());
      const state = join(site.rig.dir, 'xdg');
      await fs.mkdir(state);
      const env = { STATE_DIRECTORY: '', XDG_STATE_HOME: state };
      const litestream = startLitestream({ binary: 'ours', args: ['replicate', '-config', config], env });
      try {
        await site.rig.snapshotStored();
        // It has both variables: the meta directory that was used last counts.
        const both = { STATE_DIRECTORY: site.state, XDG_STATE_HOME: state };
        const args = ['databases', '-config', config];
        const row = await until(async () => {
          const { code, stdout } = await runLitestream({ binary: 'ours', args, env: both });
          return code === 0 && / ok +\d/.test(stdout);
        });
        expect(row).toBe(true);
      } finally {
        await litestream.kill();
      }
    });
  });
});
