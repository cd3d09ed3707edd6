/** The decompressing thread: its memory, which grows while it starts, and its end in a process that waits for nothing else. */

import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { Lz4Thread } from '../../src/format/lz4-thread.ts';
import { chooseSeed, generator } from '../support/workload.ts';

/** The compiled file: a process cannot be started from TypeScript. */
const MODULE = new URL('../../dist/format/lz4-thread.js', import.meta.url).href;

/** Ends threads while their answers are on the way, and says when that is done. */
const PROGRAM = `
  const { Lz4Thread } = await import('${MODULE}');
  for (let i = 0; i < 20; i++) {
    const thread = new Lz4Thread(1 << 16);
    const hash = thread.beginHash();
    const decompress = () => thread.decompress(new Uint8Array(1 << 16), true, 1 << 16, hash);
    const first = decompress();
    thread.send();
    await first;
    decompress().catch(() => undefined);
    thread.send();
    // The answer comes meanwhile, but is not taken.
    for (const end = performance.now() + 5 + i; performance.now() < end; );
    await thread.close();
  }
  console.log('all closed');
`;

it('a process that waits for the end of a thread does not end before it', () => {
  // Without input-type the top level would be awaited, and its abandonment told by code 13.
  const program = `(async () => {${PROGRAM}})()`;
  const { stdout, stderr, status } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' });
  expect([stdout, status], stderr).toEqual(['all closed\n', 0]);
});

it('decompresses into memory that has grown at any moment of its start', { timeout: 120_000 }, async () => {
  const seed = chooseSeed();
  const random = generator(seed);
  const size = 1 << 16;
  // 20 literals and no match: a copy of memory, whose bounds are those that the thread knows.
  const block = Uint8Array.of(0xf0, 5, ...Array.from({ length: 20 }, (_, i) => i));
  // Without the mend one of some thousand starts fails: LZ4_STARTS=20000 shows it.
  for (let start = 0; start < Number(process.env['LZ4_STARTS'] ?? 100); start++) {
    const thread = new Lz4Thread(size);
    const hash = thread.beginHash();
    const until = performance.now() + random() * 40;
    const pending = [thread.decompress(block, false, size, hash)];
    while (performance.now() < until) {
      pending.push(thread.decompress(block, false, size, hash));
      for (const next = performance.now() + 0.3; performance.now() < next;);
    }
    thread.send();
    const contents = (await Promise.all(pending)).map(({ content }) => content?.length);
    expect(new Set(contents), `LITESTREAM_SEED=${seed}`).toEqual(new Set([20]));
    await thread.close();
  }
});
