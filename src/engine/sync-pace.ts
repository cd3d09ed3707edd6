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
  readonly #intervalMs: number;
  #nextPollMs = 0;
  #gapMs = MIN_GAP_MS;
  #copiedAtMs = -Infinity;
  #looks: number = LOOK_AGAIN_MS.length;
  #newsAtMs = -Infinity;
  #isSteady = false;
  /** The WAL can be started over at any moment, so nothing may wait. */
  closely = false;

  /** @param intervalMs between two looks that no event asks for (monitor-interval) */
  constructor(intervalMs: number) {
    this.#intervalMs = intervalMs;
  }

  /** Whether a look now is one that no event asks for; the next one is due an interval later. */
  isPoll(nowMs: number): boolean {
    const isDue = nowMs >= this.#nextPollMs;
    if (isDue) this.#nextPollMs = nowMs + this.#intervalMs;
    return isDue;
  }

  /** The next look is to be one that no event asks for. */
  pollNext(): void {
    this.#nextPollMs = 0;
  }

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
    if (!news) return;
    this.#newsAtMs = nowMs;
    this.#gapMs = Math.min(MAX_GAP_MS, 2 * this.#gapMs);
    if (this.#gapMs === MAX_GAP_MS) this.#isSteady = true;
  }

  /**
   * Whether every look finds commits, however far apart looks are: then the next one comes after a gap by itself, and
   * events, of which there are several a commit, are not needed for it.
   */
  isSteady(nowMs: number): boolean {
    if (this.#isSteady && (this.closely || nowMs - this.#newsAtMs >= MAX_GAP_MS)) {
      this.#isSteady = false;
      // Of what comes until events are listened to again there is none.
      this.#looks = 0;
    }
    return this.#isSteady;
  }

  /** When to look again, in ms from now: for the last event, which is followed often enough at some time, or to poll. */
  nextLookMs(nowMs: number): number {
    return Math.min(this.#nextPollMs - nowMs, this.#followingLookMs(nowMs));
  }

  #followingLookMs(nowMs: number): number {
    if (this.isSteady(nowMs)) return this.#gapMs;
    const delayMs = LOOK_AGAIN_MS[this.#looks];
    if (delayMs === undefined) return Infinity;
    this.#looks++;
    return Math.max(delayMs, this.waitMs(nowMs));
  }
}
