/**
 * Tells a monitoring service from time to time that everything is stored, and tells nothing when it is not: the service
 * raises the alarm when it hears nothing.
 */

import { timerDelay } from '../base/concurrency.ts';
import { basicAuthorization } from '../base/basic-authorization.ts';
import { LitestreamError, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { HeartbeatOptions } from '../config/index.ts';
import type { Replication } from './routes.ts';

const SYNC_TIMEOUT_MS = 30_000;
const REQUEST_TIMEOUT_MS = 10_000;

export class Heartbeat {
  readonly #options: HeartbeatOptions;
  readonly #replication: Replication;
  readonly #logger: Logger;
  readonly #ending = new AbortController();
  #timer: NodeJS.Timeout | undefined;
  /** The last request failed, and that was said. */
  #failed = false;

  constructor(options: HeartbeatOptions, replication: Replication, logger: Logger) {
    this.#options = options;
    this.#replication = replication;
    this.#logger = logger;
  }

  /** Begins with a heartbeat as soon as everything is stored. */
  start(): void {
    void this.#beat();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#ending.abort();
  }

  /** Never rejects. */
  async #beat(): Promise<void> {
    const startedAtMs = performance.now();
    if (await this.#isStored()) await this.#ping();
    if (this.#ending.signal.aborted) return;
    const waitMs = startedAtMs + this.#options.intervalMs - performance.now();
    this.#timer = setTimeout(() => void this.#beat(), timerDelay(waitMs));
  }

  /** Whether everything that was committed a moment ago can be restored, and nothing else is wrong. */
  async #isStored(): Promise<boolean> {
    const timeout = AbortSignal.timeout(SYNC_TIMEOUT_MS);
    try {
      await this.#replication.sync(undefined, AbortSignal.any([timeout, this.#ending.signal]));
      const databases = this.#replication.status();
      return databases.length > 0 && databases.every(({ healthy }) => healthy);
    } catch (error) {
      this.#logger.debug('no heartbeat', { reason: messageOf(error) });
      return false;
    }
  }

  async #ping(): Promise<void> {
    try {
      await this.#request();
      if (this.#failed) this.#logger.info('heartbeat works again');
      this.#failed = false;
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      if (!this.#failed) this.#logger.error('heartbeat failed', { error: describe(error) });
      this.#failed = true;
    }
  }

  async #request(): Promise<void> {
    const url = new URL(this.#options.url);
    const authorization = basicAuthorization(url);
    url.username = url.password = '';
    const timeout = AbortSignal.timeout(REQUEST_TIMEOUT_MS);
    const response = await fetch(url, {
      headers: authorization === undefined ? {} : { authorization },
      signal: AbortSignal.any([timeout, this.#ending.signal]),
    });
    await response.body?.cancel();
    if (!response.ok) throw new LitestreamError('unavailable', `${url.host} answers ${response.status}`);
  }
}

/** Without the URL, whose path is often the secret. */
function describe(error: unknown): string {
  if (error instanceof LitestreamError) return error.message;
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return messageOf(cause).replaceAll(/https?:\S+/g, 'heartbeat-url');
}
