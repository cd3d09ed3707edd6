/** The smallest object that is a snapshot by all that it says of itself. */

import { encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { encodeTrailer } from '../../src/format/object-trailer.ts';

const PAGE_SIZE = 512;

/** A snapshot of one page, from before anything was in the WAL of its index. */
export function snapshotObject(generation: string, index: number): Uint8Array {
  return encodeLz4FrameBytes(Buffer.alloc(PAGE_SIZE), {
    contentSizeBytes: PAGE_SIZE,
    trailer: (contentChecksum) =>
      encodeTrailer({
        kind: 'snapshot',
        generation,
        index,
        offset: 0,
        checksum: [0, 0],
        timeMs: 0,
        pageSizeBytes: PAGE_SIZE,
        sizeBytes: PAGE_SIZE,
        contentChecksum,
      }),
  });
}
