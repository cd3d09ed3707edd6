/**
 * Counts operations and bytes by kind of store, process-wide, for metrics. An operation is a call of the contract: an
 * upload in parts is one PUT, a listing of many pages one LIST.
 */

import type {
  CallOptions,
  GetOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StoreCapabilities,
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

const tallies = new Map<string, Tally>();

/** What all counting stores of this process have done so far. */
export function requestCounts(): RequestCount[] {
  return [...tallies.values()].map((tally) => ({ ...tally }));
}

function tallyOf(type: string, operation: StoreOperation): Tally {
  const name = `${type} ${operation}`;
  let tally = tallies.get(name);
  if (tally === undefined) {
    tally = { type, operation, count: 0, bytes: 0 };
    tallies.set(name, tally);
  }
  return tally;
}

/** `store`, counted. */
export function withCounts(store: ObjectStore): ObjectStore {
  return new CountingStore(store);
}

class CountingStore implements ObjectStore {
  readonly #store: ObjectStore;

  constructor(store: ObjectStore) {
    this.#store = store;
  }

  get type(): string {
    return this.#store.type;
  }

  get location(): string {
    return this.#store.location;
  }

  get capabilities(): StoreCapabilities {
    return this.#store.capabilities;
  }

  async *list(prefix: string, options?: CallOptions): AsyncGenerator<ObjectInfo, void, undefined> {
    tallyOf(this.type, 'LIST').count++;
    yield* this.#store.list(prefix, options);
  }

  async *listPrefixes(prefix: string, options?: CallOptions): AsyncGenerator<string, void, undefined> {
    tallyOf(this.type, 'LIST').count++;
    yield* this.#store.listPrefixes(prefix, options);
  }

  async get(key: string, options?: GetOptions): Promise<ObjectBody> {
    const tally = tallyOf(this.type, 'GET');
    tally.count++;
    const body = await this.#store.get(key, options);
    return { sizeBytes: body.sizeBytes, stream: counted(body.stream, tally) };
  }

  async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options?: PutOptions,
  ): Promise<ObjectInfo> {
    const tally = tallyOf(this.type, 'PUT');
    tally.count++;
    const info = await this.#store.put(key, body, options);
    tally.bytes += info.sizeBytes;
    return info;
  }

  delete(keys: readonly string[], options?: CallOptions): Promise<void> {
    tallyOf(this.type, 'DELETE').count++;
    return this.#store.delete(keys, options);
  }

  close(): Promise<void> {
    return this.#store.close();
  }
}

async function* counted(
  stream: AsyncIterable<Uint8Array>,
  tally: Tally,
): AsyncGenerator<Uint8Array, void, undefined> {
  for await (const chunk of stream) {
    tally.bytes += chunk.length;
    yield chunk;
  }
}
