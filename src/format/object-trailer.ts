/**
 * What an object of a replica says of itself: one LZ4 skippable frame behind its data frame, which v0.3.13 ignores. It
 * ends with a footer of fixed size, so that the end of the object is enough to find it (docs/format.md, "Trailers").
 */

import { LitestreamError, assert } from '../base/errors.ts';
import { isPageSize } from '../sqlite/database-header.ts';
import { MAX_TIME_MS, type Origin, decodeOrigin, encodeOrigin, readNatural } from './origin-frame.ts';
import { xxh32 } from './xxh32.ts';

/** The running checksum of a WAL: big-endian words as they stand in a frame header. */
export type ChecksumWords = readonly [number, number];

/** Everything up to `offset` of a WAL was committed, and seen to be, at `timeMs` (epoch milliseconds). */
export interface CommitTime {
  readonly offset: number;
  readonly timeMs: number;
}

/** Where the chain stands at the end of a commit. */
export interface ChainEnd {
  readonly index: number;
  readonly offset: number;
  readonly checksum: ChecksumWords;
}

export interface SegmentTrailer {
  readonly kind: 'segment';
  readonly generation: string;
  readonly pageSizeBytes: number;
  readonly index: number;
  /** The segment holds bytes [start, end) of its WAL. */
  readonly start: number;
  readonly end: number;
  /** At `end`. */
  readonly checksum: ChecksumWords;
  /** End of the segment before this one in the replica; undefined for the first of the generation. */
  readonly previous: ChainEnd | undefined;
  /**
   * Offsets ascend and times do not descend. A commit has the time of the first entry whose offset is not less than its
   * own. The last offset is `end`; never empty.
   */
  readonly commits: readonly CommitTime[];
  /** Which generations this one follows: of its first segment, where that is known. */
  readonly origin?: Origin | undefined;
}

export interface SnapshotTrailer {
  readonly kind: 'snapshot';
  readonly generation: string;
  readonly pageSizeBytes: number;
  /** The snapshot needs the WAL of its index at least up to `offset`, and holds nothing from beyond. */
  readonly index: number;
  /** 0: nothing was in that WAL yet. */
  readonly offset: number;
  /** At `offset`; zeros when that is 0. */
  readonly checksum: ChecksumWords;
  /** The state at the position was the database's at this time: epoch milliseconds. */
  readonly timeMs: number;
  /** Size of the database file as it stands in the snapshot. */
  readonly sizeBytes: number;
  /** XXH32 of that file. */
  readonly contentChecksum: number;
  /** Which generations this one follows; undefined where that is not known. */
  readonly origin?: Origin | undefined;
}

export type ObjectTrailer = SegmentTrailer | SnapshotTrailer;

/** Magic number of the skippable frame; a reader knows the trailer by its footer. */
const FRAME_MAGIC = 0x184d2a5c;
const FRAME_HEADER_SIZE = 8;
const VERSION = 1;
const KINDS = { segment: 1, snapshot: 2 } as const;
const HAS_PREVIOUS = 1;
/** An origin stands before the trailer. */
const HAS_ORIGIN = 2;
const SEGMENT_FIXED_SIZE = 76;
const SNAPSHOT_SIZE = 56;
const WAL_HEADER_SIZE = 32;
const WAL_FRAME_HEADER_SIZE = 24;

/** Last bytes of an object with a trailer. */
const FOOTER_MAGIC = Buffer.from('LTSTRAIL', 'latin1');
/** XXH32 of the frame up to here, size of the whole frame, magic. */
export const TRAILER_FOOTER_SIZE = 16;
/** More than 64 MiB of the smallest frames, each committed at a time of its own, need. */
export const MAX_TRAILER_SIZE: number = 4 << 20;

function corrupt(what: string): LitestreamError {
  return new LitestreamError('corrupt', `trailer ${what}`);
}

/** The skippable frame with its footer, to be put behind the data frame; the one of the origin comes before it. */
export function encodeTrailer(trailer: ObjectTrailer): Uint8Array {
  const frame = encodeFrame(trailer);
  return trailer.origin ? Buffer.concat([encodeOrigin(trailer.origin), frame]) : frame;
}

function encodeFrame(trailer: ObjectTrailer): Uint8Array {
  const content = trailer.kind === 'segment' ? segmentContent(trailer) : snapshotContent(trailer);
  const sizeBytes = FRAME_HEADER_SIZE + content.byteLength + TRAILER_FOOTER_SIZE;
  assert(sizeBytes <= MAX_TRAILER_SIZE, `a trailer of ${sizeBytes} bytes is too large`);
  const frame = Buffer.alloc(sizeBytes);
  frame.writeUInt32LE(FRAME_MAGIC, 0);
  frame.writeUInt32LE(sizeBytes - FRAME_HEADER_SIZE, 4);
  frame.set(content, FRAME_HEADER_SIZE);
  const footer = sizeBytes - TRAILER_FOOTER_SIZE;
  frame.writeUInt32LE(xxh32(frame.subarray(0, footer)), footer);
  frame.writeUInt32LE(sizeBytes, footer + 4);
  frame.set(FOOTER_MAGIC, footer + 8);
  return frame;
}

/**
 * Size of the trailer that `data`, the end of an object, ends with; undefined when it ends with none. The trailer may be
 * larger than `data`.
 * @throws LitestreamError 'corrupt' when the size cannot be one
 */
export function trailerSize(data: Uint8Array): number | undefined {
  const end = bufferOf(data);
  const at = end.byteLength - FOOTER_MAGIC.byteLength;
  if (at < 4 || !end.subarray(at).equals(FOOTER_MAGIC)) return undefined;
  const sizeBytes = end.readUInt32LE(at - 4);
  if (sizeBytes < FRAME_HEADER_SIZE + TRAILER_FOOTER_SIZE || sizeBytes > MAX_TRAILER_SIZE) {
    throw corrupt(`says it has ${sizeBytes} bytes`);
  }
  return sizeBytes;
}

/**
 * Decodes a trailer and verifies it in full.
 * @param frame exactly the skippable frame
 * @param origin exactly the frame of the origin, which stands before it when announcesOrigin() says so
 * @throws LitestreamError 'corrupt'; 'unsupported' for a version that is not known
 */
export function decodeTrailer(frame: Uint8Array, origin?: Uint8Array): ObjectTrailer {
  const trailer = decodeFrame(frame);
  if (announcesOrigin(frame) !== (origin !== undefined)) throw corrupt('and origin do not belong together');
  return origin ? { ...trailer, origin: decodeOrigin(origin) } : trailer;
}

/** Whether an origin stands before a trailer. @param frame exactly the skippable frame */
export function announcesOrigin(frame: Uint8Array): boolean {
  return ((frame[FRAME_HEADER_SIZE + 2] ?? 0) & HAS_ORIGIN) !== 0;
}

function decodeFrame(frame: Uint8Array): ObjectTrailer {
  const data = bufferOf(frame);
  if (data.byteLength < FRAME_HEADER_SIZE + TRAILER_FOOTER_SIZE) throw corrupt('is too short');
  const footer = data.byteLength - TRAILER_FOOTER_SIZE;
  const whole =
    data.readUInt32LE(0) === FRAME_MAGIC &&
    data.readUInt32LE(4) === data.byteLength - FRAME_HEADER_SIZE &&
    data.readUInt32LE(footer + 4) === data.byteLength &&
    data.subarray(footer + 8).equals(FOOTER_MAGIC);
  if (!whole) throw corrupt('has a damaged header or footer');
  if (data.readUInt32LE(footer) !== xxh32(data.subarray(0, footer))) throw corrupt('fails its checksum');
  const content = data.subarray(FRAME_HEADER_SIZE, footer);
  const [version, kind] = content;
  if (version !== VERSION) {
    throw new LitestreamError(
      'unsupported',
      `trailer has version ${version}: a newer litestream wrote it, use that`,
    );
  }
  if (kind === KINDS.segment && content.byteLength > SEGMENT_FIXED_SIZE) return decodeSegment(content);
  if (kind === KINDS.snapshot && content.byteLength === SNAPSHOT_SIZE) return decodeSnapshot(content);
  throw corrupt(`has the unknown kind ${kind} or a wrong size`);
}

function bufferOf(data: Uint8Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}

/** The first 20 bytes, which both kinds have. */
function writeHead(data: Buffer, trailer: ObjectTrailer, flags: number): void {
  data[0] = VERSION;
  data[1] = KINDS[trailer.kind];
  data[2] = flags | (trailer.origin ? HAS_ORIGIN : 0);
  data.writeUInt32LE(trailer.pageSizeBytes, 4);
  data.write(trailer.generation, 8, 'hex');
  data.writeUInt32LE(trailer.index, 16);
}

function readHead(data: Buffer): Pick<ObjectTrailer, 'pageSizeBytes' | 'generation' | 'index'> {
  const pageSizeBytes = data.readUInt32LE(4);
  if (!isPageSize(pageSizeBytes)) throw corrupt(`has pages of ${pageSizeBytes} bytes`);
  return {
    pageSizeBytes,
    generation: data.toString('hex', 8, 16),
    index: data.readUInt32LE(16),
  };
}

function writeUint64(data: Buffer, value: number, at: number): void {
  data.writeBigUInt64LE(BigInt(value), at);
}

function readUint64(data: Buffer, at: number): number {
  return readNatural(data, at, corrupt);
}

/** @throws LitestreamError 'corrupt' for what no Date can hold */
function checkTime(timeMs: number): number {
  if (timeMs <= MAX_TIME_MS) return timeMs;
  throw corrupt(`has a time ${timeMs} ms after 1970`);
}

function readTime(data: Buffer, at: number): number {
  return checkTime(Number(data.readBigUInt64LE(at)));
}

function writeWords(data: Buffer, [first, second]: ChecksumWords, at: number): void {
  data.writeUInt32BE(first, at);
  data.writeUInt32BE(second, at + 4);
}

function readWords(data: Buffer, at: number): ChecksumWords {
  return [data.readUInt32BE(at), data.readUInt32BE(at + 4)];
}

function snapshotContent(trailer: SnapshotTrailer): Buffer {
  const data = Buffer.alloc(SNAPSHOT_SIZE);
  writeHead(data, trailer, 0);
  writeUint64(data, trailer.offset, 20);
  writeWords(data, trailer.checksum, 28);
  writeUint64(data, trailer.timeMs, 36);
  writeUint64(data, trailer.sizeBytes, 44);
  data.writeUInt32LE(trailer.contentChecksum, 52);
  return data;
}

function decodeSnapshot(data: Buffer): SnapshotTrailer {
  return {
    kind: 'snapshot',
    ...readHead(data),
    offset: readUint64(data, 20),
    checksum: readWords(data, 28),
    timeMs: readTime(data, 36),
    sizeBytes: readUint64(data, 44),
    contentChecksum: data.readUInt32LE(52),
  };
}

function segmentContent(trailer: SegmentTrailer): Buffer {
  const { start, end, previous, commits } = trailer;
  const [first] = commits;
  assert(first !== undefined && commits.at(-1)?.offset === end, 'the last commit ends the segment');
  const fixed = Buffer.alloc(SEGMENT_FIXED_SIZE);
  writeHead(fixed, trailer, previous ? HAS_PREVIOUS : 0);
  writeUint64(fixed, start, 20);
  writeUint64(fixed, end, 28);
  writeWords(fixed, trailer.checksum, 36);
  fixed.writeUInt32LE(previous?.index ?? 0, 44);
  writeUint64(fixed, previous?.offset ?? 0, 48);
  writeWords(fixed, previous?.checksum ?? [0, 0], 56);
  writeUint64(fixed, first.timeMs, 64);
  fixed.writeUInt32LE(commits.length, 72);
  const frameSize = WAL_FRAME_HEADER_SIZE + trailer.pageSizeBytes;
  let offset = Math.max(start, WAL_HEADER_SIZE);
  let { timeMs } = first;
  const entries: number[] = [];
  for (const commit of commits) {
    const frames = (commit.offset - offset) / frameSize;
    assert(Number.isInteger(frames) && frames > 0, `${commit.offset} is not the end of a later frame`);
    assert(commit.timeMs >= timeMs, 'times of commits do not decrease');
    pushVarint(entries, frames);
    pushVarint(entries, commit.timeMs - timeMs);
    ({ offset, timeMs } = commit);
  }
  return Buffer.concat([fixed, Uint8Array.from(entries)]);
}

function decodeSegment(data: Buffer): SegmentTrailer {
  const head = readHead(data);
  const start = readUint64(data, 20);
  const end = readUint64(data, 28);
  const frameSize = WAL_FRAME_HEADER_SIZE + head.pageSizeBytes;
  const commits: CommitTime[] = [];
  let offset = Math.max(start, WAL_HEADER_SIZE);
  let timeMs = readTime(data, 64);
  const cursor = { at: SEGMENT_FIXED_SIZE };
  for (let count = data.readUInt32LE(72); count > 0; count--) {
    const frames = readVarint(data, cursor);
    if (frames === 0) throw corrupt('has a commit without a frame');
    offset += frames * frameSize;
    timeMs += readVarint(data, cursor);
    commits.push({ offset, timeMs: checkTime(timeMs) });
  }
  if (cursor.at !== data.byteLength || commits.length === 0 || offset !== end) {
    throw corrupt('has commits that do not end where the segment does');
  }
  const previous =
    ((data[2] ?? 0) & HAS_PREVIOUS) === 0
      ? undefined
      : { index: data.readUInt32LE(44), offset: readUint64(data, 48), checksum: readWords(data, 56) };
  return { kind: 'segment', ...head, start, end, checksum: readWords(data, 36), previous, commits };
}

/** LEB128: seven bits a byte, the lowest first, the highest bit set in all bytes but the last. */
function pushVarint(data: number[], value: number): void {
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) data.push((rest % 0x80) | 0x80);
  data.push(rest);
}

function readVarint(data: Buffer, cursor: { at: number }): number {
  let value = 0;
  for (let scale = 1; scale < 2 ** 53; scale *= 0x80) {
    const byte = data[cursor.at++];
    if (byte === undefined) break;
    value += (byte & 0x7f) * scale;
    if (byte < 0x80) return value;
  }
  throw corrupt('has a number without an end');
}
