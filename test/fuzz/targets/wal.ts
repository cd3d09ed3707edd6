/** WAL: what is applied of it is proven by its checksums, and nothing else is. */

import assert from 'node:assert/strict';
import type { SegmentInfo } from '../../../src/engine/catalog.ts';
import type { PageSink } from '../../../src/engine/page-writer.ts';
import { WalApplier } from '../../../src/engine/restore-wal.ts';
import { parseDatabaseHeader } from '../../../src/sqlite/database-header.ts';
import { parseWalIndexHeader } from '../../../src/sqlite/wal-index.ts';
import {
  checksumBefore,
  encodeFrame,
  encodeWalHeader,
  parseWalHeader,
  verifyFrames,
} from '../../../src/sqlite/wal.ts';
import type { Random } from '../random.ts';
import { type FuzzTarget, checkNatural, inPieces, refusable, refusableLater } from '../target.ts';

const PAGE_SIZE = 512;
const FRAME_SIZE = 24 + PAGE_SIZE;
const HEADER_SIZE = 32;
const CODES = ['corrupt', 'gap'] as const;

type Sums = readonly [number, number];

/** The checksum of SQLite's, word by word. */
function sumsOf(data: Buffer, start: number, end: number, big: boolean, [s0, s1]: Sums): Sums {
  let [a, b] = [BigInt(s0), BigInt(s1)];
  const word = (at: number): bigint => BigInt(big ? data.readUInt32BE(at) : data.readUInt32LE(at));
  for (let at = start; at + 8 <= end; at += 8) {
    a = BigInt.asUintN(32, a + word(at) + b);
    b = BigInt.asUintN(32, b + word(at + 4) + a);
  }
  return [Number(a), Number(b)];
}

function sumsAt(data: Buffer, at: number): Sums {
  return [data.readUInt32BE(at), data.readUInt32BE(at + 4)];
}

const same = (a: Sums, b: Sums): boolean => a[0] === b[0] && a[1] === b[1];

/** Header and frames get the checksums that belong to them, and most frames the salts; one of them may be left as it is. */
function repair(input: Uint8Array, random: Random): Uint8Array {
  const data = Buffer.from(input);
  if (data.byteLength < HEADER_SIZE) return data;
  if (!random.oneIn(8)) data.writeUInt32BE(random.oneIn(2) ? 0x377f0682 : 0x377f0683, 0);
  if (!random.oneIn(8)) data.writeUInt32BE(3007000, 4);
  if (!random.oneIn(8)) data.writeUInt32BE(PAGE_SIZE, 8);
  const big = data[3] === 0x83;
  let sums = sumsOf(data, 0, 24, big, [0, 0]);
  const put = (at: number): void => {
    data.writeUInt32BE(sums[0], at);
    data.writeUInt32BE(sums[1], at + 4);
  };
  put(24);
  const last = random.oneIn(3) ? random.below(12) : Infinity;
  for (let at = HEADER_SIZE, n = 0; at + FRAME_SIZE <= data.byteLength && n < last; at += FRAME_SIZE, n++) {
    if (!random.oneIn(32)) data.copy(data, at + 8, 16, 24);
    sums = sumsOf(data, at, at + 8, big, sums);
    sums = sumsOf(data, at + 24, at + FRAME_SIZE, big, sums);
    if (!random.oneIn(32)) put(at + 16);
  }
  return data;
}

interface Page {
  readonly number: number;
  readonly image: Buffer;
}

/** Pages of the committed frames that the checksums prove, and where the first frame stands that they do not. */
function proven(data: Buffer): { pages: Page[]; committedEnd: number; validEnd: number; pageCount: number } {
  const big = data[3] === 0x83;
  let sums = sumsAt(data, 24);
  const [pages, pending]: [Page[], Page[]] = [[], []];
  let [at, committedEnd, pageCount] = [HEADER_SIZE, HEADER_SIZE, 0];
  for (; at + FRAME_SIZE <= data.byteLength; at += FRAME_SIZE) {
    const [number, commit] = sumsAt(data, at);
    if (number === 0 || !data.subarray(at + 8, at + 16).equals(data.subarray(16, 24))) break;
    sums = sumsOf(data, at + 24, at + FRAME_SIZE, big, sumsOf(data, at, at + 8, big, sums));
    if (!same(sums, sumsAt(data, at + 16))) break;
    pending.push({ number, image: data.subarray(at + 24, at + FRAME_SIZE) });
    if (commit === 0) continue;
    pages.push(...pending.splice(0));
    [committedEnd, pageCount] = [at + FRAME_SIZE, commit];
  }
  return { pages, committedEnd, validEnd: at, pageCount };
}

/** Where segments begin: told by the sequence number of the header, which means nothing. */
function cutsOf(data: Buffer): number[] {
  if (data.byteLength < HEADER_SIZE) return [0];
  const sequence = data.readUInt32BE(12);
  const cuts = [0];
  for (const step of [sequence & 3, (sequence >> 2) & 3]) {
    const next = Math.max(cuts.at(-1) ?? 0, HEADER_SIZE) + step * FRAME_SIZE;
    if (step > 0 && next < data.byteLength) cuts.push(next);
  }
  return cuts;
}

async function checkApplied(data: Buffer): Promise<void> {
  const put: Page[] = [];
  let cut: number | undefined;
  const sink: PageSink = {
    pageSizeBytes: PAGE_SIZE,
    full: false,
    put: (number, bytes, at) => put.push({ number, image: Buffer.from(bytes.subarray(at, at + PAGE_SIZE)) }),
    cut: (pageCount) => (cut = pageCount),
    flush: () => Promise.resolve(),
  };
  const applier = new WalApplier(sink, undefined);
  const cuts = cutsOf(data);
  // Segments may repeat what the one before has.
  const overlap = (data[15] ?? 0) & 0x40 ? FRAME_SIZE : 0;
  const applied = await refusableLater(CODES, async () => {
    for (const [i, start] of cuts.entries()) {
      const end = Math.min(data.byteLength, (cuts[i + 1] ?? Infinity) + overlap);
      const segment: SegmentInfo = {
        ...{ key: 'k', generation: '0123456789abcdef', index: 0, sizeBytes: end - start },
        ...{ offset: start, createdAt: new Date(0) },
      };
      await applier.applySegment(segment, inPieces(data.subarray(start, end)));
    }
    return applier.closeIndex('0123456789abcdef', 0);
  });
  if (data.byteLength < HEADER_SIZE) {
    assert.equal(applied, undefined);
    return;
  }
  const { pages, committedEnd, validEnd, pageCount } = proven(data);
  assert.deepEqual(put, pages.slice(0, put.length));
  if (!applied) return;
  assert.equal(put.length, pages.length);
  assert.equal(validEnd, data.byteLength);
  assert.equal(applied.offset, committedEnd);
  assert.equal(cut, pageCount === 0 ? undefined : pageCount);
}

function checkVerified(data: Buffer): void {
  const wal = refusable(CODES, () => parseWalHeader(data));
  if (!wal) return;
  assert.deepEqual(Buffer.from(encodeWalHeader(wal)), data.subarray(0, HEADER_SIZE));
  if (wal.pageSizeBytes !== PAGE_SIZE) return;
  // Also where words are not aligned.
  const frames = data.subarray(HEADER_SIZE);
  const run = verifyFrames(wal, frames, wal.checksum);
  assert.deepEqual(verifyFrames(wal, Buffer.concat([Buffer.of(0), frames]).subarray(1), wal.checksum), run);
  const { committedEnd, validEnd, pageCount } = proven(data);
  assert.equal(run.validBytes, validEnd - HEADER_SIZE);
  assert.equal(run.committedBytes, committedEnd - HEADER_SIZE);
  assert.equal(run.commitPageCount, pageCount);
  for (let at = run.validBytes - FRAME_SIZE; at >= 0; at -= FRAME_SIZE) {
    const before: Sums = at === 0 ? wal.checksum : sumsAt(frames, at - FRAME_SIZE + 16);
    assert.deepEqual(checksumBefore(wal, frames, at), before);
  }
}

function seeds(): Uint8Array[] {
  return [false, true].flatMap((bigEndianChecksum) =>
    [0, 5, 0x45].map((sequence) => {
      const head = encodeWalHeader({
        bigEndianChecksum,
        pageSizeBytes: PAGE_SIZE,
        sequence,
        salt1: 7,
        salt2: 8,
      });
      const wal = parseWalHeader(head);
      let { checksum } = wal;
      const frames = [0, 2, 0, 3, 3, 0].map((commitPageCount, i) => {
        const frame = encodeFrame(
          wal,
          { pageNumber: i + 1, commitPageCount },
          Buffer.alloc(PAGE_SIZE, i),
          checksum,
        );
        checksum = sumsAt(Buffer.from(frame), 16);
        return frame;
      });
      return Buffer.concat([head, ...frames.slice(0, sequence === 0 ? 5 : 6)]);
    }),
  );
}

export const target: FuzzTarget = {
  name: 'wal',
  seeds,
  maxBytes: HEADER_SIZE + 10 * FRAME_SIZE + 7,
  repair,
  async run(input) {
    // Aligned in memory or not, by the length.
    const data = Buffer.from(input);
    refusable(CODES, () => {
      const { pageSizeBytes, reservedBytes } = parseDatabaseHeader(data);
      checkNatural(pageSizeBytes - reservedBytes, 'the usable size', 65536);
    });
    const index = parseWalIndexHeader(data);
    if (index) checkNatural(index.mxFrame, 'mxFrame', 0xffff_ffff);
    checkVerified(data);
    await checkApplied(data);
  },
};
