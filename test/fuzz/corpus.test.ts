/** The inputs of the fuzzer's corpus, once: beginnings, and what was found before. */

import { afterAll, describe, expect, it } from 'vitest';
import { corpusOf, targetNames } from './fuzz-run.ts';
import type { FuzzTarget } from './target.ts';

describe.each(targetNames())('%s', async (name) => {
  const { target } = (await import(`./targets/${name}.ts`)) as { target: FuzzTarget };
  afterAll(() => target.close?.());

  it('is what its file is called', () => {
    expect(target.name).toBe(name);
  });

  it('holds for its seeds', async () => {
    for (const seed of await target.seeds()) await target.run(seed);
  });

  it.each(corpusOf(name))('holds for $file', async ({ data }) => {
    await target.run(data);
  });
});
