/** What of a replica fails at present: logged when it begins, changes and ends, not at every retry. */

import { messageOf } from '../base/errors.ts';
import { LogDuration, type Logger } from '../base/logger.ts';
import type { ReplicaStats } from './stats.ts';

const REPEAT_MS = 60_000;

/** What a replica does, by the names under which v0.3.13 logs its errors, the most important first. */
const ACTIVITIES = ['monitor', 'snapshotter', 'retainer', 'validation'] as const;
export type Activity = (typeof ACTIVITIES)[number];

interface Failure {
  message: string;
  readonly sinceMs: number;
  loggedAtMs: number;
}

export class ReplicaFailures {
  readonly #logger: Logger;
  readonly #now: () => number;
  readonly #stats: ReplicaStats;
  readonly #failures = new Map<Activity, Failure>();

  /**
   * @param now the time in epoch milliseconds
   * @param stats whose `lastError` is kept up to date
   */
  constructor(logger: Logger, now: () => number, stats: ReplicaStats) {
    this.#logger = logger;
    this.#now = now;
    this.#stats = stats;
  }

  /** One more failure: an ERROR when it is the first, when its text is new, else at most once a minute. */
  failed(activity: Activity, error: unknown): void {
    const message = messageOf(error);
    const now = this.#now();
    const before = this.#failures.get(activity);
    const failure = before ?? { message, sinceMs: now, loggedAtMs: now };
    if (!before || before.message !== message || now - before.loggedAtMs >= REPEAT_MS) {
      this.#logger.error(`${activity} error`, { error: message });
      failure.loggedAtMs = now;
    }
    failure.message = message;
    this.#failures.set(activity, failure);
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

  #updateStats(): void {
    const worst = ACTIVITIES.find((activity) => this.#failures.has(activity));
    this.#stats.lastError = worst && this.#failures.get(worst)?.message;
  }
}
