/** Sends the SDK's requests for one container and key prefix, and gives our errors. */

import type { BlockBlobClient, ContainerClient } from '@azure/storage-blob';
import { allowManyListeners, throwIfAborted } from '../../base/concurrency.ts';
import type { AbsStoreConfig } from '../store-config.ts';
import type { AbsTimeouts } from './agents.ts';
import { connect, targetOf } from './client.ts';
import type { Connection } from './client.ts';
import { absError } from './errors.ts';
import type { AbsTarget } from './errors.ts';

/** What a request needs of its call: the SDK knows no `undefined`. */
export interface Abortable {
  readonly abortSignal?: AbortSignal;
}

export class AbsSession {
  readonly target: AbsTarget;
  readonly #config: AbsStoreConfig;
  readonly #timeouts: AbsTimeouts;
  /** Empty, or ends with a slash. */
  readonly #prefix: string;
  #connection: Connection | undefined;

  constructor(config: AbsStoreConfig, timeouts: AbsTimeouts) {
    this.#config = config;
    this.#timeouts = timeouts;
    this.target = targetOf(config);
    this.#prefix = config.path === '' ? '' : `${config.path}/`;
  }

  /** The blob's name of a key of ours, or the beginning of names for a prefix of keys. */
  nameOf(key: string): string {
    return this.#prefix + key;
  }

  /** The key of ours for a blob's name in the container. */
  keyOf(name: string): string {
    return name.slice(this.#prefix.length);
  }

  /** @param what - the operation and its object, for messages. */
  async send<T>(
    request: (container: ContainerClient, options: Abortable) => Promise<T>,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    throwIfAborted(signal);
    allowManyListeners(signal);
    try {
      this.#connection ??= connect(this.#config, this.#timeouts);
      return await request(this.#connection.container, signal === undefined ? {} : { abortSignal: signal });
    } catch (error) {
      throw absError(error, what, this.target, signal);
    }
  }

  /** As send(), for the blob of `key`. */
  sendFor<T>(
    key: string,
    request: (blob: BlockBlobClient, options: Abortable) => Promise<T>,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const name = this.nameOf(key);
    return this.send(
      (container, options) => request(container.getBlockBlobClient(name), options),
      what,
      signal,
    );
  }

  close(): void {
    this.#connection?.close();
    this.#connection = undefined;
  }
}
