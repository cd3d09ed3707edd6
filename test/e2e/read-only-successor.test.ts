/**
 * A container upgrade with the volume mounted read-only, as guides have it: the new container starts before the old one
 * is stopped, without its state. Both follow the same WAL and write into the same generation for a while.
 */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { verifyReplica } from '../../src/engine/verify-alone.ts';
import { openStore } from '../../src/storage/registry.ts';
import { recordingLogger } from '../engine/replica-rig.ts';
import { pause } from '../support/process.ts';
import { CAN_MOUNT, withReadOnlySite } from '../support/read-only.ts';
import { compareDatabases } from '../support/sqlite.ts';
import { chooseSeed, generator } from '../support/workload.ts';

const SKIPPED = CAN_MOUNT ? '' : ' (skipped: needs root on Linux)';
const ROUNDS = Number(process.env['SOAK_SUCCESSOR_ROUNDS'] ?? 3);

it(
  `a process that starts before the one that it replaces ends leaves one whole replica${SKIPPED}`,
  { timeout: 60_000 + 60_000 * ROUNDS, skip: !CAN_MOUNT },
  async () => {
    const seed = chooseSeed();
    const random = generator(seed);
    for (let round = 0; round < ROUNDS; round++) {
      await withReadOnlySite('read-only mount', async (site) => {
        const { rig } = site;
        const app = await site.application();
        await app.load({ kind: 'write', seed, steps: 5, mayBeBusy: false });
        const replica = [`path: ${rig.replica}`, `sync-interval: ${10 + Math.floor(random() * 300)}ms`];
        const old = await site.replicate({ replica });
        await rig.snapshotStored();
        const load = app.load({
          kind: 'write',
          seed: seed + round,
          steps: 400,
          pauseMs: 12,
          maxRows: 6,
          mayBeBusy: false,
        });
        await pause(random() * 800);
        const state = join(rig.dir, 'new-state');
        await fs.mkdir(state);
        const next = await site.replicate({ replica, env: { STATE_DIRECTORY: state } });
        await next.waitForLine(/sync: (generation continued|new generation)/);
        await pause(random() * 1500);
        // It may find only now that another process goes on with its generation: then that one has the last changes.
        const { code } = await old.stop();
        const isTold = old.lines.some((line) => line.includes('two processes write one replica'));
        expect(code === 0 || isTold, old.lines.join('\n')).toBe(true);
        await load;
        await app.load({ kind: 'write', seed: seed + 1, steps: 20, mayBeBusy: false });
        expect((await next.stop()).code).toBe(0);
        const restored = await rig.restored();
        expect(await compareDatabases(site.database, restored), `LITESTREAM_SEED=${seed}`).toBe(undefined);
        const store = await openStore({ type: 'file', path: rig.replica });
        const { signal } = new AbortController();
        const request = { name: 'file', store, parallelism: 2, restoreIn: rig.dir, signal };
        const { result, message } = await verifyReplica({ ...request, logger: recordingLogger([]) });
        expect(result, `LITESTREAM_SEED=${seed}: ${message}`).toBe('ok');
        console.log(JSON.stringify({ round, seed, note: /left out/.test(message) }));
      });
    }
  },
);
