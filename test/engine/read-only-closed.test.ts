/** A database that nobody has open: held only while it provably does not change. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import { ClosedDatabase, continueClosed } from '../../src/engine/read-only-closed.ts';
import { until, withTempDir } from '../support/process.ts';

let dir: string;
let path: string;
let metaPath: string;
let lines: string[];
let leave: () => void;
let left: Promise<void>;
let closed: ClosedDatabase | undefined;

beforeEach(async () => {
  await new Promise<void>((entered) => {
    left = withTempDir(async (folder) => {
      dir = folder;
      entered();
      await new Promise<void>((resolve) => (leave = resolve));
    });
  });
  path = join(dir, 'db');
  metaPath = join(dir, 'meta');
  lines = [];
  application((db) => db.exec('CREATE TABLE t (v); INSERT INTO t VALUES (randomblob(50000))'));
});

afterEach(async () => {
  await closed?.close();
  closed = undefined;
  leave();
  await left;
});

/** Opens the database, works, and closes it: the WAL is gone then. */
function application(work: (db: BetterSqlite3.Database) => void): void {
  const db = new BetterSqlite3(path);
  db.pragma('journal_mode = WAL');
  work(db);
  db.close();
}

function find(giveUp?: string): Promise<ClosedDatabase | undefined> {
  const logger = createLogger({ format: 'text', level: 'INFO', write: (line) => void lines.push(line) });
  return ClosedDatabase.find({ realPath: path, metaPath, logger, giveUp });
}

/** Once the last change is long enough ago. */
async function found(giveUp?: string): Promise<ClosedDatabase> {
  closed = await until(() => find(giveUp));
  return closed;
}

async function readAll(database: ClosedDatabase, during: () => void = () => undefined): Promise<Buffer> {
  const hold = database.hold();
  const chunks: Buffer[] = [];
  try {
    for await (const chunk of hold.read()) {
      chunks.push(Buffer.from(chunk));
      during();
    }
  } finally {
    await hold.release();
  }
  return Buffer.concat(chunks);
}

describe('a closed database', () => {
  it('is not believed in right after a change, which times of files may hide', async () => {
    expect(await find()).toBe(undefined);
    await found();
  });

  it('gives its file, as the start of a generation', async () => {
    const database = await found();
    expect(database.position).toEqual({ generation: database.shadow.generation, index: 0, offset: 0 });
    expect(await readAll(database)).toEqual(await fs.readFile(path));
    expect(database.isUnchanged()).toBe(true);
  });

  it('is none while a WAL or a hot journal is left', async () => {
    await found();
    await closed?.close();
    closed = undefined;
    for (const suffix of ['-wal', '-journal']) {
      await fs.writeFile(`${path}${suffix}`, 'x');
      expect(await find(), suffix).toBe(undefined);
      await fs.rm(`${path}${suffix}`);
    }
    await fs.writeFile(`${path}-wal`, '');
    await found();
  });

  it('is left alone as long as nobody opens it, also with an empty WAL that was left over', async () => {
    const db = new BetterSqlite3(path);
    db.exec('INSERT INTO t VALUES (1)');
    db.pragma('wal_checkpoint(TRUNCATE)');
    // As an application leaves it that is killed now.
    for (const suffix of ['', '-wal', '-shm'])
      await fs.copyFile(`${path}${suffix}`, join(dir, `killed${suffix}`));
    db.close();
    path = join(dir, 'killed');
    const database = await found();
    expect(database.isUnchanged()).toBe(true);
    const application = new BetterSqlite3(path);
    application.prepare('SELECT count(*) FROM t').get();
    expect(database.isUnchanged()).toBe(false);
    application.close();
  });

  it('fails a snapshot during which it was written, and is looked at anew', async () => {
    const database = await found();
    const write = (): void => application((db) => db.exec('UPDATE t SET v = randomblob(50000)'));
    await expect(readAll(database, write)).rejects.toThrow(
      'the database was changed while a snapshot was taken',
    );
    expect(database.isUnchanged()).toBe(false);
  });

  it('lets an application in at once, also during a snapshot that the application has not disturbed', async () => {
    const database = await found();
    const hold = database.hold();
    const db = new BetterSqlite3(path);
    try {
      db.exec('INSERT INTO t VALUES (1)');
      expect(database.isUnchanged()).toBe(false);
      await database.close();
      closed = undefined;
      await expect(hold.read()[Symbol.asyncIterator]().next()).rejects.toThrow('was closed');
    } finally {
      db.close();
    }
  });

  it('keeps its generation over restarts of ours, until it was changed or is given up', async () => {
    const { generation } = (await found()).shadow;
    await closed?.close();
    expect((await found()).shadow.generation).toBe(generation);
    await closed?.close();
    expect((await continueClosed(metaPath, path))?.generation).toBe(generation);
    const next = (await found('replica has lost it')).shadow.generation;
    expect(next).not.toBe(generation);
    expect(lines.at(-1)).toMatch(/sync: new generation.*replica has lost it/);
    await closed?.close();
    application((db) => db.exec('DELETE FROM t'));
    expect(await continueClosed(metaPath, path)).toBe(undefined);
    expect((await found()).shadow.generation).not.toBe(next);
  });

  it('is noticed to be changed although its size and its time of modification are the same', async () => {
    await fs.utimes(path, 1000, 1000);
    await found();
    await closed?.close();
    closed = undefined;
    const before = await fs.stat(path);
    application((db) => db.exec('PRAGMA user_version = 7'));
    await fs.utimes(path, 1000, 1000);
    const { size, mtimeMs } = await fs.stat(path);
    expect({ size, mtimeMs }).toEqual({ size: before.size, mtimeMs: before.mtimeMs });
    expect(await continueClosed(metaPath, path)).toBe(undefined);
  });
});
