/** The content of a database file changes as by a commit: for those that have it open, in a crash, and when it fails. */

import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { ContentExchange } from '../../src/engine/content-exchange.ts';
import { ExclusiveHold } from '../../src/engine/exclusive-hold.ts';
import { findWritable } from '../../src/sqlite/writable-path.ts';
import { integrityCheck, openSqlite, withSqlite } from '../support/sqlite.ts';

/** What the exchange changes in the header: change counter, schema cookie, version-valid-for. */
const COUNTERS = [24, 40, 92] as const;

let dir: string;
let path: string;
let fresh: string;
let kept: string;

beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), 'content-exchange-'));
  path = join(dir, 'app.db');
  fresh = join(dir, 'fresh.db');
  kept = join(dir, 'kept.db');
});
afterEach(() => fs.rm(dir, { recursive: true, force: true }));

async function make(
  file: string,
  { pageSize, rows, mode }: { pageSize: number; rows: number; mode: 'WAL' | 'DELETE' },
): Promise<void> {
  const pragmas = [`page_size=${pageSize}`, `journal_mode=${mode}`];
  const sqlite = await openSqlite({ path: file, pragmas });
  await sqlite.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, x)');
  await sqlite.exec(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${rows}) INSERT INTO t (x) SELECT randomblob(900) FROM n`,
  );
  await sqlite.close();
}

async function exchange(
  giveAccess = () => Promise.resolve(),
  prepare = () => Promise.resolve(),
): Promise<void> {
  const hold = await ExclusiveHold.begin(findWritable(path)!);
  await prepare();
  const file = await fs.open(fresh, 'r+');
  try {
    expect(hold.problem).toBeUndefined();
    await new ContentExchange({
      database: hold.file,
      path,
      fresh: file,
      freshPath: fresh,
      keptPath: kept,
      giveAccess,
    }).run();
  } finally {
    await file.close();
    await hold.end();
  }
}

async function countOf(file: string): Promise<unknown> {
  expect(await integrityCheck(file)).toBe('ok');
  return withSqlite(
    { path: file },
    async (sqlite) => (await sqlite.all('SELECT count(*) n FROM t'))[0]!['n'],
  );
}

const SHAPES = [
  { old: { pageSize: 4096, rows: 3 }, new_: { pageSize: 4096, rows: 2000 } },
  { old: { pageSize: 4096, rows: 2000 }, new_: { pageSize: 4096, rows: 3 } },
  { old: { pageSize: 512, rows: 1500 }, new_: { pageSize: 65536, rows: 300 } },
  { old: { pageSize: 65536, rows: 300 }, new_: { pageSize: 512, rows: 1500 } },
];

describe.each(SHAPES)('%j', ({ old, new_ }) => {
  it.each(['WAL', 'DELETE'] as const)('each file gets the content of the other, from %s', async (mode) => {
    await make(path, { ...old, mode });
    await make(fresh, { ...new_, mode: 'WAL' });
    const [before, after] = await Promise.all([fs.readFile(path), fs.readFile(fresh)]);
    const { ino } = await fs.stat(path);
    await exchange();
    expect((await fs.readFile(kept)).equals(before)).toBe(true);
    const content = await fs.readFile(path);
    for (const offset of COUNTERS) after.copy(content, offset, offset, offset + 4);
    expect(content.equals(after)).toBe(true);
    expect((await fs.stat(path)).ino).toBe(ino);
    expect((await fs.readdir(dir)).sort()).toEqual(['app.db', 'kept.db']);
    expect(await countOf(path)).toBe(new_.rows);
  });

  it('what fails late is undone, and a crash then is undone by SQLite', async () => {
    await make(path, { ...old, mode: 'WAL' });
    await make(fresh, { ...new_, mode: 'WAL' });
    const before = await fs.readFile(path);
    const crashed = join(dir, 'crashed.db');
    const failing = exchange(async () => {
      await fs.copyFile(`${path}-journal`, `${crashed}-journal`);
      await fs.copyFile(path, crashed);
      throw new Error('no access');
    });
    await expect(failing).rejects.toThrow('no access');
    expect((await fs.readFile(path)).equals(before)).toBe(true);
    expect((await fs.readFile(crashed)).equals(before)).toBe(false);
    expect(await withSqlite({ path: crashed }, (sqlite) => sqlite.all('SELECT count(*) n FROM t'))).toEqual([
      { n: old.rows },
    ]);
    expect((await fs.readFile(crashed)).equals(before)).toBe(true);
    expect((await fs.readdir(dir)).filter((name) => !name.startsWith('crashed'))).toEqual(['app.db']);
  });

  it('connections that have read the database before go on with the new content', async () => {
    await make(path, { ...old, mode: 'DELETE' });
    await make(fresh, { ...new_, mode: 'WAL' });
    const reader = await openSqlite({ path });
    const other = await openSqlite({ path });
    const count = async (): Promise<unknown> => (await reader.all('SELECT count(*) n FROM t'))[0]!['n'];
    try {
      expect(await count()).toBe(old.rows);
      await exchange();
      await other.exec('INSERT INTO t (x) VALUES (randomblob(3000))');
      expect(await count()).toBe(new_.rows + 1);
      await reader.exec('INSERT INTO t (x) VALUES (randomblob(3000))');
    } finally {
      await reader.kill();
      await other.kill();
    }
    expect(await countOf(path)).toBe(new_.rows + 2);
    expect(await countOf(kept)).toBe(old.rows);
  });
});

it('an empty file becomes the database', async () => {
  await fs.writeFile(path, '');
  await make(fresh, { pageSize: 4096, rows: 7, mode: 'WAL' });
  await exchange();
  expect(await countOf(path)).toBe(7);
  expect((await fs.stat(kept)).size).toBe(0);
  expect((await fs.readdir(dir)).filter((name) => name.includes('journal'))).toEqual([]);
});

it('writes through no link in the place of its journal', async () => {
  const options = { pageSize: 4096, mode: 'DELETE' } as const;
  await make(path, { ...options, rows: 20 });
  await make(fresh, { ...options, rows: 7 });
  const other = join(dir, 'other');
  await fs.writeFile(other, 'precious');
  const exchanging = exchange(undefined, () => fs.symlink(other, `${path}-journal`));
  await expect(exchanging).rejects.toThrow('ELOOP');
  expect(await fs.readFile(other, 'utf8')).toBe('precious');
  await fs.rm(`${path}-journal`, { force: true });
  expect(await countOf(path)).toBe(20);
});
