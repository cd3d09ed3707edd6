/**
 * A worker thread that decompresses LZ4 blocks and hashes their contents, for whoever has gigabytes of them: the caller
 * uses one content while the thread works on the next ones. Both work in the same memory: contents are not copied.
 */

import { assert } from '../base/errors.ts';
import { BlockThread } from './block-thread.ts';
import { type BlockMemory, SLACK, createMemory, growTo } from './lz4-block.ts';
import { XXH32_LANES, finishXxh32 } from './xxh32.ts';

/** Text of what the thread does with a Request. @returns the length of the content, -1 when the block is invalid */
const WORK = `([state, start, end, source, sourceEnd]) => {
    const length = source === undefined ? end - start : decompress(source, sourceEnd, start, end);
    if (length > 0) hash(state, start, start + length);
    return length;
  }`;

/** Positions in the memory: where the content goes, and the compressed block; a stored block is its content already. */
type Request = [hashState: number, start: number, end: number, source?: number, sourceEnd?: number];

/** The beginning of the memory holds the states of hashes: lanes, a stripe that is not whole, its length. */
const HASH_AREA_SIZE = 64 << 10;
const HASH_STATE_SIZE = 48;

/** Content in the thread's memory. */
export interface ThreadBlock {
  /** Valid until release(); undefined when the block is invalid or exceeds the limit. */
  readonly content: Uint8Array | undefined;
  /** Gives the memory back; to be called once. */
  readonly release: () => void;
}

export class Lz4Thread {
  readonly #stride: number;
  readonly #memory: BlockMemory = createMemory();
  readonly #thread: BlockThread;
  /** Slots are pieces of the memory, each for one compressed block and its content. */
  readonly #freeSlots: number[] = [];
  #slotCount = 0;
  readonly #freeHashStates: number[] = [];
  #hashStateCount = 0;

  /** @param maxSizeBytes of a block, compressed or not */
  constructor(maxSizeBytes: number) {
    this.#stride = maxSizeBytes + SLACK;
    this.#thread = new BlockThread('decompression', WORK, this.#memory);
  }

  /** Begins the hash of a frame's content. @returns the hash, for the other methods until it is given to endHash() */
  beginHash(): number {
    const hash = this.#freeHashStates.pop() ?? this.#hashStateCount++ * HASH_STATE_SIZE;
    assert(hash + HASH_STATE_SIZE <= HASH_AREA_SIZE, 'too many frames are decoded at once');
    const state = new Int32Array(this.#memory.buffer, hash, HASH_STATE_SIZE / 4);
    state.fill(0);
    state.set(XXH32_LANES);
    return hash;
  }

  /** The XXH32 of the contents so far, none of which may be under way. @param sizeBytes of all of them */
  digest(hash: number, sizeBytes: number): number {
    const { buffer } = this.#memory;
    const [restLength = 0] = new Int32Array(buffer, hash + 32, 1);
    return finishXxh32(
      new Int32Array(buffer, hash, 4),
      new Uint8Array(buffer, hash + 16, restLength),
      sizeBytes,
    );
  }

  /** Gives the hash's memory back. None of its blocks may be under way. */
  endHash(hash: number): void {
    this.#freeHashStates.push(hash);
  }

  /**
   * Decompresses a block after the next send() and adds its content to a hash. Any number may be under way, each with
   * memory of its own until it is released.
   * @param block is copied at once
   * @param stored the block is its content
   * @param limit the content has at most this many bytes; not more than maxSizeBytes
   * @throws LitestreamError 'io' when the thread fails
   */
  async decompress(block: Uint8Array, stored: boolean, limit: number, hash: number): Promise<ThreadBlock> {
    const slot = this.#freeSlots.pop() ?? this.#addSlot();
    const source = HASH_AREA_SIZE + slot * 2 * this.#stride;
    const destination = source + this.#stride;
    const memory = new Uint8Array(this.#memory.buffer);
    memory.set(block, stored ? destination : source);
    const request: Request = stored
      ? [hash, destination, destination + block.byteLength]
      : [hash, destination, destination + limit, source, source + block.byteLength];
    const length = await this.#thread.request(request);
    return {
      content: length < 0 ? undefined : memory.subarray(destination, destination + length),
      release: () => this.#freeSlots.push(slot),
    };
  }

  /** Sends the blocks that came since the last time, in one message: each one wakes the thread. */
  send(): void {
    this.#thread.send();
  }

  /** Ends the thread. Blocks that are under way fail. Keeps the process alive until then. */
  close(): Promise<void> {
    return this.#thread.close();
  }

  #addSlot(): number {
    const slot = this.#slotCount++;
    growTo(this.#memory, HASH_AREA_SIZE + this.#slotCount * 2 * this.#stride);
    return slot;
  }
}
