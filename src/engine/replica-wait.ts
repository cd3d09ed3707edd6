/** How the activities of a replica wait: for the next event, or for a time that a stop cuts short. */

import { abortedError, linkSignals, throwIfAborted, timerDelay } from '../base/concurrency.ts';

/**
 * Wakes everybody who waits. Nothing is remembered: look at the condition first, then wait in the same turn, then
 * look again.
 */
export class Bell {
  readonly #waiting = new Set<() => void>();

  ring(): void {
    if (this.#waiting.size === 0) return;
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  /** Resolves at the next ring, after `ms`, or when `cut` fires; rejects with 'aborted' when `signal` fires. */
  async waitWithin(ms: number, signal: AbortSignal, cut: AbortSignal): Promise<void> {
    const over = new AbortController();
    const { signal: either, unlink } = linkSignals(signal, over.signal);
    const quietly = (waiting: Promise<void>): Promise<void> => waiting.catch(() => undefined);
    try {
      await Promise.race([quietly(this.wait(either)), quietly(pause(ms, either, cut))]);
      throwIfAborted(signal);
    } finally {
      over.abort();
      unlink();
    }
  }

  /** Resolves at the next ring; rejects with 'aborted' when `signal` fires. */
  wait(signal: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      throwIfAborted(signal);
      const wake = (): void => {
        signal.removeEventListener('abort', onAbort);
        resolve();
      };
      const onAbort = (): void => {
        this.#waiting.delete(wake);
        reject(abortedError(signal));
      };
      this.#waiting.add(wake);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}

/**
 * Resolves after `ms` (at most 24 days: look at the clock again), or as soon as `cut` fires; at once when it has fired
 * already. Rejects with 'aborted' when `signal` fires.
 */
export function pause(ms: number, signal: AbortSignal, cut?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    throwIfAborted(signal);
    if (cut?.aborted === true) {
      resolve();
      return;
    }
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
      cut?.removeEventListener('abort', onCut);
    };
    const onCut = (): void => {
      end();
      resolve();
    };
    const onAbort = (): void => {
      end();
      reject(abortedError(signal));
    };
    const timer = setTimeout(onCut, timerDelay(ms));
    signal.addEventListener('abort', onAbort, { once: true });
    cut?.addEventListener('abort', onCut, { once: true });
  });
}

/** A wait that somebody cuts short, be it before it begins. */
export class Hurry {
  #wanted = false;
  #cut = new AbortController();

  /** Whether it was asked for since the last done(). */
  get wanted(): boolean {
    return this.#wanted;
  }

  want(): void {
    this.#wanted = true;
    this.#cut.abort();
  }

  done(): void {
    this.#wanted = false;
  }

  /** As pause(), and over at once when somebody is in a hurry. */
  async pause(ms: number, signal: AbortSignal, stopping: AbortSignal): Promise<void> {
    if (this.#wanted) return;
    this.#cut = new AbortController();
    const { signal: cut, unlink } = linkSignals(stopping, this.#cut.signal);
    try {
      await pause(ms, signal, cut);
    } finally {
      unlink();
    }
  }
}
