/** Which segments belong to a time in a replica of v0.3.13's: those that it chooses itself, by the times of the objects. */

import { execFileSync, spawnSync } from 'node:child_process';
import { promises as fs, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import { restore } from '../../src/engine/restore.ts';
import { encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { openStore } from '../../src/storage/registry.ts';
import { oracle } from '../support/oracle.ts';

const G = '00000000000000aa';
const logger = createLogger({ format: 'default', level: 'ERROR', write: () => undefined });

/** `2026-01-02T00:00:SS.NNNNNNNNNZ` */
const time = (seconds: number, nanoseconds = 0): string =>
  `2026-01-02T00:00:${String(seconds).padStart(2, '0')}.${String(nanoseconds).padStart(9, '0')}Z`;

let dir: string;
let count = 0;
/** The snapshot, then three segments of each of three indexes, a row in each. */
const keys: string[] = [];

beforeAll(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), 'restore-times-'));
  const database = new BetterSqlite3(join(dir, 'db'));
  for (const pragma of ['journal_mode=wal', 'wal_autocheckpoint=0']) database.pragma(pragma);
  database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY)');
  database.pragma('wal_checkpoint(TRUNCATE)');
  write(snapshotKey(G, 0), readFileSync(join(dir, 'db')));
  for (let index = 0; index < 3; index++) {
    for (let n = 0, offset = 0; n < 3; n++) {
      database.exec('INSERT INTO t DEFAULT VALUES');
      const wal = readFileSync(join(dir, 'db-wal'));
      write(segmentKey(G, index, offset), wal.subarray(offset));
      offset = wal.byteLength;
    }
    database.pragma('wal_checkpoint(TRUNCATE)');
  }
  database.close();
});
afterAll(() => fs.rm(dir, { recursive: true, force: true }));

function write(key: string, content: Uint8Array): void {
  const path = join(dir, 'replica', key);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, encodeLz4FrameBytes(content));
  keys.push(path);
}

/** Rows of a restored database; undefined when there is nothing to restore. */
function rowsOf(path: string): number {
  const database = new BetterSqlite3(path);
  const rows = database.prepare('SELECT count(*) FROM t').pluck().get() as number;
  database.close();
  return rows;
}

async function ours(timestamp: string): Promise<number | undefined> {
  const outputPath = join(dir, `ours-${count++}`);
  const store = await openStore({ type: 'file', path: join(dir, 'replica') });
  try {
    const replicas = [{ name: 'file', store }];
    await restore({ replicas, outputPath, timestamp: new Date(timestamp), parallelism: 4, logger });
  } catch {
    return undefined;
  }
  return rowsOf(outputPath);
}

function theirs(timestamp: string): number | undefined {
  const path = join(dir, `theirs-${count++}`);
  const args = ['restore', '-o', path, '-timestamp', timestamp, `file://${dir}/replica`];
  return spawnSync(oracle(), args).status === 0 ? rowsOf(path) : undefined;
}

/** The snapshot at 0 s, the segments at 1 s to 9 s. */
const IN_ORDER = Array.from({ length: 10 }, (_, i) => time(i));

describe('the objects of a time are those that v0.3.13 takes', () => {
  it.each<[string, Record<number, string>, string[]]>([
    ['in order', {}, [time(0), time(3), time(5, 500_000_000), time(9)]],
    ['within a millisecond, after', { 5: time(5, 400_000) }, [time(5), time(5, 1_000_000)]],
    ['within a millisecond, by one nanosecond', { 5: time(5, 1) }, [time(5), time(5, 1_000_000)]],
    ['within a millisecond, before', { 5: time(4, 999_600_000) }, [time(4, 999_000_000), time(5)]],
    ['a snapshot within a millisecond', { 0: time(0, 400_000) }, [time(0), time(0, 1_000_000)]],
    ['written again later, and an index early', { 4: time(7), 7: time(4) }, [4, 6, 7, 8].map((s) => time(s))],
    ['the second late', { 2: time(8) }, [1, 2, 6, 8, 9].map((s) => time(s))],
    ['the first late', { 1: time(8) }, [1, 6, 8, 9].map((s) => time(s))],
    ['the last early', { 9: time(2) }, [2, 5, 8].map((s) => time(s))],
  ])('%s', async (_, changed, targets) => {
    for (const [i, path] of keys.entries()) {
      execFileSync('touch', ['-d', changed[i] ?? IN_ORDER[i] ?? '', path]);
    }
    for (const target of targets) expect([target, await ours(target)]).toEqual([target, theirs(target)]);
  });
});
