/**
 * A worker thread that decompresses LZ4 blocks and hashes their contents, for whoever has gigabytes of them: the caller
 * uses one content while the thread works on the next ones. Both work in the same memory: contents are not copied.
 */

import { Worker } from 'node:worker_threads';
import { LitestreamError, assert } from '../base/errors.ts';
import { type BlockMemory, SLACK, compiledModule, createMemory, growTo } from './lz4-block.ts';
import { XXH32_LANES, finishXxh32 } from './xxh32.ts';

/** All that the thread does. As text, since a file of its own would need a place that compiler and bundler agree on. */
const THREAD = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { module, memory } = workerData;
  const { decompress, hash } = new WebAssembly.Instance(module, { env: { memory } }).exports;
  const work = ([state, start, end, source, sourceEnd]) => {
    const length = source === undefined ? end - start : decompress(source, sourceEnd, start, end);
    if (length > 0) hash(state, start, start + length);
    return length;
  };
  parentPort.on('message', (requests) => parentPort.postMessage(requests.map(work)));
`;

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

interface Waiter {
  readonly resolve: (length: number) => void;
  readonly reject: (error: LitestreamError) => void;
}

export class Lz4Thread {
  readonly #stride: number;
  readonly #memory: BlockMemory = createMemory();
  readonly #worker: Worker;
  /** Who waits for an answer: answers come in the order of the requests. */
  readonly #waiters: Waiter[] = [];
  /** Slots are pieces of the memory, each for one compressed block and its content. */
  readonly #freeSlots: number[] = [];
  #slotCount = 0;
  readonly #freeHashStates: number[] = [];
  #hashStateCount = 0;
  #unsent: Request[] = [];
  #failure: LitestreamError | undefined;

  /** @param maxSizeBytes of a block, compressed or not */
  constructor(maxSizeBytes: number) {
    this.#stride = maxSizeBytes + SLACK;
    this.#worker = new Worker(THREAD, {
      eval: true,
      workerData: { module: compiledModule(), memory: this.#memory },
    });
    this.#worker.unref();
    this.#worker.on('message', (lengths: number[]) => {
      for (const length of lengths) this.#waiters.shift()?.resolve(length);
      if (this.#waiters.length === 0) this.#worker.unref();
    });
    this.#worker.on('error', (error) => this.#fail(error.message));
    this.#worker.on('exit', () => this.#fail('it has ended'));
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
    if (this.#failure) throw this.#failure;
    const slot = this.#freeSlots.pop() ?? this.#addSlot();
    const source = HASH_AREA_SIZE + slot * 2 * this.#stride;
    const destination = source + this.#stride;
    const memory = new Uint8Array(this.#memory.buffer);
    memory.set(block, stored ? destination : source);
    const request: Request = stored
      ? [hash, destination, destination + block.byteLength]
      : [hash, destination, destination + limit, source, source + block.byteLength];
    const length = await new Promise<number>((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#unsent.push(request);
    });
    return {
      content: length < 0 ? undefined : memory.subarray(destination, destination + length),
      release: () => this.#freeSlots.push(slot),
    };
  }

  /** Sends the blocks that came since the last time, in one message: each one wakes the thread. */
  send(): void {
    if (this.#unsent.length === 0) return;
    this.#worker.ref();
    this.#worker.postMessage(this.#unsent);
    this.#unsent = [];
  }

  /** Ends the thread. Blocks that are under way fail. */
  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #addSlot(): number {
    const slot = this.#slotCount++;
    growTo(this.#memory, HASH_AREA_SIZE + this.#slotCount * 2 * this.#stride);
    return slot;
  }

  #fail(reason: string): void {
    this.#failure ??= new LitestreamError('io', `decompression thread: ${reason}`);
    for (const { reject } of this.#waiters.splice(0)) reject(this.#failure);
  }
}
