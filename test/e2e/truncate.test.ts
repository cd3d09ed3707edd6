/** An application's own TRUNCATE checkpoint gets through while its database is followed. */

import { expect, it } from 'vitest';
import { withRig } from '../support/process-rig.ts';
import { compareDatabases } from '../support/sqlite.ts';

const CHECKPOINTS = 30;

it('lets an application truncate the WAL', async () => {
  await withRig(async (rig) => {
    const app = await rig.application({ timeoutMs: 5000 });
    const other = await rig.application({ timeoutMs: 5000 });
    // The default intervals: what a user has.
    const litestream = await rig.replicate({ database: ['monitor-interval: 1s'] });
    await rig.snapshotStored();
    const elapsed: number[] = [];
    for (let i = 0; i < CHECKPOINTS; i++) {
      await other.load({ kind: 'write', seed: i, steps: 3 });
      const result = await app.checkpoint('TRUNCATE', 5000);
      expect(result.busy, `checkpoint ${i + 1}`).toBe(0);
      elapsed.push(result.elapsedMs);
    }
    elapsed.sort((a, b) => a - b);
    const median = elapsed[CHECKPOINTS / 2] ?? NaN;
    console.log(`TRUNCATE: median ${median.toFixed(1)} ms, max ${elapsed.at(-1)?.toFixed(1)} ms`);
    expect((await litestream.stop()).code).toBe(0);
    expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
  });
});
