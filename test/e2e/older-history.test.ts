/** A new server, whose application makes an empty database before anybody has restored the old one. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { runLitestream } from '../support/process.ts';
import { withRig } from '../support/process-rig.ts';
import { compareFiles } from '../support/sqlite.ts';

it('is told what the replica holds, and how to get it back', async () => {
  await withRig(async (rig) => {
    const before = await rig.application();
    await before.load({ kind: 'write', seed: 1, steps: 20, rollbackShare: 0 });
    const first = await rig.replicate();
    const expected = await rig.caughtUp();
    await before.close();
    await first.stop();
    expect(first.lines.join('\n')).not.toMatch(/older/);
    const generation = await rig.generation();
    for (const path of [rig.metaDir, rig.database, `${rig.database}-wal`, `${rig.database}-shm`]) {
      await fs.rm(path, { recursive: true, force: true });
    }

    const after = await rig.application();
    expect(await after.all('SELECT count(*) AS n FROM sqlite_schema')).toEqual([{ n: 0 }]);
    const config = await rig.config();
    const second = await rig.replicate();
    const line = await second.waitForLine(
      /level=ERROR.*database is empty, but the replica holds an older one/,
    );
    const [, command = ''] = /restore="litestream ([^"]+)"/.exec(line) ?? [];
    expect(command).toContain(`-generation ${generation}`);
    await after.exec('CREATE TABLE t (v)');
    expect((await runLitestream({ binary: 'ours', args: ['sync', '-wait', '-config', config] })).code).toBe(
      0,
    );
    const { code, stderr } = await runLitestream({
      binary: 'ours',
      args: [...command.split(' '), '-config', config],
    });
    expect(code, stderr).toBe(0);
    expect(await compareFiles(expected, `${rig.database}.restored`)).toBeUndefined();

    // Nothing new is said of it: the database is known by now.
    await second.stop();
    const third = await rig.replicate();
    await third.waitForLine(/generation continued/);
    expect((await runLitestream({ binary: 'ours', args: ['sync', '-wait', '-config', config] })).code).toBe(
      0,
    );
    expect(third.lines.join('\n')).not.toMatch(/older/);
    expect(await fs.readdir(join(rig.replica, 'generations'))).toHaveLength(2);
  });
});
