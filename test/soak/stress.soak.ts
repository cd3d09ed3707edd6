/**
 * Random stress runs until the time is over: `SOAK_MINUTES` (default 10) in total, `SOAK_RUN_SECONDS` (default 20) each.
 * Each run's seed and result are printed; `LITESTREAM_SEED` repeats one seed.
 */

import { expect, it } from 'vitest';
import { SHIM_SUPPORTED } from '../support/shim.ts';
import { chooseSeed, generator } from '../support/workload.ts';
import { runStress, type StressOptions } from '../e2e/stress.ts';

const DURATION_MS = Number(process.env['SOAK_MINUTES'] ?? 10) * 60_000;
const RUN_MS = Number(process.env['SOAK_RUN_SECONDS'] ?? 20) * 1000;

/** A mix of mishaps drawn from the seed. */
function draw(seed: number): StressOptions {
  const random = generator(seed);
  const chance = (share: number, value: number) =>
    random() < share ? Math.ceil(value * (0.2 + random())) : 0;
  return {
    seed,
    durationMs: RUN_MS,
    writers: 1 + Math.floor(random() * 4),
    checkpointEveryMs: chance(0.7, 300),
    readerHoldMs: chance(0.6, 2000),
    killEveryMs: chance(0.4, 600),
    killReplicatorEveryMs: chance(0.4, 3000),
    powerLosses: chance(0.3, 5),
    shim: SHIM_SUPPORTED && random() < 0.4,
    load: {
      maxRows: Math.ceil(3000 ** random()),
      maxBlobBytes: Math.ceil(5000 ** random()),
      rollbackShare: random() * 0.3,
      vacuumShare: random() < 0.2 ? 0.02 : 0,
      pauseMs: random() < 0.5 ? 0 : 20,
    },
    database: [
      `min-checkpoint-page-count: ${Math.ceil(1000 ** random())}`,
      `max-checkpoint-page-count: ${1000 + Math.ceil(10_000 * random())}`,
    ],
  };
}

it('loses nothing', async () => {
  const end = Date.now() + DURATION_MS;
  let runs = 0;
  do {
    const options = draw(chooseSeed());
    console.log(JSON.stringify(options));
    console.log(JSON.stringify(await runStress(options)));
    runs++;
  } while (Date.now() < end);
  expect(runs).toBeGreaterThan(0);
});
