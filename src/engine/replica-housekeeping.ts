/** What a replica does now and then beside uploading: it looks at what is there, and enforces retention. */

import { linkSignals } from '../base/concurrency.ts';
import { AbandonedUploads } from './abandoned-uploads.ts';
import { type SegmentInfo, type SnapshotInfo, listObjects } from './catalog.ts';
import { type ReplicaContext, persist } from './replica-context.ts';
import { type Finding, type PresenceTarget, findObject, judgeList } from './replica-presence.ts';
import { pause } from './replica-wait.ts';
import { type RetentionPlan, type RetentionResult, breachError, enforceRetention } from './retention.ts';
import { steadyClock } from './steady-clock.ts';
import type { StoredObjects, StoredSegmentObject } from './stored-objects.ts';

/**
 * Resolves when `intervalMs` have passed since `sinceMs` (epoch milliseconds), or a stop comes. Never later than after
 * the interval, though the clock was set back, or `sinceMs` is of a clock that was ahead.
 */
export async function waitUntil(
  context: ReplicaContext,
  { sinceMs, intervalMs }: { readonly sinceMs: number; readonly intervalMs: number },
  signal: AbortSignal,
): Promise<void> {
  const startedMs = performance.now();
  for (;;) {
    const leftMs = intervalMs - (performance.now() - startedMs);
    const waitMs = Math.min(sinceMs + intervalMs - context.now(), leftMs);
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

export interface RetentionTarget extends PresenceTarget {
  /** Called when something is wrong with what the replica holds. */
  readonly onFinding: (finding: Finding) => void;
}

interface Newest {
  readonly snapshot: SnapshotInfo | undefined;
  readonly last: StoredSegmentObject | undefined;
}

function newestOf({ snapshot, last }: StoredObjects): Newest {
  return { snapshot, last };
}

interface ObjectLists {
  readonly snapshots: readonly SnapshotInfo[];
  readonly segments: readonly SegmentInfo[];
}

function ofGeneration({ snapshots, segments }: ObjectLists, generation: string): ObjectLists {
  const isIn = (object: SnapshotInfo | SegmentInfo): boolean => object.generation === generation;
  return { snapshots: snapshots.filter(isIn), segments: segments.filter(isIn) };
}

/** Whether the lists can be acted on; what is wrong with the replica is told. */
async function judge(
  { stats, now, logger }: ReplicaContext,
  target: RetentionTarget,
  lists: ObjectLists,
  before: Newest,
): Promise<boolean> {
  const { finding, lies } = await judgeList(target, lists, before);
  stats.lastLookAtMs = now();
  if (lies) logger.warn('the store lists less than it holds: nothing is deleted by this list');
  if (finding) target.onFinding(finding);
  return !lies && !finding;
}

/** Whether the snapshots because of which older objects may go are there: a list may show what was deleted. */
async function stands(
  { cuts }: RetentionPlan,
  { store, signal }: Pick<PresenceTarget, 'store' | 'signal'>,
): Promise<boolean> {
  for (const key of new Set(cuts.map(({ because }) => because.key))) {
    if (!(await findObject(store, key, { signal }))) return false;
  }
  return true;
}

/** Asks for all objects of the generation at once. What is wrong with them is told. */
export async function lookAtAll(context: ReplicaContext, target: RetentionTarget): Promise<void> {
  const { store, held, signal } = target;
  const before = newestOf(held);
  await judge(context, target, await listObjects(store, held.generation, { signal }), before);
}

/** Has what came of an attempt to delete in the log, once, and in the statistics. */
function tell({ stats, logger, now }: ReplicaContext, result: RetentionResult): void {
  const { refusal, doubt, breach, oldestSnapshotAtMs } = result;
  if (doubt !== undefined && stats.clockDoubt === undefined)
    logger.warn('retention deletes nothing', { reason: doubt });
  stats.clockDoubt = doubt;
  const reason = breach && breachError(breach).message;
  if (reason !== undefined && stats.retentionBreach?.reason !== reason)
    logger.error('retention would delete too much', { error: reason });
  stats.retentionBreach =
    reason === undefined ? undefined : { reason, sinceMs: stats.retentionBreach?.sinceMs ?? now() };
  stats.oldestSnapshotAtMs = oldestSnapshotAtMs;
  if (refusal && !stats.retentionRefused) {
    logger.warn('retention is left to the store: deleting is not permitted', { error: refusal });
  }
  stats.retentionRefused = refusal !== undefined;
}

/**
 * Lists the replica every interval until a stop: whether it still holds what was stored, and nothing else; and enforces
 * retention when something may have left the window. Rejects with 'aborted' when the signal fires. Without the right to
 * delete the objects stay, and it says so once.
 */
export async function keepRetention(context: ReplicaContext, target: RetentionTarget): Promise<void> {
  const { options, schedule, stopping, now, logger } = context;
  const { retentionMs } = options;
  const { store, held } = target;
  const abandoned = new AbandonedUploads(store, logger);
  const windowMs = retentionMs > 0 ? retentionMs : Infinity;
  const intervalMs = Math.max(1, Math.min(options.retentionCheckIntervalMs, windowMs));
  for (;;) {
    await waitUntil(context, { sinceMs: schedule.retentionCheckedAtMs, intervalMs }, target.signal);
    if (stopping.aborted) return;
    schedule.retentionCheckedAtMs = now();
    if (schedule.retentionSettled || retentionMs <= 0) {
      await untilStop(context, target.signal, (signal) => lookAtAll(context, { ...target, signal }));
      continue;
    }
    // Set before the listing: a snapshot that is written meanwhile takes it back.
    schedule.retentionSettled = true;
    await untilStop(context, target.signal, async (signal) => {
      const before = newestOf(held);
      const result = await enforceRetention({
        store,
        examiner: context.snapshots,
        clock: now,
        retentionMs,
        currentGeneration: held.generation,
        now: now(),
        logger,
        signal,
        mayDelete: async (survey) =>
          (await judge(context, { ...target, signal }, ofGeneration(survey, held.generation), before)) &&
          (await stands(survey.plan, { store, signal })),
      });
      tell(context, result);
      if (!result.settled) schedule.retentionSettled = false;
      if (result.doubt === undefined) await abandoned.remove(Math.min(now(), steadyClock.now()), signal);
    });
  }
}
