/**
 * A worker thread that does sums on blocks in memory which it shares with its caller, so that contents are not copied
 * and the caller's event loop is free meanwhile.
 */

import { Worker } from 'node:worker_threads';
import { LitestreamError } from '../base/errors.ts';
import { type BlockMemory, compiledModule } from './lz4-block.ts';

/**
 * All that the thread does; `work` comes from the caller. As text, since a file of its own would need a place that
 * compiler and bundler agree on.
 */
const thread = (work: string): string => `
  const { parentPort, workerData } = require('node:worker_threads');
  const { module, memory } = workerData;
  const { compress, decompress, hash } = new WebAssembly.Instance(module, { env: { memory } }).exports;
  const work = ${work};
  parentPort.on('message', ([size, requests]) => {
    // Grown while this thread was starting, the memory may keep its old size here for good (seen in one of 1,600 starts):
    // copies in what was added are out of bounds then. To grow it by nothing brings the size up to date.
    if (memory.buffer.byteLength < size) memory.grow(0);
    parentPort.postMessage(requests.map(work));
  });
`;

/** Positions in the memory; those that are left out are undefined. */
export type BlockRequest = readonly (number | undefined)[];

interface Waiter {
  readonly resolve: (length: number) => void;
  readonly reject: (error: LitestreamError) => void;
}

export class BlockThread {
  readonly #name: string;
  readonly #memory: BlockMemory;
  readonly #worker: Worker;
  /** Who waits for an answer: answers come in the order of the requests. */
  readonly #waiters: Waiter[] = [];
  #unsent: BlockRequest[] = [];
  #failure: LitestreamError | undefined;
  #closing = false;

  /**
   * @param name for messages
   * @param work text of a function of a request that gives a number; it has what lz4-block.wat exports
   */
  constructor(name: string, work: string, memory: BlockMemory) {
    this.#name = name;
    this.#memory = memory;
    this.#worker = new Worker(thread(work), {
      eval: true,
      workerData: { module: compiledModule(), memory },
    });
    this.#worker.unref();
    this.#worker.on('message', (lengths: number[]) => {
      for (const length of lengths) this.#waiters.shift()?.resolve(length);
      // Not any more once its end is awaited: nothing else would keep the process alive until then.
      if (this.#waiters.length === 0 && !this.#closing) this.#worker.unref();
    });
    this.#worker.on('error', (error) => this.#fail(error.message));
    this.#worker.on('exit', () => this.#fail('it has ended'));
  }

  /**
   * The answer to a request, which is sent with the next send().
   * @throws LitestreamError 'io' when the thread fails
   */
  request(request: BlockRequest): Promise<number> {
    if (this.#failure) return Promise.reject(this.#failure);
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject });
      this.#unsent.push(request);
    });
  }

  /** Sends the requests that came since the last time, in one message: each one wakes the thread. */
  send(): void {
    if (this.#unsent.length === 0) return;
    this.#worker.ref();
    this.#worker.postMessage([this.#memory.buffer.byteLength, this.#unsent]);
    this.#unsent = [];
  }

  /** Ends the thread. Requests that are under way fail. Keeps the process alive until then. */
  async close(): Promise<void> {
    this.#closing = true;
    await this.#worker.terminate();
  }

  #fail(reason: string): void {
    this.#failure ??= new LitestreamError('io', `${this.#name} thread: ${reason}`);
    for (const { reject } of this.#waiters.splice(0)) reject(this.#failure);
  }
}
