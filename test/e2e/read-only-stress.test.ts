/**
 * Nothing is lost under load of a database that may only be read, in short. `SOAK_READ_ONLY_SECONDS=120` makes each run that
 * long; `LITESTREAM_SEED` repeats one.
 */

import { describe, expect, it } from 'vitest';
import { BARRIERS, withReadOnlySite } from '../support/read-only.ts';
import { chooseSeed } from '../support/workload.ts';
import { runReadOnlyLoad, type ReadOnlyLoad, type ReadOnlyResult } from './read-only-load.ts';

const DURATION_MS = Number(process.env['SOAK_READ_ONLY_SECONDS'] ?? 5) * 1000;
/** Of the WAL: many times what an application writes between two of its checkpoints, or while its longest reader reads. */
const BOUND_BYTES = 64 << 20;
const BOUND_BESIDE_READERS_BYTES = 256 << 20;

const LOADS: Record<string, Omit<ReadOnlyLoad, 'seed' | 'durationMs'>> = {
  'steady writes': { phases: ['steady'] },
  'bursts, pauses and large transactions': { phases: ['burst', 'burst', 'idle', 'large', 'steady'] },
  'long readers': { phases: ['steady', 'burst', 'idle'], readerHoldMs: 1000 },
  'TRUNCATE and RESTART checkpoints of the application': {
    phases: ['steady', 'burst', 'idle'],
    checkpointEveryMs: 300,
  },
  'small and frequent checkpoints of the application': {
    phases: ['steady', 'burst'],
    pragmas: ['wal_autocheckpoint=50'],
  },
  'closing and opening': { phases: ['steady', 'burst', 'idle', 'reopen', 'reopen'] },
  'all of it, and a WAL that is cut when it starts over': {
    phases: ['steady', 'burst', 'idle', 'reopen', 'large'],
    readerHoldMs: 500,
    checkpointEveryMs: 500,
    pragmas: ['journal_size_limit=0'],
  },
};

/** More than one application makes: checkpoints come to their end rarely, so here the WAL may grow as it does alone. */
const SATURATED = { phases: ['burst', 'large', 'steady'], saturatingWriters: 2 } as const;

describe.each(BARRIERS)('a database behind $barrier', ({ barrier, skip }) => {
  const timeout = 120_000 + 10 * DURATION_MS;
  it(`several writers that never pause${skip ?? ''}`, { timeout, skip: skip !== undefined }, async () => {
    await withReadOnlySite(barrier, async (site) => {
      const result = await runReadOnlyLoad(site, {
        ...SATURATED,
        durationMs: DURATION_MS,
        seed: chooseSeed(),
      });
      console.log(JSON.stringify({ barrier, name: 'several writers', ...result }));
      expect(result.reasons.length).toBeGreaterThanOrEqual(result.generations);
    });
  });

  it.each(Object.entries(LOADS))(
    `%s${skip ?? ''}`,
    { timeout, skip: skip !== undefined },
    async (name, load) => {
      let result!: ReadOnlyResult;
      await withReadOnlySite(barrier, async (site) => {
        result = await runReadOnlyLoad(site, { ...load, durationMs: DURATION_MS, seed: chooseSeed() });
      });
      console.log(JSON.stringify({ barrier, name, ...result }));
      expect(result.commits).toBeGreaterThan(20);
      const boundBytes = 'readerHoldMs' in load ? BOUND_BESIDE_READERS_BYTES : BOUND_BYTES;
      expect(result.maxWalBytes).toBeLessThan(boundBytes);
      expect(result.pointsInTime).toBeGreaterThan(0);
      // Each generation has its reason in the log; some end before anything of them is stored.
      expect(result.reasons.length).toBeGreaterThanOrEqual(result.generations);
      expect(result.reasons.every((reason) => reason !== '')).toBe(true);
    },
  );
});
