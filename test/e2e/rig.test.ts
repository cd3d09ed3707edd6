/** The rig itself, proven on v0.3.13 and without litestream: a rig that cannot fail proves nothing. */

import { promises as fs } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { until } from '../support/process.ts';
import { withRig } from '../support/process-rig.ts';
import { SHIM_SUPPORTED, buildShim, shimEnvironment } from '../support/shim.ts';
import { compareDatabases, compareFiles, openSqlite, truncateCheckpoint } from '../support/sqlite.ts';
import { Workload, chooseSeed, expectPrefix, readCommits } from '../support/workload.ts';

describe('test rig', () => {
  it('replicates and restores with v0.3.13 and compares byte for byte', async () => {
    await withRig(async (rig) => {
      const app = await rig.application();
      await app.load({ kind: 'write', seed: 1, steps: 20 });
      const litestream = await rig.replicate({ binary: 'oracle' });
      await rig.snapshotStored();
      await app.load({ kind: 'write', seed: 2, steps: 20 });
      // v0.3.13 fails its own last upload when a signal meets one that is under way.
      await rig.caughtUp({ binary: 'oracle' });
      expect(await litestream.stop()).toEqual({ code: 0, signal: null });
      const path = await rig.restored({ binary: 'oracle' });
      expect(await compareDatabases(rig.database, path)).toBeUndefined();
      await app.exec('INSERT INTO payload (v, data) VALUES (1, x)'.replace('x', "x'00'"));
      expect(await compareDatabases(rig.database, path)).toMatch(/pages of 4096 differ/);
      await expect(readCommits(rig.database)).rejects.toThrow('payload is not that of commit');
    });
  });

  it('tells a prefix of the commits from anything else', async () => {
    await withRig(async (rig) => {
      const app = await rig.application();
      await app.load({ kind: 'write', seed: 1, steps: 10, rollbackShare: 0 });
      await truncateCheckpoint(rig.database);
      const copy = `${rig.dir}/copy`;
      await fs.copyFile(rig.database, copy);
      await app.load({ kind: 'write', seed: 2, steps: 10, rollbackShare: 0 });
      const [part, whole] = [await readCommits(copy), await readCommits(rig.database)];
      expect([part.last, whole.last]).toEqual([10, 20]);
      expectPrefix(part, whole);
      expect(() => expectPrefix(whole, part)).toThrow('commit 11');
      await app.exec('DELETE FROM commits WHERE n = 5');
      await expect(readCommits(rig.database)).rejects.toThrow('commit 5 is missing');
      expect(await compareFiles(copy, copy)).toBeUndefined();
    });
  });

  it('runs a workload whose database stays whole', async () => {
    const seed = chooseSeed();
    await withRig(async (rig) => {
      const workload = await Workload.start({
        path: rig.database,
        seed,
        checkpointEveryMs: 50,
        readerHoldMs: 200,
        killEveryMs: 500,
      });
      await until(() => workload.deaths >= 3);
      await workload.stop();
      expect((await readCommits(rig.database)).last, `seed ${seed}`).toBeGreaterThan(3);
    });
  });

  it.skipIf(!SHIM_SUPPORTED)('kills a writer inside its WAL fsync, leaving a ghost commit', async () => {
    await withRig(async (rig) => {
      const app = await rig.application();
      await app.exec('CREATE TABLE t (x); INSERT INTO t VALUES (1)');
      const library = await buildShim(rig.dir);
      const walSize = async () => (await fs.stat(`${rig.database}-wal`)).size;
      const before = await walSize();
      const victim = await openSqlite(
        { path: rig.database, pragmas: ['synchronous=FULL'] },
        shimEnvironment(library, 1),
      );
      await expect(victim.exec('INSERT INTO t VALUES (2)')).rejects.toThrow('SIGKILL');
      expect(await walSize()).toBeGreaterThan(before);
      expect(await app.all('SELECT x FROM t')).toEqual([{ x: 1 }]);
      await app.exec('INSERT INTO t VALUES (3)');
      expect(await app.all('SELECT x FROM t')).toEqual([{ x: 1 }, { x: 3 }]);
    });
  });
});
