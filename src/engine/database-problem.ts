/** What keeps a database from being followed: said once, counted, and the reason to wait longer each time. */

import { backoffDelayMs } from '../base/concurrency.ts';
import { type ErrorCode, LitestreamError, hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { DatabaseStats } from './stats.ts';

const MAX_RETRY_MS = 10_000;
/** A file that appears is given time to become a database. */
const RETRY_AFTER_EVENT_MS = 50;
/** The same problem is logged again after this long. */
export const REPEAT_LOG_MS = 60_000;

/** What keeps a database from being followed, for the status. */
export interface DatabaseProblemFacts {
  readonly message: string;
  readonly code: ErrorCode | undefined;
  /** When it began, in epoch milliseconds. */
  readonly sinceMs: number;
  /** It is not there yet; nor is its folder; it was there and is not any more; or it is there and something fails. */
  readonly kind: 'missing' | 'no-folder' | 'gone' | 'broken';
}

export class DatabaseProblem {
  readonly #logger: Logger;
  readonly #stats: DatabaseStats;
  readonly #intervalMs: number;
  #failures = 0;
  #retryAtMs = -Infinity;
  #broken: string | undefined;
  #current: Omit<DatabaseProblemFacts, 'kind'> | undefined;
  #everFollowed = false;
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

  /** How long it is to be left alone yet, in ms. @param nowMs of the monotonic clock */
  waitMs(nowMs: number): number {
    return Math.max(0, this.#retryAtMs - nowMs);
  }

  /**
   * Something happens to the files. A database may be there now, or who held it has let go; what fails for another reason
   * is not mended by a commit.
   * @returns when to try again, in ms
   */
  event(): number {
    const nowMs = performance.now();
    if (['not-found', 'busy'].includes(this.#current?.code ?? ''))
      this.#retryAtMs = Math.min(this.#retryAtMs, nowMs + RETRY_AFTER_EVENT_MS);
    return Math.max(RETRY_AFTER_EVENT_MS, this.waitMs(nowMs));
  }

  /** For the status. @param hasFolder whether the folder of the database is there; asked when the database is not */
  facts(hasFolder: () => boolean): DatabaseProblemFacts | undefined {
    const current = this.#current;
    if (!current) return undefined;
    if (current.code !== 'not-found') return { ...current, kind: 'broken' };
    if (this.#everFollowed) return { ...current, kind: 'gone' };
    return { ...current, kind: hasFolder() ? 'missing' : 'no-folder' };
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
    const code = error instanceof LitestreamError ? error.code : undefined;
    this.#current = { message: text, code, sinceMs: this.#current?.sinceMs ?? Date.now() };
    if (missing && !wasFollowed) this.#say(text, () => this.#logger.info(`waiting: ${text}`));
    else this.report(text);
    const maxMs = Math.max(this.#intervalMs, missing ? 0 : MAX_RETRY_MS);
    const backoffMs = backoffDelayMs(this.#failures++, { baseMs: this.#intervalMs, maxMs });
    const delayMs = Math.max(this.#intervalMs, backoffMs);
    this.#retryAtMs = performance.now() + delayMs;
    return delayMs;
  }

  /** Logs an error, not more often than it is of use. */
  report(text: string): void {
    this.#say(text, () => this.#logger.error('sync error', { error: text }));
  }

  /** The database is followed. */
  recovered(): void {
    if (this.#stats.problem !== undefined && this.#reported) this.#logger.info('database is followed');
    this.#failures = 0;
    this.#retryAtMs = -Infinity;
    this.#broken = undefined;
    this.#current = undefined;
    this.#everFollowed = true;
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
