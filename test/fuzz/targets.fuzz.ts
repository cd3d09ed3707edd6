/**
 * The fuzzer: each target for FUZZ_SECONDS (60), two at a time. FUZZ_SEED chooses the inputs, FUZZ_TARGET the targets (names with
 * commas between), FUZZ_INPUT (base64) is one input in the place of all. docs/testing.md
 */

import { describe, expect, it } from 'vitest';
import { describeFailure, fuzz, targetNames } from './fuzz-run.ts';
import type { FuzzTarget } from './target.ts';

const { FUZZ_SECONDS, FUZZ_SEED, FUZZ_TARGET, FUZZ_INPUT } = process.env;
const seconds = Number(FUZZ_SECONDS ?? 60);
const seed = Number(FUZZ_SEED ?? Math.floor(Math.random() * 2 ** 31));
const known = targetNames();
const names = FUZZ_TARGET === undefined ? known : FUZZ_TARGET.split(',');

describe.concurrent(`fuzz, FUZZ_SEED=${seed}`, () => {
  it.each(names)('%s', async (name) => {
    expect(known).toContain(name);
    if (FUZZ_INPUT !== undefined) {
      const { target } = (await import(`./targets/${name}.ts`)) as { target: FuzzTarget };
      await target.run(Buffer.from(FUZZ_INPUT, 'base64'));
      await target.close?.();
      return;
    }
    const result = await fuzz(name, { seed, seconds });
    const { executions, pool, slowestMs, failures } = result;
    const rate = Math.round(executions / result.seconds);
    const counts = `${executions} executions, ${rate} a second, pool ${pool}`;
    const text = failures.map((failure) => describeFailure(name, seed, failure)).join('\n\n');
    process.stdout.write(`${name}: ${counts}, slowest ${slowestMs.toFixed(0)} ms\n`);
    if (text !== '') throw new Error(text);
  });
});
