/** How the activities of a replica wait: for the next event, or for a time that a stop cuts short. */

import { abortedError, throwIfAborted } from '../base/concurrency.ts';

/** The longest delay that setTimeout takes; longer ones would fire at once. */
const MAX_TIMER_MS = 0x7fff_ffff;

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
    const timer = setTimeout(onCut, Math.min(ms, MAX_TIMER_MS));
    signal.addEventListener('abort', onAbort, { once: true });
    cut?.addEventListener('abort', onCut, { once: true });
  });
}
