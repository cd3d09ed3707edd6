/**
 * When to look at the wal-index, and how soon after one copy the next may be: a pure decision. The first commit after
 * a quiet time is copied at once; under steady load copies move apart, since each costs the same however much it takes.
 */

/** An application that waits for our read mark is let through within this. */
const MIN_GAP_MS = 10;
/** Copies for the shadow WAL alone; replicas ask for one of their own before they upload. */
const MAX_GAP_MS = 100;
/** A pause of so many gaps is a quiet time. */
const QUIET_GAPS = 4;
/**
 * A file system event comes when a frame is written, which is before it is committed. So we look again after these
 * delays; the poll (monitor-interval) is behind them.
 */
const LOOK_AGAIN_MS = [1, 2, 4, 8, 16, 32, 64, 128] as const;

export class SyncPace {
  #gapMs = MIN_GAP_MS;
  #copiedAtMs = -Infinity;
  #looks: number = LOOK_AGAIN_MS.length;
  /** The WAL can be started over at any moment, so nothing may wait. */
  closely = false;

  /**
   * A file system event. @param urgent the database file changed, so a checkpoint may be waiting for our mark
   * @returns how long to wait before looking, in ms
   */
  event(urgent: boolean, nowMs: number): number {
    this.#looks = 0;
    if (urgent) this.#gapMs = MIN_GAP_MS;
    return this.waitMs(nowMs);
  }

  /** How long to wait before the next copy, in ms; 0: not at all. */
  waitMs(nowMs: number): number {
    if (this.closely) return 0;
    if (nowMs - this.#copiedAtMs > QUIET_GAPS * this.#gapMs) this.#gapMs = MIN_GAP_MS;
    return Math.max(0, this.#copiedAtMs + this.#gapMs - nowMs);
  }

  /** A copy was made. @param news it found commits */
  copied(news: boolean, nowMs: number): void {
    this.#copiedAtMs = nowMs;
    if (news) this.#gapMs = Math.min(MAX_GAP_MS, 2 * this.#gapMs);
  }

  /** When to look again because of the last event, in ms from now; undefined when that was often enough. */
  nextLookMs(nowMs: number): number | undefined {
    const delayMs = LOOK_AGAIN_MS[this.#looks];
    if (delayMs === undefined) return undefined;
    this.#looks++;
    return Math.max(delayMs, this.waitMs(nowMs));
  }
}
