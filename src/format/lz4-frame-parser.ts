/**
 * The structure of an LZ4 frame (https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md), without compression
 * and without I/O: a parser that asks for bytes and tells blocks, so that it serves buffers and streams alike.
 */

import { LitestreamError } from '../base/errors.ts';
import { xxh32 } from './xxh32.ts';

const FRAME_MAGIC = 0x184d2204;
/** `age-`, with which an object begins that is encrypted. */
const AGE_MAGIC = 0x2d656761;
/** Skippable frames have the magic numbers 184d2a50 to 184d2a5f. */
const SKIPPABLE_MAGIC = 0x184d2a50;
/** In a block's size field: the block is stored, not compressed. */
export const STORED_FLAG = 0x8000_0000;

const FLAG_VERSION = 0xc0;
const VERSION_1 = 0x40;
const FLAG_INDEPENDENT = 0x20;
const FLAG_BLOCK_CHECKSUM = 0x10;
const FLAG_CONTENT_SIZE = 0x08;
const FLAG_CONTENT_CHECKSUM = 0x04;
const FLAG_RESERVED = 0x02;
const FLAG_DICTIONARY = 0x01;
/** Block maximum sizes by the code in bits 4 to 6 of the BD byte; the codes below 4 are reserved. */
const BLOCK_MAX_SIZES = [undefined, undefined, undefined, undefined, 64 << 10, 256 << 10, 1 << 20, 4 << 20];

/** A block as it stands in the frame. */
export interface Lz4Block {
  /** Number of the block in its frame, from 0. */
  readonly number: number;
  /** Where its data begin, in bytes from the start of the input. */
  readonly at: number;
  readonly stored: boolean;
  readonly data: Uint8Array;
  /** Decompressed it has at most this many bytes. */
  readonly maxSizeBytes: number;
}

export type Lz4Step =
  /** Resume with the next `byteCount` bytes of the input; with fewer only where the input ends. */
  | { readonly kind: 'need'; readonly byteCount: number }
  | { readonly kind: 'block'; readonly block: Lz4Block }
  /** The header of the data frame, with the size of the content if it announces one. */
  | { readonly kind: 'start'; readonly contentSizeBytes: number | undefined }
  /** All blocks were told. What the frame says of its content; the reader of the blocks compares. */
  | {
      readonly kind: 'end';
      readonly contentChecksum: number | undefined;
      readonly contentSizeBytes: number | undefined;
    }
  /** A skippable frame after the data frame, from its magic number on; not told when it is very large. */
  | { readonly kind: 'skippable'; readonly frame: Uint8Array };

/** Steps of the parser. Resume a 'need' with its bytes, the others with nothing. */
export type Lz4Parser = Generator<Lz4Step, void, Uint8Array | undefined>;

export function corruptFrame(what: string): LitestreamError {
  return new LitestreamError('corrupt', `lz4 frame ${what}`);
}

/** What stands where an LZ4 frame should begin is none. */
export function foreignFrame(magic: number, at: number): LitestreamError {
  if (magic === AGE_MAGIC && at === 0) {
    return new LitestreamError(
      'encrypted',
      "the object is encrypted with age: set age.identities of its replica in the config file, to one of its recipients' secret keys",
    );
  }
  return corruptFrame(`has the magic number ${magic.toString(16)} at byte ${at}`);
}

function uint32(data: Uint8Array, at = 0): number {
  return new DataView(data.buffer, data.byteOffset, data.byteLength).getUint32(at, true);
}

/** Position in the input, for messages. */
interface Cursor {
  at: number;
}

/** The next `byteCount` bytes, all of them. */
function* take(
  cursor: Cursor,
  byteCount: number,
  what: string,
): Generator<Lz4Step, Uint8Array, Uint8Array | undefined> {
  const data = yield { kind: 'need', byteCount };
  if (data?.byteLength !== byteCount) {
    const end = cursor.at + (data?.byteLength ?? 0);
    throw corruptFrame(`is cut short: it ends at byte ${end}, inside ${what}`);
  }
  cursor.at += byteCount;
  return data;
}

/**
 * Parses an object that holds exactly one data frame, with any number of skippable frames before and after it.
 * Everything but the content's size and checksum is verified here.
 * @throws LitestreamError 'corrupt' or, for linked blocks and dictionaries, 'unsupported'
 */
export function* parseLz4Frames(): Lz4Parser {
  const cursor: Cursor = { at: 0 };
  let found = false;
  for (;;) {
    const start = cursor.at;
    const magic = yield { kind: 'need', byteCount: 4 };
    if (magic === undefined || magic.byteLength === 0) break;
    if (magic.byteLength < 4)
      throw corruptFrame(`is followed by ${magic.byteLength} stray bytes at byte ${start}`);
    cursor.at += 4;
    const value = uint32(magic);
    if ((value & ~0xf) === SKIPPABLE_MAGIC) {
      yield* skipFrame(cursor, found ? magic : undefined);
    } else if (found) {
      throw corruptFrame(`is followed by other data at byte ${start}: an object holds one data frame`);
    } else if (value === FRAME_MAGIC) {
      found = true;
      yield* parseFrame(cursor);
    } else {
      throw foreignFrame(value, start);
    }
  }
  if (!found)
    throw corruptFrame(cursor.at === 0 ? 'is empty' : 'is missing: there are only skippable frames');
}

/** Bytes of a skippable frame that are asked for at once: its size is not to be trusted with memory. */
const SKIP_STEP = 64 << 10;
/** Larger skippable frames are not told. */
const MAX_TOLD_SIZE = 4 << 20;

/** @param magic of the frame if it is to be told */
function* skipFrame(cursor: Cursor, magic: Uint8Array | undefined): Lz4Parser {
  const sizeField = yield* take(cursor, 4, 'the size of a skippable frame');
  let left = uint32(sizeField);
  const parts = magic && left <= MAX_TOLD_SIZE ? [Buffer.from(magic), Buffer.from(sizeField)] : undefined;
  while (left > 0) {
    const step = Math.min(left, SKIP_STEP);
    const data = yield* take(cursor, step, 'a skippable frame');
    parts?.push(Buffer.from(data));
    left -= step;
  }
  if (parts) yield { kind: 'skippable', frame: Buffer.concat(parts) };
}

interface FrameHeader {
  readonly maxSizeBytes: number;
  readonly blockChecksum: boolean;
  readonly contentChecksum: boolean;
  readonly contentSizeBytes: number | undefined;
}

function* parseHeader(cursor: Cursor): Generator<Lz4Step, FrameHeader, Uint8Array | undefined> {
  const [flags = 0, descriptor = 0] = yield* take(cursor, 2, 'the frame header');
  if ((flags & FLAG_VERSION) !== VERSION_1) throw corruptFrame(`has the unknown version ${flags >> 6}`);
  const size = (flags & FLAG_CONTENT_SIZE) === 0 ? 0 : 8;
  const dictionary = (flags & FLAG_DICTIONARY) === 0 ? 0 : 4;
  const rest = yield* take(cursor, size + dictionary + 1, 'the frame header');
  const checked = Uint8Array.of(flags, descriptor, ...rest.subarray(0, -1));
  if (((xxh32(checked) >>> 8) & 0xff) !== rest[rest.byteLength - 1]) {
    throw corruptFrame('fails its header checksum');
  }
  const maxSizeBytes = BLOCK_MAX_SIZES[(descriptor >> 4) & 7];
  if ((flags & FLAG_RESERVED) !== 0 || (descriptor & 0x8f) !== 0 || maxSizeBytes === undefined) {
    throw corruptFrame('has reserved bits set in its header');
  }
  if (dictionary > 0) throw new LitestreamError('unsupported', 'lz4 frame needs a dictionary');
  if ((flags & FLAG_INDEPENDENT) === 0) {
    throw new LitestreamError('unsupported', 'lz4 frame has linked blocks: compress with independent blocks');
  }
  return {
    maxSizeBytes,
    blockChecksum: (flags & FLAG_BLOCK_CHECKSUM) !== 0,
    contentChecksum: (flags & FLAG_CONTENT_CHECKSUM) !== 0,
    contentSizeBytes: size === 0 ? undefined : uint32(rest) + uint32(rest, 4) * 2 ** 32,
  };
}

function* parseFrame(cursor: Cursor): Lz4Parser {
  const { maxSizeBytes, blockChecksum, contentChecksum, contentSizeBytes } = yield* parseHeader(cursor);
  yield { kind: 'start', contentSizeBytes };
  for (let number = 0; ; number++) {
    const field = uint32(yield* take(cursor, 4, `the size of block ${number}`));
    if (field === 0) break;
    const stored = field >= STORED_FLAG;
    const sizeBytes = stored ? field - STORED_FLAG : field;
    const at = cursor.at;
    // A compressed block that is not smaller than its content would have been stored.
    if (sizeBytes === 0 || sizeBytes > maxSizeBytes) {
      throw corruptFrame(`has a block of ${sizeBytes} bytes at byte ${at}`);
    }
    const data = yield* take(cursor, sizeBytes, `block ${number}`);
    if (blockChecksum) {
      const checksum = uint32(yield* take(cursor, 4, `the checksum of block ${number}`));
      if (checksum !== xxh32(data)) throw corruptFrame(`fails the checksum of block ${number} at byte ${at}`);
    }
    yield { kind: 'block', block: { number, at, stored, data, maxSizeBytes } };
  }
  const checksum = contentChecksum ? uint32(yield* take(cursor, 4, 'the content checksum')) : undefined;
  yield { kind: 'end', contentChecksum: checksum, contentSizeBytes };
}
