/** LZ4 by the letter of its specification, slowly and by other ways than src/: what is fuzzed is held against it. */

import { xxh32 } from '../../src/format/xxh32.ts';

/**
 * The content of a block; undefined when it is invalid or has more than `limit` bytes
 * (https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md).
 */
export function decodeBlock(block: Uint8Array, limit: number): Uint8Array | undefined {
  const content: number[] = [];
  let at = 0;
  const length = (nibble: number): number => {
    let sum = nibble;
    for (let more = nibble === 15; more;) {
      const byte = block[at++];
      if (byte === undefined) return Infinity;
      sum += byte;
      more = byte === 255;
    }
    return sum;
  };
  while (at < block.byteLength) {
    const token = block[at++] ?? 0;
    const literals = length(token >> 4);
    if (at + literals > block.byteLength || content.length + literals > limit) return undefined;
    for (let i = 0; i < literals; i++) content.push(block[at++] ?? 0);
    if (at === block.byteLength) return Uint8Array.from(content);
    const [low, high] = [block[at++], block[at++]];
    if (low === undefined || high === undefined) return undefined;
    const offset = low + 256 * high;
    const count = length(token & 15) + 4;
    if (offset === 0 || offset > content.length || content.length + count > limit) return undefined;
    for (let i = 0; i < count; i++) content.push(content[content.length - offset] ?? 0);
  }
  // A block ends with literals, if with none.
  return undefined;
}

const FRAME_MAGIC = 0x184d2204;
const MAX_SIZES = [0, 0, 0, 0, 64 << 10, 256 << 10, 1 << 20, 4 << 20];

/** Where the parts of a frame are, as far as its sizes tell. */
function layoutOf(data: Buffer): { header: number; blocks: { at: number; size: number }[]; end: number } {
  const flags = data[4] ?? 0;
  const header = 7 + (flags & 8 ? 8 : 0) + (flags & 1 ? 4 : 0);
  const blocks: { at: number; size: number }[] = [];
  let at = header;
  while (at + 4 <= data.byteLength) {
    const field = data.readUInt32LE(at);
    at += 4;
    if (field === 0) return { header, blocks, end: at };
    const size = field & 0x7fff_ffff;
    if (at + size > data.byteLength) break;
    blocks.push({ at: at - 4, size });
    at += size + (flags & 16 ? 4 : 0);
  }
  return { header, blocks, end: -1 };
}

/** The frame that `input` begins with has all its checksums and its content size right, where it has room for them. */
export function repairFrame(input: Uint8Array): Uint8Array {
  const data = Buffer.from(input);
  if (data.byteLength < 7 || data.readUInt32LE(0) !== FRAME_MAGIC) return data;
  const flags = data[4] ?? 0;
  const { header, blocks, end } = layoutOf(data);
  const limit = MAX_SIZES[((data[5] ?? 0) >> 4) & 7] ?? 0;
  const contents: Uint8Array[] = [];
  for (const { at, size } of blocks) {
    const body = data.subarray(at + 4, at + 4 + size);
    const stored = data.readUInt32LE(at) >= 0x8000_0000;
    contents.push(stored ? body : (decodeBlock(body, Math.min(limit, 1 << 17)) ?? new Uint8Array(0)));
    if (flags & 16 && at + 8 + size <= data.byteLength) data.writeUInt32LE(xxh32(body), at + 4 + size);
  }
  const content = Buffer.concat(contents);
  if (flags & 8 && data.byteLength >= 14) data.writeBigUInt64LE(BigInt(content.byteLength), 6);
  if (flags & 4 && end >= 0 && end + 4 <= data.byteLength) data.writeUInt32LE(xxh32(content), end);
  if (header <= data.byteLength) data[header - 1] = (xxh32(data.subarray(4, header - 1)) >>> 8) & 0xff;
  return data;
}
