/** Whole objects of a replica: who reads one from end to end is told the same as who reads its last bytes alone. */

import assert from 'node:assert/strict';
import type { SegmentInfo, SnapshotInfo } from '../../../src/engine/catalog.ts';
import { readSegmentTrailer, readSnapshotTrailer, trailerOf } from '../../../src/engine/trailer-reader.ts';
import { decodeLz4Frame, encodeLz4FrameBytes } from '../../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../../src/format/names.ts';
import { type ObjectTrailer, encodeTrailer } from '../../../src/format/object-trailer.ts';
import { openMemoryStore } from '../../../src/storage/memory/memory-store.ts';
import { repairFrame } from '../lz4-parts.ts';
import { type FuzzTarget, collected, inPieces, refusableLater } from '../target.ts';
import { GENERATION, SEGMENT, SNAPSHOT, TRAILERS, repairTrailers } from '../trailer-parts.ts';
import { checkTrailer } from './trailer.ts';

const CODES = ['corrupt', 'unsupported', 'encrypted'] as const;
const store = openMemoryStore();
const [segmentAt, snapshotAt] = [
  segmentKey(GENERATION, SEGMENT.index, SEGMENT.start),
  snapshotKey(GENERATION, SNAPSHOT.index),
];

function objectWith(trailer: ObjectTrailer): Uint8Array {
  const content = Buffer.alloc(300, 'page');
  return encodeLz4FrameBytes(content, {
    contentSizeBytes: content.byteLength,
    trailer: () => encodeTrailer(trailer),
  });
}

export const target: FuzzTarget = {
  name: 'object',
  seeds: () => [...TRAILERS.map(objectWith), encodeLz4FrameBytes(Buffer.from('of v0.3.13'))],
  maxBytes: 8192,
  repair: (data, random) => repairTrailers(repairFrame(data), random),
  async run(data) {
    let whole = undefined as ObjectTrailer | undefined;
    let isWhole = false as boolean;
    await refusableLater(CODES, () =>
      collected(
        decodeLz4Frame(inPieces(data), {
          onEnd: (end) => {
            whole = trailerOf(end);
            isWhole = true;
          },
        }),
      ),
    );
    if (whole) checkTrailer(whole);
    const createdAt = new Date(0);
    const shared = { generation: GENERATION, sizeBytes: data.byteLength, createdAt };
    const segment: SegmentInfo = { ...shared, key: segmentAt, index: SEGMENT.index, offset: SEGMENT.start };
    const snapshot: SnapshotInfo = { ...shared, key: snapshotAt, index: SNAPSHOT.index };
    await store.put(segmentAt, data);
    await store.put(snapshotAt, data);
    for (const [kind, read] of [
      ['segment', () => readSegmentTrailer(store, segment, {})],
      ['snapshot', () => readSnapshotTrailer(store, snapshot, {})],
    ] as const) {
      const tail = await refusableLater<ObjectTrailer | undefined>(CODES, read);
      if (tail) checkTrailer(tail);
      // An origin of a later version is left out, and a damaged frame may stand before a tail that is whole.
      if (isWhole && tail) assert.deepEqual(tail, whole);
      if (
        isWhole &&
        whole?.kind === kind &&
        whole.index === (kind === 'segment' ? SEGMENT : SNAPSHOT).index
      ) {
        const isThis =
          whole.generation === GENERATION && (whole.kind === 'snapshot' || whole.start === SEGMENT.start);
        if (isThis) assert(tail, `the trailer of a whole ${kind} is not found at its end`);
      }
    }
  },
};
