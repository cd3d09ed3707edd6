/** No loss under load, in short; test/soak runs the same for longer. */

import { describe, expect, it } from 'vitest';
import { SHIM_SUPPORTED } from '../support/shim.ts';
import { chooseSeed } from '../support/workload.ts';
import { runStress, type StressOptions } from './stress.ts';

const RUNS: Record<string, Omit<StressOptions, 'seed'>> = {
  'several writers, rollbacks, RESTART and TRUNCATE of the application, long readers': {
    durationMs: 8000,
    checkpointEveryMs: 150,
    readerHoldMs: 1500,
  },
  'tiny transactions and tiny indexes': {
    durationMs: 6000,
    load: { maxRows: 2, maxBlobBytes: 50 },
    checkpointEveryMs: 200,
    database: ['min-checkpoint-page-count: 5', 'max-checkpoint-page-count: 20'],
  },
  'writers killed at random': { durationMs: 8000, checkpointEveryMs: 150, killEveryMs: 400 },
  'our process killed and started again': {
    durationMs: 10_000,
    checkpointEveryMs: 300,
    readerHoldMs: 500,
    killReplicatorEveryMs: 1500,
    load: { pauseMs: 10 },
  },
  'a WAL cut back as after a power loss': { durationMs: 9000, checkpointEveryMs: 200, powerLosses: 4 },
};

describe('stress', () => {
  it.each(Object.entries(RUNS))('%s', { timeout: 120_000 }, async (_, options) => {
    const result = await runStress({ ...options, seed: chooseSeed() });
    expect(result.commits).toBeGreaterThan(50);
    // A mishap that did not happen proves nothing.
    if (options.killEveryMs) expect(result.deaths).toBeGreaterThan(3);
    if (options.killReplicatorEveryMs) expect(result.replicatorKills).toBeGreaterThan(3);
    if (options.powerLosses) expect(result.walCuts).toBeGreaterThan(0);
    if (!options.killReplicatorEveryMs && !options.powerLosses) expect(result.generations).toBe(1);
    console.log(JSON.stringify(result));
  });

  it.skipIf(!SHIM_SUPPORTED)('writers killed inside their WAL fsync', { timeout: 120_000 }, async () => {
    const result = await runStress({
      durationMs: 10_000,
      shim: true,
      checkpointEveryMs: 200,
      load: { maxRows: 20 },
      seed: chooseSeed(),
    });
    expect(result.deaths).toBeGreaterThan(5);
    expect(result.generations).toBe(1);
    console.log(JSON.stringify(result));
  });
});
