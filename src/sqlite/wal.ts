/**
 * The write-ahead log as SQLite puts it on disk (https://www.sqlite.org/fileformat2.html, section 4, "The
 * Write-Ahead Log"): a 32-byte header, then frames of a 24-byte header and one page. All integers are big-endian
 * except inside the checksum, whose byte order the magic number tells.
 */

import { LitestreamError, assert } from '../base/errors.ts';
import { isPageSize } from './database-header.ts';

export const WAL_HEADER_SIZE = 32;
export const WAL_FRAME_HEADER_SIZE = 24;

/** Magic of a WAL whose checksums read 32-bit words little-endian (section 4.1). */
export const WAL_MAGIC_LE = 0x377f0682;
/** Magic of a WAL whose checksums read 32-bit words big-endian. */
export const WAL_MAGIC_BE = 0x377f0683;
/** The only file format version there is (section 4.1, offset 4). */
export const WAL_FORMAT_VERSION = 3007000;

/** The two words of SQLite's cumulative checksum, as unsigned 32-bit numbers. */
export type WalChecksum = readonly [s0: number, s1: number];

export interface WalHeader {
  /** Checksums read words big-endian. */
  readonly bigEndianChecksum: boolean;
  readonly pageSizeBytes: number;
  /** "Checkpoint sequence number": a counter of one connection; it may jump. */
  readonly sequence: number;
  readonly salt1: number;
  readonly salt2: number;
  /** Checksum of the header's first 24 bytes: the start of the chain of frames. */
  readonly checksum: WalChecksum;
}

export interface WalFrameHeader {
  /** From 1. */
  readonly pageNumber: number;
  /** For a commit frame the size of the database in pages after the commit; 0 for other frames. */
  readonly commitPageCount: number;
  readonly salt1: number;
  readonly salt2: number;
  readonly checksum: WalChecksum;
}

/** Bytes of one frame with its header. */
export function walFrameSize(pageSizeBytes: number): number {
  return WAL_FRAME_HEADER_SIZE + pageSizeBytes;
}

/** Frames in a WAL that ends at byte `offset` (0: none). The offset must be a frame's end. */
export function walFrameCount(offset: number, pageSizeBytes: number): number {
  if (offset === 0) return 0;
  const count = (offset - WAL_HEADER_SIZE) / walFrameSize(pageSizeBytes);
  assert(Number.isInteger(count) && count >= 0, `WAL offset ${offset} is not at the end of a frame`);
  return count;
}

/** Byte offset at which frame number `count` ends, that is where frame `count + 1` begins. */
export function walOffsetOfFrame(count: number, pageSizeBytes: number): number {
  return WAL_HEADER_SIZE + count * walFrameSize(pageSizeBytes);
}

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

/**
 * SQLite's cumulative checksum (section 4.2) over `data[start, end)`, whose length must be a multiple of 8, continued
 * from `seed`. Result as unsigned words.
 */
export function walChecksum(
  data: Uint8Array,
  start: number,
  end: number,
  bigEndian: boolean,
  seed: WalChecksum,
): WalChecksum {
  assert((end - start) % 8 === 0, 'checksummed length is not a multiple of 8');
  const address = data.byteOffset + start;
  if (address % 4 === 0 && bigEndian !== HOST_IS_LITTLE_ENDIAN) {
    return checksumWords(new Int32Array(data.buffer, address, (end - start) >> 2), seed);
  }
  return checksumView(new DataView(data.buffer, address, end - start), !bigEndian, seed);
}

/** Words in the host's order at an aligned address: an Int32Array is several times faster than a DataView. */
function checksumWords(words: Int32Array, seed: WalChecksum): WalChecksum {
  let s0 = seed[0] | 0;
  let s1 = seed[1] | 0;
  for (let i = 0; i < words.length; i += 2) {
    // The indexes are in range by the loop's bound; `| 0` keeps the sums in 32 bits.
    s0 = (s0 + (words[i] as number) + s1) | 0;
    s1 = (s1 + (words[i + 1] as number) + s0) | 0;
  }
  return [s0 >>> 0, s1 >>> 0];
}

function checksumView(view: DataView, littleEndian: boolean, seed: WalChecksum): WalChecksum {
  let s0 = seed[0] | 0;
  let s1 = seed[1] | 0;
  for (let i = 0; i < view.byteLength; i += 8) {
    s0 = (s0 + view.getInt32(i, littleEndian) + s1) | 0;
    s1 = (s1 + view.getInt32(i + 4, littleEndian) + s0) | 0;
  }
  return [s0 >>> 0, s1 >>> 0];
}

export function checksumsEqual(a: WalChecksum, b: WalChecksum): boolean {
  return a[0] === b[0] && a[1] === b[1];
}

function viewOf(data: Uint8Array): DataView {
  return new DataView(data.buffer, data.byteOffset, data.byteLength);
}

/**
 * Parses a WAL header and verifies its checksum.
 * @param data at least 32 bytes
 * @throws LitestreamError 'corrupt' when it is not a valid header
 */
export function parseWalHeader(data: Uint8Array): WalHeader {
  if (data.byteLength < WAL_HEADER_SIZE) {
    throw new LitestreamError(
      'corrupt',
      `wal header is ${data.byteLength} bytes long, not ${WAL_HEADER_SIZE}`,
    );
  }
  const view = viewOf(data);
  const magic = view.getUint32(0);
  if (magic !== WAL_MAGIC_LE && magic !== WAL_MAGIC_BE) {
    throw new LitestreamError('corrupt', `wal header has the magic number ${magic.toString(16)}`);
  }
  const version = view.getUint32(4);
  if (version !== WAL_FORMAT_VERSION)
    throw new LitestreamError('corrupt', `wal header has the version ${version}`);
  const pageSizeBytes = view.getUint32(8);
  if (!isPageSize(pageSizeBytes))
    throw new LitestreamError('corrupt', `wal header has the page size ${pageSizeBytes}`);
  const bigEndianChecksum = magic === WAL_MAGIC_BE;
  const checksum: WalChecksum = [view.getUint32(24), view.getUint32(28)];
  if (!checksumsEqual(walChecksum(data, 0, 24, bigEndianChecksum, [0, 0]), checksum)) {
    throw new LitestreamError('corrupt', 'wal header fails its checksum');
  }
  return {
    bigEndianChecksum,
    pageSizeBytes,
    sequence: view.getUint32(12),
    salt1: view.getUint32(16),
    salt2: view.getUint32(20),
    checksum,
  };
}

/** The 32 bytes of a header; its checksum is computed, `header.checksum` is not read. */
export function encodeWalHeader(header: Omit<WalHeader, 'checksum'>): Uint8Array {
  const data = new Uint8Array(WAL_HEADER_SIZE);
  const view = viewOf(data);
  view.setUint32(0, header.bigEndianChecksum ? WAL_MAGIC_BE : WAL_MAGIC_LE);
  view.setUint32(4, WAL_FORMAT_VERSION);
  view.setUint32(8, header.pageSizeBytes);
  view.setUint32(12, header.sequence);
  view.setUint32(16, header.salt1);
  view.setUint32(20, header.salt2);
  const [s0, s1] = walChecksum(data, 0, 24, header.bigEndianChecksum, [0, 0]);
  view.setUint32(24, s0);
  view.setUint32(28, s1);
  return data;
}

/** Reads the frame header at byte `at` of `data` without judging it. */
export function readFrameHeader(data: Uint8Array, at: number): WalFrameHeader {
  const view = viewOf(data);
  return {
    pageNumber: view.getUint32(at),
    commitPageCount: view.getUint32(at + 4),
    salt1: view.getUint32(at + 8),
    salt2: view.getUint32(at + 12),
    checksum: [view.getUint32(at + 16), view.getUint32(at + 20)],
  };
}

/**
 * Appends one frame to a chain: the bytes of the frame (header and page) with the right checksum.
 * @param previous the checksum of the frame before, or the header's for the first frame
 */
export function encodeFrame(
  wal: WalHeader,
  frame: Pick<WalFrameHeader, 'pageNumber' | 'commitPageCount'>,
  page: Uint8Array,
  previous: WalChecksum,
): Uint8Array {
  assert(page.byteLength === wal.pageSizeBytes, 'page has the wrong size');
  const data = new Uint8Array(walFrameSize(wal.pageSizeBytes));
  const view = viewOf(data);
  view.setUint32(0, frame.pageNumber);
  view.setUint32(4, frame.commitPageCount);
  view.setUint32(8, wal.salt1);
  view.setUint32(12, wal.salt2);
  data.set(page, WAL_FRAME_HEADER_SIZE);
  const [s0, s1] = frameChecksum(wal, data, 0, previous);
  view.setUint32(16, s0);
  view.setUint32(20, s1);
  return data;
}

/** The cumulative checksum at the frame that starts at byte `at` of `data`: over 8 bytes of its header and its page. */
export function frameChecksum(
  wal: WalHeader,
  data: Uint8Array,
  at: number,
  previous: WalChecksum,
): WalChecksum {
  const page = at + WAL_FRAME_HEADER_SIZE;
  const head = walChecksum(data, at, at + 8, wal.bigEndianChecksum, previous);
  return walChecksum(data, page, page + wal.pageSizeBytes, wal.bigEndianChecksum, head);
}

/**
 * The cumulative checksum that the frame at byte `at` of `data` continues, by the one that it carries: the sums can be
 * taken back. So a frame alone tells which chain it belongs to.
 */
export function checksumBefore(wal: WalHeader, data: Uint8Array, at: number): WalChecksum {
  const view = new DataView(data.buffer, data.byteOffset + at, walFrameSize(wal.pageSizeBytes));
  const littleEndian = !wal.bigEndianChecksum;
  let s0 = view.getInt32(16);
  let s1 = view.getInt32(20);
  const takeBack = (start: number, end: number): void => {
    for (let i = end - 8; i >= start; i -= 8) {
      s1 = (s1 - view.getInt32(i + 4, littleEndian) - s0) | 0;
      s0 = (s0 - view.getInt32(i, littleEndian) - s1) | 0;
    }
  };
  takeBack(WAL_FRAME_HEADER_SIZE, view.byteLength);
  takeBack(0, 8);
  return [s0 >>> 0, s1 >>> 0];
}

/** What a run of frames amounts to, as far as it is valid. */
export interface FrameRun {
  /** Bytes of `data` from the start up to the end of the last valid frame. */
  readonly validBytes: number;
  /** Checksum at the end of the last valid frame. */
  readonly checksum: WalChecksum;
  /** Bytes up to the end of the last valid *commit* frame; 0 when there is none. */
  readonly committedBytes: number;
  /** Checksum there; the seed when there is none. */
  readonly committedChecksum: WalChecksum;
  /** Size of the database in pages after that commit; 0 when there is none. */
  readonly commitPageCount: number;
  /** Commit frames in the valid run. */
  readonly commitCount: number;
}

/**
 * Verifies consecutive frames (salts, cumulative checksum, page number) and stops before the first that fails.
 * @param data whole frames from byte 0; a partial frame at the end is not looked at
 * @param seed the checksum of the frame before them (the header's for the first frame)
 */
export function verifyFrames(wal: WalHeader, data: Uint8Array, seed: WalChecksum): FrameRun {
  const size = walFrameSize(wal.pageSizeBytes);
  const view = viewOf(data);
  let checksum = seed;
  let committedChecksum = seed;
  let committedBytes = 0;
  let commitPageCount = 0;
  let commitCount = 0;
  let at = 0;
  for (; at + size <= data.byteLength; at += size) {
    if (view.getUint32(at) === 0) break;
    if (view.getUint32(at + 8) !== wal.salt1 || view.getUint32(at + 12) !== wal.salt2) break;
    const next = frameChecksum(wal, data, at, checksum);
    if (next[0] !== view.getUint32(at + 16) || next[1] !== view.getUint32(at + 20)) break;
    checksum = next;
    const pages = view.getUint32(at + 4);
    if (pages === 0) continue;
    committedChecksum = checksum;
    committedBytes = at + size;
    commitPageCount = pages;
    commitCount++;
  }
  return { validBytes: at, checksum, committedBytes, committedChecksum, commitPageCount, commitCount };
}
