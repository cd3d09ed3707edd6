/**
 * A worker thread that decompresses LZ4 blocks, for whoever has gigabytes of them: the caller checks and writes one
 * block while the thread decompresses the next ones. Both work in the same memory: nothing is copied between them.
 */

import { Worker } from 'node:worker_threads';
import { LitestreamError } from '../base/errors.ts';
import { type BlockMemory, SLACK, compiledModule, createMemory, growTo } from './lz4-block.ts';

/** All that the thread does. As text, since a file of its own would need a place that compiler and bundler agree on. */
const THREAD = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { module, memory } = workerData;
  const { decompress } = new WebAssembly.Instance(module, { env: { memory } }).exports;
  parentPort.on('message', (positions) => parentPort.postMessage(decompress(...positions)));
`;

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
  #failure: LitestreamError | undefined;

  /** @param maxSizeBytes of a block, compressed or not */
  constructor(maxSizeBytes: number) {
    this.#stride = maxSizeBytes + SLACK;
    this.#worker = new Worker(THREAD, {
      eval: true,
      workerData: { module: compiledModule(), memory: this.#memory },
    });
    this.#worker.unref();
    this.#worker.on('message', (length: number) => this.#waiters.shift()?.resolve(length));
    this.#worker.on('error', (error) => this.#fail(error.message));
    this.#worker.on('exit', () => this.#fail('it has ended'));
  }

  /**
   * Decompresses a block; any number may be under way, each with memory of its own until it is released.
   * @param block is copied at once
   * @param limit the content has at most this many bytes; not more than maxSizeBytes
   * @throws LitestreamError 'io' when the thread fails
   */
  async decompress(block: Uint8Array, limit: number): Promise<ThreadBlock> {
    if (this.#failure) throw this.#failure;
    const slot = this.#freeSlots.pop() ?? this.#addSlot();
    const source = slot * 2 * this.#stride;
    const destination = source + this.#stride;
    const memory = new Uint8Array(this.#memory.buffer);
    memory.set(block, source);
    const length = await new Promise<number>((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#worker.ref();
      this.#worker.postMessage([source, source + block.byteLength, destination, destination + limit]);
    });
    if (this.#waiters.length === 0) this.#worker.unref();
    return {
      content: length < 0 ? undefined : memory.subarray(destination, destination + length),
      release: () => this.#freeSlots.push(slot),
    };
  }

  /** Ends the thread. Blocks that are under way fail. */
  async close(): Promise<void> {
    await this.#worker.terminate();
  }

  #addSlot(): number {
    const slot = this.#slotCount++;
    growTo(this.#memory, this.#slotCount * 2 * this.#stride);
    return slot;
  }

  #fail(reason: string): void {
    this.#failure ??= new LitestreamError('io', `decompression thread: ${reason}`);
    for (const { reject } of this.#waiters.splice(0)) reject(this.#failure);
  }
}
