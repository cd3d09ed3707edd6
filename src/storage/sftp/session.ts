/** Keeps one connection: made when it is first needed, shared by all calls, made anew after it broke. */

import { abortedError, throwIfAborted } from '../../base/concurrency.ts';
import type { SftpStoreConfig } from '../store-config.ts';
import { SftpChannel } from './channel.ts';
import type { SftpTimeouts } from './channel.ts';
import type { SftpTarget } from './errors.ts';

export class SftpSession {
  readonly target: SftpTarget;
  readonly #config: SftpStoreConfig;
  readonly #timeouts: SftpTimeouts;
  readonly #warn: ((message: string) => void) | undefined;
  #current: Promise<SftpChannel> | undefined;
  readonly #closing = new AbortController();

  constructor(
    config: SftpStoreConfig,
    target: SftpTarget,
    timeouts: SftpTimeouts,
    warn: ((message: string) => void) | undefined,
  ) {
    this.#config = config;
    this.target = target;
    this.#timeouts = timeouts;
    this.#warn = warn;
  }

  /**
   * A channel that works as far as is known. The signal ends the wait only: others may wait for the same connection.
   * @throws LitestreamError why there is none; the next call tries again.
   */
  async channel(signal: AbortSignal | undefined): Promise<SftpChannel> {
    throwIfAborted(signal);
    const current = (this.#current ??= this.#open());
    const channel = await orAborted(current, signal);
    if (channel.broken === undefined) return channel;
    if (this.#current === current) this.#current = undefined;
    return orAborted((this.#current ??= this.#open()), signal);
  }

  #open(): Promise<SftpChannel> {
    const opening = SftpChannel.open(this.#config, this.target, this.#timeouts, {
      warn: this.#warn,
      signal: this.#closing.signal,
    });
    opening.catch(() => {
      if (this.#current === opening) this.#current = undefined;
    });
    return opening;
  }

  /** Closes the connection, also one that is being made. Later calls fail. Idempotent. */
  async close(): Promise<void> {
    this.#closing.abort();
    const current = this.#current;
    this.#current = undefined;
    // One that cannot be made needs no end.
    const channel = await current?.catch(() => undefined);
    await channel?.end();
  }
}

async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(abortedError(signal));
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
