/** Wakes one loop: at the earliest of the times that were asked for. */

import { timerDelay } from '../base/concurrency.ts';

/** Timers count milliseconds: what is earlier by less is no reason for another one, and is asked for at each file event. */
const PRECISION_MS = 0.5;

export class WakeTimer {
  #timer: NodeJS.Timeout | undefined;
  #dueMs = Infinity;
  #resolve: (() => void) | undefined;

  /** Wakes the loop in `delayMs` from now, unless it is to wake earlier anyway. */
  wakeIn(delayMs: number): void {
    const dueMs = performance.now() + delayMs;
    if (dueMs > this.#dueMs - PRECISION_MS) return;
    this.#dueMs = dueMs;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#fire();
    }, timerDelay(delayMs));
  }

  /** Resolves when it is time. One waiter at a time. */
  wait(): Promise<void> {
    return new Promise((resolve) => {
      this.#resolve = resolve;
      if (this.#dueMs === -Infinity) this.#fire();
    });
  }

  #fire(): void {
    const resolve = this.#resolve;
    this.#resolve = undefined;
    // Nobody waits: remember it for the next wait().
    this.#dueMs = resolve ? Infinity : -Infinity;
    resolve?.();
  }

  /** Wakes the loop at once. */
  wakeNow(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#fire();
  }
}
