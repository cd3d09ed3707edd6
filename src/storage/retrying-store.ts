/**
 * A decorator that tries again what failed for a passing reason ('unavailable', 'timeout'), with exponential back-off
 * and the server's Retry-After. Everything that it repeats is idempotent by the store's contract.
 */

import { sleep, throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError } from '../base/errors.ts';
import { ForwardingStore } from './forwarding-store.ts';
import type {
  CallOptions,
  GetOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  PutOptions,
} from './object-store.ts';
import { isRetryable, retryDelayMs, retrying } from './retry.ts';
import type { RetryOptions } from './retry.ts';

/**
 * `store` with retries. A put of a stream is repeated only while nothing was taken from the stream; a body that is cut
 * goes on with a ranged get from where it stopped, and its attempts count anew after each byte of progress; a listing
 * starts over without yielding anything twice, holding what it yielded in memory until it ends.
 * A putIfAbsent is not repeated.
 * The signal in `options` ends waits of calls that bring none of their own.
 */
export function withRetry(store: ObjectStore, options: RetryOptions): ObjectStore {
  return new RetryingStore(store, options);
}

class RetryingStore extends ForwardingStore {
  readonly #options: RetryOptions;

  constructor(store: ObjectStore, options: RetryOptions) {
    super(store);
    this.#options = options;
  }

  #with(options: CallOptions): RetryOptions & { signal: AbortSignal | undefined } {
    return { ...this.#options, signal: options.signal ?? this.#options.signal };
  }

  override list(prefix: string, options: CallOptions = {}): AsyncIterable<ObjectInfo> {
    const retry = this.#with(options);
    const list = (): AsyncIterable<ObjectInfo> => this.inner.list(prefix, { signal: retry.signal });
    return restarting(list, (info) => info.key, retry);
  }

  override listPrefixes(prefix: string, options: CallOptions = {}): AsyncIterable<string> {
    const retry = this.#with(options);
    const list = (): AsyncIterable<string> => this.inner.listPrefixes(prefix, { signal: retry.signal });
    return restarting(list, (name) => name, retry);
  }

  override async get(key: string, options: GetOptions = {}): Promise<ObjectBody> {
    const retry = this.#with(options);
    const start = options.range?.start ?? 0;
    const open = (range: GetOptions['range']): Promise<ObjectBody> =>
      this.inner.get(key, { signal: retry.signal, range });
    const body = await retrying(() => open(options.range), retry);
    const end = start + body.sizeBytes;
    return { sizeBytes: body.sizeBytes, stream: resuming(body, { key, start, end, open, retry }) };
  }

  override put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<ObjectInfo> {
    const retry = this.#with(options);
    const putOptions = { ...options, signal: retry.signal };
    if (body instanceof Uint8Array) {
      return retrying(() => this.inner.put(key, body, putOptions), retry);
    }
    const source = new UntakenSource(body);
    return retrying(
      () => this.inner.put(key, source, putOptions),
      retry,
      () => !source.taken,
    );
  }

  override delete(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    const retry = this.#with(options);
    return retrying(() => this.inner.delete(keys, { signal: retry.signal }), retry);
  }

  protected override forwardStat(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    const retry = this.#with(options);
    return retrying(() => super.forwardStat(key, { signal: retry.signal }), retry);
  }

  protected override forwardContentSize(
    object: Pick<ObjectInfo, 'key' | 'sizeBytes'>,
    options: CallOptions = {},
  ): Promise<number> {
    const retry = this.#with(options);
    return retrying(() => super.forwardContentSize(object, { signal: retry.signal }), retry);
  }

  protected override forwardRemoveAbandoned(
    prefix: string,
    before: Date,
    options: CallOptions = {},
  ): Promise<number> {
    const retry = this.#with(options);
    return retrying(() => super.forwardRemoveAbandoned(prefix, before, { signal: retry.signal }), retry);
  }
}

/** A stream that can be handed out again as long as nobody has asked for its first chunk. */
class UntakenSource implements AsyncIterable<Uint8Array> {
  readonly #source: AsyncIterable<Uint8Array>;
  taken = false;

  constructor(source: AsyncIterable<Uint8Array>) {
    this.#source = source;
  }

  // A generator's body runs only from the first next() on, so opening and closing this touches nothing.
  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    this.taken = true;
    yield* this.#source;
  }
}

/** The items of `list()`, called again after a passing failure, each distinct one once. */
async function* restarting<T>(
  list: () => AsyncIterable<T>,
  nameOf: (item: T) => string,
  retry: RetryOptions,
): AsyncGenerator<T, void, undefined> {
  const seen = new Set<string>();
  for (let failures = 0; ; failures++) {
    try {
      for await (const item of list()) {
        const name = nameOf(item);
        if (seen.has(name)) continue;
        seen.add(name);
        yield item;
      }
      return;
    } catch (error) {
      if (!isRetryable(error) || failures + 1 >= retry.attempts) throw error;
      await sleep(retryDelayMs(error, failures, retry), retry);
    }
  }
}

interface Resumption {
  readonly key: string;
  /** The bytes of the object that the first body was to yield. */
  readonly start: number;
  readonly end: number;
  readonly open: (range: { start: number; end: number }) => Promise<ObjectBody>;
  readonly retry: RetryOptions;
}

/** The bytes of `body`; when it is cut, those of further bodies that begin where it stopped. */
async function* resuming(body: ObjectBody, rest: Resumption): AsyncGenerator<Uint8Array, void, undefined> {
  const { end, retry } = rest;
  let offset = rest.start;
  let current: ObjectBody | undefined = body;
  let failures = 0;
  for (;;) {
    try {
      current ??= await rest.open({ start: offset, end });
      if (offset + current.sizeBytes !== end) {
        throw new LitestreamError(
          'io',
          `object ${rest.key} changed its size while it was read; read it again`,
        );
      }
      for await (const chunk of current.stream) {
        offset += chunk.length;
        failures = 0;
        yield chunk;
      }
      return;
    } catch (error) {
      if (!isRetryable(error) || ++failures >= retry.attempts) throw error;
      // All bytes came before the connection broke: nothing is missing.
      if (offset === end) return;
      current = undefined;
      throwIfAborted(retry.signal);
      await sleep(retryDelayMs(error, failures - 1, retry), retry);
    }
  }
}
