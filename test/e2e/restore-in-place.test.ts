/** Restores on the worst day: into the place of a database that is replicated, of all databases, and what is said before. */

import { existsSync, promises as fs, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runLitestream, startLitestream, until, type RunResult } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { SHIM_SUPPORTED, buildShim } from '../support/shim.ts';
import { withSqlite } from '../support/sqlite.ts';

/** Rows of the table `t`. */
async function rowsOf(path: string): Promise<unknown[]> {
  return withSqlite({ path }, async (sqlite) => {
    expect(await sqlite.all('PRAGMA integrity_check')).toEqual([{ integrity_check: 'ok' }]);
    return (await sqlite.all('SELECT x FROM t ORDER BY x')).map(({ x }) => x);
  });
}

/** Commits a row from a process that ends at once, without a checkpoint. */
async function commit(path: string, x: number): Promise<void> {
  await withSqlite({ path, timeoutMs: 5000, pragmas: ['journal_mode=WAL'] }, async (sqlite) => {
    await sqlite.exec('CREATE TABLE IF NOT EXISTS t (x)');
    await sqlite.exec(`INSERT INTO t VALUES (${x})`);
  });
}

async function ours(config: string, ...args: string[]): Promise<RunResult> {
  const [command = '', ...rest] = args;
  return runLitestream({ binary: 'ours', args: [command, '-config', config, ...rest] });
}

async function succeed(config: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await ours(config, ...args);
  expect(code, stdout + stderr).toBe(0);
  return stdout;
}

/** Waits until a time after all commits up to now has begun; that time. */
async function momentAfterNow(): Promise<string> {
  const now = Date.now();
  await until(() => Date.now() > now + 2);
  return new Date(now + 1).toISOString();
}

async function configOf(rig: Rig, paths: readonly string[]): Promise<string> {
  const config = join(rig.dir, 'all.yml');
  const entry = (path: string): string =>
    `  - path: ${path}\n    monitor-interval: 20ms\n    replicas:\n      - {path: ${path}.replica, sync-interval: 20ms}\n`;
  await fs.writeFile(config, `dbs:\n${paths.map(entry).join('')}`);
  return config;
}

describe('restore -force', () => {
  it('replaces a database that replicate holds, which goes on with the new one', async () => {
    await withRig(async (rig) => {
      await commit(rig.database, 1);
      const config = await rig.config();
      const litestream = await rig.replicate();
      await succeed(config, 'sync', '-wait', rig.database);
      const moment = await momentAfterNow();
      await commit(rig.database, 2);
      await succeed(config, 'sync', '-wait', rig.database);
      const first = await rig.generation();

      await succeed(config, 'restore', '-force', '-timestamp', moment, rig.database);
      const isNew = (line: string): boolean => line.includes('sync: new generation');
      await until(() => litestream.lines.filter(isNew).length === 2);
      expect(await rowsOf(rig.database)).toEqual([1]);
      const kept = readdirSync(rig.dir).find((name) => /^db\.\d{8}T\d{9}Z$/.test(name));
      expect(await rowsOf(join(rig.dir, kept ?? 'none'))).toEqual([1, 2]);

      await commit(rig.database, 3);
      await succeed(config, 'sync', '-wait', rig.database);
      expect(await rig.generation()).not.toBe(first);
      expect(litestream.lines.filter((line) => line.includes('new generation'))).toHaveLength(2);
      expect(await rowsOf(await rig.restored())).toEqual([1, 3]);
      expect(await rowsOf(await rig.restored({ args: ['-timestamp', moment] }))).toEqual([1]);
      expect(await litestream.stop()).toEqual({ code: 0, signal: null });
    });
  });

  it('is refused while an application has the database open, and replicate goes on with it', async () => {
    await withRig(async (rig) => {
      const app = await rig.application();
      await app.exec('CREATE TABLE t (x)');
      await app.exec('INSERT INTO t VALUES (1)');
      const config = await rig.config();
      const litestream = await rig.replicate();
      await succeed(config, 'sync', '-wait', rig.database);
      const { code, stdout } = await ours(config, 'restore', '-force', rig.database);
      expect(code).toBe(1);
      expect(stdout).toContain(`is in use by process ${app.pid}`);
      await app.exec('INSERT INTO t VALUES (2)');
      await succeed(config, 'sync', '-wait', rig.database);
      expect(await rowsOf(await rig.restored())).toEqual([1, 2]);
      await litestream.stop();
    });
  });
});

it('a database that was moved away while it was replicated is restored without force', async () => {
  await withRig(async (rig) => {
    await commit(rig.database, 1);
    const config = await rig.config();
    const litestream = await rig.replicate();
    await commit(rig.database, 2);
    await succeed(config, 'sync', '-wait', rig.database);
    await fs.rename(rig.database, join(rig.dir, 'deleted'));
    await litestream.waitForLine(/was moved, replaced or deleted|is not there/);
    expect(readdirSync(rig.dir)).toContain('db-wal');
    await succeed(config, 'restore', rig.database);
    expect(await rowsOf(rig.database)).toEqual([1, 2]);
    await until(async () => (await ours(config, 'sync', '-wait', rig.database)).code === 0);
    await commit(rig.database, 3);
    await succeed(config, 'sync', '-wait', rig.database);
    expect(await rowsOf(await rig.restored())).toEqual([1, 2, 3]);
    await litestream.stop();
  });
});

it('a folder in the place of the database is none, whatever is asked', async () => {
  await withRig(async (rig) => {
    await commit(rig.database, 1);
    const config = await rig.config();
    const litestream = await rig.replicate();
    await succeed(config, 'sync', '-wait', rig.database);
    await litestream.stop();
    for (const name of readdirSync(rig.dir)) {
      if (/^db(-wal|-shm)?$/.test(name)) await fs.rm(join(rig.dir, name));
    }
    await fs.mkdir(rig.database);
    for (const args of [['-if-db-not-exists', rig.database], ['-all', '-if-db-not-exists'], [rig.database]]) {
      const { code, stdout, stderr } = await ours(config, 'restore', ...args);
      expect([code, stdout + stderr]).toEqual([1, expect.stringContaining('is not a file')]);
    }
  });
});

describe('restore -all', () => {
  it('restores every database to one moment, or none', async () => {
    await withRig(async (rig) => {
      const paths = ['one', 'two'].map((name) => join(rig.dir, name));
      for (const path of paths) await commit(path, 1);
      const config = await configOf(rig, paths);
      const litestream = startLitestream({ binary: 'ours', args: ['replicate', '-config', config] });
      let moment: string;
      try {
        for (const path of paths)
          await until(async () => (await ours(config, 'sync', '-wait', path)).code === 0);
        moment = await momentAfterNow();
        for (const path of paths) await commit(path, 2);
        await succeed(config, 'sync', '-wait');
      } finally {
        await litestream.stop();
      }

      // One is in the way: nothing is restored.
      await fs.rm(paths[0]!);
      const refused = await ours(config, 'restore', '-all', '-timestamp', moment, '-json');
      expect(refused.code).toBe(1);
      const reports = JSON.parse(refused.stdout) as { result: string; error?: string }[];
      expect(reports.map(({ result }) => result)).toEqual(['not-restored', 'failed']);
      expect(reports[1]!.error).toContain('output path already exists');
      expect(readdirSync(rig.dir)).not.toContain('one');

      const restored = await ours(config, 'restore', '-all', '-force', '-timestamp', moment, '-json');
      expect(restored.code, restored.stderr).toBe(0);
      expect(JSON.parse(restored.stdout)).toMatchObject([{ result: 'restored' }, { result: 'restored' }]);
      for (const path of paths) expect(await rowsOf(path)).toEqual([1]);

      await fs.rm(paths[1]!);
      const rest = await ours(config, 'restore', '-all', '-if-db-not-exists', '-json');
      expect(JSON.parse(rest.stdout)).toMatchObject([{ result: 'exists' }, { result: 'restored' }]);
      expect(await rowsOf(paths[1]!)).toEqual([1, 2]);

      await fs.rm(paths[0]!);
      await fs.rm(`${paths[0]!}.replica`, { recursive: true });
      const none = await ours(config, 'restore', '-all', '-if-db-not-exists', '-json');
      expect([none.code, JSON.parse(none.stdout)]).toMatchObject([
        1,
        [{ result: 'failed' }, { result: 'exists' }],
      ]);
      const missing = await ours(
        config,
        'restore',
        '-all',
        '-if-db-not-exists',
        '-if-replica-exists',
        '-json',
      );
      expect([missing.code, JSON.parse(missing.stdout)]).toMatchObject([
        0,
        [{ result: 'no-backup' }, { result: 'exists' }],
      ]);
    });
  });

  it.runIf(SHIM_SUPPORTED)(
    'says what is in place when the disk breaks in between, and how to go on',
    async () => {
      await withRig(async (rig) => {
        const paths = ['one', 'two', 'three'].map((name) => join(rig.dir, name));
        const [one = '', two = '', three = ''] = paths;
        for (const path of paths) await commit(path, 1);
        const config = await configOf(rig, paths);
        const litestream = startLitestream({ binary: 'ours', args: ['replicate', '-config', config] });
        try {
          for (const path of paths)
            await until(async () => (await ours(config, 'sync', '-wait', path)).code === 0);
        } finally {
          await litestream.stop();
        }
        const env = { LD_PRELOAD: await buildShim(rig.dir, 'kill-in-file-call'), FAIL_RENAME_TO: two };
        const broken = (...flags: string[]): Promise<RunResult> =>
          runLitestream({ binary: 'ours', args: ['restore', '-all', '-config', config, ...flags], env });

        // The left-over row tells the old database from the new one.
        for (const path of paths) await commit(path, 2);
        const { code, stdout, stderr } = await broken('-force', '-json');
        expect(code).toBe(1);
        const reports = JSON.parse(stdout) as { result: string; old_database: string | null }[];
        expect(reports.map(({ result }) => result)).toEqual(['restored', 'failed', 'not-restored']);
        const kept = reports[0]!.old_database ?? 'none';
        expect(kept).toMatch(/one\.\d{8}T\d{9}Z$/);
        expect(await Promise.all([kept, ...paths].map(rowsOf))).toEqual([[1, 2], [1], [1, 2], [1, 2]]);
        const told = stderr.split('\n').filter((line) => line.includes('in place'));
        expect(told.slice(-4)).toEqual([
          expect.stringContaining(`msg="database is in place" db=${one} old_database=${kept}`),
          expect.stringContaining(`msg="database is not in place, all is as it was" db=${two}`),
          expect.stringContaining(`msg="database is not in place, all is as it was" db=${three}`),
          expect.stringMatching(/only 1 of 3 databases are in place.*EIO.*run the same command again, which/),
        ]);
        // Nothing of those that failed is left: no second names, no temporary files.
        const left = readdirSync(rig.dir).filter((name) => /^(two|three)[.-](\d|tmp|wal\.|shm\.)/.test(name));
        expect(left).toEqual([]);
        await succeed(config, 'restore', '-all', '-force');
        expect(await Promise.all(paths.map(rowsOf))).toEqual([[1], [1], [1]]);

        for (const path of paths) await fs.rm(path);
        const fresh = await broken();
        expect(fresh.code).toBe(1);
        expect(fresh.stdout).toMatch(/only 1 of 3 .*run the same command again with -if-db-not-exists/);
        expect([one, two, three].map((path) => existsSync(path))).toEqual([true, false, false]);
        await succeed(config, 'restore', '-all', '-if-db-not-exists');
        expect(await Promise.all(paths.map(rowsOf))).toEqual([[1], [1], [1]]);
      });
    },
  );

  it.each([
    [['-all', '-o', 'x'], 'cannot specify -o with -all'],
    [['-all', 'x.db'], 'cannot specify a database with -all'],
    [['-integrity-check', 'some', 'x.db'], 'invalid -integrity-check'],
    [['-mode', '9', 'x.db'], 'invalid -mode'],
    [['-owner', 'nobody-at-all', 'x.db'], 'there is no user nobody-at-all'],
  ])('%j is refused', async (args, message) => {
    const { code, stderr } = await runLitestream({ binary: 'ours', args: ['restore', ...args] });
    expect(code).toBe(1);
    expect(stderr).toContain(message);
  });
});

it('timeline and -dry-run say what can be restored, and write nothing', async () => {
  await withRig(async (rig) => {
    await commit(rig.database, 1);
    const config = await rig.config();
    const litestream = await rig.replicate();
    await succeed(config, 'sync', '-wait', rig.database);
    await commit(rig.database, 2);
    await succeed(config, 'sync', '-wait', rig.database);
    await litestream.stop();
    const before = readdirSync(rig.dir).sort();

    const rows = JSON.parse(await succeed(config, 'timeline', '-json', rig.database)) as {
      kind: string;
      from: string;
      to: string;
      note: string;
    }[];
    expect(rows.map(({ kind, note }) => [kind, note])).toEqual([
      ['restorable', ''],
      ['snapshot', ''],
    ]);
    const table = await succeed(config, 'timeline', rig.database);
    expect(table).toContain(rows[0]!.to);
    // Both ends of the range can be given to -timestamp; before it there is nothing.
    expect(await rowsOf(await rig.restored({ args: ['-timestamp', rows[0]!.to] }))).toEqual([1, 2]);
    await rig.restored({ args: ['-timestamp', rows[0]!.from] });
    const early = await rig.restore({ args: ['-timestamp', '1d ago'] });
    expect(early.stderr).toContain(`earliest ${rows[0]!.from}, latest ${rows[0]!.to}`);
    for (const name of readdirSync(rig.dir))
      if (name.startsWith('restored')) await fs.rm(join(rig.dir, name));

    const planned = await ours(config, 'restore', '-dry-run', '-json', rig.database);
    expect(planned.code).toBe(1);
    const [plan] = JSON.parse(planned.stdout) as Record<string, unknown>[];
    expect(plan).toMatchObject({ result: 'planned', committed_at: rows[0]!.to });
    expect(plan!['obstacle']).toContain('output path already exists');
    expect(plan!['objects']).toHaveLength(3);
    const free = join(rig.dir, 'nowhere', 'db');
    const text = await succeed(config, 'restore', '-dry-run', '-o', free, rig.database);
    expect(text).toMatch(/disk +about .* needed, .* free/);
    expect(text).toContain('.snapshot.lz4');
    expect(readdirSync(rig.dir).sort()).toEqual(before);
  });
});

it.each(['quick', 'full'])('-integrity-check %s passes a sound database', async (extent) => {
  await withRig(async (rig) => {
    await commit(rig.database, 1);
    const config = await rig.config();
    const litestream = await rig.replicate();
    await succeed(config, 'sync', '-wait', rig.database);
    await litestream.stop();
    expect(await rowsOf(await rig.restored({ args: ['-integrity-check', extent] }))).toEqual([1]);
    expect(readdirSync(rig.dir).filter((name) => name.includes('.tmp'))).toEqual([]);
  });
});
