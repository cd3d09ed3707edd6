/** SQLite's own check in a process of its own: what it finds, and that it can be ended. */

import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { checkIntegrity } from '../../src/sqlite/integrity-check.ts';

let directory: string;
let path: string;
const signal = new AbortController().signal;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'integrity-'));
  path = join(directory, 'db');
  const database = new Database(path);
  database.exec('CREATE TABLE t (v); CREATE INDEX i ON t (v)');
  const insert = database.prepare('INSERT INTO t VALUES (randomblob(900))');
  for (let i = 0; i < 100; i++) insert.run();
  database.close();
});

afterEach(() => rmSync(directory, { recursive: true }));

it('is sound, or has problems that are told', async () => {
  expect(await checkIntegrity(path, signal)).toEqual([]);
  truncateSync(path, 8192);
  expect((await checkIntegrity(path, signal)).length).toBeGreaterThan(0);
  writeFileSync(path, 'no database at all, but long enough to be looked at'.repeat(20));
  expect(await checkIntegrity(path, signal)).toEqual(['file is not a database']);
});

it('rejects when it cannot be done', async () => {
  await expect(checkIntegrity(join(directory, 'other'), signal)).rejects.toMatchObject({
    code: 'io',
    message: expect.stringContaining('unable to open database file') as string,
  });
});

it('ends at once when it is given up', async () => {
  await expect(checkIntegrity(path, AbortSignal.abort())).rejects.toMatchObject({ code: 'aborted' });
  const stopping = new AbortController();
  const checking = checkIntegrity(path, stopping.signal);
  stopping.abort();
  await expect(checking).rejects.toMatchObject({ code: 'aborted' });
});
