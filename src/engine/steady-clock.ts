/**
 * The wall clock, without what it jumps by: measured against the monotonic clock, of which nobody can set the time. A
 * machine that sleeps is no jump, though the monotonic clock does not count it: the kernel's uptime does.
 */

import { uptime } from 'node:os';

/** Clocks that differ by more are taken for wrong: NTP corrects less in small steps, and hosts that have it differ by less. */
export const CLOCK_STEP_MS: number = 5 * 60_000;
/** A clock that was set forward is believed after this long: it may be a mistake of a moment. */
const CONFIRM_MS = 60_000;
/** Two clocks that are read one after the other; more between them, and this process stood still. */
const READ_MS = 1000;
const READ_ATTEMPTS = 10;

/** All in milliseconds. */
export interface Clocks {
  /** Since 1970. */
  readonly wall: () => number;
  /** Since whenever, while the machine was awake. */
  readonly monotonic: () => number;
  /** Since whenever, asleep or not; coarse. */
  readonly uptime: () => number;
}

const SYSTEM: Clocks = {
  wall: () => Date.now(),
  monotonic: () => performance.now(),
  uptime: () => uptime() * 1000,
};

interface Reading {
  readonly wallMs: number;
  readonly monotonicMs: number;
}

export class SteadyClock {
  readonly #clocks: Clocks;
  /** When both were found to agree last. */
  #anchor: Reading;
  /** For how much longer than the monotonic clock says the machine has been up, from whenever on. */
  #sleptMs: number;
  /** Since when the wall clock has been ahead, by the monotonic clock. */
  #aheadSinceMs: number | undefined;
  #stepCount = 0;
  #stepMs = 0;

  constructor(clocks: Clocks = SYSTEM) {
    this.#clocks = clocks;
    this.#anchor = readBoth(clocks);
    this.#sleptMs = clocks.uptime() - this.#anchor.monotonicMs;
  }

  /** How often the wall clock was set by more than CLOCK_STEP_MS; counted by now(). */
  get stepCount(): number {
    return this.#stepCount;
  }

  /** By how many milliseconds it was set the last time; negative: back. */
  get stepMs(): number {
    return this.#stepMs;
  }

  /**
   * Epoch milliseconds. The wall clock's, but for the first minute after it was set forward, in which the time goes on
   * as before; so nothing is dated by a clock that was ahead for a moment.
   */
  now(): number {
    const quick = { wallMs: this.#clocks.wall(), monotonicMs: this.#clocks.monotonic() };
    if (Math.abs(quick.wallMs - this.#expectedMs(quick)) <= CLOCK_STEP_MS) return this.#agree(quick);
    const reading = readBoth(this.#clocks);
    const sleptMs = this.#clocks.uptime() - reading.monotonicMs;
    const asleepMs = Math.max(0, sleptMs - this.#sleptMs);
    const stepMs = reading.wallMs - this.#expectedMs(reading);
    if (Math.abs(stepMs) <= CLOCK_STEP_MS || Math.abs(stepMs - asleepMs) <= CLOCK_STEP_MS) {
      this.#sleptMs = sleptMs;
      return this.#agree(reading);
    }
    if (stepMs > 0) {
      this.#aheadSinceMs ??= reading.monotonicMs;
      if (reading.monotonicMs - this.#aheadSinceMs < CONFIRM_MS) return this.#expectedMs(reading);
    }
    this.#stepCount++;
    this.#stepMs = stepMs;
    this.#sleptMs = sleptMs;
    return this.#agree(reading);
  }

  #expectedMs({ monotonicMs }: Reading): number {
    return this.#anchor.wallMs + (monotonicMs - this.#anchor.monotonicMs);
  }

  #agree(reading: Reading): number {
    this.#anchor = reading;
    this.#aheadSinceMs = undefined;
    return reading.wallMs;
  }
}

/** Both at once: a process that is stopped between the two would see a jump where there is none. */
function readBoth({ wall, monotonic }: Clocks): Reading {
  for (let attempt = 1; ; attempt++) {
    const before = monotonic();
    const wallMs = wall();
    const after = monotonic();
    if (after - before < READ_MS || attempt === READ_ATTEMPTS) return { wallMs, monotonicMs: after };
  }
}

/** The one of this process, as there is one wall clock. */
export const steadyClock: SteadyClock = new SteadyClock();
