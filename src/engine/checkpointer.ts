/** Runs checkpoints in the worker thread. One thread serves all databases of the process. */

import { Worker } from 'node:worker_threads';
import { threadCode } from '../base/entry-point.ts';
import { LitestreamError } from '../base/errors.ts';
import type { CheckpointResult } from '../sqlite/connection.ts';
import { sqliteDriver } from '../sqlite/driver.ts';
import type { CheckpointReply, CheckpointRequest } from './checkpoint-worker.ts';
import type { ProvenFiles } from './file-identity.ts';

interface Waiter {
  resolve(result: CheckpointResult | undefined): void;
  reject(error: LitestreamError): void;
}

export class Checkpointer {
  #worker: Worker | undefined;
  #nextId = 0;
  readonly #waiters = new Map<number, Waiter>();

  /**
   * One PASSIVE checkpoint. Whether the files are what was proven is looked at once more by the thread, right before
   * and right after.
   * @throws LitestreamError 'not-found' when they are not any more, 'io', 'disk-full'
   */
  async checkpoint(files: ProvenFiles): Promise<CheckpointResult> {
    const result = await this.#ask((id) => ({ id, action: 'checkpoint', files }));
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
    // The same SQLite in all threads, whatever is in the environment by now: two copies undo each other's locks.
    const env = { ...process.env, LITESTREAM_SQLITE: sqliteDriver().name };
    const { code, eval: isText } = threadCode('engine/checkpoint-worker');
    const worker = new Worker(code, { eval: isText, env });
    worker.on('message', (reply: CheckpointReply) => {
      const waiter = this.#waiters.get(reply.id);
      this.#waiters.delete(reply.id);
      if (this.#waiters.size === 0) worker.unref();
      if ('error' in reply) waiter?.reject(new LitestreamError(reply.code, reply.error));
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
