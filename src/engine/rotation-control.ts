/** The rotations of one database's WAL: made when they are due, counted, and remembered when they do not succeed. */

import type { Logger } from '../base/logger.ts';
import { walFrameCount } from '../sqlite/wal.ts';
import { REPEAT_LOG_MS } from './database-problem.ts';
import type { DatabaseSession } from './database-session.ts';
import type { DatabaseOptions } from './options.ts';
import { RotationSchedule, type WalExtent } from './rotation-schedule.ts';
import type { DatabaseStats } from './stats.ts';
import type { DatabaseFacts, Lasting } from './status.ts';
import { describeWalPin, findWalPin } from './wal-pin.ts';

/** v0.3.13 does not see offsets of more than eight hex digits: the WAL has to start over before. */
const WARN_WAL_BYTES = 1 << 30;

export class RotationControl {
  readonly #options: DatabaseOptions;
  readonly #stats: DatabaseStats;
  readonly #logger: Logger;
  #schedule: RotationSchedule;
  /** Since when, and why, the WAL cannot be started over. */
  #failure: Lasting | undefined;
  #warnedAtMs = -Infinity;

  /** @param stats whose numbers of checkpoints are kept up to date */
  constructor(options: DatabaseOptions, stats: DatabaseStats, logger: Logger) {
    this.#options = options;
    this.#stats = stats;
    this.#logger = logger;
    this.#schedule = new RotationSchedule(options, performance.now());
  }

  /** To be called when another session begins. */
  reset(): void {
    this.#schedule = new RotationSchedule(this.#options, performance.now());
    this.#failure = undefined;
  }

  /** The WAL is to be started over soon, however short it is. */
  want(): void {
    this.#schedule.want();
  }

  /** @returns whether the WAL will be started over; undefined when that is not due */
  async rotateIfDue(session: DatabaseSession): Promise<boolean | undefined> {
    const { writable } = session;
    const wal = walExtent(session);
    if (!writable) this.#leaveToApplication(session, wal);
    if (!writable || !wal || !this.#schedule.isDue(wal, performance.now())) return undefined;
    const startMs = performance.now();
    const checkpoints = this.#stats.checkpoints.get('PASSIVE');
    const outcome = await session.rotate(writable);
    const nowMs = performance.now();
    if (checkpoints) {
      checkpoints.count++;
      checkpoints.seconds += (nowMs - startMs) / 1000;
    }
    if (outcome.kind !== 'unsynced') this.#stats.writerBlockedSeconds += outcome.blockedMs / 1000;
    if (outcome.kind === 'rotated') {
      this.#failure = undefined;
      this.#stats.lastRotationAtMs = Date.now();
      this.#schedule.rotated(walExtent(session) ?? wal, nowMs);
      this.#logger.debug('checkpoint: wal will be restarted', { frames: wal.frames });
      return true;
    }
    this.#schedule.failed(wal, nowMs);
    if (outcome.kind === 'busy') this.#failed(session, outcome.reason, nowMs);
    return false;
  }

  /** A WAL that we may only read can be started over by its application alone. */
  #leaveToApplication(session: DatabaseSession, wal: WalExtent | undefined): void {
    if ((wal?.frames ?? 0) < this.#limitFrames(session)) this.#failure = undefined;
    else this.#failure ??= { reason: 'its application does not finish a checkpoint', sinceMs: Date.now() };
  }

  #failed(session: DatabaseSession, reason: string, nowMs: number): void {
    const sinceMs = this.#failure?.sinceMs ?? Date.now();
    // A snapshot of ours ends by itself.
    this.#failure = session.held ? undefined : { reason, sinceMs };
    this.#logger.debug('checkpoint: later', { reason });
    const { walBytes } = session.sizes();
    if (walBytes < WARN_WAL_BYTES || nowMs - this.#warnedAtMs < REPEAT_LOG_MS) return;
    this.#warnedAtMs = nowMs;
    this.#logger.warn('wal is large and cannot be restarted', { 'wal-size': walBytes, reason });
  }

  /** What keeps the WAL from being started over, and since when, if it is longer than it should be. */
  obstacle(session: DatabaseSession): Pick<DatabaseFacts, 'obstacle' | 'pin'> {
    const walIndex = this.#failure && session.walIndex();
    if (!this.#failure || !walIndex) return { obstacle: undefined, pin: undefined };
    const found = findWalPin(walIndex, `${session.realPath}-shm`);
    // Marks that nobody holds tell something only after a checkpoint of ours, which moves them.
    const known = session.writable !== undefined || found.pids.length > 0;
    const pin = known ? found : { ...found, slot: null, frame: null };
    if (walIndex.mxFrame < this.#limitFrames(session)) return { obstacle: undefined, pin };
    const { reason, sinceMs } = this.#failure;
    return { obstacle: { reason: pin.slot === null ? reason : describeWalPin(pin), sinceMs }, pin };
  }

  /** From so many frames on a WAL is longer than it should be. */
  #limitFrames({ pageSizeBytes }: DatabaseSession): number {
    const { maxCheckpointPageCount } = this.#options;
    return maxCheckpointPageCount > 0 ? maxCheckpointPageCount : WARN_WAL_BYTES / pageSizeBytes;
  }
}

/** The WAL that the follower is in; undefined while it has no commits. */
export function walExtent(session: DatabaseSession): WalExtent | undefined {
  const { header, offset } = session.chain;
  if (!header) return undefined;
  return { salt1: header.salt1, salt2: header.salt2, frames: walFrameCount(offset, header.pageSizeBytes) };
}
