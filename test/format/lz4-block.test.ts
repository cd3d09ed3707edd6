import { readFileSync } from 'node:fs';
import wabt from 'wabt';
import { describe, expect, it } from 'vitest';
import { Lz4BlockDecoder, MODULE } from '../../src/format/lz4-block.ts';
import { Lz4Thread } from '../../src/format/lz4-thread.ts';

const WAT = new URL('../../src/format/lz4-block.wat', import.meta.url);
/** A block of 35 bytes, and the same with a match that reaches back before its start. */
const BLOCK = Buffer.from('6f68656c6c6f200600055068656c6c6f', 'hex');
const CONTENT = 'hello hello hello hello hello hello';
const INVALID = Buffer.from('6f68656c6c6f200700055068656c6c6f', 'hex');

describe('the compiled module', () => {
  it('is what lz4-block.wat compiles to', async () => {
    const compiler = await wabt();
    const parsed = compiler.parseWat('lz4-block.wat', readFileSync(WAT), {
      threads: true,
      bulk_memory: true,
    });
    const { buffer } = parsed.toBinary({});
    expect(MODULE).toBe(Buffer.from(buffer).toString('base64'));
  });
});

describe('the decoder', () => {
  it('gives contents that stay valid during the next call', () => {
    const decoder = new Lz4BlockDecoder(100);
    const first = decoder.decompress(BLOCK, 100)!;
    decoder.decompress(Buffer.from('10780000', 'hex').subarray(0, 2), 100);
    expect(Buffer.from(first).toString()).toBe(CONTENT);
  });

  it('refuses what is invalid or too long', () => {
    const decoder = new Lz4BlockDecoder(100);
    expect(decoder.decompress(BLOCK, 35)).toHaveLength(35);
    expect(decoder.decompress(BLOCK, 34)).toBeUndefined();
    expect(decoder.decompress(INVALID, 100)).toBeUndefined();
  });
});

describe('the thread', () => {
  it('decompresses many blocks at once, each into memory of its own', async () => {
    const thread = new Lz4Thread(100);
    const hash = thread.beginHash();
    const underWay = Array.from({ length: 50 }, (_, i) => {
      if (i % 10 === 0) thread.send();
      return thread.decompress(i % 7 === 3 ? INVALID : BLOCK, false, 100, hash);
    });
    thread.send();
    const blocks = await Promise.all(underWay);
    for (const [i, { content }] of blocks.entries()) {
      if (i % 7 === 3) expect(content).toBeUndefined();
      else expect(Buffer.from(content!).toString()).toBe(CONTENT);
    }
    for (const { release } of blocks) release();
    await thread.close();
  });

  it('fails what is under way, and what comes later, when it ends', async () => {
    const thread = new Lz4Thread(100);
    const underWay = thread.decompress(BLOCK, false, 100, thread.beginHash());
    underWay.catch(() => undefined);
    await thread.close();
    await expect(underWay).rejects.toMatchObject({ code: 'io' });
    await expect(thread.decompress(BLOCK, false, 100, thread.beginHash())).rejects.toMatchObject({
      code: 'io',
    });
  });
});
