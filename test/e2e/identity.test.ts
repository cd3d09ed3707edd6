/**
 * Files exchanged under a running replicate: the `-shm`, the `-wal`, the database, its folder. Whatever it is, the live
 * database stays whole, and the backup is that of the live database, or status says why it is not.
 */

import { execFile, execFileSync } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { pause, runLitestream, until } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { compareDatabases, integrityCheck, withSqlite, type SqliteProcess } from '../support/sqlite.ts';

/** Checkpoints often, and only by time. */
const BY_TIME = ['checkpoint-interval: 100ms', 'min-checkpoint-page-count: 100000'];
/** After each few commits. */
const AT_ONCE = ['checkpoint-interval: 10ms', 'min-checkpoint-page-count: 2', 'monitor-interval: 20ms'];

const GREEDY = ['journal_mode=WAL', 'wal_autocheckpoint=5', 'synchronous=NORMAL'];

const write = (app: SqliteProcess, seed: number, steps: number) =>
  app.load({ kind: 'write', seed, steps, rollbackShare: 0, maxRows: 20, mayBeBusy: false });

async function expectWhole(rig: Rig): Promise<void> {
  expect(await integrityCheck(rig.database)).toBe('ok');
  const restored = await rig.caughtUp();
  expect(await integrityCheck(restored)).toBe('ok');
}

/** Ends everything, and compares byte by byte. */
async function expectEqual(rig: Rig): Promise<void> {
  expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
}

async function status(rig: Rig, config: string): Promise<{ code: number | null; text: string }> {
  const { code, stdout, stderr } = await runLitestream({
    binary: 'ours',
    args: ['databases', '-config', config],
  });
  return { code, text: `${stdout}${stderr}\n${rig.log()}` };
}

describe('a -shm that is deleted or replaced while replicate runs', () => {
  const EXCHANGES: Record<string, (shm: string) => Promise<void>> = {
    deleted: (shm) => fs.rm(shm),
    'moved away': (shm) => fs.rename(shm, `${shm}.away`),
    'replaced by a copy of itself': async (shm) => {
      await fs.copyFile(shm, `${shm}.copy`);
      await fs.rename(`${shm}.copy`, shm);
    },
  };

  it.each(Object.keys(EXCHANGES))(
    '%s, and its application starts again: the live database stays whole, and everything is stored',
    async (name) => {
      await withRig(async (rig) => {
        const first = await rig.application({ pragmas: ['journal_mode=WAL', 'wal_autocheckpoint=0'] });
        await write(first, 1, 5);
        const litestream = await rig.replicate({ database: BY_TIME });
        await write(first, 2, 100);
        await rig.caughtUp();
        const generation = await rig.generation();
        await first.kill();
        await EXCHANGES[name]?.(`${rig.database}-shm`);
        const second = await rig.application({ pragmas: GREEDY });
        await write(second, 3, 150);
        await expectWhole(rig);
        expect(await rig.generation()).not.toBe(generation);
        expect(litestream.lines.join('\n')).toMatch(/db-shm was (replaced|moved or deleted)/);
        await second.close();
        expect((await litestream.stop()).code).toBe(0);
        await expectEqual(rig);
      });
    },
  );

  it.each(Object.keys(EXCHANGES))(
    '%s, while its application goes on: it is said that this process has to end, and after that everything is stored',
    async (name) => {
      await withRig(async (rig) => {
        const first = await rig.application({ pragmas: GREEDY });
        await write(first, 1, 20);
        const options = { database: BY_TIME };
        const litestream = await rig.replicate(options);
        await rig.caughtUp();
        await EXCHANGES[name]?.(`${rig.database}-shm`);
        await litestream.waitForLine(/ERROR .*end that process/);
        await write(first, 2, 60);
        const seen = await status(rig, join(rig.dir, 'litestream-0.yml'));
        expect([seen.code, seen.text]).toEqual([1, expect.stringContaining('end that process')]);
        expect(await integrityCheck(rig.database)).toBe('ok');
        await first.kill();
        const second = await rig.application({ pragmas: GREEDY });
        await write(second, 3, 60);
        await litestream.waitForLine(/database is followed/);
        await expectWhole(rig);
        await second.close();
        expect((await litestream.stop()).code).toBe(0);
        await expectEqual(rig);
      });
    },
  );

  it(
    'deleted and replaced again and again under load, with a rotation each few milliseconds, harms nothing',
    { timeout: 240_000 },
    async () => {
      const seed = Number(process.env['SEED'] ?? Date.now() % 1e6);
      console.log(`seed ${seed}`);
      await withRig(async (rig) => {
        let app = await rig.application({ pragmas: GREEDY });
        await write(app, seed, 20);
        const litestream = await rig.replicate({ database: AT_ONCE });
        for (let round = 0; round < 25; round++) {
          await write(app, seed + round, 10 + ((seed + round) % 30));
          await app.kill();
          const names = Object.keys(EXCHANGES);
          await EXCHANGES[names[(seed + round) % names.length] ?? '']?.(`${rig.database}-shm`).catch(
            (error: unknown) => {
              if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
            },
          );
          app = await rig.application({ pragmas: GREEDY });
          await write(app, seed + round, 20);
          expect(await integrityCheck(rig.database)).toBe('ok');
        }
        await expectWhole(rig);
        await app.close();
        expect((await litestream.stop()).code).toBe(0);
        await expectEqual(rig);
      });
    },
  );
});

/** What a user does to put another file in the place of a database, without replacing its inode. */
const COPIES: Record<string, (from: string, to: string) => Promise<void>> = {
  'cat >': async (from, to) => fs.writeFile(to, await fs.readFile(from)),
  cp: (from, to) => fs.copyFile(from, to),
  'cp -p': async (from, to) => {
    await promisify(execFile)('cp', ['-p', from, to]);
  },
  'dd conv=notrunc': async (from, to) => {
    execFileSync('dd', [`if=${from}`, `of=${to}`, 'conv=notrunc', 'bs=4096'], { stdio: 'ignore' });
    await fs.truncate(to, (await fs.stat(from)).size);
  },
};

/** Another database, of so many commits; without a WAL. */
async function makeOther(rig: Rig, steps: number, pragmas: readonly string[]): Promise<string> {
  const path = join(rig.dir, 'other');
  const app = await rig.application({ path, pragmas });
  await write(app, 77, steps);
  await app.close();
  return path;
}

async function lastCommit(path: string): Promise<unknown> {
  return withSqlite({ path, readonly: true }, (sqlite) =>
    sqlite.all('SELECT max(n) AS n, max(payload_sum) AS sum FROM commits'),
  );
}

describe('a database file that is overwritten in place while replicate runs', () => {
  const WAL = ['journal_mode=WAL'];
  it.each([
    { how: 'cat >', steps: 60, after: true, pragmas: WAL },
    { how: 'cat >', steps: 60, after: false, pragmas: WAL },
    { how: 'cp', steps: 400, after: true, pragmas: WAL },
    { how: 'cp -p', steps: 10, after: true, pragmas: WAL },
    { how: 'dd conv=notrunc', steps: 60, after: true, pragmas: WAL },
    { how: 'cat >', steps: 60, after: true, pragmas: ['journal_mode=DELETE'] },
    { how: 'cat >', steps: 60, after: true, pragmas: ['page_size=8192', 'journal_mode=WAL'] },
  ])(
    '($how, $steps commits, written to afterwards: $after, $pragmas) begins a new generation, which is all of it',
    async ({ how, steps, after, pragmas }) => {
      await withRig(async (rig) => {
        const other = await makeOther(rig, steps, pragmas);
        const app = await rig.application();
        await write(app, 1, 80);
        const litestream = await rig.replicate();
        await rig.caughtUp();
        const generation = await rig.generation();
        expect((await app.checkpoint('TRUNCATE', 10_000)).busy).toBe(0);
        await app.close();
        await COPIES[how]?.(other, rig.database);
        // Before that an application is misled by the wal-index that replicate keeps.
        await litestream.waitForLine(/overwritten|page size/);
        if (after) {
          const second = await rig.application();
          await write(second, 2, 20);
          await second.close();
        }
        const live = JSON.stringify(await lastCommit(rig.database));
        await until(async () => {
          const { code, path } = await rig.restore();
          return code === 0 && JSON.stringify(await lastCommit(path).catch(() => 0)) === live;
        });
        expect(await rig.generation()).not.toBe(generation);
        expect(litestream.lines.join('\n')).toMatch(/reason="(database file was overwritten|page size)/);
        expect((await litestream.stop()).code).toBe(0);
        await expectEqual(rig);
        expect(await integrityCheck(rig.database)).toBe('ok');
      });
    },
  );

  it('is not seen where there is none: applications that checkpoint all the time, .restore, VACUUM', async () => {
    await withRig(async (rig) => {
      const other = await makeOther(rig, 60, WAL);
      const app = await rig.application({ pragmas: GREEDY });
      const second = await rig.application({ pragmas: [...GREEDY, 'cache_size=5'] });
      const checkpoints = await rig.application();
      await write(app, 1, 20);
      const litestream = await rig.replicate({ database: AT_ONCE });
      await rig.snapshotStored();
      const generation = await rig.generation();
      const loads = [
        app.load({ kind: 'write', seed: 3, maxRows: 20, vacuumShare: 0.05 }),
        second.load({ kind: 'write', seed: 4, writer: 2, maxRows: 20 }),
        checkpoints.load({ kind: 'checkpoint', seed: 5, pauseMs: 20 }),
      ];
      await pause(6000);
      for (const process of [app, second, checkpoints]) await process.stop();
      await Promise.all(loads);
      await rig.caughtUp();
      execFileSync('sqlite3', [rig.database, `.restore ${other}`]);
      await rig.caughtUp();
      expect(await rig.generation()).toBe(generation);
      for (const process of [app, second, checkpoints]) await process.close();
      expect((await litestream.stop()).code).toBe(0);
      await expectEqual(rig);
    });
  });
});

const ROOT_ON_LINUX = process.platform === 'linux' && process.getuid?.() === 0;

describe('a database with two names', () => {
  const NAMES: Record<string, (from: string, to: string) => Promise<() => void>> = {
    'a hard link': async (from, to) => {
      await fs.link(from, to);
      return () => undefined;
    },
    'a mount of the file': async (from, to) => {
      await fs.writeFile(to, '');
      execFileSync('mount', ['--bind', from, to]);
      return () => execFileSync('umount', ['-l', to]);
    },
  };

  it.skipIf(!ROOT_ON_LINUX).each(Object.keys(NAMES))(
    'by %s is not healthy, though it is followed (needs root: mounts)',
    async (how) => {
      await withRig(async (rig) => {
        const away = join(rig.dir, 'away');
        await fs.mkdir(away);
        const app = await rig.application({ path: join(away, 'db') });
        await write(app, 1, 10);
        await app.checkpoint('TRUNCATE', 10_000);
        const end = await NAMES[how]?.(join(away, 'db'), rig.database);
        try {
          const litestream = await rig.replicate();
          await litestream.waitForLine(/ERROR .*open with another -wal: .*(hard links|single file)/);
          await app.close();
          await litestream.waitForLine(/ERROR .*another name/);
          const seen = await status(rig, join(rig.dir, 'litestream-0.yml'));
          expect([seen.code, seen.text]).toEqual([1, expect.stringContaining('another -wal')]);
          const doctor = await runLitestream({
            binary: 'ours',
            args: ['doctor', '-config', join(rig.dir, 'litestream-0.yml')],
          });
          expect([doctor.code, doctor.stdout]).toEqual([1, expect.stringContaining('another -wal')]);
          await litestream.stop();
        } finally {
          end?.();
        }
      });
    },
  );
});

describe('a database of another user', () => {
  it.skipIf(!ROOT_ON_LINUX)(
    'whose group we are in keeps its application able to write (needs root: changes users)',
    async () => {
      await withRig(async (rig) => {
        await fs.chmod(rig.dir, 0o755);
        const folder = join(rig.dir, 'data');
        const path = join(folder, 'db');
        await fs.mkdir(folder);
        const app = await rig.application({ path });
        await write(app, 1, 5);
        await app.close();
        await fs.mkdir(rig.replica);
        await fs.chown(folder, 1000, 1000);
        await fs.chmod(folder, 0o770);
        await fs.chown(path, 1000, 1000);
        await fs.chmod(path, 0o660);
        await fs.chown(rig.replica, 1001, 1001);
        const config = await rig.config({ path });
        const bin = join(import.meta.dirname, '../../bin/litestream');
        const as = ['--reuid', '1001', '--regid', '1001', '--groups', '1000', process.execPath, bin];
        const doctor = await promisify(execFile)('setpriv', [...as, 'doctor', '-config', config]);
        expect(doctor.stdout).toContain(`chmod g+s ${folder}`);
        const child = execFile('setpriv', [...as, 'replicate', '-config', config]);
        try {
          await until(async () => (await fs.readdir(folder)).includes('db-shm'));
          const owners = async () =>
            Promise.all(['-wal', '-shm'].map(async (suffix) => (await fs.stat(path + suffix)).gid));
          await until(async () => JSON.stringify(await owners()) === '[1000,1000]');
        } finally {
          child.kill('SIGKILL');
        }
      });
    },
  );
});

describe('a database whose last page is cut', () => {
  it('is restored as SQLite reads it', async () => {
    await withRig(async (rig) => {
      const app = await rig.application();
      await write(app, 1, 20);
      await app.exec('CREATE TABLE last (v); INSERT INTO last VALUES (randomblob(20000)); DELETE FROM last');
      await app.close();
      await fs.truncate(rig.database, (await fs.stat(rig.database)).size - 2000);
      const litestream = await rig.replicate();
      await rig.snapshotStored();
      const restored = await rig.restored();
      expect(await integrityCheck(restored)).toBe('ok');
      expect((await litestream.stop()).code).toBe(0);
    });
  });
});
