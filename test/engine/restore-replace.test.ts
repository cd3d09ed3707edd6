/** What a restore does with a database, or the rest of one, that is in its place. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs, existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import { DatabaseLock } from '../../src/engine/database-lock.ts';
import { ExclusiveHold } from '../../src/engine/exclusive-hold.ts';
import { findFileUsers } from '../../src/engine/file-users.ts';
import { type RestoreRequest, type RestoreResult, restore, stageRestore } from '../../src/engine/restore.ts';
import { findWritable } from '../../src/sqlite/writable-path.ts';
import { openStore } from '../../src/storage/registry.ts';
import { runLitestream, until } from '../support/process.ts';
import { SHIM_SUPPORTED, buildShim } from '../support/shim.ts';
import { openSqlite, withSqlite } from '../support/sqlite.ts';
import { RestoreSource, rowsOf } from './restore-source.ts';

const NEW_ROWS = 5;
const OLD_ROWS = 2;
const HAS_PROC = existsSync('/proc/self/fd');

let dir: string;
let out: string;

beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), 'restore-replace-'));
  const source = new RestoreSource(dir);
  for (let i = 0; i < NEW_ROWS; i++) source.commit();
  source.close();
  await fs.mkdir(join(dir, 'out'));
  out = join(dir, 'out', 'app.db');
});
afterEach(() => fs.rm(dir, { recursive: true, force: true }));

async function request(options: Partial<RestoreRequest> = {}): Promise<RestoreRequest> {
  const store = await openStore({ type: 'file', path: join(dir, 'replica') });
  const logger = createLogger({ format: 'default', level: 'ERROR', write: () => undefined });
  return { replicas: [{ name: 'file', store }], outputPath: out, parallelism: 4, logger, ...options };
}

async function run(options: Partial<RestoreRequest> = {}): Promise<RestoreResult> {
  return restore(await request(options));
}

/** An older database whose commits are in its WAL alone, as a crash leaves it. */
async function makeOld(path = out): Promise<void> {
  await withSqlite({ path, pragmas: ['journal_mode=WAL', 'wal_autocheckpoint=0'] }, async (sqlite) => {
    await sqlite.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, x)');
    await sqlite.checkpoint('TRUNCATE');
    for (let i = 0; i < OLD_ROWS; i++) await sqlite.exec(`INSERT INTO t (x) VALUES ('old')`);
  });
  expect(statSync(`${path}-wal`).size).toBeGreaterThan(0);
}

/** The name under which the old database was kept. */
function kept(): string {
  const [name, ...others] = readdirSync(join(dir, 'out')).filter((entry) =>
    /^app\.db\.\d{8}T\d{9}Z$/.test(entry),
  );
  expect(others).toEqual([]);
  return join(dir, 'out', name ?? 'none');
}

/** A process that opens a database, and does nothing with it before it is to insert something. */
async function openOnly(path: string): Promise<{ insert(x: string): Promise<void>; kill(): Promise<void> }> {
  const program = `
    const database = new (require('better-sqlite3'))(process.argv[1], { timeout: 20_000 });
    process.on('message', (x) => {
      database.prepare('INSERT INTO t (x) VALUES (?)').run(x);
      process.send('inserted');
    });
    process.send('opened');
  `;
  const child = spawn(process.execPath, ['-e', program, path], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const exited = once(child, 'exit');
  const said = async (word: string): Promise<void> => {
    const [message] = (await Promise.race([once(child, 'message'), exited])) as unknown[];
    expect(message).toBe(word);
  };
  await said('opened');
  return {
    insert: (x) => {
      child.send(x);
      return said('inserted');
    },
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
}

describe('with force, a database that is there', () => {
  it('is replaced and kept with all its commits', async () => {
    await makeOld();
    await run({ force: true });
    expect(rowsOf(out)).toBe(NEW_ROWS);
    expect(rowsOf(kept())).toBe(OLD_ROWS);
  });

  it('is replaced where a link leads to', async () => {
    await fs.mkdir(join(dir, 'shared'));
    const real = join(dir, 'shared', 'app.db');
    await makeOld(real);
    await fs.symlink(real, out);
    await run({ force: true });
    expect(rowsOf(real)).toBe(NEW_ROWS);
    expect((await fs.lstat(out)).isSymbolicLink()).toBe(true);
  });

  it('is replaced although it is damaged, and kept as it is', async () => {
    await fs.writeFile(out, 'no database at all');
    await run({ force: true });
    expect(rowsOf(out)).toBe(NEW_ROWS);
    expect(readFileSync(kept(), 'utf8')).toBe('no database at all');
  });

  it.runIf(process.getuid?.() === 0)('is left alone by a user who may not write to it', async () => {
    await makeOld();
    await fs.chmod(join(dir, 'out'), 0o777);
    await fs.chmod(dir, 0o755);
    const args = ['restore', '-force', '-o', out, `file://${dir}/replica`];
    const { code, stderr } = await runLitestream({ binary: 'ours', args, userId: 1001 });
    expect([code, stderr]).toMatchObject([
      1,
      expect.stringMatching(/app\.db or its folder cannot be written/),
    ]);
    expect(rowsOf(out)).toBe(OLD_ROWS);
  });

  it('is left alone while an application has it open', async () => {
    await makeOld();
    const application = await openSqlite({ path: out });
    try {
      await application.all('SELECT * FROM t');
      const who = HAS_PROC ? `process ${application.pid}` : 'in use';
      await expect(run({ force: true })).rejects.toMatchObject({
        code: 'busy',
        message: expect.stringContaining(who) as string,
      });
    } finally {
      await application.kill();
    }
    expect(readdirSync(join(dir, 'out')).filter((name) => name.includes('.tmp'))).toEqual([]);
    expect(rowsOf(out)).toBe(OLD_ROWS);
  });

  it("is proven not to be in use by SQLite's lock, which keeps others out", async () => {
    await makeOld();
    const application = await openSqlite({ path: out });
    await application.all('SELECT * FROM t');
    await expect(ExclusiveHold.begin(findWritable(out)!)).rejects.toMatchObject({ code: 'busy' });
    await application.kill();
    const hold = await ExclusiveHold.begin(findWritable(out)!);
    try {
      expect(statSync(`${out}-wal`).size).toBe(0);
      const other = withSqlite({ path: out, timeoutMs: 0 }, (sqlite) => sqlite.all('SELECT * FROM t'));
      await expect(other).rejects.toThrow('database is locked');
    } finally {
      await hold.end();
    }
    expect(rowsOf(out)).toBe(OLD_ROWS);
  });

  it.runIf(HAS_PROC)('is the restored one for whoever opened it while it was being replaced', async () => {
    await makeOld();
    const staged = await stageRestore(await request({ force: true }));
    await staged.prepare();
    // One has read nothing yet, the other waits for the lock.
    const opened = await openOnly(out);
    const waiting = openSqlite({ path: out, timeoutMs: 20_000 });
    await until(() => (findFileUsers([out]) ?? []).filter(({ pid }) => pid !== process.pid).length === 2);
    await staged.place();
    const application = await openSqlite({ path: out, timeoutMs: 20_000 });
    try {
      for (let i = 0; i < 3; i++) await application.exec(`INSERT INTO t (x) VALUES ('new')`);
      await opened.insert('opened');
      await (await waiting).exec(`INSERT INTO t (x) VALUES ('waited')`);
      expect(await application.all('PRAGMA integrity_check')).toEqual([{ integrity_check: 'ok' }]);
      expect(await application.all(`SELECT count(*) n FROM t WHERE x = 'old'`)).toEqual([{ n: 0 }]);
      expect(await application.all('SELECT count(*) n FROM t')).toEqual([{ n: NEW_ROWS + 5 }]);
    } finally {
      await Promise.all([opened.kill(), (await waiting).kill(), application.kill()]);
    }
    expect(rowsOf(kept())).toBe(OLD_ROWS);
  });

  it('is left alone while another process replicates it, unless that lets go', async () => {
    await makeOld();
    const metaPath = join(dir, 'out', '.app.db-litestream');
    await fs.mkdir(metaPath);
    await fs.writeFile(join(metaPath, 'generation'), '00000000000000bb\n');
    const lock = new DatabaseLock(metaPath, out);
    await expect(run({ force: true })).rejects.toMatchObject({ code: 'busy' });
    const letGo = (): Promise<void> => {
      lock.release();
      return Promise.resolve();
    };
    await run({ force: true, metaPath, replicate: { pid: -1, letGo } });
    expect(rowsOf(out)).toBe(NEW_ROWS);
    expect(readdirSync(metaPath)).not.toContain('generation');
    new DatabaseLock(metaPath, out).release();
  });

  it('gives its mode to the new one; other modes can be asked for', async () => {
    const modeOf = (): number => statSync(out).mode & 0o777;
    await makeOld();
    await fs.chmod(out, 0o640);
    await run({ force: true });
    expect(modeOf()).toBe(0o640);
    await run({ force: true, mode: 0o604 });
    expect(modeOf()).toBe(0o604);
    await fs.rm(out);
    await run();
    expect(modeOf()).toBe(0o600);
    await fs.rm(out);
    await fs.chmod(join(dir, 'out'), 0o770);
    await run();
    expect(modeOf()).toBe(0o660);
    await fs.rm(out);
    await fs.chmod(join(dir, 'out'), 0o777);
    await run();
    expect(modeOf()).toBe(0o600);
  });

  it.runIf(process.getuid?.() === 0)('gives its owner to the new one, else the folder does', async () => {
    const ownerOf = (path: string): number[] => [statSync(path).uid, statSync(path).gid];
    await fs.chown(join(dir, 'out'), 1001, 1002);
    await run();
    expect(ownerOf(out)).toEqual([1001, 1002]);
    await fs.chown(out, 1003, 1004);
    await run({ force: true });
    expect(ownerOf(out)).toEqual([1003, 1004]);
    await run({ force: true, owner: { uid: 1005, gid: 1006 } });
    expect(ownerOf(out)).toEqual([1005, 1006]);
    out = join(dir, 'out', 'new', 'app.db');
    await run();
    expect(ownerOf(join(dir, 'out', 'new'))).toEqual([1001, 1002]);
  });
});

it.runIf(SHIM_SUPPORTED)(
  'a kill at any moment leaves one whole database under its name',
  { timeout: 300_000 },
  async () => {
    const library = await buildShim(dir, 'kill-in-file-call');
    await makeOld();
    await fs.rename(join(dir, 'out'), join(dir, 'before'));
    const seen = new Set<number>();
    for (let n = 1; ; n++) {
      await fs.cp(join(dir, 'before'), join(dir, 'out'), { recursive: true });
      const { code, signal, stderr } = await runLitestream({
        binary: 'ours',
        args: ['restore', '-force', '-o', out, `file://${dir}/replica`],
        env: { LD_PRELOAD: library, KILL_IN_FILE_CALL: String(n) },
      });
      expect(signal === 'SIGKILL' || code === 0, stderr).toBe(true);
      const rows = rowsOf(out);
      expect([OLD_ROWS, NEW_ROWS], `killed in call ${n}`).toContain(rows);
      seen.add(rows);
      if (code === 0) break;
      await fs.rm(join(dir, 'out'), { recursive: true });
    }
    expect([...seen]).toEqual([OLD_ROWS, NEW_ROWS]);
  },
);

describe.runIf(HAS_PROC)('a WAL without its database', () => {
  /** The source again, with its WAL as it was at the end, beside the output. */
  async function leave(change: (wal: Buffer) => Buffer = (wal) => wal): Promise<void> {
    await fs.rm(join(dir, 'replica'), { recursive: true });
    for (const name of ['db', 'db-wal', 'db-shm']) await fs.rm(join(dir, name), { force: true });
    const source = new RestoreSource(dir);
    for (let i = 0; i < NEW_ROWS; i++) source.commit();
    const wal = source.wal();
    await fs.writeFile(`${out}-wal`, change(wal));
    await fs.writeFile(`${out}-shm`, Buffer.alloc(32768));
    source.close();
  }

  it('is set aside when all of its commits are restored', async () => {
    await leave();
    await run();
    expect(rowsOf(out)).toBe(NEW_ROWS);
    const names = readdirSync(join(dir, 'out')).sort();
    expect(names).toEqual([
      'app.db',
      expect.stringMatching(/^app\.db-shm\.\d/) as string,
      expect.stringMatching(/^app\.db-wal\.\d/) as string,
    ]);
  });

  it('is refused when it has a commit that is not in the replica', async () => {
    await leave();
    const segments = readdirSync(join(dir, 'replica', 'generations', '00000000000000aa', 'wal')).sort();
    await fs.rm(join(dir, 'replica', 'generations', '00000000000000aa', 'wal', segments.at(-1)!));
    await expect(run()).rejects.toMatchObject({ code: 'exists' });
    expect(readdirSync(join(dir, 'out')).sort()).toEqual(['app.db-shm', 'app.db-wal']);
  });

  it('is refused when it is that of another database', async () => {
    await makeOld(join(dir, 'other'));
    await fs.copyFile(join(dir, 'other-wal'), `${out}-wal`);
    await expect(run()).rejects.toMatchObject({ code: 'exists' });
    await run({ force: true });
    expect(rowsOf(out)).toBe(NEW_ROWS);
  });

  it('is refused while a process has it open', { timeout: 60_000 }, async () => {
    await leave();
    const file = await fs.open(`${out}-wal`, 'r');
    try {
      await expect(run()).rejects.toMatchObject({ code: 'exists' });
      await expect(run({ force: true })).rejects.toMatchObject({ code: 'busy' });
    } finally {
      await file.close();
    }
  });
});
