import { join } from 'node:path';
import { expect, it } from 'vitest';
import { preload, runLitestream, withTempDir } from '../support/process.ts';
import { chooseSeed } from '../support/workload.ts';
import { KINDS } from './exit-kinds.ts';
import { withExits } from './exits.ts';

/** Among all commands. `npm run test:soak` makes 100 of each. */
const ROUNDS = 40;

it(
  'no command ends with code 0 without its result, interrupted and damaged at random',
  { timeout: 300_000 },
  async () => {
    await withExits(chooseSeed(), async (rounds) => {
      for (const name of Object.keys(KINDS)) await rounds.calm(name);
      const names = Object.entries(KINDS).flatMap(([name, { share = 1 }]) => Array<string>(share).fill(name));
      for (let i = 0; i < ROUNDS; i++) await rounds.rough(names[i % names.length]!);
    });
  },
);

it('a command that waits for what never comes ends with code 1 and says so', async () => {
  await withTempDir(async (dir) => {
    const { code, signal, stderr } = await runLitestream({
      binary: 'ours',
      args: ['restore', '-if-db-not-exists', '-o', join(dir, 'out.db'), `file://${dir}/replica`],
      env: preload('fs.promises.stat = () => new Promise(() => undefined)'),
    });
    expect([code, signal]).toEqual([1, null]);
    expect(stderr).toMatch(/^litestream: the command ended without finishing/m);
  });
});
