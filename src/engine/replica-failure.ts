/** What of a replica fails at present: logged when it begins, changes and ends, not at every retry. */

import { LitestreamError, messageOf } from '../base/errors.ts';
import { LogDuration, type Logger } from '../base/logger.ts';
import type { FailureStats, ReplicaStats } from './stats.ts';

const REPEAT_MS = 60_000;

/** What a replica does; what v0.3.13 does too, by the names under which it logs its errors. */
export type Activity = FailureStats['activity'];

/** The most important first. */
const ACTIVITIES: readonly Activity[] = ['monitor', 'snapshotter', 'presence', 'validation', 'retainer'];

interface Failure extends FailureStats {
  readonly loggedAtMs: number;
}

export class ReplicaFailures {
  readonly #logger: Logger;
  readonly #now: () => number;
  readonly #stats: ReplicaStats;
  readonly #failures = new Map<Activity, Failure>();

  /**
   * @param now the time in epoch milliseconds
   * @param stats whose `failures`, `lastFailure` and `lastError` are kept up to date
   */
  constructor(logger: Logger, now: () => number, stats: ReplicaStats) {
    this.#logger = logger;
    this.#now = now;
    this.#stats = stats;
  }

  /** One more failure: an ERROR when it is the first, when its text is new, else at most once a minute. */
  failed(activity: Activity, error: unknown): void {
    const message = messageOf(error);
    const code = error instanceof LitestreamError ? error.code : undefined;
    const now = this.#now();
    const before = this.#failures.get(activity);
    const logs = !before || before.message !== message || now - before.loggedAtMs >= REPEAT_MS;
    if (logs) this.#logger.error(`${activity} error`, { error: message });
    const failure = {
      activity,
      message,
      code,
      sinceMs: before?.sinceMs ?? now,
      atMs: now,
      loggedAtMs: logs ? now : before.loggedAtMs,
    };
    this.#failures.set(activity, failure);
    this.#stats.lastFailure = failure;
    this.#updateStats();
  }

  /** The activity is well: an INFO when it was not. */
  recovered(activity: Activity): void {
    const failure = this.#failures.get(activity);
    if (!failure) return;
    this.#failures.delete(activity);
    this.#logger.info(`${activity} recovered`, { after: new LogDuration(this.#now() - failure.sinceMs) });
    this.#updateStats();
  }

  /** Nobody asks any more whether the activity is well, so nothing is told of it. */
  forget(activity: Activity): void {
    if (this.#failures.delete(activity)) this.#updateStats();
  }

  #updateStats(): void {
    const failures = ACTIVITIES.map((activity) => this.#failures.get(activity));
    this.#stats.failures = failures.filter((failure) => failure !== undefined);
    this.#stats.lastError = this.#stats.failures[0]?.message;
  }
}

/**
 * `logger` for what is tried again and again: informational lines and warnings are only debug lines when their message
 * comes once more. What fails is told by ReplicaFailures.
 */
export function sayingOnce(logger: Logger, said: Set<string> = new Set()): Logger {
  const at =
    (level: 'info' | 'warn'): Logger['info'] =>
    (message, attributes) => {
      logger[said.has(message) ? 'debug' : level](message, attributes);
      said.add(message);
    };
  return {
    debug: (message, attributes) => logger.debug(message, attributes),
    info: at('info'),
    warn: at('warn'),
    error: (message, attributes) => logger.error(message, attributes),
    with: (attributes) => sayingOnce(logger.with(attributes), said),
  };
}
