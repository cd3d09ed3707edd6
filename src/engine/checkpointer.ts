/** Runs checkpoints in the worker thread. One thread serves all databases of the process. */

import { Worker } from 'node:worker_threads';
import { LitestreamError } from '../base/errors.ts';
import type { CheckpointResult } from '../sqlite/connection.ts';
import type { WritablePath } from '../sqlite/writable-path.ts';
import type { CheckpointReply, CheckpointRequest } from './checkpoint-worker.ts';

interface Waiter {
  resolve(result: CheckpointResult | undefined): void;
  reject(error: LitestreamError): void;
}

export class Checkpointer {
  #worker: Worker | undefined;
  #nextId = 0;
  readonly #waiters = new Map<number, Waiter>();

  /** One PASSIVE checkpoint. @param path the database's real path @throws LitestreamError 'io', 'disk-full' */
  async checkpoint(path: WritablePath): Promise<CheckpointResult> {
    const result = await this.#ask((id) => ({ id, action: 'checkpoint', path }));
    return result ?? { busy: true, logFrames: -1, checkpointedFrames: -1 };
  }

  /** Closes the connection to that database, if there is one. */
  async close(path: string): Promise<void> {
    if (this.#worker) await this.#ask((id) => ({ id, action: 'close', path }));
  }

  #ask(request: (id: number) => CheckpointRequest): Promise<CheckpointResult | undefined> {
    this.#worker ??= this.#start();
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiters.set(id, { resolve, reject });
      this.#worker?.ref();
      this.#worker?.postMessage(request(id));
    });
  }

  #start(): Worker {
    // The compiled file: a worker cannot be started from TypeScript.
    const worker = new Worker(new URL('./checkpoint-worker.js', import.meta.url));
    worker.on('message', (reply: CheckpointReply) => {
      const waiter = this.#waiters.get(reply.id);
      this.#waiters.delete(reply.id);
      if (this.#waiters.size === 0) worker.unref();
      if ('error' in reply)
        waiter?.reject(new LitestreamError(reply.diskFull ? 'disk-full' : 'io', reply.error));
      else waiter?.resolve(reply.result);
    });
    const fail = (error: Error) => {
      this.#worker = undefined;
      const waiters = [...this.#waiters.values()];
      this.#waiters.clear();
      for (const waiter of waiters)
        waiter.reject(new LitestreamError('io', `checkpoint thread: ${error.message}`));
    };
    worker.on('error', fail);
    worker.on('exit', (code) => {
      if (this.#worker === worker) fail(new Error(`ended with code ${code}`));
    });
    return worker;
  }
}
