/** What there is to say of commits that are dated later than now: a clock is, or was, wrong. */

import type { ReplicaContext } from './replica-context.ts';
import { CLOCK_STEP_MS } from './steady-clock.ts';

/**
 * In words; undefined for a time that may be right.
 * @param lastMs time of the last commit in epoch milliseconds, undefined where it is not known
 * @param nowMs epoch milliseconds
 */
export function describeFuture(lastMs: number | undefined, nowMs: number): string | undefined {
  if (lastMs === undefined || lastMs - nowMs <= CLOCK_STEP_MS) return undefined;
  const last = new Date(lastMs).toISOString();
  return `the last commit is dated in the future (${last}): its host's clock was wrong, or this machine's is`;
}

/** Warns of a generation whose last commit is dated in the future, once in the life of a replica. */
export function warnOfFuture(
  { schedule, logger, now }: Pick<ReplicaContext, 'schedule' | 'logger' | 'now'>,
  generation: string,
  lastMs: number | undefined,
): void {
  const reason = describeFuture(lastMs, now());
  if (reason === undefined || schedule.futureTold) return;
  schedule.futureTold = true;
  logger.warn('the replica holds commits that a wrong clock has dated', { generation, reason });
}
