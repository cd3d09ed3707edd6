/**
 * Makes the blocks of a frame: in the calling thread, or, when there is much to do, in a thread of its own, so that the
 * caller can fetch what comes next and its event loop is free.
 */

import { BlockThread } from './block-thread.ts';
import {
  type BlockMemory,
  COMPRESS_SOURCE,
  COMPRESS_TABLE_SIZE,
  Lz4BlockEncoder,
  SLACK,
  compressBound,
  createMemory,
  growTo,
} from './lz4-block.ts';
import { STORED_FLAG } from './lz4-frame-parser.ts';
import { XXH32_LANES, Xxh32, finishXxh32 } from './xxh32.ts';

/** Content bytes of each block but the last in the frames that we write. */
export const LZ4_BLOCK_SIZE: number = 512 << 10;
/** From this size of the content on, a thread is worth its start. */
const THREAD_MIN_SIZE = 32 << 20;
/** Each has memory of its own; frames beyond make their blocks in the calling thread. */
const MAX_THREADS = 2;

/** Makes the blocks of one frame, and the hash of their contents. Blocks are made in the order of the calls. */
export interface BlockCompressor {
  /** So many blocks may be under way at once; a block with number n uses slot n modulo this. */
  readonly slotCount: number;
  /** Where the content of the next block in that slot is to be put: LZ4_BLOCK_SIZE bytes. */
  content(slot: number): Uint8Array;
  /**
   * The block as it stands in a frame: size field and data, stored when compression gains nothing. It belongs to the
   * caller. The slot is free when it is there.
   */
  compress(slot: number, sizeBytes: number): Promise<Uint8Array>;
  /** XXH32 of all contents, none of which may be under way; they have `sizeBytes` together. */
  digest(sizeBytes: number): number;
  close(): Promise<void>;
}

/** Size field and data: of the compressed block, or of the content when that is not larger. */
function frameBlock(content: Uint8Array, compressed: Uint8Array): Buffer {
  const stored = compressed.byteLength >= content.byteLength;
  const data = stored ? content : compressed;
  const block = Buffer.allocUnsafe(4 + data.byteLength);
  block.writeUInt32LE(stored ? (STORED_FLAG | data.byteLength) >>> 0 : data.byteLength);
  block.set(data, 4);
  return block;
}

let encoder: Lz4BlockEncoder | undefined;

/** The block as it stands in a frame, made at once. @param content of at most LZ4_BLOCK_SIZE */
export function compressBlock(content: Uint8Array): Uint8Array {
  encoder ??= new Lz4BlockEncoder(LZ4_BLOCK_SIZE);
  return frameBlock(content, encoder.compress(content));
}

/** Compresses in the calling thread. */
class LocalCompressor implements BlockCompressor {
  readonly slotCount = 1;
  readonly #content = Buffer.allocUnsafeSlow(LZ4_BLOCK_SIZE);
  readonly #hash = new Xxh32();

  content(): Uint8Array {
    return this.#content;
  }

  compress(_slot: number, sizeBytes: number): Promise<Uint8Array> {
    const content = this.#content.subarray(0, sizeBytes);
    this.#hash.update(content);
    return Promise.resolve(compressBlock(content));
  }

  digest(): number {
    return this.#hash.digest();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** The memory of a thread: table, state of the hash, and from COMPRESS_SOURCE on the slots, each content and block. */
const HASH_STATE = COMPRESS_TABLE_SIZE;
const BLOCK_AT = LZ4_BLOCK_SIZE + SLACK;
const SLOT_SIZE = BLOCK_AT + compressBound(LZ4_BLOCK_SIZE) + SLACK;

/** Text of what the thread does. @returns the length of the compressed block */
const WORK = `([source, end, destination]) => {
    hash(${HASH_STATE.toFixed()}, source, end);
    return compress(source, end, destination, 0);
  }`;

let threadCount = 0;

/** Compresses and hashes in another thread. */
class ThreadCompressor implements BlockCompressor {
  /** One is filled, one compressed, one waits for that. */
  readonly slotCount = 3;
  readonly #memory: BlockMemory = createMemory();
  readonly #thread: BlockThread;

  constructor() {
    growTo(this.#memory, COMPRESS_SOURCE + this.slotCount * SLOT_SIZE);
    new Int32Array(this.#memory.buffer, HASH_STATE).set(XXH32_LANES);
    this.#thread = new BlockThread('compression', WORK, this.#memory);
    threadCount++;
  }

  #view(at: number, sizeBytes: number): Uint8Array {
    return new Uint8Array(this.#memory.buffer, at, sizeBytes);
  }

  content(slot: number): Uint8Array {
    return this.#view(COMPRESS_SOURCE + slot * SLOT_SIZE, LZ4_BLOCK_SIZE);
  }

  async compress(slot: number, sizeBytes: number): Promise<Uint8Array> {
    const source = COMPRESS_SOURCE + slot * SLOT_SIZE;
    const length = this.#thread.request([source, source + sizeBytes, source + BLOCK_AT]);
    this.#thread.send();
    return frameBlock(this.#view(source, sizeBytes), this.#view(source + BLOCK_AT, await length));
  }

  digest(sizeBytes: number): number {
    const { buffer } = this.#memory;
    const [restLength = 0] = new Int32Array(buffer, HASH_STATE + 32, 1);
    return finishXxh32(
      new Int32Array(buffer, HASH_STATE, 4),
      this.#view(HASH_STATE + 16, restLength),
      sizeBytes,
    );
  }

  async close(): Promise<void> {
    await this.#thread.close();
    threadCount--;
  }
}

/** A compressor for one frame. The caller closes it. @param contentSizeBytes of the frame, as far as it is known */
export function openCompressor(contentSizeBytes = 0): BlockCompressor {
  const threaded = contentSizeBytes >= THREAD_MIN_SIZE && threadCount < MAX_THREADS;
  return threaded ? new ThreadCompressor() : new LocalCompressor();
}
