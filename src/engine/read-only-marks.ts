/**
 * When a read mark is held on a database that we may only read, and when it is given up. We cannot move a mark to the
 * end of the WAL there, only share one that the application has made, and we cannot checkpoint. So any mark that we
 * hold keeps the application's own checkpoints from finishing, and they are what keeps the WAL short.
 *
 * While the WAL is short the mark is held during activity: nothing can be lost. It is given up when nothing was
 * committed for a moment (an application's TRUNCATE may be waiting for us, and nothing would tell). Once the WAL is long
 * enough for a checkpoint, the mark is given up for windows of milliseconds in which nothing but the wal-index is looked
 * at, so that it is held again before the WAL can be started over twice. Where that does not help, as beside a long
 * reader, there is no mark until the WAL was started over, and it is watched closely.
 */

import { walFrameCount } from '../sqlite/wal.ts';
import type { CopyOutcome, WalFollower } from './wal-follower.ts';

/** How long a mark is kept after the last commit. */
const QUIET_MS = 20;
/** A window is to see the start of a checkpoint: applications make one after each commit while their WAL is long. */
const WINDOW_MS = 10;
/** Between two looks in a window: a checkpoint and the commits that fill another WAL take longer. */
const WINDOW_STEP_MS = 0.1;
/** So many windows in vain, and the mark is given up for longer. */
const MAX_WINDOWS = 8;
/** Between two looks at a long WAL without a mark; until it can be started over twice takes tens of milliseconds. */
const WATCH_MS = 2;
/** After so long without a commit a long WAL is watched by events alone. */
const ACTIVE_MS = 1000;

/** Never notified: for sleeping without the event loop, which may be late by more than a window. */
const sleeper = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT));

/** What is asked of a follower. */
export type MarkedFollower = Pick<
  WalFollower,
  'chain' | 'holding' | 'resting' | 'letGo' | 'hasNews' | 'walIsOver' | 'sync' | 'syncFreely'
>;

export class ReadOnlyMarks {
  readonly #longFrames: number;
  #committedAtMs = -Infinity;
  /** Windows of the present WAL after which it went on. */
  #windows = 0;

  /** @param longFrames from so many frames on the WAL is to be started over */
  constructor(longFrames: number) {
    this.#longFrames = longFrames;
  }

  /** Copies what is committed, with a mark or without, and then holds one or not. @throws LitestreamError */
  async sync(follower: MarkedFollower): Promise<CopyOutcome> {
    const inVain = this.#windows >= MAX_WINDOWS;
    const free = !follower.holding && this.#isLong(follower) && (inVain || this.#quietMs() >= QUIET_MS);
    let outcome = await (free ? follower.syncFreely() : follower.sync());
    if (outcome.kind !== 'ok') return outcome;
    if (outcome.copiedBytes > 0) this.#committedAtMs = performance.now();
    if (!this.#isLong(follower)) this.#windows = 0;
    else if (follower.holding && !follower.resting && !inVain) {
      const { copiedBytes } = outcome;
      outcome = await this.#openWindow(follower);
      if (outcome.kind === 'ok') outcome = { kind: 'ok', copiedBytes: copiedBytes + outcome.copiedBytes };
    }
    return outcome;
  }

  /** Lets the application begin a checkpoint. The mark is held again when this gives a promise, before anything else runs. */
  #openWindow(follower: MarkedFollower): Promise<CopyOutcome> {
    this.#windows++;
    follower.letGo();
    const end = performance.now() + WINDOW_MS;
    while (!follower.walIsOver() && performance.now() < end) Atomics.wait(sleeper, 0, 0, WINDOW_STEP_MS);
    return follower.sync();
  }

  /**
   * Gives the mark up if it is time. To be called after each look at the database.
   * @returns in how many ms to look and call again at the latest; undefined: when there is news
   */
  relax(follower: MarkedFollower): number | undefined {
    const quietMs = this.#quietMs();
    const long = this.#isLong(follower);
    if (follower.holding && !follower.resting) {
      const guarded = !long || this.#windows < MAX_WINDOWS;
      if (guarded && quietMs < QUIET_MS) return QUIET_MS - quietMs;
      // What waits for its turn to be copied is no quiet.
      if (guarded && follower.hasNews()) return undefined;
      follower.letGo();
    }
    return !follower.holding && long && quietMs < ACTIVE_MS ? WATCH_MS : undefined;
  }

  #quietMs(): number {
    return performance.now() - this.#committedAtMs;
  }

  #isLong(follower: MarkedFollower): boolean {
    const { header, offset } = follower.chain;
    return header !== undefined && walFrameCount(offset, header.pageSizeBytes) >= this.#longFrames;
  }
}
