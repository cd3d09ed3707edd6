/** What keeps a database from being followed: said once, counted, and the reason to wait longer each time. */

import { backoffDelayMs } from '../base/concurrency.ts';
import { hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { DatabaseStats } from './stats.ts';

const MAX_RETRY_MS = 10_000;
/** The same problem is logged again after this long. */
export const REPEAT_LOG_MS = 60_000;

export class DatabaseProblem {
  readonly #logger: Logger;
  readonly #stats: DatabaseStats;
  readonly #intervalMs: number;
  #failures = 0;
  #broken: string | undefined;
  #reported: { text: string; atMs: number } | undefined;

  /** @param intervalMs between tries at first, and for as long as there merely is no database */
  constructor(logger: Logger, stats: DatabaseStats, intervalMs: number) {
    this.#logger = logger;
    this.#stats = stats;
    this.#intervalMs = intervalMs;
  }

  /** Why a database that is there is not followed; undefined when it is, or when there is none. */
  get broken(): string | undefined {
    return this.#broken;
  }

  /**
   * @param wasFollowed the database was open until now: that it is missing is then more than waiting for it
   * @returns when to try again, in ms
   */
  failed(error: unknown, wasFollowed: boolean): number {
    const text = messageOf(error);
    const missing = hasCode(error, 'not-found');
    this.#stats.syncErrorCount++;
    this.#stats.problem = text;
    this.#broken = missing ? undefined : text;
    if (missing && !wasFollowed) this.#say(text, () => this.#logger.info(`waiting: ${text}`));
    else this.report(text);
    const maxMs = Math.max(this.#intervalMs, missing ? 0 : MAX_RETRY_MS);
    const delayMs = backoffDelayMs(this.#failures++, { baseMs: this.#intervalMs, maxMs });
    return Math.max(this.#intervalMs, delayMs);
  }

  /** Logs an error, not more often than it is of use. */
  report(text: string): void {
    this.#say(text, () => this.#logger.error('sync error', { error: text }));
  }

  /** The database is followed. */
  recovered(): void {
    if (this.#stats.problem !== undefined && this.#reported) this.#logger.info('database is followed');
    this.#failures = 0;
    this.#broken = undefined;
    this.#stats.problem = undefined;
    this.#reported = undefined;
  }

  #say(text: string, log: () => void): void {
    const nowMs = performance.now();
    if (this.#reported?.text === text && nowMs - this.#reported.atMs < REPEAT_LOG_MS) return;
    this.#reported = { text, atMs: nowMs };
    log();
  }
}
