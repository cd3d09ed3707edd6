/** v0.3.13, which knows none of our locks, on the same database, meta directory and replica: never both at once. */

import { promises as fs } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runLitestream, until } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { compareDatabases, integrityCheck, type SqliteProcess } from '../support/sqlite.ts';

async function application(rig: Rig): Promise<SqliteProcess> {
  const app = await rig.application();
  await app.load({ kind: 'write', seed: 1, steps: 10, rollbackShare: 0 });
  return app;
}

describe('v0.3.13 on the same database', { timeout: 120_000 }, () => {
  it.skipIf(process.platform !== 'linux')(
    'that runs already is named, and nothing is begun beside it (needs /proc)',
    async () => {
      await withRig(async (rig) => {
        const app = await application(rig);
        const other = await rig.replicate({ binary: 'oracle' });
        await rig.snapshotStored();
        const ours = await rig.replicateUnready({ binary: 'ours' });
        expect((await ours.exited).code).toBe(1);
        expect(ours.lines.join('\n')).toMatch(new RegExp(`already \\(pid ${other.pid}, a Litestream that`));
        await app.load({ kind: 'write', seed: 2, steps: 10, rollbackShare: 0 });
        await rig.caughtUp({ binary: 'ours' });
        await app.close();
        await other.stop();
      });
    },
  );

  it.skipIf(process.platform !== 'linux')(
    'is looked for when our shadow wal was deleted, before another generation is begun (needs /proc)',
    async () => {
      await withRig(async (rig) => {
        const app = await application(rig);
        const ours = await rig.replicate({ binary: 'ours' });
        await rig.caughtUp({ binary: 'ours' });
        const begun = ours.lines.length;
        const other = await rig.replicate({ binary: 'oracle' });
        await app.load({ kind: 'write', seed: 2, steps: 5, rollbackShare: 0 });
        // It has opened the database.
        await other.waitForLine(/write (wal segment|snapshot)/);
        await fs.rm(join(`${dirname(rig.database)}/.${basename(rig.database)}-litestream`, 'generations'), {
          recursive: true,
          force: true,
          maxRetries: 20,
        });
        await ours.waitForLine(/level=ERROR .*already \(pid/);
        expect(ours.lines.slice(begun).filter((line) => line.includes('new generation'))).toEqual([]);
        await app.close();
      });
    },
  );

  it('that comes later stops ours, with the reason; ours goes on when it has ended, and all is restored', async () => {
    await withRig(async (rig) => {
      const app = await application(rig);
      const ours = await rig.replicate({ binary: 'ours' });
      await rig.caughtUp({ binary: 'ours' });
      const other = await rig.replicate({ binary: 'oracle' });
      // On a busy machine both may write the same for a while, which is in nobody's way.
      let seed = 100;
      await until(
        async () => {
          if (ours.lines.some((line) => /level=ERROR .*(another program|already \(pid)/.test(line)))
            return true;
          await app.load({ kind: 'write', seed: seed++, steps: 10, rollbackShare: 0 });
          return false;
        },
        { timeoutMs: 60_000, describe: () => `the other one is not noticed\n${ours.lines.join('\n')}` },
      );
      await app.load({ kind: 'write', seed: 3, steps: 30, rollbackShare: 0 });
      const status = await runLitestream({
        binary: 'ours',
        args: ['status', '-config', await rig.config()],
      });
      expect(status.code).not.toBe(0);
      await rig.caughtUp({ binary: 'ours' });
      await other.stop();
      await app.load({ kind: 'write', seed: 4, steps: 10, rollbackShare: 0 });
      await rig.caughtUp({ binary: 'ours' });
      expect(await integrityCheck(await rig.restored({ binary: 'oracle' }))).toBe('ok');
      await app.close();
      expect((await ours.stop()).code).toBe(0);
      expect(await compareDatabases(rig.database, await rig.restored({ binary: 'ours' }))).toBeUndefined();
    });
  });
});
