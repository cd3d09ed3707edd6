/** How much may be left to copy when the write lock is taken. The thread that checkpoints is the compiled one. */

import { mkdtempSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Checkpointer } from '../../src/engine/checkpointer.ts';
import { DatabaseFiles } from '../../src/engine/database-files.ts';
import { ShadowWal, emptyChain } from '../../src/engine/shadow-wal.ts';
import { WalFollower } from '../../src/engine/wal-follower.ts';
import { type RotationParts, rotateWal } from '../../src/engine/wal-rotation.ts';
import { ReadConnection, WriteLockConnection } from '../../src/sqlite/connection.ts';
import { findWritable } from '../../src/sqlite/writable-path.ts';

const MODULE = new URL('../../dist/engine/checkpointer.js', import.meta.url).href;
const compiled = (await import(MODULE)) as { readonly Checkpointer: new () => Checkpointer };

/** The largest that SQLite has: 128 of them are 8 MiB. */
const PAGE_SIZE = 65536;
const MOST_FRAMES = 128;

let directory: string;
let application: BetterSqlite3.Database;
/** Holds a read mark. */
let reader: BetterSqlite3.Database;
let parts: RotationParts;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'rotation-'));
  await mkdir(join(directory, 'meta'));
  const path = join(directory, 'db');
  application = new BetterSqlite3(path, { timeout: 0 });
  application.pragma(`page_size = ${PAGE_SIZE}`);
  application.pragma('journal_mode = WAL');
  application.pragma('synchronous = OFF');
  application.pragma('wal_autocheckpoint = 0');
  application.exec('CREATE TABLE t (v); INSERT INTO t VALUES (0)');
  reader = new BetterSqlite3(path, { readonly: true });
  reader.exec('BEGIN; SELECT * FROM t');
  const files = new DatabaseFiles(path);
  const connection = new ReadConnection(path);
  connection.begin();
  files.openWal();
  const shadow = await ShadowWal.create(join(directory, 'meta'));
  const follower = new WalFollower(files, shadow, connection, emptyChain(0), PAGE_SIZE);
  await follower.start();
  const writable = findWritable(path)!;
  const writeLock = new WriteLockConnection(writable);
  parts = { path: writable, files, follower, checkpointer: new compiled.Checkpointer(), writeLock };
});

afterEach(async () => {
  await parts.checkpointer.close(parts.path);
  parts.writeLock.close();
  parts.follower.close();
  reader.close();
  application.close();
  parts.files.close();
  rmSync(directory, { recursive: true });
});

/** One frame each. */
function commit(times: number): void {
  const update = application.prepare('UPDATE t SET v = v + 1');
  for (let i = 0; i < times; i++) update.run();
}

describe('rotateWal', () => {
  it('takes the write lock for a backlog of 8 MiB, and not for a page more', async () => {
    const tryLock = vi.spyOn(parts.writeLock, 'tryLock');
    commit(MOST_FRAMES + 1);
    expect(await rotateWal(parts)).toEqual({
      kind: 'busy',
      reason: expect.stringMatching(`^${MOST_FRAMES + 1} of .* a reader holds frame`) as string,
      blockedMs: 0,
    });
    expect(tryLock).not.toHaveBeenCalled();

    // The reader moves on, and a page less is left.
    reader.exec('COMMIT; BEGIN; SELECT * FROM t');
    commit(MOST_FRAMES);
    const allowed = await rotateWal(parts);
    expect(allowed).toMatchObject({
      kind: 'busy',
      reason: expect.stringMatching(`^${MOST_FRAMES} of `) as string,
    });
    expect(tryLock).toHaveBeenCalled();

    reader.exec('COMMIT');
    expect(await rotateWal(parts)).toMatchObject({ kind: 'rotated' });
  });
});
