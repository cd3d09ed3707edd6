/** Faults of a store until `SOAK_MINUTES` (default 10) are over, in runs of a minute. Prints each run's seed and result. */

import { expect, it } from 'vitest';
import { runFaults } from '../e2e/faults.ts';
import { chooseSeed } from '../support/workload.ts';

const DURATION_MS = Number(process.env['SOAK_MINUTES'] ?? 10) * 60_000;

it('loses nothing', async () => {
  let runs = 0;
  for (const end = Date.now() + DURATION_MS; Date.now() < end; runs++) {
    const options = { seed: chooseSeed(), durationMs: Math.min(60_000, DURATION_MS) };
    console.log(JSON.stringify(options));
    console.log(JSON.stringify(await runFaults(options)));
  }
  expect(runs).toBeGreaterThan(0);
});
