/** Trailers and origins for the fuzzer: samples, and what makes changed ones whole again. */

import {
  type ObjectTrailer,
  type SegmentTrailer,
  type SnapshotTrailer,
  encodeTrailer,
} from '../../src/format/object-trailer.ts';
import { xxh32 } from '../../src/format/xxh32.ts';
import type { Random } from './random.ts';

export const GENERATION = '00112233445566aa';
const ORIGIN = {
  generations: ['ffeeddccbbaa9988', '0123456789abcdef'],
  end: { index: 3, offset: 4152, checksum: [1, 2] as const, timeMs: 1_700_000_000_000 },
};
export const FRAME_SIZE = 512 + 24;

export const SEGMENT: SegmentTrailer = {
  kind: 'segment',
  generation: GENERATION,
  pageSizeBytes: 512,
  index: 4,
  start: 32,
  end: 32 + 3 * FRAME_SIZE,
  checksum: [5, 6],
  previous: { index: 4, offset: 32, checksum: [7, 8] },
  commits: [
    { offset: 32 + FRAME_SIZE, timeMs: 1_700_000_000_000 },
    { offset: 32 + 3 * FRAME_SIZE, timeMs: 1_700_000_000_300 },
  ],
};

export const SNAPSHOT: SnapshotTrailer = {
  kind: 'snapshot',
  generation: GENERATION,
  pageSizeBytes: 65536,
  index: 5,
  offset: 0,
  checksum: [0, 0],
  timeMs: 1_700_000_000_000,
  sizeBytes: 131_072,
  contentChecksum: 9,
};

export const TRAILERS: readonly ObjectTrailer[] = [
  SEGMENT,
  { ...SEGMENT, start: 0, previous: undefined },
  { ...SEGMENT, origin: ORIGIN },
  SNAPSHOT,
  { ...SNAPSHOT, origin: { ...ORIGIN, end: undefined } },
];

export function encoded(): Uint8Array[] {
  return TRAILERS.map(encodeTrailer);
}

const MAGICS = ['LTSTRAIL', 'LTORIGIN'];

/** Sizes and checksums of every frame that ends with one of our magic numbers are made right. */
export function repairTrailers(input: Uint8Array, random: Random): Uint8Array {
  const data = Buffer.from(input);
  const ends = MAGICS.flatMap((magic) => {
    const found: number[] = [];
    for (let at = data.indexOf(magic); at >= 0; at = data.indexOf(magic, at + 1))
      found.push(at + magic.length);
    return found;
  });
  let start = 0;
  for (const end of ends.sort((a, b) => a - b)) {
    // A frame begins with the magic number of a skippable one, or where the frame before ended.
    const magic = data.subarray(0, Math.max(0, end - 16)).lastIndexOf('2a4d18', undefined, 'hex');
    const frame = data.subarray(magic > start ? magic - 1 : start, end);
    start = end;
    if (frame.byteLength < 24) continue;
    if (!random.oneIn(16)) frame.writeUInt32LE(frame.byteLength - 8, 4);
    if (!random.oneIn(16)) frame.writeUInt32LE(frame.byteLength, frame.byteLength - 12);
    frame.writeUInt32LE(xxh32(frame.subarray(0, -16)), frame.byteLength - 16);
  }
  return data;
}
