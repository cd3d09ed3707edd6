/** Reads objects ahead of their use: in order, several requests at once, bounded in count and bytes. */

import { setMaxListeners } from 'node:events';
import { Semaphore, throwIfAborted } from '../base/concurrency.ts';
import type { ObjectStore } from '../storage/object-store.ts';

/** Objects up to this size are read whole and ahead; larger ones are streamed when it is their turn. */
const WHOLE_LIMIT = 8 << 20;
/** Bytes that are read ahead, all objects together. */
const AHEAD_LIMIT = 32 << 20;
/** Objects that are read ahead, for each request that may run at once. */
const AHEAD_PER_REQUEST = 4;
/** Chunks of a stream that are read ahead. */
const CHUNKS_AHEAD = 2;
/** Ranges in which a large object of a remote store is read. */
const RANGE_SIZE = 4 << 20;

export interface FetchOptions {
  /** Requests at once; >= 1. */
  readonly parallelism: number;
  readonly signal?: AbortSignal | undefined;
  /** Told of the bytes as they are used. */
  readonly onBytes?: (byteCount: number) => void;
}

export interface Fetchable {
  readonly key: string;
  readonly sizeBytes: number;
}

export interface Fetched<T extends Fetchable> {
  readonly object: T;
  /** Its bytes. The next object may be asked for before they are used. */
  readonly body: AsyncIterable<Uint8Array>;
}

/** Requests on a store, a bounded number at once. */
interface Reader {
  /** A whole object or a range of it. A rejection that nobody awaits, since the restore has failed before, is no event. */
  whole(key: string, range?: { start: number; end: number }): Promise<Buffer>;
  stream(key: string): Promise<AsyncIterable<Uint8Array>>;
}

function readerOf(store: ObjectStore, parallelism: number, signal: AbortSignal): Reader {
  const requests = new Semaphore(parallelism);
  const read = async (key: string, range?: { start: number; end: number }): Promise<Buffer> => {
    const { stream } = await store.get(key, { signal, range });
    const chunks: Uint8Array[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    return Buffer.concat(chunks);
  };
  return {
    whole: (key, range) => {
      const promise = requests.run(() => read(key, range), { signal });
      promise.catch(() => undefined);
      return promise;
    },
    stream: async (key) => (await store.get(key, { signal })).stream,
  };
}

/** A signal that fires with `outer` and by abort(); close() ends its tie to `outer`. */
function linkedAbort(outer: AbortSignal | undefined): {
  signal: AbortSignal;
  abort: () => void;
  close: () => void;
} {
  const controller = new AbortController();
  // Every request listens to it: with many at once that is no leak.
  setMaxListeners(0, controller.signal);
  const abort = (): void => controller.abort();
  if (outer?.aborted === true) abort();
  outer?.addEventListener('abort', abort, { once: true });
  return { signal: controller.signal, abort, close: () => outer?.removeEventListener('abort', abort) };
}

/**
 * The objects in the given order. When the iteration is left early, what was read ahead is dropped and requests that
 * are under way are aborted. Errors come out of
 * the body.
 */
export function* fetchInOrder<T extends Fetchable>(
  store: ObjectStore,
  objects: readonly T[],
  options: FetchOptions,
): Generator<Fetched<T>, undefined, undefined> {
  const abort = linkedAbort(options.signal);
  const read = readerOf(store, options.parallelism, abort.signal);
  const ahead: (Promise<Buffer> | undefined)[] = [];
  let started = 0;
  let aheadBytes = 0;
  const startMore = (): void => {
    while (ahead.length < options.parallelism * AHEAD_PER_REQUEST) {
      const next = objects[started];
      if (next === undefined || (ahead.length > 0 && aheadBytes + next.sizeBytes > AHEAD_LIMIT)) return;
      started++;
      const { key, sizeBytes } = next;
      if (sizeBytes > WHOLE_LIMIT) {
        ahead.push(undefined);
        continue;
      }
      aheadBytes += sizeBytes;
      ahead.push(read.whole(key));
    }
  };
  try {
    for (const object of objects) {
      startMore();
      throwIfAborted(options.signal);
      const whole = ahead.shift();
      const chunks = whole ? single(whole) : streamLarge(store, object, options.parallelism, read);
      yield { object, body: counted(chunks, options.onBytes) };
      if (whole) aheadBytes -= object.sizeBytes;
    }
  } finally {
    abort.close();
    abort.abort();
  }
  return undefined;
}

async function* single(data: Promise<Buffer>): AsyncGenerator<Uint8Array> {
  yield await data;
}

async function* counted(
  chunks: AsyncIterable<Uint8Array>,
  onBytes: FetchOptions['onBytes'],
): AsyncGenerator<Uint8Array> {
  for await (const chunk of chunks) {
    onBytes?.(chunk.byteLength);
    yield chunk;
  }
}

/** The chunks of `source`, the next ones being read while one is used. */
async function* readAhead(source: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const iterator = source[Symbol.asyncIterator]();
  const ahead: Promise<IteratorResult<Uint8Array>>[] = [];
  try {
    for (;;) {
      while (ahead.length < CHUNKS_AHEAD) {
        const promise = iterator.next();
        // Whoever comes to it awaits it; nobody does when the restore has failed before.
        promise.catch(() => undefined);
        ahead.push(promise);
      }
      const result = await ahead.shift();
      if (result === undefined || result.done === true) return;
      yield result.value;
    }
  } finally {
    await iterator.return?.();
  }
}

/** A large object as a stream; from a remote store in ranges, several at once, since one connection seldom fills the line. */
async function* streamLarge(
  store: ObjectStore,
  { key, sizeBytes }: Fetchable,
  parallelism: number,
  read: Reader,
): AsyncGenerator<Uint8Array> {
  if (store.capabilities.local || parallelism === 1) {
    yield* readAhead(await read.stream(key));
    return;
  }
  const atOnce = Math.min(parallelism, store.capabilities.concurrency);
  const ranges: Promise<Buffer>[] = [];
  for (let start = 0; start < sizeBytes || ranges.length > 0;) {
    while (start < sizeBytes && ranges.length < atOnce) {
      const range = { start, end: Math.min(start + RANGE_SIZE, sizeBytes) };
      ranges.push(read.whole(key, range));
      start = range.end;
    }
    const data = await ranges.shift();
    if (data) yield data;
  }
}
