/** When a failed call on a store is tried again, and how long after. Shared by the retrying decorator and the drivers. */

import { backoffDelayMs, sleep } from '../base/concurrency.ts';
import { hasCode } from '../base/errors.ts';
import type { LitestreamError } from '../base/errors.ts';

export interface RetryOptions {
  /** Calls in all, the first included; at least 1. */
  readonly attempts: number;
  /** Ends the wait between two attempts with 'aborted'. */
  readonly signal?: AbortSignal | undefined;
  /** Upper bound of the first delay; 250 ms by default. */
  readonly baseMs?: number;
  /** Upper bound of every delay that the server did not ask for; 10 s by default. */
  readonly maxMs?: number;
  /** A number in [0, 1); Math.random by default. */
  readonly random?: () => number;
}

/** A server that asks for more patience than this is asked again all the same. */
const MAX_RETRY_AFTER_MS = 60_000;

/** Whether the same call may succeed later without anything being changed. */
export function isRetryable(error: unknown): error is LitestreamError {
  return hasCode(error, 'unavailable', 'timeout');
}

/**
 * The delay before the next attempt: jittered back-off, but not less than what the server asked for.
 * @param attempt - 0 after the first failure.
 */
export function retryDelayMs(error: LitestreamError, attempt: number, options: RetryOptions): number {
  const { baseMs = 250, maxMs = 10_000, random = Math.random } = options;
  const wantedMs = Math.min(error.retryAfterMs ?? 0, MAX_RETRY_AFTER_MS);
  return Math.max(wantedMs, backoffDelayMs(attempt, { baseMs, maxMs, random }));
}

/** Calls `fn` until it succeeds, fails for good, `mayRetry` says no, or the attempts are used up: then its last error. */
export async function retrying<T>(
  fn: () => Promise<T>,
  options: RetryOptions,
  mayRetry: () => boolean = () => true,
): Promise<T> {
  for (let attempt = 0; ; attempt++) {
    try {
      return await fn();
    } catch (error) {
      if (!isRetryable(error) || attempt + 1 >= options.attempts || !mayRetry()) throw error;
      await sleep(retryDelayMs(error, attempt, options), options);
    }
  }
}
