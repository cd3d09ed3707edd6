/**
 * What we compress, judged by other decoders than ours: the reference library's, and a reader of the sequences that
 * knows the rules for the end of a block, which decoders rely on without telling.
 */

import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { compressFrameSync, decompressFrameSync, uncompressSync } from 'lz4-napi';
import { describe, expect, it } from 'vitest';
import { Lz4BlockDecoder, Lz4BlockEncoder, compressBound } from '../../src/format/lz4-block.ts';
import { LZ4_BLOCK_SIZE, openCompressor } from '../../src/format/lz4-compressor.ts';
import { decodeLz4FrameBytes, encodeLz4Frame, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';

/** Content that gets a thread. */
const THREADED_SIZE = 33 << 20;

/** Bytes that do not compress, always the same. */
function noise(sizeBytes: number, seed = 0): Buffer {
  return createHash('shake256', { outputLength: sizeBytes }).update(String(seed)).digest();
}

/** Like pages of a table: numbers that grow, words that come again, some noise. */
function rows(sizeBytes: number): Buffer {
  const parts: Buffer[] = [];
  for (let size = 0, id = 0; size < sizeBytes; id++) {
    const row = Buffer.concat([
      Buffer.from(`${id},customer,order ${id % 7} paid,`),
      noise(id % 40 === 0 ? 300 : 5, id),
    ]);
    parts.push(row);
    size += row.byteLength;
  }
  return Buffer.concat(parts).subarray(0, sizeBytes);
}

/** The reference library's decompression, which wants the size of the content before the block. */
function reference(block: Uint8Array, sizeBytes: number): Buffer {
  const prefixed = Buffer.alloc(4 + block.byteLength);
  prefixed.writeUInt32LE(sizeBytes);
  prefixed.set(block, 4);
  return uncompressSync(prefixed);
}

/** Reads the sequences of a block. @returns where in the content the last match starts, and the literals after it */
function lastSequences(block: Uint8Array): { lastStart: number | undefined; lastLiterals: number } {
  let at = 0;
  let contentAt = 0;
  let lastStart: number | undefined;
  const length = (nibble: number): number => {
    let value = nibble;
    if (nibble === 15) {
      let byte: number;
      do value += byte = block[at++]!;
      while (byte === 255);
    }
    return value;
  };
  for (;;) {
    const token = block[at++]!;
    const literals = length(token >> 4);
    at += literals;
    contentAt += literals;
    if (at === block.byteLength) return { lastStart, lastLiterals: literals };
    at += 2;
    lastStart = contentAt;
    contentAt += 4 + length(token & 15);
  }
}

const encoder = new Lz4BlockEncoder(LZ4_BLOCK_SIZE);
const decoder = new Lz4BlockDecoder(LZ4_BLOCK_SIZE);

/** Compresses, and checks everything that a block must be. @returns its size */
function checkBlock(content: Uint8Array): number {
  const block = Buffer.from(encoder.compress(content));
  const what = `content of ${content.byteLength} bytes: ${Buffer.from(content.subarray(0, 200)).toString('hex')}`;
  expect(block.byteLength, what).toBeLessThanOrEqual(compressBound(content.byteLength));
  const decoded = decoder.decompress(block, content.byteLength);
  expect(decoded && Buffer.compare(decoded, content), what).toBe(0);
  expect(Buffer.compare(reference(block, content.byteLength), content), what).toBe(0);
  const { lastStart, lastLiterals } = lastSequences(block);
  if (lastStart !== undefined) {
    expect(lastStart, what).toBeLessThanOrEqual(content.byteLength - 12);
    expect(lastLiterals, what).toBeGreaterThanOrEqual(5);
  }
  return block.byteLength;
}

describe('a compressed block', () => {
  it('is right for every small size, of one byte again and again, of two, of rows, of noise', () => {
    for (let size = 0; size <= 700; size++) {
      checkBlock(Buffer.alloc(size, 'a'));
      checkBlock(Buffer.alloc(size, 'ab'));
      checkBlock(rows(size));
      checkBlock(noise(size));
    }
  });

  it('is right for whatever is made of pieces that come again', () => {
    const piece = fc.uint8Array({ minLength: 1, maxLength: 40 });
    const order = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 1, max: 30 })), { maxLength: 200 });
    const property = fc.property(fc.array(piece, { minLength: 1, maxLength: 8 }), order, (pieces, uses) => {
      checkBlock(
        Buffer.concat(uses.map(([which, length]) => pieces[which % pieces.length]!.subarray(0, length))),
      );
    });
    fc.assert(property, { numRuns: 1000 });
  });

  it('finds matches as far away as the format can say, and none further', () => {
    const match = noise(100, 1);
    // The distance is that of the two copies. Between them is one byte again and again, which is passed in one match.
    for (const distance of [65_534, 65_535, 65_536, 65_537, 131_072]) {
      const between = distance - match.byteLength;
      const size = checkBlock(Buffer.concat([match, Buffer.alloc(between), match, noise(20, 3)]));
      const withoutSecond = checkBlock(Buffer.concat([match, Buffer.alloc(between), noise(20, 3)]));
      if (distance <= 65_535) expect(size - withoutSecond, `${distance}`).toBeLessThan(10);
      else expect(size - withoutSecond, `${distance}`).toBeGreaterThan(90);
    }
  });

  it('has lengths around each border of their coding', () => {
    for (const length of [14, 15, 16, 17, 18, 19, 20, 269, 270, 271, 273, 274, 275, 524, 525, 529, 530]) {
      const part = noise(length, length);
      checkBlock(Buffer.concat([part, part, noise(30, 1)]));
      checkBlock(Buffer.concat([part, Buffer.alloc(length, 7), noise(length, 2), Buffer.alloc(length, 7)]));
    }
  });

  it.each([
    ['zeros', Buffer.alloc(LZ4_BLOCK_SIZE), 0.005],
    ['noise', noise(LZ4_BLOCK_SIZE), 1.005],
    ['rows', rows(LZ4_BLOCK_SIZE), 0.55],
  ])('of %s has the full size', (_, content, ratio) => {
    expect(checkBlock(content)).toBeLessThan(content.byteLength * ratio);
    checkBlock(content.subarray(0, -1));
  });

  it('is as small as what the reference library makes of it', () => {
    const content = rows(LZ4_BLOCK_SIZE);
    expect(checkBlock(content)).toBeLessThan(compressFrameSync(content).byteLength * 1.02);
  });

  it('does not depend on what was compressed before', () => {
    const content = rows(50_000);
    const first = Buffer.from(encoder.compress(content));
    encoder.compress(noise(LZ4_BLOCK_SIZE));
    encoder.compress(rows(LZ4_BLOCK_SIZE));
    expect(first.equals(encoder.compress(content))).toBe(true);
    expect(first.equals(new Lz4BlockEncoder(LZ4_BLOCK_SIZE).compress(content))).toBe(true);
  });
});

describe('a frame', () => {
  it.each([0, 1, LZ4_BLOCK_SIZE - 1, LZ4_BLOCK_SIZE, LZ4_BLOCK_SIZE + 1, 3 * LZ4_BLOCK_SIZE + 100])(
    'of %d bytes is read by the reference library',
    (sizeBytes) => {
      const content = rows(sizeBytes);
      for (const options of [{}, { contentSizeBytes: sizeBytes }]) {
        const frame = Buffer.from(encodeLz4FrameBytes(content, options));
        expect(decompressFrameSync(frame).equals(content)).toBe(true);
      }
    },
  );
});

describe('in a thread', () => {
  const content = Buffer.concat([
    rows(LZ4_BLOCK_SIZE),
    noise(LZ4_BLOCK_SIZE, 1),
    Buffer.alloc(THREADED_SIZE),
  ]);
  const contentSizeBytes = content.byteLength;

  async function* chunks(size: number): AsyncGenerator<Uint8Array> {
    await Promise.resolve();
    for (let at = 0; at < contentSizeBytes; at += size) yield content.subarray(at, at + size);
  }

  async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
    const parts: Uint8Array[] = [];
    for await (const part of source) parts.push(part);
    return Buffer.concat(parts);
  }

  it('a frame is the same as without, also when more are made at once than there are threads', async () => {
    const expected = Buffer.from(encodeLz4FrameBytes(content, { contentSizeBytes }));
    expect(Buffer.compare(decodeLz4FrameBytes(expected), content)).toBe(0);
    for (const count of [1, 4]) {
      const frames = Array.from({ length: count }, (_, i) =>
        collect(encodeLz4Frame(chunks(300_000 + i * 100_001), { contentSizeBytes })),
      );
      for (const frame of await Promise.all(frames)) expect(frame.equals(expected)).toBe(true);
    }
  });

  it('passes an error of the source on, and gives its thread back when it fails or is left', async () => {
    const failing = async function* () {
      yield* chunks(4 << 20);
      throw new Error('disk on fire');
    };
    for (let i = 0; i < 3; i++) {
      await expect(collect(encodeLz4Frame(failing(), { contentSizeBytes }))).rejects.toThrow('disk on fire');
      for await (const part of encodeLz4Frame(chunks(1 << 20), { contentSizeBytes })) {
        if (part.byteLength > 100) break;
      }
    }
    const compressor = openCompressor(contentSizeBytes);
    expect(compressor.slotCount).toBeGreaterThan(1);
    await compressor.close();
  });

  it('fails with a word of it when the thread ends', async () => {
    const compressor = openCompressor(contentSizeBytes);
    const underWay = compressor.compress(0, LZ4_BLOCK_SIZE);
    underWay.catch(() => undefined);
    await compressor.close();
    await expect(underWay).rejects.toMatchObject({ code: 'io', message: 'compression thread: it has ended' });
    await expect(compressor.compress(1, 5)).rejects.toMatchObject({ code: 'io' });
  });
});
