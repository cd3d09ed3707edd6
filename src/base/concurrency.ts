/**
 * The few primitives of asynchronous control flow: a mutex, a semaphore, back-off delays and a sleep that can be
 * aborted. They know nothing of what they guard.
 */

import { setMaxListeners } from 'node:events';
import { setTimeout as timer } from 'node:timers/promises';
import { LitestreamError, assert } from './errors.ts';

export interface WaitOptions {
  /** Gives up waiting: the call rejects with code 'aborted'. */
  readonly signal?: AbortSignal | undefined;
}

/** The error of a call whose caller gave up. */
export function abortedError(signal?: AbortSignal): LitestreamError {
  return new LitestreamError('aborted', 'the operation was aborted', { cause: signal?.reason });
}

/** Throws a LitestreamError 'aborted' when `signal` has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted === true) throw abortedError(signal);
}

/** Whether `signal` has fired because its time was up. */
export function isTimeout(signal: AbortSignal): boolean {
  return signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError';
}

/**
 * Lets any number of waits listen to `signal` at once. Node warns of a leak beyond ten, but one signal that ends a
 * whole program is shared by all that waits in it.
 */
export function allowManyListeners(signal: AbortSignal | undefined): void {
  if (signal !== undefined) setMaxListeners(0, signal);
}

/** A signal that fires with the first of `signals`, for its reason. Call `unlink` when it is no longer needed. */
export function linkSignals(...signals: readonly (AbortSignal | undefined)[]): {
  readonly signal: AbortSignal;
  readonly unlink: () => void;
} {
  const controller = new AbortController();
  const onAbort = ({ target }: Event): void => controller.abort((target as AbortSignal).reason);
  for (const signal of signals) {
    if (signal?.aborted === true) controller.abort(signal.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
  }
  const unlink = (): void => {
    for (const signal of signals) signal?.removeEventListener('abort', onAbort);
  };
  return { signal: controller.signal, unlink };
}

/**
 * At most `limit` calls run at once; the others wait in the order in which they came. A call that is aborted while
 * it waits leaves the queue without taking a place.
 */
export class Semaphore {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    assert(
      Number.isInteger(limit) && limit > 0,
      `a semaphore's limit must be a positive integer, not ${limit}`,
    );
    this.#free = limit;
  }

  /**
   * Runs `fn` when there is a place and gives its result. The signal ends the wait only: `fn` itself must look at it.
   * Not re-entrant: calling run() inside `fn` needs a second place.
   */
  async run<T>(fn: () => T | Promise<T>, options: WaitOptions = {}): Promise<T> {
    const release = await this.acquire(options);
    try {
      return await fn();
    } finally {
      release();
    }
  }

  /** Takes a place, for what does not end where it began. @returns what gives the place back; idempotent */
  async acquire(options: WaitOptions = {}): Promise<() => void> {
    await this.#acquire(options.signal);
    return this.#releaser();
  }

  /** Takes a place if there is a free one now. @returns what gives it back, as acquire() does */
  tryAcquire(): (() => void) | undefined {
    if (this.#free === 0) return undefined;
    this.#free--;
    return this.#releaser();
  }

  #releaser(): () => void {
    let held = true;
    return () => {
      if (held) this.#release();
      held = false;
    };
  }

  async #acquire(signal: AbortSignal | undefined): Promise<void> {
    throwIfAborted(signal);
    if (this.#free > 0) {
      this.#free--;
      return;
    }
    allowManyListeners(signal);
    await new Promise<void>((resolve, reject) => {
      const onTurn = (): void => {
        signal?.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        const place = this.#waiting.indexOf(onTurn);
        // No longer queued: the place was handed over in this very turn, so the call goes ahead and gives it back.
        if (place < 0) return;
        this.#waiting.splice(place, 1);
        reject(abortedError(signal));
      };
      this.#waiting.push(onTurn);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Hands the place straight to the next in the queue, so that nobody can overtake it. */
  #release(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#free++;
    else next();
  }
}

/** One call at a time, in the order in which they came. Not re-entrant: run() inside run() waits for ever. */
export class Mutex {
  readonly #semaphore = new Semaphore(1);

  run<T>(fn: () => T | Promise<T>, options: WaitOptions = {}): Promise<T> {
    return this.#semaphore.run(fn, options);
  }
}

export interface BackoffOptions {
  /** The upper bound of the first delay. */
  readonly baseMs: number;
  /** The upper bound of every delay. */
  readonly maxMs: number;
  /** A number in [0, 1); Math.random by default. */
  readonly random?: () => number;
}

/**
 * Exponential back-off with full jitter: a random delay in [0, min(maxMs, baseMs * 2^attempt)).
 * @param attempt - 0 for the delay after the first failure.
 */
export function backoffDelayMs(attempt: number, options: BackoffOptions): number {
  const { baseMs, maxMs, random = Math.random } = options;
  return random() * Math.min(maxMs, baseMs * 2 ** attempt);
}

/** The longest delay that timers take. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/**
 * A delay that timers take as it is meant: they fire a longer one than 24.8 days at once, and Node.js writes a warning to
 * the terminal for that and for a moment that has passed.
 * @param ms any number; beyond what timers can do it is cut, so that whoever waits longer must look again
 */
export function timerDelay(ms: number): number {
  return Math.min(Math.max(0, ms), MAX_TIMER_MS);
}

/** Fires `ms` from now, as far ahead as timers can do it: see timerDelay(). */
export function timeoutSignal(ms: number): AbortSignal {
  return AbortSignal.timeout(Math.ceil(timerDelay(ms)));
}

/** Resolves after `ms`; rejects with code 'aborted' as soon as the signal fires. Keeps the process alive meanwhile. */
export async function sleep(ms: number, options: WaitOptions = {}): Promise<void> {
  const { signal } = options;
  allowManyListeners(signal);
  try {
    await timer(timerDelay(ms), undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    throwIfAborted(signal);
    throw error;
  }
}
