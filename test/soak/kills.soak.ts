/** Kills behind a failing network until `SOAK_MINUTES` (default 10) are over. Prints each run's seed and result. */

import { expect, it } from 'vitest';
import { runKills } from '../e2e/kills.ts';
import { chooseSeed } from '../support/workload.ts';

const DURATION_MS = Number(process.env['SOAK_MINUTES'] ?? 10) * 60_000;

it('loses nothing that was confirmed', async () => {
  let runs = 0;
  for (const end = Date.now() + DURATION_MS; Date.now() < end; runs++) {
    const options = { seed: chooseSeed(), kills: 30, patient: true };
    console.log(JSON.stringify(options));
    console.log(JSON.stringify(await runKills(options)));
  }
  expect(runs).toBeGreaterThan(0);
});
