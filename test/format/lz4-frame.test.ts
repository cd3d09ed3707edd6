import { createHash, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { hasCode } from '../../src/base/errors.ts';
import {
  LZ4_BLOCK_SIZE,
  decodeLz4Frame,
  decodeLz4FrameBytes,
  encodeLz4Frame,
  encodeLz4FrameBytes,
  startLz4Thread,
} from '../../src/format/lz4-frame.ts';
import { xxh32 } from '../../src/format/xxh32.ts';

const SKIPPABLE = Buffer.from('502a4d1803000000aabbcc', 'hex');
const HEADER = '04224d186470b9';

/** `data` cut into chunks of at most `size` bytes, or anything that is iterable. */
async function* chunksOf(data: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  await Promise.resolve();
  for (let at = 0; at < data.byteLength; at += size) yield data.subarray(at, at + size);
}

async function collect(source: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of source) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** Half compressible, always the same. */
function mixed(sizeBytes: number): Buffer {
  const data = Buffer.alloc(sizeBytes, 'litestream ');
  for (let at = 0; at < sizeBytes; at += 8192) {
    const outputLength = Math.min(3000, sizeBytes - at);
    createHash('shake256', { outputLength }).update(String(at)).digest().copy(data, at);
  }
  return data;
}

/** Whether `frame` decodes to `content`; false when it does not decode. */
function same(content: Uint8Array, frame: Uint8Array): boolean {
  try {
    const decoded = decodeLz4FrameBytes(frame);
    expect(Buffer.compare(decoded, content)).toBe(0);
    return true;
  } catch (error) {
    if (hasCode(error, 'corrupt', 'unsupported')) return false;
    throw error;
  }
}

/** The errors of decoding `frame` at once and as a stream, which may come upon another damage first. */
async function decodeErrors(frame: Uint8Array): Promise<[Error, Error]> {
  const errors: unknown[] = [];
  try {
    decodeLz4FrameBytes(frame);
  } catch (error) {
    errors.push(error);
  }
  try {
    await collect(decodeLz4Frame(chunksOf(frame, 7)));
  } catch (error) {
    errors.push(error);
  }
  expect(errors).toHaveLength(2);
  return errors as [Error, Error];
}

describe('encoding', () => {
  it('writes the header that v0.3.13 writes', async () => {
    expect(
      Buffer.from(encodeLz4FrameBytes(Buffer.from('x')))
        .toString('hex')
        .slice(0, 14),
    ).toBe(HEADER);
    expect((await collect(encodeLz4Frame(chunksOf(Buffer.from('x'), 1)))).toString('hex').slice(0, 14)).toBe(
      HEADER,
    );
  });

  it('gives the same frame for a stream and for bytes', async () => {
    const data = mixed(2 * LZ4_BLOCK_SIZE + 12_345);
    const frame = await collect(encodeLz4Frame(chunksOf(data, 100_000)));
    expect(frame.equals(encodeLz4FrameBytes(data))).toBe(true);
  });

  it('stores blocks that do not shrink', () => {
    const data = randomBytes(LZ4_BLOCK_SIZE + 10);
    expect(encodeLz4FrameBytes(data)).toHaveLength(7 + 4 + LZ4_BLOCK_SIZE + 4 + 10 + 8);
  });

  it('needs no chunk of the source to outlive the next', async () => {
    const scratch = Buffer.alloc(1 << 20);
    const expected: Buffer[] = [];
    const source = async function* () {
      for (let i = 0; i < 11; i++) {
        scratch.set(randomBytes(scratch.byteLength));
        expected.push(Buffer.from(scratch));
        yield await Promise.resolve(scratch);
      }
    };
    const frame = await collect(encodeLz4Frame(source()));
    expect(Buffer.concat(expected).equals(decodeLz4FrameBytes(frame))).toBe(true);
  });

  it('passes an error of the source on', async () => {
    const source = async function* () {
      yield await Promise.resolve(mixed(3 * LZ4_BLOCK_SIZE));
      throw new Error('disk on fire');
    };
    await expect(collect(encodeLz4Frame(source()))).rejects.toThrow('disk on fire');
  });

  it('may be abandoned', async () => {
    for await (const chunk of encodeLz4Frame(chunksOf(mixed(5 * LZ4_BLOCK_SIZE), 1 << 20))) {
      if (chunk.byteLength > 100) break;
    }
  });
});

describe('decoding', () => {
  it.each([0, 1, 16, 70_000, LZ4_BLOCK_SIZE, 4 * LZ4_BLOCK_SIZE + 1])(
    'gives back %d bytes',
    async (sizeBytes) => {
      const data = mixed(sizeBytes);
      const frame = encodeLz4FrameBytes(data);
      expect(data.equals(decodeLz4FrameBytes(frame))).toBe(true);
      expect(data.equals(await collect(decodeLz4Frame(chunksOf(frame, 65_536))))).toBe(true);
    },
  );

  it('gives back whatever was encoded, however it is cut', async () => {
    const content = fc.oneof(
      fc.uint8Array({ maxLength: 2000 }),
      fc
        .tuple(fc.uint8Array({ minLength: 1, maxLength: 20 }), fc.integer({ min: 0, max: 3000 }))
        .map(([part, n]) => new Uint8Array(n).map((_, i) => part[i % part.length] ?? 0)),
    );
    await fc.assert(
      fc.asyncProperty(content, fc.integer({ min: 1, max: 300 }), async (data, size) => {
        const frame = await collect(encodeLz4Frame(chunksOf(data, size)));
        expect(Buffer.compare(decodeLz4FrameBytes(frame), data)).toBe(0);
        expect(Buffer.compare(await collect(decodeLz4Frame(chunksOf(frame, size))), data)).toBe(0);
      }),
    );
  });

  // Written by the lz4 command, version 1.9.4.
  it.each([
    ['64 KiB blocks', '04224d186440a7100000006f68656c6c6f200600055068656c6c6f00000000bd9cd674'],
    ['block checksums', '04224d187440bd100000006f68656c6c6f200600055068656c6c6f7220b52800000000bd9cd674'],
    [
      'a content size',
      '04224d186c40230000000000000061100000006f68656c6c6f200600055068656c6c6f00000000bd9cd674',
    ],
    ['no content checksum', '04224d18604082100000006f68656c6c6f200600055068656c6c6f00000000'],
  ])('reads frames with %s', async (_, hex) => {
    const frame = Buffer.from(hex, 'hex');
    expect(Buffer.from(decodeLz4FrameBytes(frame)).toString()).toBe('hello hello hello hello hello hello');
    const streamed = await collect(decodeLz4Frame(chunksOf(frame, 1)));
    expect(streamed.toString()).toBe('hello hello hello hello hello hello');
  });

  it('skips skippable frames before and after the data frame', () => {
    const frame = Buffer.concat([SKIPPABLE, SKIPPABLE, encodeLz4FrameBytes(Buffer.from('x')), SKIPPABLE]);
    expect(Buffer.from(decodeLz4FrameBytes(frame)).toString()).toBe('x');
  });

  it('keeps no more than the last two skippable frames, however many there are', async () => {
    const numbered = (number: number): Buffer => Buffer.from([0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, number]);
    const behind = Array.from({ length: 100 }, (_, number) => numbered(number));
    const frame = Buffer.concat([encodeLz4FrameBytes(Buffer.from('x')), ...behind]);
    let told: readonly Uint8Array[] = [];
    await collect(decodeLz4Frame(chunksOf(frame, 50), { onEnd: ({ skippable }) => (told = skippable) }));
    expect(told).toEqual(behind.slice(-2));
  });

  it('releases the source when abandoned', async () => {
    const frame = encodeLz4FrameBytes(mixed(5 * LZ4_BLOCK_SIZE));
    let released = false;
    const source = async function* () {
      try {
        yield* chunksOf(frame, 65_536);
      } finally {
        released = true;
      }
    };
    for await (const chunk of decodeLz4Frame(source())) if (chunk.byteLength > 0) break;
    expect(released).toBe(true);
  });
});

describe('damaged frames', () => {
  const frame = Buffer.from(encodeLz4FrameBytes(mixed(300)));
  const second = Buffer.concat([frame, frame]);
  const linked = Buffer.from(frame);
  linked[4] = 0x44;
  linked[6] = (xxh32(linked.subarray(4, 6)) >>> 8) & 255;

  it.each([
    ['an empty object', Buffer.alloc(0), 'lz4 frame is empty'],
    ['only skippable frames', SKIPPABLE, 'lz4 frame is missing: there are only skippable frames'],
    ['other bytes', Buffer.from('SQLite format 3'), 'lz4 frame has the magic number 694c5153 at byte 0'],
    [
      'a second frame',
      second,
      `lz4 frame is followed by other data at byte ${frame.byteLength}: an object holds one data frame`,
    ],
    [
      'stray bytes',
      Buffer.concat([frame, Buffer.alloc(3)]),
      `lz4 frame is followed by 3 stray bytes at byte ${frame.byteLength}`,
    ],
    [
      'an end before the end mark',
      frame.subarray(0, -8),
      `lz4 frame is cut short: it ends at byte ${frame.byteLength - 8}, inside the size of block 1`,
    ],
    ['linked blocks', linked, 'lz4 frame has linked blocks: compress with independent blocks'],
  ])('refuses %s', async (_, data, message) => {
    const errors = await decodeErrors(data);
    expect(errors.map((error) => error.message)).toEqual([message, message]);
  });

  it('refuses every truncation', async () => {
    for (let end = 0; end < frame.byteLength; end++) {
      const errors = await decodeErrors(frame.subarray(0, end));
      expect(errors.every((error) => hasCode(error, 'corrupt'))).toBe(true);
    }
  });

  it('never gives wrong bytes for a changed byte', async () => {
    const content = Buffer.concat([mixed(150), Buffer.alloc(150, 'litestream ')]);
    const whole = Buffer.from(encodeLz4FrameBytes(content));
    let refused = 0;
    for (let at = 0; at < whole.byteLength; at++) {
      for (const mask of [0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff]) {
        const damaged = Buffer.from(whole);
        damaged[at]! ^= mask;
        // A match may point to another place that holds the same bytes: then nothing is wrong.
        if (same(content, damaged)) continue;
        for (const error of await decodeErrors(damaged)) {
          expect(hasCode(error, 'corrupt', 'unsupported'), `byte ${at} with mask ${mask}`).toBe(true);
        }
        refused++;
      }
    }
    expect(refused).toBeGreaterThan(whole.byteLength * 8);
  });

  it('does not take memory on the word of a size field', async () => {
    const huge = Buffer.from(`${HEADER}ffff3f00`, 'hex');
    expect((await decodeErrors(huge))[1].message).toContain('cut short');
    const skip = Buffer.from('502a4d18ffffffff00', 'hex');
    expect((await decodeErrors(skip))[1].message).toContain('cut short');
  });
});

describe('in a thread', () => {
  /** A block of 35 bytes, compressed. */
  const COMPRESSED = Buffer.from('6f68656c6c6f200600055068656c6c6f', 'hex');
  const thread = startLz4Thread();
  afterAll(() => thread.close());

  function sized(flag: number, data: Uint8Array): Buffer {
    const size = Buffer.alloc(4);
    size.writeUInt32LE((flag | data.byteLength) >>> 0);
    return Buffer.concat([size, data]);
  }

  it('decodes and checks several frames at once, whatever the sizes of their blocks', async () => {
    // Lengths below 41 are stored blocks, 41 is the compressed one.
    const frames = fc.array(fc.array(fc.integer({ min: 1, max: 41 }), { maxLength: 30 }), { maxLength: 6 });
    await fc.assert(
      fc.asyncProperty(frames, fc.nat(5), async (contents, damaged) => {
        const decoding = contents.map(async (lengths, i) => {
          const stored = lengths.map((length) => randomBytes(length));
          const content = Buffer.concat(
            stored.map((data) => (data.byteLength === 41 ? Buffer.from('hello '.repeat(6).trimEnd()) : data)),
          );
          const end = Buffer.alloc(8);
          end.writeUInt32LE((xxh32(content) ^ (i === damaged ? 1 : 0)) >>> 0, 4);
          const blocks = stored.map((data) =>
            data.byteLength === 41 ? sized(0, COMPRESSED) : sized(0x8000_0000, data),
          );
          const frame = Buffer.concat([Buffer.from(HEADER, 'hex'), ...blocks, end]);
          const decoded = collect(decodeLz4Frame(chunksOf(frame, 50), { thread }));
          if (i === damaged) await expect(decoded).rejects.toThrow('fails its content checksum');
          else expect(await decoded).toEqual(content);
        });
        await Promise.all(decoding);
      }),
    );
  });

  it('decodes on after a frame that was left early or is damaged', async () => {
    const frame = encodeLz4FrameBytes(mixed(20 * LZ4_BLOCK_SIZE + 5));
    for (let i = 0; i < 3; i++) {
      for await (const content of decodeLz4Frame(chunksOf(frame, 1 << 20), { thread })) {
        expect(content).toHaveLength(LZ4_BLOCK_SIZE);
        break;
      }
      const cut = collect(decodeLz4Frame(chunksOf(frame.subarray(0, -9), 1 << 20), { thread }));
      await expect(cut).rejects.toMatchObject({ code: 'corrupt' });
    }
    const content = await collect(decodeLz4Frame(chunksOf(frame, 1 << 20), { thread }));
    expect(content.equals(mixed(20 * LZ4_BLOCK_SIZE + 5))).toBe(true);
  });
});
