/** Two of our processes on one database and one replica that do not see each other's lock: each has a meta-path of its own. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { runLitestream } from '../support/process.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { compareDatabases } from '../support/sqlite.ts';

/** So small that the WAL is started over many times. */
const ROTATING = ['min-checkpoint-page-count: 50', 'checkpoint-interval: 1s'];

/** Has the process of that config say that all is stored. */
async function claim(config: string): Promise<void> {
  const args = ['sync', '-wait', '-timeout', '60s', '-config', config];
  const { code, stderr } = await runLitestream({ binary: 'ours', args });
  expect(code, stderr).toBe(0);
}

async function restoredOf(rig: Rig, generation: string): Promise<string> {
  return rig.restored({ binary: 'ours', args: ['-generation', generation] });
}

it.each([
  ['first', 0],
  ['second', 1],
])(
  'have a generation each, and all that both claim is restored, also after the %s one is killed',
  async (_, killed) => {
    await withRig(async (rig) => {
      const application = await rig.application();
      await application.load({ kind: 'write', seed: 1, steps: 20, rollbackShare: 0 });
      const metaPath = join(rig.dir, 'other-meta');
      const [one, two] = [{ database: ROTATING }, { database: [...ROTATING, `meta-path: ${metaPath}`] }];
      const configs = [await rig.config(one), await rig.config(two)];
      const first = await rig.replicate({ binary: 'ours', ...one });
      const second = await rig.replicate({ binary: 'ours', ...two });
      for (let seed = 2; seed < 6; seed++) {
        await application.load({ kind: 'write', seed, steps: 60, rollbackShare: 0.1 });
        for (const config of configs) await claim(config);
        expect(await compareDatabases(rig.database, await rig.restored({ binary: 'ours' }))).toBeUndefined();
      }
      const generations = await fs.readdir(join(rig.replica, 'generations'));
      expect(generations).toHaveLength(2);
      for (const generation of generations) {
        expect(await compareDatabases(rig.database, await restoredOf(rig, generation))).toBeUndefined();
      }
      for (const { lines } of [first, second]) {
        expect(lines.filter((line) => line.includes('sync: new generation'))).toHaveLength(1);
      }
      // The one that stays is the one that counts.
      await [first, second][killed]!.kill();
      await application.load({ kind: 'write', seed: 7, steps: 60, rollbackShare: 0 });
      await claim(configs[1 - killed]!);
      expect(await compareDatabases(rig.database, await rig.restored({ binary: 'ours' }))).toBeUndefined();
      expect((await [first, second][1 - killed]!.stop()).code).toBe(0);
    });
  },
);
