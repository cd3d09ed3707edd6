/** What the activities of one replica share: its options, its clock, its counters, and how they retry. */

import { type Mutex, backoffDelayMs, throwIfAborted } from '../base/concurrency.ts';
import type { Logger } from '../base/logger.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { ReplicaOptions } from './options.ts';
import type { Activity, ReplicaFailures } from './replica-failure.ts';
import { type Bell, pause } from './replica-wait.ts';
import type { SegmentSource } from './segment-source.ts';
import type { SnapshotRecord } from './snapshot-record.ts';
import type { ReplicaStats } from './stats.ts';

/** Delays after a failure that no retry further down has taken care of. */
export const RETRY = { baseMs: 1000, maxMs: 30_000 } as const;
/** While a shutdown waits for the upload, a retry is worth more than a polite delay. */
const STOPPING_RETRY = { baseMs: 100, maxMs: 1000 } as const;

export interface ReplicaContext {
  readonly options: ReplicaOptions;
  readonly source: SegmentSource;
  /** With the attributes `db` and `replica`. */
  readonly logger: Logger;
  /** Without them, for lines that print them in the middle. */
  readonly plainLogger: Logger;
  /** How often to look whether a local store still holds what was stored, in ms. */
  readonly lookIntervalMs: number;
  /** The time in epoch milliseconds. */
  readonly now: () => number;
  readonly stats: ReplicaStats;
  readonly failures: ReplicaFailures;
  /** Fires when the replica is told to stop: upload what is committed, begin nothing else. */
  readonly stopping: AbortSignal;
  /** Rings when the source advances, when the replica may go on, and when it is told to stop. */
  readonly bell: Bell;
  /** Opens the store at the first call. */
  readonly store: () => Promise<ObjectStore>;
  /** Which snapshots are known to be what they say. */
  readonly snapshots: SnapshotRecord;
  /** Held while the replica is verified: one at a time. */
  readonly verifying: Mutex;
  /** What outlives a generation. Times in epoch milliseconds. */
  readonly schedule: {
    retentionCheckedAtMs: number;
    /** Nothing can become deletable before another snapshot is written. */
    retentionSettled: boolean;
    validatedAtMs: number;
    /** The generation whose replication was begun last: something of it may be stored. */
    begun: string | undefined;
    /** Of the generations that were begun because a verification failed: how many in a row, and when. */
    failedCount: number;
    failedAtMs: number | undefined;
    /** A verification is due at once. */
    verifyNext: boolean;
    /** The last generation was given up as another one follows it in the replica: the next one has to find that. */
    superseded: boolean;
    /** When something was found to be gone from the replica, by performance.now(): who deletes may not be done. */
    lostAtMs: number;
    /** It was warned of commits that are dated in the future. */
    futureTold: boolean;
  };
}

/**
 * Calls `fn` until it succeeds, with growing delays, and keeps the activity's state of failure.
 * Rejects only with 'aborted', when `signal` fires.
 */
export async function persist<T>(
  context: ReplicaContext,
  activity: Activity,
  signal: AbortSignal,
  fn: () => Promise<T>,
): Promise<T> {
  const { failures, stopping } = context;
  for (let attempt = 0; ; attempt++) {
    try {
      const result = await fn();
      failures.recovered(activity);
      return result;
    } catch (error) {
      throwIfAborted(signal);
      failures.failed(activity, error);
    }
    // A stop cuts the long delay of a store that may be back by now; then the delays grow anew from a short one.
    if (stopping.aborted) await pause(backoffDelayMs(attempt, STOPPING_RETRY), signal);
    else await pause(backoffDelayMs(attempt, RETRY), signal, stopping);
  }
}
