/** No connection that locks for writing, or checkpoints, can be had where SQLite would only pretend. */

import { execFileSync } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { describe, expect, it } from 'vitest';
import { CheckpointConnection, WalModeConnection, WriteLockConnection } from '../../src/sqlite/connection.ts';
import { findWritable, type WritablePath } from '../../src/sqlite/writable-path.ts';
import { withTempDir } from '../support/process.ts';
import { CAN_MOUNT } from '../support/read-only.ts';

const SKIPPED = CAN_MOUNT ? '' : ' (skipped: needs root on Linux)';

/** A database with an application, seen through a mount that was writable and is not any more. */
async function withMount(body: (path: string, application: BetterSqlite3.Database) => void): Promise<void> {
  await withTempDir(async (dir) => {
    const [own, mounted] = [join(dir, 'own'), join(dir, 'mounted')];
    for (const folder of [own, mounted]) await fs.mkdir(folder);
    const application = new BetterSqlite3(join(own, 'db'), { timeout: 0 });
    application.pragma('journal_mode = WAL');
    application.exec('CREATE TABLE t (v)');
    execFileSync('mount', ['--bind', own, mounted]);
    try {
      body(join(mounted, 'db'), application);
    } finally {
      application.close();
      execFileSync('umount', ['-l', mounted]);
    }
  });
}

function makeReadOnly(path: string): void {
  execFileSync('mount', ['-o', 'remount,bind,ro', join(path, '..')]);
}

describe(`on a volume that became read-only${SKIPPED}`, { skip: !CAN_MOUNT }, () => {
  it('SQLite says that it has the write lock although it has not', async () => {
    await withMount((path, application) => {
      makeReadOnly(path);
      const pretending = new BetterSqlite3(path);
      pretending.exec('BEGIN IMMEDIATE');
      application.exec('INSERT INTO t VALUES (1)');
      pretending.close();
    });
  });

  it.each([
    ['the write lock', WriteLockConnection],
    ['checkpoints', CheckpointConnection],
    ['the switch to WAL mode', WalModeConnection],
  ])('there is no connection for %s', async (_, Connection) => {
    await withMount((path) => {
      const writable = findWritable(path);
      expect(writable).toBe(path);
      makeReadOnly(path);
      expect(findWritable(path)).toBe(undefined);
      expect(() => new Connection(writable as WritablePath)).toThrow(/cannot be written any more/);
    });
  });
});
