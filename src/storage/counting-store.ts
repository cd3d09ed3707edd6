/**
 * Counts operations and bytes by kind of store: process-wide for metrics, and for each replica. An operation is a call of the contract: an
 * upload in parts is one PUT, a listing of many pages one LIST.
 */

import { ForwardingStore } from './forwarding-store.ts';
import type {
  CallOptions,
  GetOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  PutOptions,
} from './object-store.ts';

export type StoreOperation = 'PUT' | 'GET' | 'LIST' | 'DELETE';

export interface RequestCount {
  /** The store's type: `file`, `s3`. */
  readonly type: string;
  readonly operation: StoreOperation;
  /** Calls made since the process started, failed ones included. */
  readonly count: number;
  /** Body bytes written by successful PUTs, or read by GETs. */
  readonly bytes: number;
}

interface Tally {
  readonly type: string;
  readonly operation: StoreOperation;
  count: number;
  bytes: number;
}

/** Where counting stores count. */
export class RequestTallies {
  readonly #tallies = new Map<string, Tally>();
  /** Goes up with every call, answer, and piece of a body, but for stat(): while it stands still nothing moves. */
  activity = 0;

  counts(): RequestCount[] {
    return [...this.#tallies.values()].map((tally) => ({ ...tally }));
  }

  of(type: string, operation: StoreOperation): Tally {
    const name = `${type} ${operation}`;
    let tally = this.#tallies.get(name);
    if (tally === undefined) {
      tally = { type, operation, count: 0, bytes: 0 };
      this.#tallies.set(name, tally);
    }
    return tally;
  }

  /** `stream`; each piece is activity and is given to `onChunk`. */
  async *watch<T>(stream: AsyncIterable<T>, onChunk: (chunk: T) => void): AsyncGenerator<T, void, undefined> {
    for await (const chunk of stream) {
      this.activity++;
      onChunk(chunk);
      yield chunk;
    }
    this.activity++;
  }
}

const processWide = new RequestTallies();

/** What all counting stores of this process have done so far. */
export function requestCounts(): RequestCount[] {
  return processWide.counts();
}

/** `store`, counted in `tallies`; process-wide by default. */
export function withCounts(store: ObjectStore, tallies: RequestTallies = processWide): ObjectStore {
  return new CountingStore(store, tallies);
}

class CountingStore extends ForwardingStore {
  readonly #tallies: RequestTallies;

  constructor(store: ObjectStore, tallies: RequestTallies) {
    super(store);
    this.#tallies = tallies;
  }

  #begin(operation: StoreOperation): Tally {
    const tally = this.#tallies.of(this.type, operation);
    tally.count++;
    this.#tallies.activity++;
    return tally;
  }

  override async *list(prefix: string, options?: CallOptions): AsyncGenerator<ObjectInfo, void, undefined> {
    this.#begin('LIST');
    yield* this.#tallies.watch(this.inner.list(prefix, options), () => undefined);
  }

  override async *listPrefixes(
    prefix: string,
    options?: CallOptions,
  ): AsyncGenerator<string, void, undefined> {
    this.#begin('LIST');
    yield* this.#tallies.watch(this.inner.listPrefixes(prefix, options), () => undefined);
  }

  override async get(key: string, options?: GetOptions): Promise<ObjectBody> {
    const tally = this.#begin('GET');
    const { sizeBytes, stream } = await this.inner.get(key, options);
    return { sizeBytes, stream: this.#tallies.watch(stream, (chunk) => (tally.bytes += chunk.length)) };
  }

  override async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options?: PutOptions,
  ): Promise<ObjectInfo> {
    const tally = this.#begin('PUT');
    const watched = body instanceof Uint8Array ? body : this.#tallies.watch(body, () => undefined);
    const info = await this.inner.put(key, watched, options);
    tally.bytes += info.sizeBytes;
    this.#tallies.activity++;
    return info;
  }

  override delete(keys: readonly string[], options?: CallOptions): Promise<void> {
    this.#begin('DELETE');
    return this.inner.delete(keys, options);
  }

  /** No activity: it is looked whether something is there also while all else stands still. */
  protected override forwardStat(key: string, options?: CallOptions): Promise<ObjectInfo | undefined> {
    this.#tallies.of(this.type, 'GET').count++;
    return super.forwardStat(key, options);
  }

  protected override forwardPutIfAbsent(
    key: string,
    data: Uint8Array,
    options?: CallOptions,
  ): Promise<boolean> {
    this.#begin('PUT');
    return super.forwardPutIfAbsent(key, data, options);
  }

  protected override forwardRemoveAbandoned(
    prefix: string,
    before: Date,
    options?: CallOptions,
  ): Promise<number> {
    this.#begin('DELETE');
    return super.forwardRemoveAbandoned(prefix, before, options);
  }
}
