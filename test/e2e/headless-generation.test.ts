/** A generation whose first snapshot was never stored: killed at that very moment, the next run leaves nothing to mend. */

import { describe, expect, it } from 'vitest';
import { preload, runLitestream } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { compareDatabases, truncateCheckpoint } from '../support/sqlite.ts';

/** Ends the process when a file is to get the name of a snapshot: its segments are stored by then. */
const KILLED_BEFORE_SNAPSHOT = preload(`for (const call of ['rename', 'link']) {
    const real = fs.promises[call];
    fs.promises[call] = (from, to) => {
      if (to.endsWith('.snapshot.lz4')) process.kill(process.pid, 'SIGKILL');
      return real(from, to);
    };
  }`);

async function succeeds(config: string, ...args: string[]): Promise<string> {
  const [command = '', ...rest] = args;
  const { code, stdout, stderr } = await runLitestream({
    binary: 'ours',
    args: [command, '-config', config, ...rest],
  });
  expect([args, code], stdout + stderr).toEqual([args, 0]);
  return stdout;
}

/** What makes the next run begin a generation of its own, or not. */
const MEANWHILE: Readonly<Record<string, (rig: Rig) => Promise<unknown>>> = {
  'the application starts its WAL over': async (rig) => {
    await truncateCheckpoint(rig.database);
    const application = await rig.application();
    await application.exec('INSERT INTO t VALUES (2)');
    await application.kill();
  },
  'the application closes the database': async (rig) => {
    const application = await rig.application();
    await application.exec('INSERT INTO t VALUES (2)');
    await application.close();
  },
};

describe('replicate that is killed when its first segment is stored and its snapshot is not', () => {
  it.each([...Object.keys(MEANWHILE), 'nothing'])(
    'begins again, after which all is well: %s',
    async (what) => {
      await withRig(async (rig) => {
        const first = await rig.application();
        await first.exec('CREATE TABLE t (x)');
        await first.exec('INSERT INTO t VALUES (1)');
        const killed = await rig.replicateUnready({ env: KILLED_BEFORE_SNAPSHOT });
        expect(await killed.exited).toEqual({ code: null, signal: 'SIGKILL' });
        const generation = await rig.generation();
        expect(await rig.replicaFiles()).toEqual([
          expect.stringMatching(`^${generation}/wal/.*\\.wal\\.lz4$`),
        ]);

        await first.kill();
        await MEANWHILE[what]?.(rig);
        const second = await rig.application();
        const config = await rig.config();
        const litestream = await rig.replicate();
        await succeeds(config, 'sync', '-wait', rig.database);
        await second.exec('INSERT INTO t VALUES (3)');
        await succeeds(config, 'sync', '-wait', rig.database);
        expect((await rig.generation()) === generation).toBe(what === 'nothing');
        await succeeds(config, 'verify', rig.database);
        await succeeds(config, 'verify', '-latest', rig.database);
        expect(await succeeds(config, 'databases')).not.toMatch(/fail|warn|no backup/i);
        await second.close();
        expect(await litestream.stop()).toEqual({ code: 0, signal: null });
        await succeeds(config, 'verify', '-replica-only', rig.database);
        expect(await succeeds(config, 'databases')).not.toMatch(/fail|warn|no backup/i);
        expect(await compareDatabases(rig.database, await rig.restored({ config }))).toBeUndefined();
      });
    },
  );
});
