/**
 * A database file that is overwritten while neither replicate nor an application runs, its WAL left in place: SQLite goes on
 * with the old WAL on the new file. The WAL continues our generation, and the file does not.
 */

import { execFileSync } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { withRig, type Rig } from '../support/process-rig.ts';
import { compareDatabases, integrityCheck, type SqliteProcess } from '../support/sqlite.ts';

const LAZY = ['journal_mode=WAL', 'wal_autocheckpoint=0'];

const write = (app: SqliteProcess, seed: number) =>
  app.load({ kind: 'write', seed, steps: 20, rollbackShare: 0, maxRows: 20, mayBeBusy: false });

/** Notes that the WAL knows nothing of, whatever is in the file. */
async function makeNotes(rig: Rig, note: string): Promise<SqliteProcess> {
  const app = await rig.application({ pragmas: LAZY });
  await app.exec('CREATE TABLE IF NOT EXISTS notes (id INTEGER PRIMARY KEY, text TEXT)');
  await app.exec(`INSERT OR REPLACE INTO notes VALUES (1, '${note}')`);
  await write(app, 1);
  expect((await app.checkpoint('TRUNCATE', 10_000)).busy).toBe(0);
  return app;
}

/** The same database with another note. */
async function otherNote(rig: Rig): Promise<string> {
  const path = join(rig.dir, 'other');
  await fs.copyFile(rig.database, path);
  const app = await rig.application({ path, pragmas: ['journal_mode=DELETE'] });
  await app.exec("UPDATE notes SET text = 'another' WHERE id = 1");
  // As the file was: a backup of it is in WAL mode too.
  await app.exec('PRAGMA journal_mode=WAL');
  await app.close();
  return path;
}

const COPIES: Record<string, (from: string, to: string) => Promise<void>> = {
  'cat >': async (from, to) => fs.writeFile(to, await fs.readFile(from)),
  'cp -p': (from, to) => Promise.resolve(void execFileSync('cp', ['-p', from, to])),
  mv: (from, to) => fs.rename(from, to),
  dd: (from, to) =>
    Promise.resolve(
      void execFileSync('dd', [`if=${from}`, `of=${to}`, 'conv=notrunc', 'bs=4096'], { stdio: 'ignore' }),
    ),
};

/** The first run, which ends with frames in the WAL; litestream ends last. */
async function runOnce(rig: Rig): Promise<{ other: string; generation: string | undefined }> {
  const app = await makeNotes(rig, 'first');
  const other = await otherNote(rig);
  const litestream = await rig.replicate();
  await write(app, 2);
  await rig.caughtUp();
  await app.kill();
  expect((await litestream.stop()).code).toBe(0);
  return { other, generation: await rig.generation() };
}

describe('a database file that is overwritten between two runs, its WAL left in place', () => {
  it.each(
    Object.keys(COPIES).flatMap((how) => [
      [how, 'at once'],
      [how, 'after more commits'],
    ]),
  )('by %s, and followed again %s: a new generation is all of it', async (how, when) => {
    await withRig(async (rig) => {
      const { other, generation } = await runOnce(rig);
      await COPIES[how]?.(other, rig.database);
      const before = when === 'at once' ? undefined : await rig.application({ pragmas: LAZY });
      if (before) await write(before, 3);
      const litestream = await rig.replicate();
      const app = before ?? (await rig.application({ pragmas: LAZY }));
      await write(app, 4);
      await rig.caughtUp();
      expect(litestream.lines.join('\n')).toContain('reason="database file was overwritten');
      expect(await rig.generation()).not.toBe(generation);
      expect(await app.all('SELECT text FROM notes')).toEqual([{ text: 'another' }]);
      await app.close();
      expect((await litestream.stop()).code).toBe(0);
      expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
      expect(await integrityCheck(rig.database)).toBe('ok');
    });
  });

  it.each([
    'nothing',
    'a checkpoint',
    'commits and a checkpoint',
    'an archive that keeps times to the second',
  ])('is not seen where it was not: %s', async (what) => {
    await withRig(async (rig) => {
      const { generation } = await runOnce(rig);
      const app = await rig.application({ pragmas: LAZY });
      if (what.startsWith('commits')) await write(app, 3);
      if (what.endsWith('checkpoint')) await app.checkpoint('PASSIVE');
      if (what.startsWith('an archive')) {
        await app.kill();
        const { mtimeMs } = await fs.stat(rig.database);
        const second = Math.floor(mtimeMs / 1000);
        await fs.utimes(rig.database, second, second);
      }
      const litestream = await rig.replicate();
      const then = what.startsWith('an archive') ? await rig.application({ pragmas: LAZY }) : app;
      await write(then, 4);
      await rig.caughtUp();
      expect(litestream.lines.join('\n')).toContain('generation continued');
      expect(await rig.generation()).toBe(generation);
      await then.close();
      expect((await litestream.stop()).code).toBe(0);
      expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
    });
  });
});
