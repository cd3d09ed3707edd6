/**
 * LZ4 frames, the container of every snapshot and segment. What we write has v0.3.13's header: independent blocks
 * of up to 4 MiB and a content checksum. What we read is any single frame with independent blocks (docs/format.md).
 */

import { type LitestreamError, assert } from '../base/errors.ts';
import { Lz4BlockDecoder } from './lz4-block.ts';
import { type BlockCompressor, LZ4_BLOCK_SIZE, compressBlock, openCompressor } from './lz4-compressor.ts';
import { Lz4Thread, type ThreadBlock } from './lz4-thread.ts';
import {
  type Lz4Block,
  type Lz4Step,
  corruptFrame,
  foreignFrame,
  parseLz4Frames,
} from './lz4-frame-parser.ts';
import { Xxh32, xxh32 } from './xxh32.ts';

export { LZ4_BLOCK_SIZE };

/** Content bytes of the largest block that a frame may have. */
const MAX_BLOCK_SIZE = 4 << 20;
/** Magic, flags (version 1, independent blocks, content checksum), 4 MiB blocks, header checksum: as v0.3.13. */
const FRAME_HEADER = Uint8Array.of(0x04, 0x22, 0x4d, 0x18, 0x64, 0x70, 0xb9);
/** The same flags with that of the content size, which follows them. */
const SIZED_FLAGS = Uint8Array.of(0x6c, 0x70);
const SIZED_FLAG = 0x08;
/** Bytes of an object by which announcesSize() decides. */
export const LZ4_HEAD_SIZE: number = 5;
function uint32Bytes(value: number): Buffer {
  const data = Buffer.allocUnsafe(4);
  data.writeUInt32LE(value);
  return data;
}

function frameHeader(contentSizeBytes: number | undefined): Uint8Array {
  if (contentSizeBytes === undefined) return FRAME_HEADER.slice();
  const header = Buffer.alloc(15);
  header.set(FRAME_HEADER.subarray(0, 4));
  header.set(SIZED_FLAGS, 4);
  header.writeBigUInt64LE(BigInt(contentSizeBytes), 6);
  header[14] = (xxh32(header.subarray(4, 14)) >>> 8) & 0xff;
  return header;
}

/**
 * Whether the data frame that an object begins with says how large its content is: ours do, v0.3.13's do not.
 * @param head the object's first LZ4_HEAD_SIZE bytes
 * @throws LitestreamError 'corrupt' when it does not begin with a data frame, which theirs do, too; 'encrypted'
 */
export function announcesSize(head: Uint8Array): boolean {
  const flags = head[LZ4_HEAD_SIZE - 1];
  if (flags === undefined) throw corruptFrame('is missing at the start of the object');
  const isFrame = FRAME_HEADER.subarray(0, 4).every((byte, at) => head[at] === byte);
  if (!isFrame) throw foreignFrame(Buffer.from(head).readUInt32LE(), 0);
  return (flags & SIZED_FLAG) !== 0;
}

export interface EncodeOptions {
  /** Size of the content, to be written into the header; what is encoded must have it. */
  readonly contentSizeBytes?: number | undefined;
  /** Gives what is put behind the frame, once the XXH32 of the content is known. */
  readonly trailer?: ((contentChecksum: number) => Uint8Array) | undefined;
}

/** What ends an object: end mark, checksum, trailer. */
function frameEnd(checksum: number, sizeBytes: number, options: EncodeOptions): Uint8Array {
  const { contentSizeBytes = sizeBytes, trailer } = options;
  assert(
    sizeBytes === contentSizeBytes,
    `${sizeBytes} bytes of content were announced as ${contentSizeBytes}`,
  );
  return Buffer.concat([uint32Bytes(0), uint32Bytes(checksum), trailer?.(checksum) ?? new Uint8Array(0)]);
}

/** Keeps a rejection from being reported as unhandled; whoever awaits the promise still gets it. */
function handled<T>(promise: Promise<T>): Promise<T> {
  promise.catch(() => undefined);
  return promise;
}

/**
 * Collects chunks of any size into the slots of a compressor in turns, LZ4_BLOCK_SIZE bytes each but the last: the size of
 * each is yielded when it is filled. A slot must be free again when its turn comes. Chunks are copied at once.
 */
async function* fillSlots(
  source: AsyncIterable<Uint8Array>,
  compressor: BlockCompressor,
): AsyncGenerator<number> {
  let slot = 0;
  let used = 0;
  for await (const chunk of source) {
    for (let at = 0; at < chunk.byteLength;) {
      const part = chunk.subarray(at, at + LZ4_BLOCK_SIZE - used);
      compressor.content(slot).set(part, used);
      used += part.byteLength;
      at += part.byteLength;
      if (used < LZ4_BLOCK_SIZE) continue;
      yield used;
      slot = (slot + 1) % compressor.slotCount;
      used = 0;
    }
  }
  if (used > 0) yield used;
}

/**
 * One frame of everything that `source` yields. Much content is compressed in a thread, a few blocks ahead; memory is
 * bounded whatever the length. Errors of the source are passed on. A chunk of the source need not outlive the next
 * one; the chunks that come out belong to the consumer.
 */
export async function* encodeLz4Frame(
  source: AsyncIterable<Uint8Array>,
  options: EncodeOptions = {},
): AsyncGenerator<Uint8Array> {
  const compressor = openCompressor(options.contentSizeBytes);
  const { slotCount } = compressor;
  const underWay: Promise<Uint8Array>[] = [];
  let blockCount = 0;
  let sizeBytes = 0;
  try {
    yield frameHeader(options.contentSizeBytes);
    for await (const used of fillSlots(source, compressor)) {
      sizeBytes += used;
      underWay.push(handled(compressor.compress(blockCount++ % slotCount, used)));
      const oldest = underWay.length === slotCount ? underWay.shift() : undefined;
      if (oldest) yield await oldest;
    }
    for (const block of underWay) yield await block;
    yield frameEnd(compressor.digest(sizeBytes), sizeBytes, options);
  } finally {
    await compressor.close();
  }
}

/** One frame of `data`, made at once: for small data, since nothing else runs meanwhile. */
export function encodeLz4FrameBytes(data: Uint8Array, options: EncodeOptions = {}): Uint8Array {
  const parts: Uint8Array[] = [frameHeader(options.contentSizeBytes)];
  for (let at = 0; at < data.byteLength; at += LZ4_BLOCK_SIZE) {
    parts.push(compressBlock(data.subarray(at, at + LZ4_BLOCK_SIZE)));
  }
  parts.push(frameEnd(xxh32(data), data.byteLength, options));
  return Buffer.concat(parts);
}

/** Decoders that nobody uses at the moment; two are enough for a database and its validation. */
const idleDecoders: Lz4BlockDecoder[] = [];
const MAX_IDLE_DECODERS = 2;

/** Lends a decoder, whose memory is worth keeping, until the generator or function that took it is done. */
function borrowDecoder(): Lz4BlockDecoder {
  return idleDecoders.pop() ?? new Lz4BlockDecoder(MAX_BLOCK_SIZE);
}

function returnDecoder(decoder: Lz4BlockDecoder): void {
  if (idleDecoders.length < MAX_IDLE_DECODERS) idleDecoders.push(decoder);
}

function invalidBlock({ number, at }: Lz4Block): LitestreamError {
  return corruptFrame(`has an invalid block ${number} at byte ${at}`);
}

/** The content of a block, valid until the call after the next. */
function decodeBlock(decoder: Lz4BlockDecoder, block: Lz4Block): Uint8Array {
  if (block.stored) return block.data;
  const content = decoder.decompress(block.data, block.maxSizeBytes);
  if (content === undefined) throw invalidBlock(block);
  return content;
}

/** Compares the content's size and hash with what the frame says. */
function checkContent(end: Extract<Lz4Step, { kind: 'end' }>, sizeBytes: number, hash: number): void {
  if (end.contentSizeBytes !== undefined && end.contentSizeBytes !== sizeBytes) {
    throw corruptFrame(`holds ${sizeBytes} bytes where its header says ${end.contentSizeBytes}`);
  }
  if (end.contentChecksum !== undefined && end.contentChecksum !== hash) {
    throw corruptFrame('fails its content checksum');
  }
}

/**
 * The content of the one data frame in `data`.
 * @throws LitestreamError 'corrupt' saying what is wrong and where
 */
export function decodeLz4FrameBytes(data: Uint8Array): Uint8Array {
  const parser = parseLz4Frames();
  const hash = new Xxh32();
  let sizeBytes = 0;
  const contents: Uint8Array[] = [];
  const decoder = borrowDecoder();
  try {
    let at = 0;
    let step = parser.next();
    while (step.done !== true) {
      const { value } = step;
      if (value.kind === 'need') {
        const part = data.subarray(at, at + value.byteCount);
        at += part.byteLength;
        step = parser.next(part);
        continue;
      }
      if (value.kind === 'block') {
        const content = decodeBlock(decoder, value.block).slice();
        hash.update(content);
        sizeBytes += content.byteLength;
        contents.push(content);
      } else if (value.kind === 'end') checkContent(value, sizeBytes, hash.digest());
      step = parser.next();
    }
  } finally {
    returnDecoder(decoder);
  }
  const [only] = contents;
  return contents.length === 1 && only ? only : Buffer.concat(contents);
}

/** Exact amounts of bytes out of chunks of any size. */
class ByteQueue {
  readonly #source: AsyncIterator<Uint8Array>;
  #chunk: Uint8Array = new Uint8Array(0);

  constructor(source: AsyncIterator<Uint8Array>) {
    this.#source = source;
  }

  /** The next `byteCount` bytes; fewer only where the source ends. */
  async take(byteCount: number): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    for (let missing = byteCount; missing > 0;) {
      if (this.#chunk.byteLength === 0) {
        const next = await this.#source.next();
        if (next.done === true) break;
        this.#chunk = next.value;
      }
      const part = this.#chunk.subarray(0, missing);
      this.#chunk = this.#chunk.subarray(part.byteLength);
      missing -= part.byteLength;
      parts.push(part);
    }
    const [only] = parts;
    return parts.length === 1 && only ? only : Buffer.concat(parts);
  }
}

/** A thread for decodeLz4Frame. The caller closes it. */
export function startLz4Thread(): Lz4Thread {
  return new Lz4Thread(MAX_BLOCK_SIZE);
}

export interface DecodeOptions {
  /** A chunk is only valid until the one after the next is asked for: saves a copy and the memory for it. */
  readonly transient?: boolean;
  /** Decompresses a few blocks ahead; without it blocks are decompressed here, when they are asked for. */
  readonly thread?: Lz4Thread | undefined;
  /** Told of the size of the content, if the frame announces it, before any of it is yielded. */
  readonly onSize?: ((announcedSizeBytes: number) => void) | undefined;
  /** Told at the end of the input, when all of it is known to be right. What it throws ends the iteration. */
  readonly onEnd?: ((end: Lz4End) => void) | undefined;
}

/** What stands around the content. */
export interface Lz4End {
  /** XXH32 of the content, if the frame has it. */
  readonly contentChecksum: number | undefined;
  /** Size of the content, if the frame announces it. */
  readonly announcedSizeBytes: number | undefined;
  /** The last two skippable frames after the data frame, from their magic number on; of any number. */
  readonly skippable: readonly Uint8Array[];
}

/** Skippable frames that are told: what an object says of itself, and what stands before it. */
const TOLD_FRAMES = 2;

/** Blocks that a thread has before it, at least and at most; between that, as many as have QUEUED_BYTES. */
const MIN_QUEUED = 2;
const MAX_QUEUED = 8;
const QUEUED_BYTES = 2 << 20;

/** Contents of the blocks of one frame in order, each valid until the one after the next is asked for. */
interface BlockReader {
  add(block: Lz4Block): void;
  /** The content of the oldest block that was added; undefined when there is none. */
  next(): Promise<Uint8Array | undefined>;
  /** Contents are to be asked for before another block is added. */
  readonly full: boolean;
  /** The hash of the contents that were given, when none is left; they have so many bytes. */
  digest(sizeBytes: number): number;
  close(): void;
}

/** Decompresses in the calling thread. */
class LocalReader implements BlockReader {
  readonly #decoder: Lz4BlockDecoder = borrowDecoder();
  readonly #hash = new Xxh32();
  #block: Lz4Block | undefined;

  get full(): boolean {
    return this.#block !== undefined;
  }

  add(block: Lz4Block): void {
    this.#block = block;
  }

  next(): Promise<Uint8Array | undefined> {
    const block = this.#block;
    this.#block = undefined;
    const content = block && decodeBlock(this.#decoder, block);
    if (content) this.#hash.update(content);
    return Promise.resolve(content);
  }

  digest(): number {
    return this.#hash.digest();
  }

  close(): void {
    returnDecoder(this.#decoder);
  }
}

/**
 * Decompresses and hashes in another thread. It is filled up and half emptied by turns, so that blocks go to the thread
 * several at once: waking it costs as much as a block.
 */
class ThreadReader implements BlockReader {
  full = false;
  readonly #thread: Lz4Thread;
  readonly #hash: number;
  readonly #queue: { readonly block: Lz4Block; readonly result: Promise<ThreadBlock> }[] = [];
  #queuedBytes = 0;
  /** What was given out and is still valid. */
  readonly #used: ThreadBlock[] = [];

  constructor(thread: Lz4Thread) {
    this.#thread = thread;
    this.#hash = thread.beginHash();
  }

  add(block: Lz4Block): void {
    const { data, stored, maxSizeBytes } = block;
    const result = this.#thread.decompress(data, stored, maxSizeBytes, this.#hash);
    this.#queue.push({ block, result: handled(result) });
    this.#queuedBytes += block.data.byteLength;
    const count = this.#queue.length;
    this.full = count >= MAX_QUEUED || (count > MIN_QUEUED && this.#queuedBytes >= QUEUED_BYTES);
  }

  async next(): Promise<Uint8Array | undefined> {
    this.#thread.send();
    const first = this.#queue.shift();
    if (first === undefined) return undefined;
    this.#queuedBytes -= first.block.data.byteLength;
    if (this.#queue.length <= MIN_QUEUED || this.#queuedBytes <= QUEUED_BYTES / 2) this.full = false;
    const result = await first.result;
    this.#used.push(result);
    if (this.#used.length > 2) this.#used.shift()?.release();
    if (result.content === undefined) throw invalidBlock(first.block);
    return result.content;
  }

  close(): void {
    for (const used of this.#used.splice(0)) used.release();
    // Nobody awaits what is still under way, but its memory is free only then.
    this.#thread.send();
    const underWay = this.#queue.splice(0).map(({ result }) =>
      result.then(
        (block) => block.release(),
        () => undefined,
      ),
    );
    void Promise.all(underWay).then(() => this.#thread.endHash(this.#hash));
  }

  digest(sizeBytes: number): number {
    return this.#thread.digest(this.#hash, sizeBytes);
  }
}

/**
 * The content of the one data frame that `source` yields, in order, in chunks of at most 4 MiB that belong to the
 * consumer unless they are transient. Memory is bounded whatever the length. Chunks of the source must stay as they
 * are; its errors are passed on. What was yielded is only known to be right when the iteration has ended without an
 * error.
 * @throws LitestreamError 'corrupt' saying what is wrong and where
 */
export async function* decodeLz4Frame(
  source: AsyncIterable<Uint8Array>,
  { transient = false, thread, onSize, onEnd }: DecodeOptions = {},
): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  const bytes = new ByteQueue(iterator);
  const parser = parseLz4Frames();
  const reader = thread ? new ThreadReader(thread) : new LocalReader();
  let sizeBytes = 0;
  let announcedSizeBytes: number | undefined;
  let end: Extract<Lz4Step, { kind: 'end' }> | undefined;
  const skippable: Uint8Array[] = [];
  try {
    let step = parser.next();
    while (step.done !== true) {
      const { value } = step;
      if (value.kind === 'need') {
        step = parser.next(await bytes.take(value.byteCount));
        continue;
      }
      if (value.kind === 'start' && value.contentSizeBytes !== undefined) {
        announcedSizeBytes = value.contentSizeBytes;
        onSize?.(announcedSizeBytes);
      }
      if (value.kind === 'block') reader.add(value.block);
      if (value.kind === 'skippable') skippable.push(value.frame);
      if (skippable.length > TOLD_FRAMES) skippable.shift();
      while (value.kind === 'end' || reader.full) {
        const content = await reader.next();
        if (content === undefined) break;
        sizeBytes += content.byteLength;
        if (announcedSizeBytes !== undefined && sizeBytes > announcedSizeBytes) {
          throw corruptFrame(`holds more than the ${announcedSizeBytes} bytes that its header says`);
        }
        yield transient ? content : content.slice();
      }
      if (value.kind === 'end') {
        checkContent(value, sizeBytes, reader.digest(sizeBytes));
        end = value;
      }
      step = parser.next();
    }
    onEnd?.({
      contentChecksum: end?.contentChecksum,
      announcedSizeBytes,
      skippable,
    });
  } finally {
    reader.close();
    await iterator.return?.();
  }
}
