/** Blocks of LZ4: the WebAssembly against a decoder by the letter of the specification. */

import { Lz4BlockDecoder, Lz4BlockEncoder } from '../../../src/format/lz4-block.ts';
import { decodeBlock } from '../lz4-parts.ts';
import { type FuzzTarget, bytesOf, checkSame } from '../target.ts';

const MAX_CONTENT = 64 << 10;
const decoder = new Lz4BlockDecoder(MAX_CONTENT);
const encoder = new Lz4BlockEncoder(MAX_CONTENT);

export const target: FuzzTarget = {
  name: 'lz4-block',
  seeds: () => {
    const texts = ['', 'a', 'abcabcabcabcabcabcabcabc', 'x'.repeat(5000), 'SQLite format 3\0'.repeat(40)];
    const contents = [...bytesOf(...texts), Buffer.alloc(2000, 'ab0'), Uint8Array.from(Array(700).keys())];
    return contents.map((content) => encoder.compress(content).slice());
  },
  run(data) {
    const limit = (data[0] ?? 0) % 3 === 0 ? MAX_CONTENT : 64 + data.byteLength;
    const content = decoder.decompress(data, limit);
    const expected = decodeBlock(data, limit);
    checkSame(content, expected);
    // Compressed and decompressed it is the same: what was decoded, and what is no block.
    for (const original of [data.slice(), content?.slice()]) {
      if (!original) continue;
      const block = encoder.compress(original);
      const again = decoder.decompress(block.slice(0, MAX_CONTENT), original.byteLength);
      checkSame(again, original);
      checkSame(decodeBlock(block, original.byteLength), original);
    }
  },
};
