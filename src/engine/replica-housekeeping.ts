/** What a replica does now and then beside uploading: retention. */

import { linkSignals } from '../base/concurrency.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { AbandonedUploads } from './abandoned-uploads.ts';
import { type ReplicaContext, persist } from './replica-context.ts';
import { pause } from './replica-wait.ts';
import { enforceRetention } from './retention.ts';

/** Resolves when `dueAtMs` is reached or a stop comes; `dueAtMs` in epoch milliseconds. */
export async function waitUntil(
  context: ReplicaContext,
  dueAtMs: number,
  signal: AbortSignal,
): Promise<void> {
  for (;;) {
    const waitMs = dueAtMs - context.now();
    if (waitMs <= 0 || context.stopping.aborted) return;
    await pause(waitMs, signal, context.stopping);
  }
}

/**
 * Runs `fn` with a signal that a stop fires too, again after failures; resolves without a result when a stop ends it.
 */
async function untilStop(
  context: ReplicaContext,
  life: AbortSignal,
  fn: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { signal, unlink } = linkSignals(life, context.stopping);
  try {
    await persist(context, 'retainer', signal, () => fn(signal));
  } catch (error) {
    if (life.aborted || !context.stopping.aborted) throw error;
  } finally {
    unlink();
  }
}

export interface RetentionTarget {
  readonly store: ObjectStore;
  readonly generation: string;
  /** Whether the generation has a snapshot to restore from, as far as we know. */
  readonly restorable: () => boolean;
  readonly signal: AbortSignal;
}

/**
 * Enforces retention every interval until a stop; rejects with 'aborted' when the signal fires. Without the right to
 * delete the objects stay, and it says so once.
 */
export async function keepRetention(context: ReplicaContext, target: RetentionTarget): Promise<void> {
  const { options, schedule, stopping, now, logger, stats } = context;
  const { retentionMs } = options;
  if (retentionMs <= 0) return;
  const abandoned = new AbandonedUploads(target.store, logger);
  const intervalMs = Math.max(1, Math.min(options.retentionCheckIntervalMs, retentionMs));
  for (;;) {
    await waitUntil(context, schedule.retentionCheckedAtMs + intervalMs, target.signal);
    if (stopping.aborted) return;
    schedule.retentionCheckedAtMs = now();
    if (schedule.retentionSettled) continue;
    // Set before the listing: a snapshot that is written meanwhile takes it back.
    schedule.retentionSettled = true;
    const restorable = target.restorable();
    await untilStop(context, target.signal, async (signal) => {
      const { settled, refusal, currentSnapshots, oldestSnapshotAtMs } = await enforceRetention({
        store: target.store,
        retentionMs,
        currentGeneration: target.generation,
        now: now(),
        logger,
        signal,
      });
      if (!settled) schedule.retentionSettled = false;
      stats.oldestSnapshotAtMs = oldestSnapshotAtMs;
      if (restorable && currentSnapshots === 0) {
        context.source.restartGeneration('replica no longer holds a snapshot of the generation');
      }
      if (refusal && !stats.retentionRefused) {
        logger.warn('retention is left to the store: deleting is not permitted', { error: refusal });
      }
      stats.retentionRefused = refusal !== undefined;
      await abandoned.remove(now(), signal);
    });
  }
}
