import { expect, it } from 'vitest';
import { chooseSeed } from '../support/workload.ts';
import { runFaults } from './faults.ts';

it(
  'loses no commit and comes back by itself, whatever the requests of a store meet',
  { timeout: 240_000 },
  async () => {
    const { commits, restores, faults } = await runFaults({ seed: chooseSeed(), durationMs: 8_000 });
    expect(commits).toBeGreaterThan(3);
    expect(restores).toBeGreaterThan(0);
    expect(Object.keys(faults)).not.toEqual([]);
  },
);
