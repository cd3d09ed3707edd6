/** Each command `SOAK_EXITS` (default 100) times, interrupted and damaged at random. Prints each one's seed and result. */

import { expect, it } from 'vitest';
import { KINDS } from '../e2e/exit-kinds.ts';
import { withExits } from '../e2e/exits.ts';
import { chooseSeed } from '../support/workload.ts';

const ROUNDS = Number(process.env['SOAK_EXITS'] ?? 100);

it.each(Object.keys(KINDS))('%s: never ends with code 0 without its result', async (name) => {
  const seed = chooseSeed();
  await withExits(seed, async (rounds) => {
    await rounds.calm(name);
    for (let i = 0; i < ROUNDS; i++) await rounds.rough(name);
    console.log(JSON.stringify({ name, seed, ...rounds.tally }));
    expect(rounds.tally.rounds).toBe(ROUNDS);
  });
});
