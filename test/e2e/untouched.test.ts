/** The user's database gains nothing: no table, no row, no byte of its own beyond the journal mode. */

import { promises as fs } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { withRig } from '../support/process-rig.ts';
import { truncateCheckpoint, withSqlite } from '../support/sqlite.ts';

/** Enough to make v0.3.13 checkpoint, too. */
const ROTATING = ['min-checkpoint-page-count: 5', 'max-checkpoint-page-count: 10'];

/** Journal mode, change counter, "version valid for" and SQLite's version number (file format, section 1.3). */
const HEADER_OF_JOURNAL_MODE = new Set([18, 19, 24, 25, 26, 27, 92, 93, 94, 95, 96, 97, 98, 99]);

describe("the user's database", () => {
  it('is the same, byte for byte, after it was followed while nobody wrote', async () => {
    await withRig(async (rig) => {
      const app = await rig.application();
      await app.load({ kind: 'write', seed: 1, steps: 20 });
      await truncateCheckpoint(rig.database);
      const before = await fs.readFile(rig.database);
      const litestream = await rig.replicate({ database: ROTATING });
      await rig.snapshotStored();
      await litestream.stop();
      await truncateCheckpoint(rig.database);
      expect((await fs.readFile(rig.database)).equals(before)).toBe(true);
    });
  });

  it('changes only in its journal mode when it had a rollback journal', async () => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: ['journal_mode=DELETE'] });
      await app.load({ kind: 'write', seed: 1, steps: 20 });
      await app.close();
      const before = await fs.readFile(rig.database);
      expect([before[18], before[19]]).toEqual([1, 1]);
      const litestream = await rig.replicate({ database: ROTATING });
      await rig.snapshotStored();
      await litestream.stop();
      await truncateCheckpoint(rig.database);
      const after = await fs.readFile(rig.database);
      expect([after[18], after[19]]).toEqual([2, 2]);
      expect(after.length).toBe(before.length);
      const changed = [...after.keys()].filter((at) => after[at] !== before[at]);
      expect(changed.filter((at) => !HEADER_OF_JOURNAL_MODE.has(at))).toEqual([]);
    });
  });

  it('has the schema and the rows of the application alone after rotations', async () => {
    await withRig(async (rig) => {
      const app = await rig.application();
      const litestream = await rig.replicate({ database: ROTATING });
      await app.load({ kind: 'write', seed: 5, steps: 200, pauseMs: 2 });
      await litestream.stop();
      // The same seed beside nobody.
      const alone = `${rig.dir}/alone`;
      await withSqlite({ path: alone, pragmas: ['journal_mode=WAL'] }, (sqlite) =>
        sqlite.load({ kind: 'write', seed: 5, steps: 200, pauseMs: 2 }),
      );
      const contents = async (path: string) =>
        await withSqlite({ path }, async (sqlite) => [
          await sqlite.all('SELECT type, name, tbl_name, sql FROM sqlite_schema'),
          await sqlite.all('SELECT * FROM commits'),
          await sqlite.all('SELECT id, v, hex(data) FROM payload'),
          await sqlite.all('PRAGMA user_version'),
          await sqlite.all('PRAGMA application_id'),
        ]);
      expect(await contents(rig.database)).toEqual(await contents(alone));
    });
  });
});
