/**
 * All cases, in an order of their own, for `CRASH_MINUTES`: `CRASH_MINUTES=120 npm run test:crash -- full`. With the same
 * `CRASH_SEED` it goes on at `CRASH_FROM`; `CRASH_SHARD=1/2` and `2/2` share the cases between machines.
 */

import { describe, it } from 'vitest';
import { generator } from '../support/workload.ts';
import { choose } from './case.ts';
import { GROUPS } from './groups.ts';
import { SEED, expectNone, listCases, runCases } from './runner.ts';
import { UNSUPPORTED } from './shim.ts';

const minutes = Number(process.env['CRASH_MINUTES'] ?? 0);
const from = Number(process.env['CRASH_FROM'] ?? 0);
const [shard = 1, shards = 1] = (process.env['CRASH_SHARD'] ?? '1/1').split('/').map(Number);

describe.skipIf(UNSUPPORTED !== undefined || minutes === 0)('all crashes', () => {
  it(`for ${minutes} minutes, CRASH_SEED=${SEED}`, async () => {
    const untilMs = performance.now() + minutes * 60_000;
    const all = choose(await listCases(GROUPS, undefined), undefined, generator(SEED));
    const mine = all.filter((_, i) => i % shards === shard - 1);
    const tally = await runCases(mine.slice(from), { untilMs });
    const next = from + tally.run;
    console.log(
      `${tally.run} cases (${tally.struck} met their fault), ${tally.failures.length} failed, ${mine.length - next} are left: ` +
        `CRASH_SEED=${SEED} CRASH_FROM=${next} CRASH_SHARD=${shard}/${shards} CRASH_MINUTES=${minutes} npm run test:crash -- full`,
    );
    expectNone(tally);
  });
});
