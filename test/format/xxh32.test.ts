import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Xxh32, xxh32 } from '../../src/format/xxh32.ts';

describe('xxh32', () => {
  it.each([
    ['', 0x02cc5d05],
    ['a', 0x550d7456],
    ['abc', 0x32d153ff],
    ['Nobody inspects the spammish repetition', 0xe2293b2f],
  ])('hashes %j as the reference does', (text, hash) => {
    expect(xxh32(Buffer.from(text))).toBe(hash);
  });

  it('hashes a long input as the reference does', () => {
    const data = Uint8Array.from({ length: 100_003 }, (_, i) => ((i * i + i) >> 3) & 255);
    expect(xxh32(data)).toBe(0xffbd1d30);
  });

  it('does not depend on how the input is cut or aligned', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 8 }), (chunks) => {
        const hash = new Xxh32();
        for (const chunk of chunks) hash.update(chunk);
        const whole = Buffer.concat([Buffer.alloc(1), ...chunks]).subarray(1);
        expect(hash.digest()).toBe(xxh32(whole));
      }),
    );
  });
});
