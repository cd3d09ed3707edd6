/** A second name of a database that comes while it is replicated: whoever uses it has a `-wal` that nobody follows. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { runLitestream, until } from '../support/process.ts';
import { withRig } from '../support/process-rig.ts';

interface Seen {
  readonly code: number | null;
  readonly reason: string | null;
}

async function statusOf(config: string): Promise<Seen> {
  const args = ['status', '-json', '-config', config];
  const { code, stdout, stderr } = await runLitestream({ binary: 'ours', args });
  expect(stdout, stderr).not.toBe('');
  const { databases } = JSON.parse(stdout) as { databases: readonly { reason: string | null }[] };
  return { code, reason: databases[0]?.reason ?? null };
}

it('a hard link makes the status a failure that says why, and all is well without it', async () => {
  await withRig(async (rig) => {
    const application = await rig.application();
    await application.exec('CREATE TABLE t (x)');
    const config = await rig.config();
    const litestream = await rig.replicate();
    await until(async () => (await statusOf(config)).code === 0);
    const generation = await rig.generation();

    const other = join(rig.dir, 'other');
    await fs.link(rig.database, other);
    const failing = await until(async () => {
      const seen = await statusOf(config);
      return seen.code === 0 ? undefined : seen;
    });
    expect(failing).toEqual({
      code: 1,
      reason: expect.stringMatching(
        /another -wal, which is not followed: .*db has 2 hard links: remove/,
      ) as string,
    });
    // What comes under the first name is stored all the same.
    await application.exec('INSERT INTO t VALUES (1)');
    await until(async () => (await rig.restore()).code === 0);

    await fs.rm(other);
    await until(async () => (await statusOf(config)).code === 0);
    expect(await statusOf(config)).toEqual({ code: 0, reason: null });
    expect(await rig.generation()).toBe(generation);
    expect(await litestream.stop()).toEqual({ code: 0, signal: null });
  });
});
