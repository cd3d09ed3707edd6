/**
 * When a replica is verified: every `validation-interval`, and when somebody asks. One at a time; the result is counted,
 * logged, kept, and decides whether the replica is well.
 */

import { backoffDelayMs, isTimeout, linkSignals, throwIfAborted } from '../base/concurrency.ts';
import { messageOf } from '../base/errors.ts';
import { generationPrefix } from '../format/names.ts';
import { formatPosition } from '../format/position.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { ReplicaContext } from './replica-context.ts';
import { waitUntil } from './replica-housekeeping.ts';
import type { ReplicaProgress } from './replica-progress.ts';
import { pause } from './replica-wait.ts';
import { supersedes, writeVerification } from './verification-record.ts';
import { sweepVerificationFolders } from './verify-folder.ts';
import type { Problem, VerificationDepth, VerificationResult } from './verification-result.ts';

/** Each attempt reads the database. */
const RETRY = { baseMs: 1000, maxMs: 10 * 60_000 } as const;

/** Each new generation costs a snapshot. */
const RENEWAL = { baseMs: 3600_000, maxMs: 24 * 3600_000 } as const;

/** A generation of a replica that can be restored. */
export interface VerificationTarget {
  readonly store: ObjectStore;
  readonly progress: ReplicaProgress;
  /** The newest snapshot as far as is known; undefined: there is none to restore from. */
  readonly snapshotKey: () => string | undefined;
  /** The next upload does not wait for its interval. */
  readonly hurry: () => void;
  /** Fires when the generation is over. */
  readonly signal: AbortSignal;
}

/**
 * Verifies every interval until a stop; rejects with 'aborted' when the target's signal fires. What was inconclusive is
 * tried again soon, and is a failure as long: somebody relies on it to be done.
 */
export async function keepVerifying(context: ReplicaContext, target: VerificationTarget): Promise<void> {
  const { options, schedule, stopping, now, bell, failures } = context;
  const intervalMs = options.validationIntervalMs;
  await context.verifying.run(() => sweep(context), { signal: target.signal });
  if (intervalMs <= 0 && !schedule.verifyNext) return;
  for (let attempt = 0; ;) {
    if (!schedule.verifyNext)
      await waitUntil(context, { sinceMs: schedule.validatedAtMs, intervalMs }, target.signal);
    while (target.snapshotKey() === undefined && !stopping.aborted) await bell.wait(target.signal);
    if (stopping.aborted) return;
    const result = await untilStop(context, target);
    if (!result) return;
    if (result.result === 'inconclusive') {
      failures.failed('validation', result.message);
      await pause(backoffDelayMs(attempt++, RETRY), target.signal, stopping);
      continue;
    }
    attempt = 0;
    schedule.validatedAtMs = now();
    schedule.verifyNext = false;
    if (intervalMs <= 0) return;
  }
}

/** Undefined when a stop ended it; rejects with 'aborted' when the target's signal did. */
async function untilStop(
  context: ReplicaContext,
  target: VerificationTarget,
): Promise<VerificationResult | undefined> {
  const { stopping } = context;
  const { signal, unlink } = linkSignals(target.signal, stopping);
  try {
    const result = await verifyTarget(context, target, { depth: 'latest', signal });
    throwIfAborted(target.signal);
    return stopping.aborted ? undefined : result;
  } catch (error) {
    if (target.signal.aborted || !stopping.aborted) throw error;
    return undefined;
  } finally {
    unlink();
  }
}

/** What an earlier process has left takes room, but stops nothing. */
async function sweep({ source, options, logger }: ReplicaContext): Promise<void> {
  try {
    await sweepVerificationFolders(source.metaPath, options.name);
  } catch (error) {
    logger.warn('cannot clean up', { error: messageOf(error) });
  }
}

/**
 * Verifies once, when nothing else verifies the replica.
 * @param signal fires with the target's, and at a stop: then the result counts for nothing
 * @throws LitestreamError 'aborted' when `signal` fires before it is begun
 */
export async function verifyTarget(
  context: ReplicaContext,
  target: VerificationTarget,
  { depth, signal }: { readonly depth: VerificationDepth; readonly signal: AbortSignal },
): Promise<VerificationResult> {
  const { source, options, logger, verifying } = context;
  const { store, progress, snapshotKey, hurry } = target;
  // Loaded by those who verify only.
  const { verify } = await import('./verify.ts');
  return verifying.run(
    async () => {
      const result = await verify({
        name: options.name,
        store,
        source,
        logger,
        depth,
        retentionMs: options.retentionMs,
        signal,
        storedThrough: (position) => {
          hurry();
          return progress.storedThrough(position, { signal, failFast: false });
        },
        unstored: () => context.stats.lastError,
        snapshotKey,
      });
      // Given up by whoever asked, it says nothing; given up for its time limit, it does.
      if (result.result !== 'inconclusive' || !signal.aborted || isTimeout(signal)) {
        await report(context, result);
        renew(context, target, result);
      }
      return result;
    },
    { signal },
  );
}

/**
 * What cannot be restored from the present generation is not mended by storing more of it: another one begins by itself, and
 * is verified in its turn. When that fails too it is something else, and takes longer and longer to be tried again.
 */
function renew(context: ReplicaContext, { progress }: VerificationTarget, result: VerificationResult): void {
  const { schedule, source, now } = context;
  if (result.result === 'ok') schedule.failedCount = 0;
  if (result.result !== 'failed' || !progress.isCurrent()) return;
  const prefix = generationPrefix(progress.generation);
  // A live database that is damaged itself is not mended by storing it anew.
  const isMended = ({ object, page }: Problem): boolean => object?.startsWith(prefix) ?? page !== null;
  if (!result.problems.some(isMended)) return;
  const waitMs = schedule.failedCount === 0 ? 0 : backoffDelayMs(schedule.failedCount - 1, RENEWAL);
  if (now() - (schedule.failedAtMs ?? -Infinity) < waitMs) return;
  schedule.failedCount++;
  schedule.failedAtMs = now();
  schedule.verifyNext = true;
  source.restartGeneration(`verification failed: ${result.message}`);
}

/** An inconclusive result proves nothing: it does not take the place of a failure. */
async function report(
  context: ReplicaContext,
  { result, message, position, at }: VerificationResult,
): Promise<void> {
  const { stats, plainLogger, failures, source, options, logger } = context;
  if (result === 'inconclusive') {
    logger.warn('verification is inconclusive', { reason: message });
  } else {
    if (result === 'ok') stats.validationOkCount++;
    else stats.validationErrorCount++;
    plainLogger.info('validator', {
      status: result === 'ok' ? 'ok' : 'error',
      db: source.path,
      replica: options.name,
      ...(position ? { position: formatPosition(position) } : {}),
    });
    if (result === 'ok') failures.recovered('validation');
    else failures.failed('validation', message);
  }
  const verification = { at, result, message };
  if (!supersedes(verification, stats.verification)) return;
  stats.verification = verification;
  try {
    await writeVerification(source.metaPath, options.name, verification);
  } catch (error) {
    logger.warn('cannot keep the result of the verification', { error: messageOf(error) });
  }
}
