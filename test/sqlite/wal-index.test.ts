import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WAL_INDEX_HEADER_SIZE, parseWalIndexHeader } from '../../src/sqlite/wal-index.ts';
import { WAL_HEADER_SIZE, parseWalHeader, readFrameHeader, walFrameSize } from '../../src/sqlite/wal.ts';

let directory: string;
let database: BetterSqlite3.Database;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'wal-index-'));
  database = new BetterSqlite3(join(directory, 'db'));
  database.pragma('journal_mode = WAL');
  database.pragma('wal_autocheckpoint = 0');
});

afterEach(() => {
  database.close();
  rmSync(directory, { recursive: true });
});

// Reading with fs drops this process's locks on the file; nobody else uses this database.
const shm = () => new Uint8Array(readFileSync(join(directory, 'db-shm')).subarray(0, WAL_INDEX_HEADER_SIZE));

describe('parseWalIndexHeader', () => {
  it('tells what is committed, as the WAL has it', () => {
    database.exec('CREATE TABLE t (v); INSERT INTO t VALUES (randomblob(50000))');
    const wal = new Uint8Array(readFileSync(join(directory, 'db-wal')));
    const { salt1, salt2, pageSizeBytes } = parseWalHeader(wal);
    const frames = (wal.byteLength - WAL_HEADER_SIZE) / walFrameSize(pageSizeBytes);
    const last = readFrameHeader(wal, wal.byteLength - walFrameSize(pageSizeBytes));
    expect(parseWalIndexHeader(shm())).toMatchObject({
      pageSizeBytes,
      mxFrame: frames,
      pageCount: last.commitPageCount,
      frameChecksum: last.checksum,
      salt1,
      salt2,
      backfilled: 0,
    });
  });

  it('tells how much is checkpointed', () => {
    database.exec('CREATE TABLE t (v)');
    database.pragma('wal_checkpoint(PASSIVE)');
    const header = parseWalIndexHeader(shm());
    expect(header?.backfilled).toBe(header?.mxFrame);
    expect(header?.mxFrame).toBeGreaterThan(0);
  });

  it('reads an empty WAL, which has no page size yet', () => {
    database.exec('CREATE TABLE t (v)');
    database.close();
    database = new BetterSqlite3(join(directory, 'db'), { readonly: true });
    database.pragma('user_version');
    expect(parseWalIndexHeader(shm())).toMatchObject({ mxFrame: 0 });
  });

  it('gives nothing while the two copies differ or the checksum fails', () => {
    database.exec('CREATE TABLE t (v)');
    const data = shm();
    for (const at of [16, 48 + 16]) {
      const torn = data.slice();
      torn[at]! ^= 1;
      expect(parseWalIndexHeader(torn)).toBeUndefined();
    }
    const both = data.slice();
    both[16]! ^= 1;
    both[48 + 16]! ^= 1;
    expect(parseWalIndexHeader(both)).toBeUndefined();
  });
});
