/** A decorator that keeps the requests of all stores of a process, together, under one limit. */

import type { Semaphore } from '../base/concurrency.ts';
import { ForwardingStore } from './forwarding-store.ts';
import type {
  CallOptions,
  GetOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  PutOptions,
} from './object-store.ts';

/**
 * `store`, of which each request takes one of `places` from its beginning to the end of its answer, body included: a
 * page of a listing, a get, a delete, a put. An upload in parts takes more only while there are free ones, so that it
 * gets on with one. Whoever reads a body must not wait for another call before its end.
 */
export function withLimit(store: ObjectStore, places: Semaphore): ObjectStore {
  return new LimitedStore(store, places);
}

class LimitedStore extends ForwardingStore {
  readonly #places: Semaphore;

  constructor(store: ObjectStore, places: Semaphore) {
    super(store);
    this.#places = places;
  }

  override list(prefix: string, options: CallOptions = {}): AsyncIterable<ObjectInfo> {
    return this.#paged(this.inner.list(prefix, options), options);
  }

  override listPrefixes(prefix: string, options: CallOptions = {}): AsyncIterable<string> {
    return this.#paged(this.inner.listPrefixes(prefix, options), options);
  }

  /** Between two items nothing is asked for: whoever uses one may make other calls. */
  async *#paged<T>(items: AsyncIterable<T>, options: CallOptions): AsyncGenerator<T, void, undefined> {
    const iterator = items[Symbol.asyncIterator]();
    try {
      for (;;) {
        const result = await this.#places.run(() => iterator.next(), options);
        if (result.done === true) return;
        yield result.value;
      }
    } finally {
      await iterator.return?.();
    }
  }

  override async get(key: string, options: GetOptions = {}): Promise<ObjectBody> {
    const release = await this.#places.acquire(options);
    try {
      const { sizeBytes, stream } = await this.inner.get(key, options);
      return { sizeBytes, stream: finishing(stream, release) };
    } catch (error) {
      release();
      throw error;
    }
  }

  override put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<ObjectInfo> {
    const spare = (): (() => void) | undefined => this.#places.tryAcquire();
    return this.#places.run(() => this.inner.put(key, body, { ...options, spare }), options);
  }

  override delete(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    return this.#places.run(() => this.inner.delete(keys, options), options);
  }

  protected override forwardStat(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    return this.#places.run(() => super.forwardStat(key, options), options);
  }

  protected override forwardPutIfAbsent(
    key: string,
    data: Uint8Array,
    options: CallOptions = {},
  ): Promise<boolean> {
    return this.#places.run(() => super.forwardPutIfAbsent(key, data, options), options);
  }

  protected override forwardRemoveAbandoned(
    prefix: string,
    before: Date,
    options: CallOptions = {},
  ): Promise<number> {
    return this.#places.run(() => super.forwardRemoveAbandoned(prefix, before, options), options);
  }
}

/** `stream`, with `onEnd` called at its end, however it comes: also when it is given up before its first chunk. */
function finishing(stream: AsyncIterable<Uint8Array>, onEnd: () => void): AsyncIterable<Uint8Array> {
  return {
    [Symbol.asyncIterator](): AsyncIterator<Uint8Array> {
      const iterator = stream[Symbol.asyncIterator]();
      return {
        next: async () => {
          try {
            const result = await iterator.next();
            if (result.done === true) onEnd();
            return result;
          } catch (error) {
            onEnd();
            throw error;
          }
        },
        return: async () => {
          onEnd();
          await iterator.return?.();
          return { done: true, value: undefined };
        },
      };
    },
  };
}
