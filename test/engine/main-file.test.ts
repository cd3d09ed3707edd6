/** Whether a database file is written by checkpoints alone, as told from its times, its first page and the wal-index. */

import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { sleep } from '../../src/base/concurrency.ts';
import { DatabaseFiles } from '../../src/engine/database-files.ts';
import { ShadowWal, emptyChain } from '../../src/engine/shadow-wal.ts';
import { WalFollower } from '../../src/engine/wal-follower.ts';
import { ReadConnection } from '../../src/sqlite/connection.ts';

let directory: string;
beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'main-file-'));
  await mkdir(join(directory, 'meta'));
});
afterEach(() => rmSync(directory, { recursive: true }));

/** A database in WAL mode that is followed from its first frame on; checkpoints are made by the test alone. */
async function follow(): Promise<{
  app: BetterSqlite3.Database;
  files: DatabaseFiles;
  follower: WalFollower;
  close: () => Promise<void>;
}> {
  const path = join(directory, 'db');
  const app = new BetterSqlite3(path);
  app.pragma('journal_mode=WAL');
  app.pragma('wal_autocheckpoint=0');
  app.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v)');
  const files = new DatabaseFiles(path);
  const reader = new ReadConnection(path);
  reader.begin();
  files.openWal();
  files.watchMainFile(true);
  const shadow = await ShadowWal.create(join(directory, 'meta'));
  const follower = new WalFollower(files, shadow, reader, emptyChain(0), 4096);
  await follower.start();
  const close = async (): Promise<void> => {
    follower.close();
    files.close();
    app.close();
    await shadow.close();
  };
  return { app, files, follower, close };
}

describe('MainFile', () => {
  it('takes no checkpoint for anything else, and a copy of another database for what it is', async () => {
    const { app, files, follower, close } = await follow();
    let seed = Number(process.env['SEED'] ?? Date.now() % 1e6);
    console.log(`seed ${seed}`);
    const random = () => (seed = (seed * 1103515245 + 12345) % 2147483648) / 2147483648;
    try {
      for (let i = 0; i < 1500; i++) {
        const r = random();
        if (r < 0.5) app.prepare('INSERT INTO t(v) VALUES(randomblob(?))').run(Math.floor(random() * 9000));
        else if (r < 0.6) app.exec('DELETE FROM t WHERE id % 3 = 0');
        else if (r < 0.8) await follower.sync();
        else if (r < 0.95) app.pragma('wal_checkpoint(PASSIVE)');
        else {
          await follower.sync();
          app.pragma('wal_checkpoint(PASSIVE)');
          await follower.sync();
        }
        if (random() < 0.5) {
          const state = files.mainFile?.look();
          if (state?.kind !== 'same') {
            const again = files.mainFile?.look();
            if (again?.kind === 'same') continue;
            await sleep(150);
            expect(files.mainFile?.look()).toEqual({ kind: 'same' });
          }
        }
      }
      const other = new BetterSqlite3(join(directory, 'other'));
      other.exec('CREATE TABLE o (v); INSERT INTO o VALUES (1)');
      other.close();
      // In one look with a checkpoint, which explains the time of the file, and with a commit after it: the first page tells.
      app.exec('INSERT INTO t(v) VALUES (1)');
      await follower.sync();
      app.pragma('wal_checkpoint(PASSIVE)');
      app.exec('INSERT INTO t(v) VALUES (2)');
      copyFileSync(join(directory, 'other'), files.path);
      expect(files.mainFile?.look()).toEqual({ kind: 'unclear' });
      await sleep(150);
      expect(files.mainFile?.look()).toMatchObject({ kind: 'rewritten' });
    } finally {
      await close();
    }
  });

  it.each([false, true])(
    'finds an older copy with the same first page at the first look after a checkpoint; new wal %s',
    async (goesOn) => {
      const { app, files, follower, close } = await follow();
      try {
        app.exec('INSERT INTO t(v) VALUES (1)');
        await follower.sync();
        app.pragma('wal_checkpoint(PASSIVE)');
        await follower.sync();
        expect(files.mainFile?.look()).toEqual({ kind: 'same' });
        const first = files.page(1, 4096);
        const older = join(directory, 'older');
        copyFileSync(files.path, older);
        app.exec('INSERT INTO t(v) VALUES (2)');
        await follower.sync();
        expect(app.pragma('wal_checkpoint(PASSIVE)')).toMatchObject([{ busy: 0 }]);
        // The mark goes out of the way, so that the next commit starts the WAL over.
        for (let i = 0; i < 2; i++) await follower.sync();
        expect(files.page(1, 4096)).toEqual(first);
        copyFileSync(older, files.path);
        const before = files.readWalIndex();
        if (goesOn) app.exec('INSERT INTO t(v) VALUES (3)');
        expect(files.readWalIndex()?.salt1 !== before?.salt1).toBe(goesOn);
        expect(files.mainFile?.look()).toMatchObject({
          kind: 'rewritten',
          reason: expect.stringContaining('without the last commit') as string,
        });
      } finally {
        await close();
      }
    },
  );
});
