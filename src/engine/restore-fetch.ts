/** Reads objects ahead of their use: in order, several requests at once, bounded in count and bytes. */

import { Semaphore, allowManyListeners, linkSignals, throwIfAborted } from '../base/concurrency.ts';
import type { ObjectStore } from '../storage/object-store.ts';

/**
 * Objects up to this size are read in one request. Larger ones are streamed from a local store, and come from a remote
 * one in ranges, several at once, since one connection seldom fills the line.
 */
const WHOLE_LIMIT = 8 << 20;
const RANGE_SIZE = 4 << 20;
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
  const pieces = objects.map((object) => (streams(object) ? [] : piecesOf(object)));
  const ahead = new ReadAhead(store, pieces.flat(), options.parallelism, signal);
  try {
    for (const [i, object] of objects.entries()) {
      throwIfAborted(options.signal);
      ahead.startMore();
      const own = pieces[i] ?? [];
      const body = streams(object) ? streamed(store, object.key, signal) : ahead.body(own);
      yield { object, body: counted(body, object.sizeBytes, options.onBytes) };
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
  /** Once it was asked for and until it is used. */
  data: Promise<Buffer> | undefined;
  used: boolean;
}

function piecesOf({ key, sizeBytes }: Fetchable): Piece[] {
  if (sizeBytes <= WHOLE_LIMIT) return [{ key, range: undefined, sizeBytes, data: undefined, used: false }];
  const pieces: Piece[] = [];
  for (let start = 0; start < sizeBytes; start += RANGE_SIZE) {
    const end = Math.min(start + RANGE_SIZE, sizeBytes);
    pieces.push({ key, range: { start, end }, sizeBytes: end - start, data: undefined, used: false });
  }
  return pieces;
}

/** Asks for pieces in their order as long as there is room for them. */
class ReadAhead {
  readonly #store: ObjectStore;
  readonly #pieces: readonly Piece[];
  readonly #signal: AbortSignal;
  readonly #requests: Semaphore;
  readonly #limit: number;
  /** The first piece that was not looked at yet. */
  #next = 0;
  /** What was asked for and not used. */
  #count = 0;
  #bytes = 0;

  constructor(store: ObjectStore, pieces: readonly Piece[], parallelism: number, signal: AbortSignal) {
    this.#store = store;
    this.#pieces = pieces;
    this.#signal = signal;
    this.#requests = new Semaphore(parallelism);
    this.#limit = parallelism * AHEAD_PER_REQUEST;
  }

  startMore(): void {
    for (; this.#count < this.#limit; this.#next++) {
      const piece = this.#pieces[this.#next];
      if (piece === undefined) return;
      if (this.#count > 0 && this.#bytes + piece.sizeBytes > AHEAD_LIMIT) return;
      if (!piece.used) void this.#start(piece);
    }
  }

  /** The bytes of an object's pieces. What of them is not used makes room too. */
  async *body(pieces: readonly Piece[]): AsyncGenerator<Uint8Array> {
    try {
      for (const piece of pieces) {
        // Begun before its turn, it may be beyond what there is room for: one piece, since only one object is.
        const data = await this.#start(piece);
        this.#use(piece);
        this.startMore();
        yield data;
      }
    } finally {
      for (const piece of pieces) this.#use(piece);
    }
  }

  #start(piece: Piece): Promise<Buffer> {
    if (piece.data === undefined) {
      this.#count++;
      this.#bytes += piece.sizeBytes;
      piece.data = this.#requests.run(() => this.#read(piece), { signal: this.#signal });
      // Whoever comes to it awaits it; nobody does when the restore has failed before.
      piece.data.catch(() => undefined);
    }
    return piece.data;
  }

  #use(piece: Piece): void {
    if (piece.data !== undefined) {
      this.#count--;
      this.#bytes -= piece.sizeBytes;
    }
    piece.data = undefined;
    piece.used = true;
  }

  async #read({ key, range }: Piece): Promise<Buffer> {
    const { stream } = await this.#store.get(key, { signal: this.#signal, range });
    const chunks: Uint8Array[] = [];
    for await (const chunk of stream) chunks.push(chunk);
    return Buffer.concat(chunks);
  }
}

async function* counted(
  chunks: AsyncIterable<Uint8Array>,
  sizeBytes: number,
  onBytes: FetchOptions['onBytes'],
): AsyncGenerator<Uint8Array> {
  let left = sizeBytes;
  for await (const chunk of chunks) {
    const count = Math.min(chunk.byteLength, left);
    left -= count;
    onBytes?.(count);
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
