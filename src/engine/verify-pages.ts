/**
 * Databases in short, to compare them: digests of their pages. That of a live database is made while a snapshot hold
 * keeps its file still: by the engine itself, which has the file open anyway, since POSIX locks would be lost if anybody
 * else in this process opened and closed it.
 */

import { createHash } from 'node:crypto';
import { WAL_FRAME_HEADER_SIZE, WAL_HEADER_SIZE, readFrameHeader, walFrameSize } from '../sqlite/wal.ts';
import { readRange } from './replica-segment.ts';
import type { SegmentSource, SnapshotHold } from './segment-source.ts';

/** Content is read in blocks of this size: a multiple of every page size. */
export const BLOCK_SIZE: number = 1 << 20;
/** Bytes of a digest that are kept: nothing here is an attack, and memory is bounded. */
const DIGEST_SIZE = 8;
/** So many digests at most are kept, of several pages each when there are more pages: 32 MiB. */
const DIGEST_LIMIT = 4 << 20;

export interface PageDigests {
  readonly sizeBytes: number;
  /** How many pages have one digest together. */
  readonly pagesEach: number;
  readonly digests: Uint8Array;
}

/** Pages, numbered from 1, both included. */
export interface PageRange {
  readonly first: number;
  readonly last: number;
}

/** How many pages have one digest together in a database of `pageCount`: a power of two, a block at most. */
export function pagesPerDigest(
  pageCount: number,
  pageSizeBytes: number,
  limit: number = DIGEST_LIMIT,
): number {
  const most = BLOCK_SIZE / pageSizeBytes;
  let count = 1;
  while (count < most && pageCount / count > limit) count *= 2;
  return count;
}

/** The digests of a database's content. @param pagesEach see pagesPerDigest() */
export async function digestPages(
  content: AsyncIterable<Uint8Array>,
  pageSizeBytes: number,
  pagesEach: number,
): Promise<PageDigests> {
  const unit = pageSizeBytes * pagesEach;
  let digests = new Uint8Array(DIGEST_SIZE * 1024);
  let count = 0;
  let sizeBytes = 0;
  for await (const block of inBlocks(content)) {
    sizeBytes += block.byteLength;
    for (let at = 0; at < block.byteLength; at += unit) {
      if ((count + 1) * DIGEST_SIZE > digests.byteLength) digests = grown(digests);
      const digest = createHash('sha256')
        .update(block.subarray(at, at + unit))
        .digest();
      digests.set(digest.subarray(0, DIGEST_SIZE), count++ * DIGEST_SIZE);
    }
  }
  return { sizeBytes, pagesEach, digests: digests.subarray(0, count * DIGEST_SIZE) };
}

function grown(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const larger = new Uint8Array(data.byteLength * 2);
  larger.set(data);
  return larger;
}

/** Where two databases of one size differ: the first `limit` places. Both have as many pages for each digest. */
export function differingPages(
  a: PageDigests,
  b: PageDigests,
  { pageSizeBytes, limit }: { readonly pageSizeBytes: number; readonly limit: number },
): PageRange[] {
  const { pagesEach, sizeBytes } = a;
  const pageCount = sizeBytes / pageSizeBytes;
  const found: PageRange[] = [];
  for (let at = 0; at < a.digests.byteLength && found.length < limit; at += DIGEST_SIZE) {
    if (
      Buffer.compare(a.digests.subarray(at, at + DIGEST_SIZE), b.digests.subarray(at, at + DIGEST_SIZE)) === 0
    )
      continue;
    const first = (at / DIGEST_SIZE) * pagesEach + 1;
    found.push({ first, last: Math.min(first + pagesEach - 1, pageCount) });
  }
  return found;
}

/** The same bytes in blocks of BLOCK_SIZE; the last may be shorter. A block is valid until the next is asked for. */
async function* inBlocks(content: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const block = new Uint8Array(BLOCK_SIZE);
  let used = 0;
  for await (const chunk of content) {
    for (let at = 0; at < chunk.byteLength;) {
      const count = Math.min(BLOCK_SIZE - used, chunk.byteLength - at);
      block.set(chunk.subarray(at, at + count), used);
      used += count;
      at += count;
      if (used === BLOCK_SIZE) {
        yield block;
        used = 0;
      }
    }
  }
  if (used > 0) yield block.subarray(0, used);
}

/** The pages of the WAL that a held database file does not have yet. */
interface Overlay {
  /** Where the latest image of a page begins in the WAL, by page number from 1. */
  readonly offsets: ReadonlyMap<number, number>;
  /** Size of the database in pages. */
  readonly pageCount: number;
}

/** The digests of the live database at the hold's position: its file under the page images of the WAL up to there. */
export async function digestLivePages(
  source: SegmentSource,
  hold: SnapshotHold,
  signal: AbortSignal,
): Promise<PageDigests> {
  const { pageSizeBytes } = source;
  const overlay = await readOverlay(source, hold);
  const pagesEach = pagesPerDigest(overlay.pageCount, pageSizeBytes);
  return digestPages(livePages(source, hold, overlay, signal), pageSizeBytes, pagesEach);
}

async function* livePages(
  source: SegmentSource,
  hold: SnapshotHold,
  { offsets, pageCount }: Overlay,
  signal: AbortSignal,
): AsyncGenerator<Uint8Array> {
  const { pageSizeBytes } = source;
  const { generation, index } = hold.position;
  const sizeBytes = pageCount * pageSizeBytes;
  let at = 0;
  for await (const block of inBlocks(fileOfSize(hold.read({ signal }), sizeBytes))) {
    for (let start = 0; start < block.byteLength; start += pageSizeBytes) {
      const offset = offsets.get((at + start) / pageSizeBytes + 1);
      if (offset === undefined) continue;
      const end = offset + pageSizeBytes;
      block.set(await readRange(source, { generation, index, start: offset, end }), start);
    }
    yield block;
    at += block.byteLength;
  }
}

/** Content cut to a size, or filled up with zeros: pages that the file does not have yet stand in the WAL. */
async function* fileOfSize(
  content: AsyncIterable<Uint8Array>,
  sizeBytes: number,
): AsyncGenerator<Uint8Array> {
  let left = sizeBytes;
  for await (const chunk of content) {
    yield chunk.byteLength <= left ? chunk : chunk.subarray(0, left);
    left -= Math.min(left, chunk.byteLength);
    if (left === 0) return;
  }
  const zeros = new Uint8Array(Math.min(left, BLOCK_SIZE));
  for (; left > 0; left -= Math.min(left, BLOCK_SIZE)) yield zeros.subarray(0, Math.min(left, BLOCK_SIZE));
}

async function readOverlay(source: SegmentSource, hold: SnapshotHold): Promise<Overlay> {
  const { generation, index, offset: walEnd } = hold.position;
  const frameSize = walFrameSize(source.pageSizeBytes);
  const step = Math.max(1, Math.floor(BLOCK_SIZE / frameSize)) * frameSize;
  const offsets = new Map<number, number>();
  let pageCount = hold.sizeBytes / source.pageSizeBytes;
  for (let start = WAL_HEADER_SIZE; start < walEnd; start += step) {
    const range = { generation, index, start, end: Math.min(walEnd, start + step) };
    const data = await readRange(source, range);
    for (let at = 0; at < data.byteLength; at += frameSize) {
      const frame = readFrameHeader(data, at);
      offsets.set(frame.pageNumber, start + at + WAL_FRAME_HEADER_SIZE);
      if (frame.commitPageCount > 0) pageCount = frame.commitPageCount;
    }
  }
  return { offsets, pageCount };
}
