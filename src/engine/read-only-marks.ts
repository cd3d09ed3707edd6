/**
 * When a read mark is held on a database that we may only read, and when it is given up. We cannot move a mark to the
 * end of the WAL there, only share one that the application has made, and we cannot checkpoint. So any mark that we
 * hold keeps the application's own checkpoints from finishing, and they are what keeps the WAL short.
 *
 * While the WAL is short the mark is held during activity: nothing can be lost. It is given up when nothing was
 * committed for a moment (an application's TRUNCATE may be waiting for us, and nothing would tell), and as soon as the
 * WAL is long enough for a checkpoint; from then on it is watched closely until it was started over.
 */

import { walFrameCount } from '../sqlite/wal.ts';
import type { CopyOutcome, WalFollower } from './wal-follower.ts';

/** How long a mark is kept after the last commit. */
const QUIET_MS = 20;
/** Between two looks at a long WAL without a mark; until it can be started over twice takes tens of milliseconds. */
const WATCH_MS = 2;
/** After so long without a commit a long WAL is watched by events alone. */
const ACTIVE_MS = 1000;

export class ReadOnlyMarks {
  readonly #longFrames: number;
  #committedAtMs = -Infinity;

  /** @param longFrames from so many frames on the WAL is to be started over */
  constructor(longFrames: number) {
    this.#longFrames = longFrames;
  }

  /** Copies what is committed, with a mark or without, and then holds one or not. @throws LitestreamError */
  async sync(follower: WalFollower): Promise<CopyOutcome> {
    const free = !follower.holding && this.#isLong(follower);
    const outcome = await (free ? follower.syncFreely() : follower.sync());
    if (outcome.kind === 'ok' && outcome.copiedBytes > 0) this.#committedAtMs = performance.now();
    return outcome;
  }

  /**
   * Gives the mark up if it is time. To be called after each look at the database.
   * @returns in how many ms to look and call again at the latest; undefined: when there is news
   */
  relax(follower: WalFollower): number | undefined {
    const quietMs = performance.now() - this.#committedAtMs;
    const long = this.#isLong(follower);
    if (follower.holding && !follower.resting) {
      if (!long && quietMs < QUIET_MS) return QUIET_MS - quietMs;
      // What waits for its turn to be copied is no quiet.
      if (!long && follower.hasNews()) return undefined;
      follower.letGo();
    }
    return !follower.holding && long && quietMs < ACTIVE_MS ? WATCH_MS : undefined;
  }

  #isLong(follower: WalFollower): boolean {
    const { header, offset } = follower.chain;
    return header !== undefined && walFrameCount(offset, header.pageSizeBytes) >= this.#longFrames;
  }
}
