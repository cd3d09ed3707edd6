/** What an object says of the generations before its own, byte for byte, and how that stands beside its trailer. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { trailerOf } from '../../src/engine/trailer-reader.ts';
import { decodeLz4Frame, encodeLz4FrameBytes, type Lz4End } from '../../src/format/lz4-frame.ts';
import {
  type SnapshotTrailer,
  decodeTrailer,
  encodeTrailer,
  trailerSize,
} from '../../src/format/object-trailer.ts';
import {
  MAX_GENERATIONS,
  type Origin,
  decodeOrigin,
  encodeOrigin,
  originSize,
} from '../../src/format/origin-frame.ts';
import { xxh32 } from '../../src/format/xxh32.ts';

const ORIGIN: Origin = {
  generations: ['0123456789abcdef', 'fedcba9876543210'],
  end: { index: 5, offset: 0x12050, checksum: [0x01020304, 0xa0b0c0d0], timeMs: 1_700_000_000_000 },
};
const SNAPSHOT: SnapshotTrailer = {
  kind: 'snapshot',
  generation: '00000000000000aa',
  pageSizeBytes: 4096,
  index: 1,
  offset: 0,
  checksum: [0, 0],
  timeMs: 1_700_000_000_001,
  sizeBytes: 8192,
  contentChecksum: 7,
};

const names = fc.array(fc.bigInt(0n, 2n ** 64n - 1n), { minLength: 1, maxLength: MAX_GENERATIONS });
const word = fc.integer({ min: 0, max: 2 ** 32 - 1 });
const origins: fc.Arbitrary<Origin> = fc.record({
  generations: names.map((list) => list.map((value) => value.toString(16).padStart(16, '0'))),
  end: fc.option(
    fc.record({
      index: word,
      offset: fc.maxSafeNat(),
      checksum: fc.tuple(word, word),
      timeMs: fc.maxSafeNat().map((ms) => ms % 8.64e15),
    }),
    { nil: undefined },
  ),
});

async function endOf(object: Uint8Array): Promise<Lz4End> {
  let end: Lz4End | undefined;
  const body = (async function* () {
    await Promise.resolve();
    yield object;
  })();
  const chunks = decodeLz4Frame(body, { onEnd: (found) => (end = found) });
  while ((await chunks.next()).done !== true);
  return end!;
}

describe('an origin', () => {
  it('stands in the object as docs/format.md says', () => {
    const hex = (...parts: string[]): string => parts.join('').replaceAll(' ', '');
    expect(Buffer.from(encodeOrigin(ORIGIN)).toString('hex')).toBe(
      hex(
        '5d2a4d18 40000000',
        '01 01 0200 05000000 5020010000000000 01020304a0b0c0d0 0068e5cf8b010000',
        '0123456789abcdef fedcba9876543210',
        '8ffb7d3f 48000000 4c544f524947494e',
      ),
    );
  });

  it('says again what it was made of, alone and before a trailer', () => {
    fc.assert(
      fc.property(origins, (origin) => {
        const frame = encodeOrigin(origin);
        expect(originSize(frame)).toBe(frame.byteLength);
        expect(decodeOrigin(frame)).toEqual(origin);
        const both = encodeTrailer({ ...SNAPSHOT, origin });
        const size = trailerSize(both)!;
        const decoded = decodeTrailer(both.subarray(-size), both.subarray(0, -size));
        expect(decoded).toEqual({ ...SNAPSHOT, origin });
      }),
    );
  });

  it('is refused with any bit of it changed, and when it is missing or not announced', () => {
    const frame = encodeOrigin(ORIGIN);
    for (let bit = 0; bit < frame.byteLength * 8; bit++) {
      const damaged = Buffer.from(frame);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => decodeOrigin(damaged), `bit ${bit}`).toThrow(/origin/);
    }
    const announcing = encodeTrailer({ ...SNAPSHOT, origin: ORIGIN }).subarray(frame.byteLength);
    expect(() => decodeTrailer(announcing)).toThrow(/origin/);
    expect(() => decodeTrailer(encodeTrailer(SNAPSHOT), frame)).toThrow(/origin/);
  });

  it('of a newer version is left out; what a newer one adds behind the names is too', () => {
    const change = (at: number, value: number): Uint8Array => {
      const frame = Buffer.from(encodeOrigin(ORIGIN));
      frame[at] = value;
      const footer = frame.byteLength - 16;
      frame.writeUInt32LE(xxh32(frame.subarray(0, footer)), footer);
      return frame;
    };
    expect(decodeOrigin(change(8, 2))).toBeUndefined();
    expect(decodeOrigin(change(10, 1))).toEqual({ ...ORIGIN, generations: ORIGIN.generations.slice(0, 1) });
  });

  it('is refused when its offset is too large to be kept exact', () => {
    const frame = Buffer.from(encodeOrigin(ORIGIN));
    frame.writeBigUInt64LE(2n ** 53n, 16);
    frame.writeUInt32LE(xxh32(frame.subarray(0, -16)), frame.byteLength - 16);
    expect(() => decodeOrigin(frame)).toThrow('origin has the number 9007199254740992');
  });

  it('does not change the trailer for who does not know it, and adds nothing where nothing is said', async () => {
    const plain = encodeTrailer(SNAPSHOT);
    expect(encodeTrailer({ ...SNAPSHOT, origin: undefined })).toEqual(plain);
    const both = encodeTrailer({ ...SNAPSHOT, origin: ORIGIN });
    const frame = Buffer.from(both.subarray(-plain.byteLength));
    // One flag, in a byte that programs without origins do not look at, and the checksum over it.
    const differing = [...frame.keys()].filter((i) => frame[i] !== plain[i]);
    expect(differing.filter((i) => i < frame.byteLength - 16)).toEqual([10]);
    const content = new Uint8Array(8192);
    const object = encodeLz4FrameBytes(content, { contentSizeBytes: content.length, trailer: () => both });
    expect(trailerOf(await endOf(object))).toEqual({ ...SNAPSHOT, origin: ORIGIN });
  });
});
