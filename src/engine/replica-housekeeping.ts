/** What a replica does now and then beside uploading: retention and validation. */

import { messageOf } from '../base/errors.ts';
import { type Position, formatPosition } from '../format/position.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { type ReplicaContext, persist } from './replica-context.ts';
import type { ReplicaProgress } from './replica-progress.ts';
import { linkSignals, pause } from './replica-wait.ts';
import { enforceRetention } from './retention.ts';
import { type ValidationResult, removeValidationFiles, validate } from './validation.ts';
import { type Verification, writeVerification } from './verification-record.ts';

/** Resolves when `dueAtMs` is reached or a stop comes; `dueAtMs` in epoch milliseconds. */
async function waitUntil(context: ReplicaContext, dueAtMs: number, signal: AbortSignal): Promise<void> {
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
  activity: 'retainer' | 'validation',
  life: AbortSignal,
  fn: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const { signal, unlink } = linkSignals(life, context.stopping);
  try {
    await persist(context, activity, signal, () => fn(signal));
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
  const intervalMs = Math.max(1, Math.min(options.retentionCheckIntervalMs, retentionMs));
  for (;;) {
    await waitUntil(context, schedule.retentionCheckedAtMs + intervalMs, target.signal);
    if (stopping.aborted) return;
    schedule.retentionCheckedAtMs = now();
    if (schedule.retentionSettled) continue;
    // Set before the listing: a snapshot that is written meanwhile takes it back.
    schedule.retentionSettled = true;
    const restorable = target.restorable();
    await untilStop(context, 'retainer', target.signal, async (signal) => {
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
    });
  }
}

export interface ValidationTarget {
  readonly store: ObjectStore;
  readonly progress: ReplicaProgress;
  /** Whether the generation has a snapshot to restore from. */
  readonly restorable: () => boolean;
  readonly signal: AbortSignal;
}

/**
 * Validates every interval until a stop; rejects with 'aborted' when the signal fires. A replica that does not restore
 * to the live database stays a failure until a validation finds it well.
 */
export async function keepValidating(context: ReplicaContext, target: ValidationTarget): Promise<void> {
  const { options, schedule, stopping, now, bell, source, logger } = context;
  const { store, progress } = target;
  const { name, validationIntervalMs } = options;
  if (validationIntervalMs <= 0) return;
  await untilStop(context, 'validation', target.signal, () => removeValidationFiles(source, name));
  for (;;) {
    await waitUntil(context, schedule.validatedAtMs + validationIntervalMs, target.signal);
    while (!target.restorable() && !stopping.aborted) await bell.wait(target.signal);
    if (stopping.aborted) return;
    let result: ValidationResult | undefined;
    await untilStop(context, 'validation', target.signal, async (signal) => {
      const storedThrough = (position: Position): Promise<void> =>
        progress.storedThrough(position, { signal, failFast: false });
      result = await validate({ name, store, source, logger, signal, storedThrough });
    });
    if (result) await reportValidation(context, result);
    schedule.validatedAtMs = now();
  }
}

async function reportValidation(
  context: ReplicaContext,
  { position, problem }: ValidationResult,
): Promise<void> {
  const { stats, plainLogger, failures, source, options } = context;
  if (problem === undefined) stats.validationOkCount++;
  else stats.validationErrorCount++;
  plainLogger.info('validator', {
    status: problem === undefined ? 'ok' : 'error',
    db: source.path,
    replica: options.name,
    position: formatPosition(position),
  });
  if (problem !== undefined) failures.failed('validation', problem);
  await recordVerification(context, {
    at: new Date(context.now()).toISOString(),
    result: problem === undefined ? 'ok' : 'failed',
    message: problem ?? `restores to the database at ${formatPosition(position)}`,
  });
}

/** Shows the result in the status, also after a restart. Never rejects. */
async function recordVerification(context: ReplicaContext, verification: Verification): Promise<void> {
  const { stats, source, options, logger } = context;
  stats.verification = verification;
  try {
    await writeVerification(source.metaPath, options.name, verification);
  } catch (error) {
    logger.warn('cannot keep the result of the validation', { error: messageOf(error) });
  }
}
