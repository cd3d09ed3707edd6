/** Reads objects ahead of their use: in order, several requests at once, bounded in count and bytes. */

import { Semaphore, allowManyListeners, linkSignals, throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError } from '../base/errors.ts';
import type { ObjectStore } from '../storage/object-store.ts';

/**
 * Objects up to this size are read in one request. Larger ones are streamed from a local store, and come from a remote
 * one in ranges, several at once, since one connection seldom fills the line.
 */
const WHOLE_LIMIT = 8 << 20;
const RANGE_SIZE = 4 << 20;
/** The largest object that any store takes: 5 TiB. */
const MAX_OBJECT_SIZE = 5 * 2 ** 40;
/** Bytes that are read ahead, all objects together. */
const AHEAD_LIMIT = 48 << 20;
/** Requests that are answered or under way, for each that may be under way. */
const AHEAD_PER_REQUEST = 4;
/** Chunks of a stream that are read ahead. */
const CHUNKS_AHEAD = 2;

export interface FetchOptions {
  /** Requests at once; >= 1. */
  readonly parallelism: number;
  readonly signal?: AbortSignal | undefined;
  /** Told of the bytes as they are used; of an object that is used up in all as many as it is stored with. */
  readonly onBytes?: (byteCount: number) => void;
}

export interface Fetchable {
  readonly key: string;
  readonly sizeBytes: number;
}

export interface Fetched<T extends Fetchable> {
  readonly object: T;
  /** Its bytes. The next object may be asked for, and its body begun, before they are used. */
  readonly body: AsyncIterable<Uint8Array>;
}

/**
 * The objects in the given order. When the iteration is left early, what was read ahead is dropped and requests that
 * are under way are aborted. Errors come out of the body.
 */
export function* fetchInOrder<T extends Fetchable>(
  store: ObjectStore,
  objects: readonly T[],
  options: FetchOptions,
): Generator<Fetched<T>, undefined, undefined> {
  const leaving = new AbortController();
  const { signal, unlink } = linkSignals(options.signal, leaving.signal);
  // Every request listens to it.
  allowManyListeners(signal);
  const streams = ({ sizeBytes }: Fetchable): boolean => store.capabilities.local && sizeBytes > WHOLE_LIMIT;
  const pieces = objects.map((object) => new Pieces(object, streams(object)));
  const ahead = new ReadAhead(store, pieces, options.parallelism, signal);
  try {
    for (const [i, object] of objects.entries()) {
      throwIfAborted(options.signal);
      ahead.startMore();
      const own = pieces[i];
      const body =
        own === undefined || streams(object) ? streamed(store, object.key, signal) : ahead.body(own);
      yield { object, body: counted(body, object, options.onBytes) };
    }
  } finally {
    leaving.abort();
    unlink();
  }
  return undefined;
}

/** What one request reads. */
interface Piece {
  readonly key: string;
  /** undefined: the whole object. */
  readonly range: { readonly start: number; readonly end: number } | undefined;
  readonly sizeBytes: number;
}

/** What the requests for one object read. Made when they are needed: a listing may say that it is of any size. */
class Pieces {
  readonly count: number;
  /** Those before it are used up. */
  used = 0;
  /** What was asked for and not used, by the number of the piece. */
  readonly asked: Map<number, Promise<Buffer>> = new Map();
  readonly #object: Fetchable;

  constructor(object: Fetchable, streamed: boolean) {
    this.#object = object;
    const { sizeBytes } = object;
    const isWhole = sizeBytes <= WHOLE_LIMIT;
    // What has a size that cannot be is refused when its turn comes, and nothing is asked for before.
    const ahead = !streamed && isPossible(sizeBytes);
    this.count = !ahead ? 0 : isWhole ? 1 : Math.ceil(sizeBytes / RANGE_SIZE);
  }

  at(number: number): Piece {
    const { key, sizeBytes } = this.#object;
    if (sizeBytes <= WHOLE_LIMIT) return { key, range: undefined, sizeBytes };
    const start = number * RANGE_SIZE;
    const end = Math.min(start + RANGE_SIZE, sizeBytes);
    return { key, range: { start, end }, sizeBytes: end - start };
  }
}

/** Asks for pieces in their order as long as there is room for them. */
class ReadAhead {
  readonly #store: ObjectStore;
  readonly #objects: readonly Pieces[];
  readonly #signal: AbortSignal;
  readonly #requests: Semaphore;
  readonly #limit: number;
  /** The first piece that was not looked at yet: of which object, and its number. */
  #object = 0;
  #number = 0;
  /** What was asked for and not used. */
  #count = 0;
  #bytes = 0;

  constructor(store: ObjectStore, objects: readonly Pieces[], parallelism: number, signal: AbortSignal) {
    this.#store = store;
    this.#objects = objects;
    this.#signal = signal;
    this.#requests = new Semaphore(parallelism);
    this.#limit = parallelism * AHEAD_PER_REQUEST;
  }

  startMore(): void {
    while (this.#count < this.#limit) {
      const pieces = this.#objects[this.#object];
      if (pieces === undefined) return;
      const number = Math.max(this.#number, pieces.used);
      if (number >= pieces.count) {
        this.#object++;
        this.#number = 0;
        continue;
      }
      if (this.#count > 0 && this.#bytes + pieces.at(number).sizeBytes > AHEAD_LIMIT) return;
      void this.#start(pieces, number);
      this.#number = number + 1;
    }
  }

  /** The bytes of an object's pieces. What of them is not used makes room too. */
  async *body(pieces: Pieces): AsyncGenerator<Uint8Array> {
    try {
      for (let number = 0; number < pieces.count; number++) {
        // Begun before its turn, it may be beyond what there is room for: one piece, since only one object is.
        const data = await this.#start(pieces, number);
        this.#use(pieces, number);
        this.startMore();
        yield data;
      }
    } finally {
      for (const number of [...pieces.asked.keys()]) this.#use(pieces, number);
      pieces.used = pieces.count;
    }
  }

  #start(pieces: Pieces, number: number): Promise<Buffer> {
    const known = pieces.asked.get(number);
    if (known !== undefined) return known;
    const piece = pieces.at(number);
    this.#count++;
    this.#bytes += piece.sizeBytes;
    const data = this.#requests.run(() => this.#read(piece), { signal: this.#signal });
    pieces.asked.set(number, data);
    // Whoever comes to it awaits it; nobody does when the restore has failed before.
    data.catch(() => undefined);
    return data;
  }

  #use(pieces: Pieces, number: number): void {
    if (pieces.asked.delete(number)) {
      this.#count--;
      this.#bytes -= pieces.at(number).sizeBytes;
    }
    pieces.used = Math.max(pieces.used, number + 1);
  }

  async #read({ key, range, sizeBytes }: Piece): Promise<Buffer> {
    const { stream } = await this.#store.get(key, { signal: this.#signal, range });
    const chunks: Uint8Array[] = [];
    let received = 0;
    for await (const chunk of stream) {
      received += chunk.byteLength;
      if (received > sizeBytes) throw changedSize(key);
      chunks.push(chunk);
    }
    return Buffer.concat(chunks);
  }
}

function isPossible(sizeBytes: number): boolean {
  return sizeBytes >= 0 && sizeBytes <= MAX_OBJECT_SIZE;
}

function changedSize(key: string): LitestreamError {
  const message = `object ${key} is larger than the store said when it listed it: something wrote it anew, or the store is wrong; try again`;
  return new LitestreamError('io', message);
}

/** The chunks of an object, as long as they are no more than it was listed with. */
async function* counted(
  chunks: AsyncIterable<Uint8Array>,
  { key, sizeBytes }: Fetchable,
  onBytes: FetchOptions['onBytes'],
): AsyncGenerator<Uint8Array> {
  if (!isPossible(sizeBytes)) {
    throw new LitestreamError(
      'io',
      `the store says that object ${key} has ${sizeBytes} bytes, more than an object can have: check the store`,
    );
  }
  let left = sizeBytes;
  for await (const chunk of chunks) {
    if (chunk.byteLength > left) throw changedSize(key);
    left -= chunk.byteLength;
    onBytes?.(chunk.byteLength);
    yield chunk;
  }
  // What is stored encrypted holds less than its size.
  if (left > 0) onBytes?.(left);
}

/** The chunks of an object, the next ones being read while one is used. */
async function* streamed(store: ObjectStore, key: string, signal: AbortSignal): AsyncGenerator<Uint8Array> {
  const { stream } = await store.get(key, { signal });
  const iterator = stream[Symbol.asyncIterator]();
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
