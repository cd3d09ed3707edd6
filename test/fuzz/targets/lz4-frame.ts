/** LZ4 frames: whole, streamed, in a thread, and by lz4-napi. */

import assert from 'node:assert/strict';
import { compressFrameSync, decompressFrameSync } from 'lz4-napi';
import {
  announcesSize,
  decodeLz4Frame,
  decodeLz4FrameBytes,
  encodeLz4FrameBytes,
  startLz4Thread,
} from '../../../src/format/lz4-frame.ts';
import { repairFrame } from '../lz4-parts.ts';
import {
  type FuzzTarget,
  checkNatural,
  checkSame,
  collected,
  inPieces,
  refusable,
  refusableLater,
} from '../target.ts';

const CODES = ['corrupt', 'unsupported', 'encrypted'] as const;
/** No byte of a block stands for more than this. */
const MOST_FOR_ONE = 256;

let thread: ReturnType<typeof startLz4Thread> | undefined;

/** Undefined: refused. Which of several faults is met first is not told. */
type Outcome = Buffer | undefined;

async function outcomeOf(work: () => Promise<Uint8Array> | Uint8Array): Promise<Outcome> {
  const content = await refusableLater(CODES, async () => await work());
  return content && Buffer.from(content);
}

/** By its first bytes alone. */
function announced(data: Uint8Array): boolean | undefined {
  return refusable(CODES, () => announcesSize(data.subarray(0, 5)));
}

async function checkStreamed(data: Uint8Array, whole: Outcome, threaded: boolean): Promise<void> {
  let announcedSizeBytes: number | undefined;
  const streamed = await outcomeOf(async () => {
    const content = await collected(
      decodeLz4Frame(inPieces(data), {
        thread: threaded ? (thread ??= startLz4Thread()) : undefined,
        onEnd: (end) => {
          announcedSizeBytes = end.announcedSizeBytes;
          assert(end.skippable.length <= 2);
        },
      }),
    );
    if (announcedSizeBytes !== undefined) checkNatural(announcedSizeBytes, 'the announced size');
    return content;
  });
  checkSame(streamed, whole);
  if (!streamed) return;
  const isSized = announced(data);
  // What begins with a skippable frame is no object of ours.
  if (isSized !== undefined) assert.equal(isSized, announcedSizeBytes !== undefined);
}

export const target: FuzzTarget = {
  name: 'lz4-frame',
  seeds: () => {
    const contents = [
      Buffer.alloc(0),
      Buffer.from('abc'),
      Buffer.alloc(3000, 'SQLite'),
      Uint8Array.from(Array(300).keys()),
    ];
    const skippable = Buffer.from('5c2a4d1803000000616263', 'hex');
    const ours = contents.flatMap((content) => [
      encodeLz4FrameBytes(content),
      encodeLz4FrameBytes(content, { contentSizeBytes: content.byteLength, trailer: () => skippable }),
    ]);
    const options = { blockSize: 4, blockMode: 1, contentChecksum: true } as object;
    return [
      ...ours,
      ...contents.map((content) => compressFrameSync(Buffer.from(content), options)),
      Buffer.concat([skippable, encodeLz4FrameBytes(Buffer.from('abc')), skippable, skippable, skippable]),
      // Two stored blocks with checksums.
      repairFrame(
        Buffer.from(
          '04224d187c40000000000000000000030000806162630000000002000080646500000000000000000000000',
          'hex',
        ),
      ),
    ];
  },
  repair: repairFrame,
  async run(data) {
    const content = await outcomeOf(() => decodeLz4FrameBytes(data));
    await checkStreamed(data, content, false);
    if ((data.byteLength & 15) === 0) await checkStreamed(data, content, true);
    if (!content) return;
    assert(
      content.byteLength <= MOST_FOR_ONE * data.byteLength,
      `${content.byteLength} of ${data.byteLength}`,
    );
    checkSame(decodeLz4FrameBytes(encodeLz4FrameBytes(content)), content);
    let theirs: Buffer | undefined;
    try {
      theirs = decompressFrameSync(Buffer.from(data));
    } catch {
      // It knows fewer kinds of frames.
    }
    // It stops at the first frame, whatever kind that is.
    if (theirs && announced(data) !== undefined) checkSame(theirs, content);
  },
  close: () => thread?.close(),
};
