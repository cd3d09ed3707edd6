import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type CommitTime,
  type SegmentTrailer,
  type SnapshotTrailer,
  MAX_TRAILER_SIZE,
  decodeTrailer,
  encodeTrailer,
  trailerSize,
} from '../../src/format/object-trailer.ts';
import { decodeOrigin, encodeOrigin } from '../../src/format/origin-frame.ts';
import { xxh32 } from '../../src/format/xxh32.ts';

const SEGMENT: SegmentTrailer = {
  kind: 'segment',
  generation: '0123456789abcdef',
  pageSizeBytes: 512,
  index: 5,
  start: 0,
  end: 32 + 130 * 536,
  checksum: [0x01020304, 0xa0b0c0d0],
  previous: { index: 4, offset: 568, checksum: [0x11121314, 0x15161718] },
  commits: [
    { offset: 32 + 536, timeMs: 1_700_000_000_000 },
    { offset: 32 + 130 * 536, timeMs: 1_700_000_000_200 },
  ],
};
const SNAPSHOT: SnapshotTrailer = {
  kind: 'snapshot',
  generation: '0123456789abcdef',
  pageSizeBytes: 65536,
  index: 0xffff_ffff,
  offset: 0x1_0000_0020,
  checksum: [1, 0xffff_ffff],
  timeMs: 1_700_000_000_000,
  sizeBytes: 3 * 65536,
  contentChecksum: 0xdeadbeef,
};

const words = fc.tuple(fc.nat(0xffff_ffff), fc.nat(0xffff_ffff));
const end = fc.record({ index: fc.nat(0xffff_ffff), offset: fc.maxSafeNat(), checksum: words });
const segments = fc
  .record({
    generation: fc.nat().map((n) => n.toString(16).padStart(16, '0')),
    exponent: fc.integer({ min: 9, max: 16 }),
    index: fc.nat(0xffff_ffff),
    startFrames: fc.option(fc.nat(1_000_000), { nil: undefined }),
    checksum: words,
    previous: fc.option(end, { nil: undefined }),
    firstMs: fc.nat(2 ** 43),
    steps: fc.array(fc.tuple(fc.integer({ min: 1, max: 200_000 }), fc.nat(2 ** 31 - 1)), { minLength: 1 }),
  })
  .map(({ exponent, startFrames, firstMs, steps, ...rest }): SegmentTrailer => {
    const pageSizeBytes = 2 ** exponent;
    const frameSize = pageSizeBytes + 24;
    const start = startFrames === undefined ? 0 : 32 + startFrames * frameSize;
    const commits: CommitTime[] = [];
    let last: CommitTime = { offset: Math.max(32, start), timeMs: firstMs };
    for (const [i, [frames, ms]] of steps.entries()) {
      last = { offset: last.offset + frames * frameSize, timeMs: last.timeMs + (i === 0 ? 0 : ms) };
      commits.push(last);
    }
    return { kind: 'segment', pageSizeBytes, start, end: last.offset, commits, ...rest };
  });

/** With a checksum that is right for what it holds. */
function signed(frame: Buffer): Buffer {
  frame.writeUInt32LE(xxh32(frame.subarray(0, -16)), frame.byteLength - 16);
  return frame;
}

describe('a trailer', () => {
  it('stands in the object as docs/format.md says', () => {
    const hex = (...parts: string[]): string => parts.join('').replaceAll(' ', '');
    const segment = hex(
      '5c2a4d18 62000000',
      '01 01 01 00 00020000 0123456789abcdef 05000000',
      '0000000000000000 5010010000000000 01020304a0b0c0d0',
      '04000000 3802000000000000 1112131415161718',
      '0068e5cf8b010000 02000000',
      '01 00 8101 c801',
      '68ddd764 6a000000 4c5453545241494c',
    );
    expect(Buffer.from(encodeTrailer(SEGMENT)).toString('hex')).toBe(segment);
    const snapshot = hex(
      '5c2a4d18 48000000',
      '01 02 00 00 00000100 0123456789abcdef ffffffff',
      '2000000001000000 00000001ffffffff 0068e5cf8b010000 0000030000000000 efbeadde',
      '966193c9 50000000 4c5453545241494c',
    );
    expect(Buffer.from(encodeTrailer(SNAPSHOT)).toString('hex')).toBe(snapshot);
  });

  it('is refused when a number in it is too large to be kept exact', () => {
    const beyond = 2n ** 53n;
    for (const at of [8 + 20, 8 + 44]) {
      const frame = Buffer.from(encodeTrailer(SNAPSHOT));
      frame.writeBigUInt64LE(beyond, at);
      expect(() => decodeTrailer(signed(frame))).toThrow(`trailer has the number ${beyond}`);
    }
    const segment = Buffer.from(encodeTrailer(SEGMENT));
    segment.writeBigUInt64LE(beyond, 8 + 48);
    expect(() => decodeTrailer(signed(segment))).toThrow(`trailer has the number ${beyond}`);
  });

  it('says again what it was made of', () => {
    fc.assert(
      fc.property(segments, (segment) => {
        expect(decodeTrailer(encodeTrailer(segment))).toEqual(segment);
      }),
    );
    expect(decodeTrailer(encodeTrailer(SNAPSHOT))).toEqual(SNAPSHOT);
  });

  it.each([SEGMENT, SNAPSHOT])('is refused with any bit of it changed: $kind', (trailer) => {
    const frame = encodeTrailer(trailer);
    for (let bit = 0; bit < frame.byteLength * 8; bit++) {
      const damaged = Buffer.from(frame);
      damaged[bit >> 3]! ^= 1 << (bit & 7);
      expect(() => decodeTrailer(damaged), `bit ${bit}`).toThrow(/trailer/);
    }
  });

  it('is refused when it is cut', () => {
    const frame = encodeTrailer(SEGMENT);
    for (let length = 8; length < frame.byteLength; length++) {
      expect(() => decodeTrailer(frame.subarray(0, length))).toThrow(/trailer/);
      expect(() => decodeTrailer(frame.subarray(frame.byteLength - length))).toThrow(/trailer/);
    }
  });

  it('is found at the end of an object, and only there', () => {
    const frame = encodeTrailer(SEGMENT);
    const object = Buffer.concat([Buffer.alloc(1000, 0x41), frame]);
    expect(trailerSize(object)).toBe(frame.byteLength);
    expect(trailerSize(object.subarray(-20))).toBe(frame.byteLength);
    expect(trailerSize(object.subarray(0, -1))).toBeUndefined();
    expect(trailerSize(new Uint8Array(0))).toBeUndefined();
    const damaged = Buffer.from(frame);
    damaged[damaged.byteLength - 9]! ^= 0x80;
    expect(() => trailerSize(damaged)).toThrow('trailer says it has');
  });

  it.each<[string, () => Uint8Array, RegExp]>([
    [
      'a time of no Date',
      () => encodeTrailer({ ...SNAPSHOT, timeMs: 2 ** 62 }),
      /a time 46116\d+ ms after 1970/,
    ],
    [
      'a commit at a time of no Date',
      () => encodeTrailer({ ...SEGMENT, commits: [{ offset: SEGMENT.end, timeMs: 8.64e15 + 1 }] }),
      /a time 8640000000000001 ms after 1970/,
    ],
    [
      'an origin that ended at a time of no Date',
      () => {
        const end = { index: 0, offset: 0, checksum: [0, 0] as const, timeMs: 2 ** 62 };
        const origin = encodeOrigin({ generations: ['0123456789abcdef'], end });
        decodeOrigin(origin);
        return origin;
      },
      /a time/,
    ],
    [
      'pages of no database',
      () => encodeTrailer({ ...SNAPSHOT, pageSizeBytes: 1000 }),
      /pages of 1000 bytes/,
    ],
    [
      'a commit without a frame',
      () => {
        const frame = Buffer.from(encodeTrailer(SEGMENT));
        // Of two commits, the first one of no frames, the second one of all 130.
        const entries = frame.indexOf(Buffer.from([1, 0]), 8 + 76);
        frame[entries] = 0;
        return signed(frame);
      },
      /without a frame/,
    ],
  ])('is refused when it says %s', (_, frameOf, message) => {
    expect(() => decodeTrailer(frameOf())).toThrow(message);
  });

  it('of a newer version says so', () => {
    const frame = Buffer.from(encodeTrailer(SNAPSHOT));
    frame[8] = 2;
    const footer = frame.byteLength - 16;
    frame.writeUInt32LE(xxh32(frame.subarray(0, footer)), footer);
    expect(() => decodeTrailer(frame)).toThrow('trailer has version 2: a newer litestream wrote it');
  });

  it('of 64 MiB of the smallest frames, each committed by itself, is within the bound', () => {
    const frames = Math.floor((64 << 20) / 536);
    const commits = Array.from({ length: frames }, (_, i) => ({
      offset: 32 + (i + 1) * 536,
      timeMs: 1_700_000_000_000 + i * 3_600_000,
    }));
    const trailer = encodeTrailer({ ...SEGMENT, end: 32 + frames * 536, commits });
    expect(trailer.byteLength).toBeLessThan(MAX_TRAILER_SIZE);
    expect(decodeTrailer(trailer)).toMatchObject({ commits: { length: frames } });
  });
});
