/** When to try a rotation: a pure decision over what is known of the WAL, with back-off after a failure. */

import { backoffDelayMs } from '../base/concurrency.ts';
import type { DatabaseOptions } from './options.ts';

/** The WAL as it is now: which one, and how far it goes. */
export interface WalExtent {
  readonly salt1: number;
  readonly salt2: number;
  readonly frames: number;
}

type Thresholds = Pick<
  DatabaseOptions,
  'monitorIntervalMs' | 'checkpointIntervalMs' | 'minCheckpointPageCount' | 'maxCheckpointPageCount'
>;

const FIRST_RETRY_MS = 100;
const MAX_RETRY_MS = 10_000;
/** Above max-checkpoint-page-count the WAL is growing faster than it should: try harder. */
const MAX_URGENT_RETRY_MS = 1000;
const URGENT_INTERVAL_MS = 100;

export class RotationSchedule {
  readonly #thresholds: Thresholds;
  readonly #random: () => number;
  #done: WalExtent | undefined;
  #failures = 0;
  #notBeforeMs = 0;
  #wanted = false;
  /** Since when the present WAL may hold commits that no checkpoint has taken. */
  #sinceMs: number;
  #salts: readonly [number, number] | undefined;

  constructor(thresholds: Thresholds, nowMs: number, random: () => number = Math.random) {
    this.#thresholds = thresholds;
    this.#sinceMs = nowMs;
    this.#random = random;
  }

  /** Whether to rotate now. Never twice for the same WAL and length: that would only repeat the work. */
  isDue(wal: WalExtent, nowMs: number): boolean {
    if (this.#salts?.[0] !== wal.salt1 || this.#salts[1] !== wal.salt2) {
      this.#salts = [wal.salt1, wal.salt2];
      this.#sinceMs = nowMs;
    }
    if (wal.frames === 0 || nowMs < this.#notBeforeMs) return false;
    const done = this.#done;
    if (done?.salt1 === wal.salt1 && done.salt2 === wal.salt2 && done.frames === wal.frames) return false;
    const { minCheckpointPageCount, checkpointIntervalMs } = this.#thresholds;
    return (
      this.#wanted || wal.frames >= minCheckpointPageCount || nowMs - this.#sinceMs >= checkpointIntervalMs
    );
  }

  /** The next rotation waits for no threshold. */
  want(): void {
    this.#wanted = true;
  }

  rotated(wal: WalExtent, nowMs: number): void {
    this.#done = wal;
    this.#failures = 0;
    this.#wanted = false;
    this.#sinceMs = nowMs;
    this.#notBeforeMs =
      nowMs + (this.#isUrgent(wal) ? URGENT_INTERVAL_MS : this.#thresholds.monitorIntervalMs);
  }

  failed(wal: WalExtent, nowMs: number): void {
    const maxMs = this.#isUrgent(wal) ? MAX_URGENT_RETRY_MS : MAX_RETRY_MS;
    const delayMs = backoffDelayMs(this.#failures++, {
      baseMs: 2 * FIRST_RETRY_MS,
      maxMs,
      random: this.#random,
    });
    this.#notBeforeMs = nowMs + Math.max(FIRST_RETRY_MS, delayMs);
  }

  #isUrgent(wal: WalExtent): boolean {
    const { maxCheckpointPageCount } = this.#thresholds;
    return maxCheckpointPageCount > 0 && wal.frames >= maxCheckpointPageCount;
  }
}
