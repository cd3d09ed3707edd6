/**
 * Reads replicas in a process beside this one: how many objects are listed in a bucket, and what is in them, is up to
 * whoever writes there. It can take the memory and the time that are given for it, and nothing from what replicates.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import type { Socket } from 'node:net';
import { abortedError, allowManyListeners, throwIfAborted } from '../base/concurrency.ts';
import { programArguments } from '../base/entry-point.ts';
import { LitestreamError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Timeline } from '../engine/timeline.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import {
  type ReaderCall,
  type ReaderReply,
  type ReaderRequest,
  type ReaderResults,
  fromSent,
} from './reader-messages.ts';
import type {
  CopyRequest,
  ReplicaReader,
  RestoreCopyOptions,
  RestoreCopyRequest,
  RestorePlanReport,
  RestoredCopy,
} from './replica-reader.ts';

/** Of JavaScript's heap: some hundred thousand objects of a listing. */
const DEFAULT_HEAP_MEBIBYTES = 512;
/** For as long a process without calls waits for the next one. */
const IDLE_MS = 10_000;
/** What is aborted may take back what it has begun. */
const GRACE_MS = 5_000;
/** The end of what it says before it fails. */
const ERROR_LIMIT = 8192;

export interface ProcessReaderOptions {
  readonly heapMebibytes?: number | undefined;
  readonly idleMs?: number | undefined;
}

/** All looks share one process; each restore has its own, which may take as long as it takes. */
export class ProcessReader implements ReplicaReader {
  readonly #heapMebibytes: number;
  readonly #idleMs: number;
  #looks: ReaderProcess | undefined;
  #idle: NodeJS.Timeout | undefined;
  readonly #restores = new Set<ReaderProcess>();

  constructor({ heapMebibytes, idleMs }: ProcessReaderOptions = {}) {
    this.#heapMebibytes = heapMebibytes ?? DEFAULT_HEAP_MEBIBYTES;
    this.#idleMs = idleMs ?? IDLE_MS;
  }

  timeline(store: StoreConfig, signal: AbortSignal): Promise<Timeline> {
    return this.#look({ action: 'timeline', store }, signal);
  }

  plan(request: CopyRequest, signal: AbortSignal): Promise<RestorePlanReport> {
    return this.#look({ action: 'plan', request }, signal);
  }

  async restore(request: RestoreCopyRequest, options: RestoreCopyOptions): Promise<RestoredCopy> {
    const process = new ReaderProcess(this.#heapMebibytes);
    this.#restores.add(process);
    try {
      return await process.call({ action: 'restore', request }, options);
    } finally {
      await process.close();
      this.#restores.delete(process);
    }
  }

  /** Ends everything; what is under way is taken back. Never rejects. */
  async close(): Promise<void> {
    clearTimeout(this.#idle);
    const all = [...this.#restores, ...(this.#looks ? [this.#looks] : [])];
    await Promise.all(all.map((process) => process.close()));
  }

  async #look<C extends ReaderCall>(call: C, signal: AbortSignal): Promise<ReaderResults[C['action']]> {
    throwIfAborted(signal);
    clearTimeout(this.#idle);
    if (this.#looks?.isOver !== false) this.#looks = new ReaderProcess(this.#heapMebibytes);
    const process = this.#looks;
    try {
      return await process.call(call, { signal });
    } finally {
      if (!process.isBusy && this.#looks === process) {
        clearTimeout(this.#idle);
        this.#idle = setTimeout(() => void process.close(), this.#idleMs).unref();
      }
    }
  }
}

interface CallOptions {
  readonly signal: AbortSignal;
  readonly logger?: Logger;
  readonly onProgress?: RestoreCopyOptions['onProgress'];
}

interface PendingCall extends CallOptions {
  readonly resolve: (result: never) => void;
  readonly reject: (error: LitestreamError) => void;
}

/** It keeps this process alive while somebody waits for it. */
class ReaderProcess {
  readonly #child: ChildProcess;
  readonly #heapMebibytes: number;
  readonly #calls = new Map<number, PendingCall>();
  readonly #ended: Promise<void>;
  #nextId = 0;
  #errors = '';
  #isOver = false;

  constructor(heapMebibytes: number) {
    this.#heapMebibytes = heapMebibytes;
    const child = spawn(process.execPath, programArguments('control/reader-program'), {
      // By the environment: an executable of one file takes no options of Node.js.
      env: {
        ...process.env,
        NODE_OPTIONS: `${process.env['NODE_OPTIONS'] ?? ''} --max-old-space-size=${heapMebibytes}`,
      },
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      serialization: 'advanced',
    });
    this.#child = child;
    // Without descriptors left there are not even streams.
    const stderr = child.stderr as Socket | null;
    stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-ERROR_LIMIT);
    });
    const read = new Promise<void>((resolve) => (stderr ? stderr.once('close', () => resolve()) : resolve()));
    child.on('message', (reply) => this.#take(reply as ReaderReply));
    this.#ended = new Promise((resolve) => {
      child.on('error', (error) => {
        // One that was never started does not end.
        if (child.pid !== undefined) return;
        this.#end(new LitestreamError('io', `start a process to read replicas: ${error.message}`));
        resolve();
      });
      // No 'close' comes where this side has closed the channel.
      child.on('exit', (code, signal) => {
        void read.then(() => {
          this.#end(this.#whyEnded(signal ?? `code ${String(code)}`));
          resolve();
        });
      });
    });
  }

  /** Whether it answers no more. */
  get isOver(): boolean {
    return this.#isOver;
  }

  get isBusy(): boolean {
    return this.#calls.size > 0;
  }

  async call<C extends ReaderCall>(call: C, options: CallOptions): Promise<ReaderResults[C['action']]> {
    const { signal } = options;
    throwIfAborted(signal);
    const id = this.#nextId++;
    let grace: NodeJS.Timeout | undefined;
    const onAbort = (): void => {
      this.#send({ id, action: 'abort' });
      grace = setTimeout(() => this.#child.kill('SIGKILL'), GRACE_MS);
    };
    allowManyListeners(signal);
    signal.addEventListener('abort', onAbort, { once: true });
    this.#hold('ref');
    try {
      return await new Promise<ReaderResults[C['action']]>((resolve, reject) => {
        this.#calls.set(id, { ...options, resolve, reject });
        this.#send({ id, ...call });
      });
    } finally {
      clearTimeout(grace);
      signal.removeEventListener('abort', onAbort);
      this.#calls.delete(id);
      if (!this.isBusy) this.#hold('unref');
    }
  }

  /** It aborts what it does, and ends. Never rejects. */
  async close(): Promise<void> {
    this.#isOver = true;
    this.#hold('ref');
    if (this.#child.connected) this.#child.disconnect();
    const grace = setTimeout(() => this.#child.kill('SIGKILL'), GRACE_MS);
    await this.#ended;
    clearTimeout(grace);
  }

  #hold(how: 'ref' | 'unref'): void {
    this.#child[how]();
    this.#child.channel?.[how]();
    (this.#child.stderr as Socket | null)?.[how]();
  }

  /** What cannot be sent is known by the end of the process. */
  #send(request: ReaderRequest): void {
    if (this.#child.connected) this.#child.send(request, () => undefined);
  }

  #end(failure: LitestreamError): void {
    // Then it was closed.
    const isAborted = this.#isOver;
    this.#isOver = true;
    for (const { signal, reject } of this.#calls.values())
      reject(isAborted || signal.aborted ? abortedError(signal) : failure);
  }

  #take(reply: ReaderReply): void {
    const call = this.#calls.get(reply.id);
    if (!call) return;
    switch (reply.type) {
      case 'progress':
        call.onProgress?.(reply.progress);
        break;
      case 'log':
        call.logger?.[LOG[reply.level]](reply.message, fromSent(reply.attributes));
        break;
      case 'result':
        call.resolve(reply.result as never);
        break;
      case 'error':
        call.reject(new LitestreamError(reply.code, reply.message));
    }
  }

  #whyEnded(how: string): LitestreamError {
    if (/heap out of memory|heap limit/i.test(this.#errors)) {
      return new LitestreamError(
        'io',
        `reading the replica takes more than ${this.#heapMebibytes} MiB of memory: it holds too many objects for this page; ` +
          'look with litestream verify -replica-only what they are, and restore with litestream restore',
      );
    }
    const why = /^\w*Error: .*/m.exec(this.#errors)?.[0];
    return new LitestreamError('io', `the process that reads replicas ended with ${why ?? how}`);
  }
}

const LOG = { DEBUG: 'debug', INFO: 'info', WARN: 'warn', ERROR: 'error' } as const;
