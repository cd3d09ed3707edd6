/**
 * Which generations one follows: an LZ4 skippable frame of its own before the trailer of its snapshots and of its first
 * segment (docs/format.md, "Origins"). Programs that do not know it ignore it, v0.3.13 among them.
 */

import { LitestreamError, assert } from '../base/errors.ts';
import type { ChainEnd } from './object-trailer.ts';
import { xxh32 } from './xxh32.ts';

/** What came before a generation. */
export interface Origin {
  /**
   * The generations before it, the nearest first: more than one, as the nearest may never have been stored, or be
   * deleted by now. 1 to MAX_GENERATIONS.
   */
  readonly generations: readonly string[];
  /** Where the nearest one stood when this one began, and the time of that commit (epoch milliseconds); undefined: not known. */
  readonly end: (ChainEnd & { readonly timeMs: number }) | undefined;
}

/** So many names are kept. */
export const MAX_GENERATIONS: number = 32;
/** What a Date can hold. */
export const MAX_TIME_MS: number = 8.64e15;

/** Not the trailer's, though any skippable frame would do: a reader knows it by its footer. */
const FRAME_MAGIC = 0x184d2a5d;
const FRAME_HEADER_SIZE = 8;
const VERSION = 1;
const HAS_END = 1;
const FIXED_SIZE = 32;
const NAME_SIZE = 8;
const FOOTER_MAGIC = Buffer.from('LTORIGIN', 'latin1');
const FOOTER_SIZE = 16;
/** With room for what later versions may add. */
export const MAX_ORIGIN_SIZE: number = 1 << 10;

function corrupt(what: string): LitestreamError {
  return new LitestreamError('corrupt', `origin ${what}`);
}

/**
 * The 64-bit number at byte `at`.
 * @param fail makes the error for one beyond 2^53, which arithmetic does not keep exact: no size or offset is so large
 */
export function readNatural(data: Buffer, at: number, fail: (what: string) => LitestreamError): number {
  const value = data.readBigUInt64LE(at);
  if (value > Number.MAX_SAFE_INTEGER) throw fail(`has the number ${value}, larger than any size`);
  return Number(value);
}

/** The frame, to be put between the data frame and a trailer that announces it. */
export function encodeOrigin({ generations, end }: Origin): Uint8Array {
  assert(
    generations.length > 0 && generations.length <= MAX_GENERATIONS,
    'an origin has names, and not many',
  );
  const sizeBytes = FRAME_HEADER_SIZE + FIXED_SIZE + generations.length * NAME_SIZE + FOOTER_SIZE;
  const frame = Buffer.alloc(sizeBytes);
  frame.writeUInt32LE(FRAME_MAGIC, 0);
  frame.writeUInt32LE(sizeBytes - FRAME_HEADER_SIZE, 4);
  const content = frame.subarray(FRAME_HEADER_SIZE);
  content[0] = VERSION;
  content[1] = end ? HAS_END : 0;
  content.writeUInt16LE(generations.length, 2);
  if (end) {
    content.writeUInt32LE(end.index, 4);
    content.writeBigUInt64LE(BigInt(end.offset), 8);
    content.writeUInt32BE(end.checksum[0], 16);
    content.writeUInt32BE(end.checksum[1], 20);
    content.writeBigUInt64LE(BigInt(end.timeMs), 24);
  }
  for (const [i, name] of generations.entries()) content.write(name, FIXED_SIZE + i * NAME_SIZE, 'hex');
  const footer = sizeBytes - FOOTER_SIZE;
  frame.writeUInt32LE(xxh32(frame.subarray(0, footer)), footer);
  frame.writeUInt32LE(sizeBytes, footer + 4);
  frame.set(FOOTER_MAGIC, footer + 8);
  return frame;
}

/**
 * Size of the origin that `data` ends with; undefined when it ends with none. It may be larger than `data`.
 * @throws LitestreamError 'corrupt' when the size cannot be one
 */
export function originSize(data: Uint8Array): number | undefined {
  const end = bufferOf(data);
  const at = end.byteLength - FOOTER_MAGIC.byteLength;
  if (at < 4 || !end.subarray(at).equals(FOOTER_MAGIC)) return undefined;
  const sizeBytes = end.readUInt32LE(at - 4);
  if (sizeBytes < FRAME_HEADER_SIZE + FIXED_SIZE + NAME_SIZE + FOOTER_SIZE || sizeBytes > MAX_ORIGIN_SIZE) {
    throw corrupt(`says it has ${sizeBytes} bytes`);
  }
  return sizeBytes;
}

/**
 * Decodes an origin and verifies it in full. What a later version adds behind the names is left out.
 * @param frame exactly the skippable frame
 * @returns undefined for a version that is not known: without it the times of the store tell the order
 * @throws LitestreamError 'corrupt'
 */
export function decodeOrigin(frame: Uint8Array): Origin | undefined {
  const data = bufferOf(frame);
  const footer = data.byteLength - FOOTER_SIZE;
  const isWhole =
    originSize(data) === data.byteLength &&
    data.readUInt32LE(0) === FRAME_MAGIC &&
    data.readUInt32LE(4) === data.byteLength - FRAME_HEADER_SIZE;
  if (!isWhole) throw corrupt('has a damaged header or footer');
  if (data.readUInt32LE(footer) !== xxh32(data.subarray(0, footer))) throw corrupt('fails its checksum');
  const content = data.subarray(FRAME_HEADER_SIZE, footer);
  if (content[0] !== VERSION) return undefined;
  const count = content.readUInt16LE(2);
  if (count === 0 || FIXED_SIZE + count * NAME_SIZE > content.byteLength) throw corrupt('has a wrong size');
  const generations = Array.from({ length: Math.min(count, MAX_GENERATIONS) }, (_, i) =>
    content.toString('hex', FIXED_SIZE + i * NAME_SIZE, FIXED_SIZE + (i + 1) * NAME_SIZE),
  );
  if (((content[1] ?? 0) & HAS_END) === 0) return { generations, end: undefined };
  const end = {
    index: content.readUInt32LE(4),
    offset: readNatural(content, 8, corrupt),
    checksum: [content.readUInt32BE(16), content.readUInt32BE(20)] as const,
    timeMs: Number(content.readBigUInt64LE(24)),
  };
  if (end.timeMs > MAX_TIME_MS) throw corrupt(`has a time ${end.timeMs} ms after 1970`);
  return { generations, end };
}

function bufferOf(data: Uint8Array): Buffer {
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
