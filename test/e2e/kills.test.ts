import { expect, it } from 'vitest';
import { chooseSeed } from '../support/workload.ts';
import { runKills } from './kills.ts';

it(
  'loses nothing that was confirmed when it is killed at any moment behind a network that fails',
  { timeout: 300_000 },
  async () => {
    const result = await runKills({ seed: chooseSeed(), kills: 6, patient: false });
    expect(result.faults).toBeGreaterThan(0);
    expect(result.confirmations).toBeGreaterThan(0);
    expect(result.segments).toBeGreaterThan(0);
  },
);
