/**
 * What connections rely on, of each SQLite driver that can run here: node:sqlite on another Node.js when that of the tests
 * has none. The driver is the compiled one.
 */

import { promises as fs, existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chooseDriver, type SqliteDriver } from '../../src/sqlite/driver.ts';
import { findNodeSqlite } from '../support/node-sqlite.ts';
import { CAN_MOUNT } from '../support/read-only.ts';
import { openSqlite, type SqliteProcess } from '../support/sqlite.ts';
import { DriverProcess, type ProcessOptions } from './driver-process.ts';

/** `nobody` on every Linux distribution. */
const NOBODY = 65534;
/** The two copies of the wal-index's header. */
const INDEX_HEADER_SIZE = 96;
/** Behind it, and the number of frames that are checkpointed. */
const READ_MARKS_AT = 100;

interface Subject {
  readonly title: string;
  readonly driver: ProcessOptions['driver'];
  readonly node: string;
  readonly missing?: string | undefined;
}

const { path: nodeWithSqlite = '', missing } = findNodeSqlite();
const SUBJECTS: readonly Subject[] = [
  { title: 'better-sqlite3', driver: 'better-sqlite3', node: process.execPath },
  {
    title: missing === undefined ? 'node:sqlite' : `node:sqlite (skipped: ${missing})`,
    driver: 'node',
    node: nodeWithSqlite,
    missing,
  },
];

let dir: string;
let path: string;
const applications: SqliteProcess[] = [];
const processes: DriverProcess[] = [];

beforeEach(async () => {
  dir = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'sqlite-driver-')));
  path = join(dir, 'db');
});
afterEach(async () => {
  for (const application of applications.splice(0)) await application.kill();
  for (const each of processes.splice(0)) await each.end();
  await fs.rm(dir, { recursive: true, force: true });
});

/** An application on the database, in a process of its own. */
async function openApplication(mode = 'wal'): Promise<SqliteProcess> {
  const application = await openSqlite({ path, timeoutMs: 0, pragmas: [`journal_mode=${mode}`] });
  applications.push(application);
  return application;
}

/** A database with a table t. */
async function makeDatabase(mode = 'wal'): Promise<void> {
  const application = await openSqlite({ path, pragmas: [`journal_mode=${mode}`] });
  await application.exec('CREATE TABLE t (v)');
  await application.close();
}

/** A database whose last commit is in its WAL alone, and nobody has it open. */
async function makeLeftoverWal(): Promise<void> {
  await makeDatabase();
  const application = await openApplication();
  await application.exec('INSERT INTO t VALUES (1)');
  await application.kill();
  expect(statSync(`${path}-wal`).size).toBeGreaterThan(0);
}

/** Writes into the wal-index, past its application. */
async function writeIndex(bytes: Buffer, at: number): Promise<void> {
  const index = await fs.open(`${path}-shm`, 'r+');
  await index.write(bytes, 0, bytes.length, at);
  await index.close();
}

const failsWith = (code: string): object => ({ code, message: expect.stringMatching(/./) as string });

for (const { title, driver, node, missing: why } of SUBJECTS) {
  describe.skipIf(why !== undefined)(title, () => {
    let subject: DriverProcess;
    const start = (options: Partial<ProcessOptions> = {}): DriverProcess => {
      const started = new DriverProcess({ node, driver, cwd: dir, ...options });
      processes.push(started);
      return started;
    };
    beforeEach(() => {
      subject = start();
    });
    /** Nothing may have been said on the terminal. */
    const expectSilence = async (): Promise<void> => {
      expect(await subject.end()).toBe('');
    };

    it('is what was asked for, with its version', async () => {
      const { name, version } = (await subject.call('driver')) as SqliteDriver;
      expect(name).toBe(driver === 'node' ? 'node:sqlite' : driver);
      const database = await subject.open(path, 'create');
      expect(await database.all('SELECT sqlite_version() AS version')).toEqual([{ version }]);
      await expectSilence();
    });

    it('says nothing on stderr, also of threads, and passes warnings later', async () => {
      await subject.open(path, 'create');
      const inThread = await subject.open(path, 'create', 'in a thread');
      expect(await inThread.all('SELECT 1 AS one')).toEqual([{ one: 1 }]);
      await subject.call('warn', { text: 'of another module', type: 'ExperimentalWarning' });
      // The end of a warning's way is after the answer; another process would be too early to ask.
      await subject.call('warn', { text: 'the last one', type: 'Warning' });
      await subject.call('driver');
      const stderr = await subject.end();
      expect(stderr.replaceAll(/\(node:\d+\) |\(Use `.*\n/g, '')).toBe(
        'ExperimentalWarning: of another module\nWarning: the last one\n',
      );
    });

    describe('opens', () => {
      const NAMES = [
        'a b.db',
        'what?.db',
        'a?mode=memory',
        'a#b.db',
        '100%.db',
        '%41.db',
        '%00.db',
        'a&b=c;d+e.db',
        'ünïcödé 日本 🙂.db',
        'back\\slash.db',
        'quote\'".db',
        'line\nbreak\ttab.db',
        'file:plain.db',
        ':memory:',
        '-dash',
      ];

      it.each(NAMES)('a file by its name: %j', async (name) => {
        const made = new BetterSqlite3(join(dir, name === ':memory:' ? './:memory:' : name));
        made.exec('CREATE TABLE t (v); INSERT INTO t VALUES (42)');
        made.close();
        for (const access of ['read-only', 'read-write', 'create'] as const) {
          const database = await subject.open(join(dir, name), access);
          expect(await database.all('SELECT v FROM t'), access).toEqual([{ v: 42 }]);
          await database.close();
        }
        expect(readdirSync(dir)).toEqual([name]);
      });

      it('a file by a relative path, and by one that leads through a link', async () => {
        await fs.mkdir(join(dir, 'other', 'deep'), { recursive: true });
        await fs.symlink(join(dir, 'other', 'deep'), join(dir, 'link'));
        await makeDatabase();
        await fs.rename(path, join(dir, 'other', 'file:a?b'));
        for (const each of ['other/file:a?b', 'link/../file:a?b', `${dir}/link/../file:a?b`]) {
          const database = await subject.open(each, 'read-write');
          expect(await database.all('SELECT name FROM sqlite_schema'), each).toEqual([{ name: 't' }]);
          await database.close();
        }
      });

      it('no file that is missing, and makes none', async () => {
        for (const access of ['read-only', 'read-write'] as const) {
          for (const name of ['db', 'a?mode=rwc', 'a#b', '%41']) {
            await expect(subject.open(join(dir, name), access)).rejects.toMatchObject(
              failsWith('SQLITE_CANTOPEN'),
            );
          }
        }
        await expect(subject.open(join(dir, 'no', 'db'), 'create')).rejects.toThrow();
        expect(readdirSync(dir)).toEqual([]);
        await subject.open(path, 'create').then((database) => database.exec('CREATE TABLE t (v)'));
        expect(readdirSync(dir)).toEqual(['db']);
        await expectSilence();
      });

      it('no folder, and no path with a zero byte', async () => {
        for (const [access, code] of [
          ['read-only', 'SQLITE_IOERR_READ'],
          ['read-write', 'SQLITE_CANTOPEN'],
          ['create', 'SQLITE_CANTOPEN'],
        ] as const) {
          const opening = subject.open(dir, access).then((database) => database.all('PRAGMA user_version'));
          await expect(opening, access).rejects.toMatchObject({
            code: expect.stringContaining(code) as string,
          });
        }
        await makeDatabase();
        await expect(subject.open(`${path}\0x`, 'read-only')).rejects.toThrow();
      });

      it('the file that is meant, or none, when white space is at the end or the name is :memory:', async () => {
        await makeDatabase();
        for (const name of ['db ', ':memory:', '']) {
          const opened = await subject.open(name, 'read-write').catch(() => undefined);
          expect(opened, JSON.stringify(name)).toBeUndefined();
        }
        const memory = await subject.open(':memory:', 'create');
        await memory.exec('CREATE TABLE t (v)');
        expect(readdirSync(dir).sort()).toEqual([':memory:', 'db']);
      });
    });

    describe('names errors', () => {
      it('SQLITE_BUSY at once: there is no busy timeout', async () => {
        await makeDatabase();
        const application = await openApplication();
        const database = await subject.open(path, 'read-write');
        expect(await database.all('PRAGMA busy_timeout')).toEqual([{ timeout: 0 }]);
        await application.exec('BEGIN IMMEDIATE');
        await expect(database.exec('BEGIN IMMEDIATE')).rejects.toMatchObject(failsWith('SQLITE_BUSY'));
        await database.prepare('BEGIN IMMEDIATE');
        await expect(database.run()).rejects.toMatchObject(failsWith('SQLITE_BUSY'));
        await application.exec('ROLLBACK');
        await database.run();
        await expectSilence();
      });

      it('SQLITE_BUSY_SNAPSHOT', async () => {
        await makeDatabase();
        const application = await openApplication();
        const database = await subject.open(path, 'read-write');
        await database.exec('BEGIN; SELECT * FROM t');
        await application.exec('INSERT INTO t VALUES (1)');
        await expect(database.exec('INSERT INTO t VALUES (2)')).rejects.toMatchObject(
          failsWith('SQLITE_BUSY_SNAPSHOT'),
        );
      });

      it('SQLITE_LOCKED', async () => {
        await makeDatabase();
        const database = await subject.open(path, 'read-write');
        await database.exec('BEGIN; INSERT INTO t VALUES (1)');
        await expect(database.all('PRAGMA wal_checkpoint(PASSIVE)')).rejects.toMatchObject(
          failsWith('SQLITE_LOCKED'),
        );
      });

      it('SQLITE_READONLY, SQLITE_READONLY_DBMOVED', async () => {
        await makeDatabase('delete');
        const reading = await subject.open(path, 'read-only');
        await expect(reading.exec('INSERT INTO t VALUES (1)')).rejects.toMatchObject(
          failsWith('SQLITE_READONLY'),
        );
        await reading.close();
        const database = await subject.open(path, 'read-write');
        expect(await database.all('SELECT * FROM t')).toEqual([]);
        await fs.rename(path, `${path}.old`);
        await expect(database.exec('INSERT INTO t VALUES (1)')).rejects.toMatchObject(
          failsWith('SQLITE_READONLY_DBMOVED'),
        );
      });

      describe.skipIf(!CAN_MOUNT)(
        `of a wal-index that may only be read${CAN_MOUNT ? '' : ' (skipped: needs root on Linux)'}`,
        () => {
          beforeEach(async () => {
            await fs.chmod(dir, 0o755);
            await makeDatabase();
          });

          it('SQLITE_READONLY_CANTINIT, SQLITE_READONLY_RECOVERY', async () => {
            const other = start({ userId: NOBODY });
            const application = await openApplication();
            await application.exec('INSERT INTO t VALUES (1)');
            // Every mark but the first, which is for those who need no WAL: there is none to share.
            await writeIndex(Buffer.alloc(4 * 4, 0xff), READ_MARKS_AT + 4);
            const database = await other.open(path, 'read-only');
            await expect(database.all('SELECT * FROM t')).rejects.toMatchObject(
              failsWith('SQLITE_READONLY_CANTINIT'),
            );
            await writeIndex(Buffer.alloc(INDEX_HEADER_SIZE), 0);
            await expect(database.all('SELECT * FROM t')).rejects.toMatchObject(
              failsWith('SQLITE_READONLY_RECOVERY'),
            );
          });
        },
      );

      it('SQLITE_NOTADB, SQLITE_CORRUPT', async () => {
        await fs.writeFile(path, 'no database at all, but long enough to be looked at'.repeat(20));
        const foreign = await subject.open(path, 'read-write');
        await expect(foreign.all('SELECT * FROM sqlite_schema')).rejects.toMatchObject(
          failsWith('SQLITE_NOTADB'),
        );
        await foreign.close();
        await fs.rm(path);
        await makeDatabase('delete');
        const content = readFileSync(path);
        // The root page of the table.
        await fs.writeFile(path, Buffer.concat([content.subarray(0, 4096), Buffer.alloc(4096, 0xff)]));
        const damaged = await subject.open(path, 'read-only');
        await expect(damaged.all('SELECT * FROM t')).rejects.toMatchObject(failsWith('SQLITE_CORRUPT'));
      });

      it('SQLITE_FULL', async () => {
        await makeDatabase();
        const database = await subject.open(path, 'read-write');
        await database.all('PRAGMA max_page_count = 3');
        await expect(database.exec('INSERT INTO t VALUES (zeroblob(100000))')).rejects.toMatchObject(
          failsWith('SQLITE_FULL'),
        );
      });

      it('SQLITE_ERROR of what is no SQL, and none of what is no error of SQLite', async () => {
        const database = await subject.open(path, 'create');
        await expect(database.exec('SELEKT')).rejects.toMatchObject(failsWith('SQLITE_ERROR'));
        await expect(database.prepare('SELEKT')).rejects.toMatchObject(failsWith('SQLITE_ERROR'));
        await database.close();
        await expect(database.exec('SELECT 1')).rejects.toMatchObject(failsWith(''));
      });
    });

    describe('runs', () => {
      it('a prepared statement as often as is wanted, with rows and without', async () => {
        const database = await subject.open(path, 'create');
        await database.exec('CREATE TABLE t (v); INSERT INTO t VALUES (1), (2)');
        await database.prepare('SELECT * FROM t');
        for (let i = 0; i < 2; i++) await database.run();
        await database.prepare('INSERT INTO t VALUES (3)');
        for (let i = 0; i < 2; i++) await database.run();
        expect(await database.all('SELECT sum(v) AS sum FROM t')).toEqual([{ sum: 9 }]);
        // No statement is left under way.
        await database.exec('DROP TABLE t');
      });

      it('transactions, and tells whether one is open', async () => {
        const database = await subject.open(path, 'create');
        await database.exec('CREATE TABLE t (v UNIQUE); INSERT INTO t VALUES (1)');
        expect(await database.inTransaction()).toBe(false);
        await database.exec('BEGIN');
        expect(await database.inTransaction()).toBe(true);
        await database.exec('COMMIT');
        expect(await database.inTransaction()).toBe(false);
        await database.exec('BEGIN');
        await expect(database.exec('INSERT OR ROLLBACK INTO t VALUES (1)')).rejects.toMatchObject({
          code: expect.stringMatching(/^SQLITE_CONSTRAINT/) as string,
        });
        expect(await database.inTransaction()).toBe(false);
        await database.exec('BEGIN');
        await database.close();
        expect(await database.inTransaction()).toBe(false);
        await database.close();
      });

      it('checkpoints', async () => {
        await makeLeftoverWal();
        const database = await subject.open(path, 'read-write');
        await database.exec('PRAGMA user_version');
        expect(await database.all('PRAGMA wal_checkpoint(PASSIVE)')).toEqual([
          { busy: 0, log: 1, checkpointed: 1 },
        ]);
      });
    });

    describe('closed last', () => {
      it('leaves the WAL where it is when it is read-only', async () => {
        await makeLeftoverWal();
        const before = readFileSync(`${path}-wal`);
        const writing = await subject.open(path, 'read-write');
        const reading = await subject.open(path, 'read-only');
        for (const each of [writing, reading]) {
          expect(await each.all('SELECT v FROM t')).toEqual([{ v: 1 }]);
        }
        await writing.close();
        await reading.close();
        expect(readFileSync(`${path}-wal`).equals(before)).toBe(true);
        await expectSilence();
      });

      it('checkpoints and removes the WAL when it is read-write', async () => {
        await makeLeftoverWal();
        const writing = await subject.open(path, 'read-write');
        const reading = await subject.open(path, 'read-only');
        for (const each of [writing, reading]) {
          expect(await each.all('SELECT v FROM t')).toEqual([{ v: 1 }]);
        }
        await reading.close();
        expect(existsSync(`${path}-wal`)).toBe(true);
        await writing.close();
        expect(readdirSync(dir)).toEqual(['db']);
        await expectSilence();
      });

      it('lets go of its locks, also with a statement and a transaction', async () => {
        await makeDatabase();
        const application = await openApplication();
        const database = await subject.open(path, 'read-write');
        await database.prepare('SELECT * FROM t');
        await database.exec('BEGIN IMMEDIATE');
        await database.run();
        await expect(application.exec('BEGIN IMMEDIATE')).rejects.toThrow(/SQLITE_BUSY/);
        await database.close();
        await application.exec('BEGIN IMMEDIATE');
      });
    });

    it('in a thread shares its locks with the process', async () => {
      await makeDatabase();
      const application = await openApplication();
      const database = await subject.open(path, 'read-write');
      const inThread = await subject.open(path, 'read-write', 'in a thread');
      await database.exec('BEGIN IMMEDIATE');
      await expect(inThread.exec('BEGIN IMMEDIATE')).rejects.toMatchObject(failsWith('SQLITE_BUSY'));
      expect(await inThread.all('SELECT * FROM t')).toEqual([]);
      // Two copies of SQLite, or a closed descriptor of the file, would take the lock away here.
      await inThread.close();
      await expect(application.exec('BEGIN IMMEDIATE')).rejects.toThrow(/SQLITE_BUSY/);
      await database.exec('COMMIT');
      await application.exec('BEGIN IMMEDIATE');
      await expectSilence();
    });
  });
}

describe('which driver is chosen', () => {
  const driver = (name: SqliteDriver['name'], version: string): SqliteDriver => ({
    name,
    version,
    open: () => {
      throw new Error('not to be opened');
    },
    codeOf: () => '',
  });
  const failing = (message: string) => (): SqliteDriver => {
    throw new Error(message);
  };
  const node = () => driver('node:sqlite', '3.51.3');
  const better = () => driver('better-sqlite3', '3.53.2');
  const oldNode = () => driver('node:sqlite', '3.51.2');
  const noNode = failing('Node.js v20.20.2 has none');
  const noBetter = failing('it is not installed');

  it.each([
    ['node:sqlite first', undefined, node, better, 'node:sqlite'],
    ['node:sqlite when nothing is wanted', '', node, better, 'node:sqlite'],
    ['better-sqlite3 beside a SQLite that is too old', undefined, oldNode, better, 'better-sqlite3'],
    ['better-sqlite3 without another', undefined, noNode, better, 'better-sqlite3'],
    ['better-sqlite3 when it is wanted', 'better-sqlite3', node, better, 'better-sqlite3'],
    ['node:sqlite when it is wanted', 'node', node, better, 'node:sqlite'],
    ['a version by its numbers', undefined, () => driver('node:sqlite', '3.100.0'), better, 'node:sqlite'],
  ] as const)('%s', (_, wanted, nodeLoader, betterLoader, name) => {
    const loaders = { 'node:sqlite': nodeLoader, 'better-sqlite3': betterLoader };
    expect(chooseDriver(wanted, loaders).name).toBe(name);
  });

  it.each([
    [
      undefined,
      noNode,
      noBetter,
      'node:sqlite: Node.js v20.20.2 has none; better-sqlite3: it is not installed. ',
    ],
    [undefined, oldNode, noBetter, 'node:sqlite is SQLite 3.51.2; better-sqlite3: it is not installed. '],
    ['node', oldNode, better, ': node:sqlite is SQLite 3.51.2. '],
    ['better-sqlite3', node, noBetter, ': better-sqlite3: it is not installed. '],
  ])('none: one line says why, and both ways out (%s)', (wanted, nodeLoader, betterLoader, why) => {
    const loaders = { 'node:sqlite': nodeLoader, 'better-sqlite3': betterLoader };
    const choose = (): unknown => chooseDriver(wanted, loaders);
    expect(choose).toThrow(expect.objectContaining({ code: 'unsupported' }));
    expect(choose).toThrow(why);
    expect(choose).toThrow(
      /^[^\n]*a newer Node\.js \(22\.22\.3, 24\.15, 26 or later\)[^\n]*`npm install better-sqlite3`[^\n]*$/,
    );
  });

  it('none when a name is unknown', () => {
    expect(() => chooseDriver('sqlite')).toThrow(
      expect.objectContaining({
        code: 'usage',
        message: expect.stringContaining('LITESTREAM_SQLITE=sqlite') as string,
      }),
    );
  });
});
