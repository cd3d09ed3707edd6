/** Objects in this process's memory, for tests and trials: the contract in its plainest form. */

import { throwIfAborted } from '../../base/concurrency.ts';
import { LitestreamError } from '../../base/errors.ts';
import { abortable, collect } from '../body.ts';
import { boundsOf } from '../byte-range.ts';
import { checkFolderPrefix, checkKey, checkPrefix } from '../key.ts';
import { objectExists } from '../object-exists.ts';
import type {
  CallOptions,
  GetOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StoreCapabilities,
} from '../object-store.ts';

interface StoredObject {
  readonly info: ObjectInfo;
  readonly data: Uint8Array;
}

/** An empty store. Its objects end with it. */
export function openMemoryStore(): ObjectStore {
  return new MemoryStore();
}

class MemoryStore implements ObjectStore {
  readonly type = 'memory';
  readonly location = 'memory';
  readonly capabilities: StoreCapabilities = { local: true, concurrency: 4 };
  readonly #objects = new Map<string, StoredObject>();

  // eslint-disable-next-line @typescript-eslint/require-await -- the contract is asynchronous
  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    checkPrefix(prefix);
    throwIfAborted(options.signal);
    for (const [key, { info }] of this.#objects) {
      throwIfAborted(options.signal);
      if (key.startsWith(prefix)) yield info;
    }
  }

  async *listPrefixes(prefix: string, options: CallOptions = {}): AsyncGenerator<string, void, undefined> {
    checkFolderPrefix(prefix);
    const names = new Set<string>();
    for await (const { key } of this.list(prefix, options)) {
      const slash = key.indexOf('/', prefix.length);
      if (slash >= 0) names.add(key.slice(prefix.length, slash));
    }
    yield* names;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the contract is asynchronous
  async stat(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    throwIfAborted(options.signal);
    return this.#objects.get(key)?.info;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the contract is asynchronous
  async get(key: string, options: GetOptions = {}): Promise<ObjectBody> {
    checkKey(key);
    throwIfAborted(options.signal);
    const { start, end } = boundsOf(key, options.range);
    const object = this.#objects.get(key);
    if (object === undefined) throw new LitestreamError('not-found', `no such object: ${key}`);
    const data = object.data.subarray(start, Math.min(end, object.data.length));
    return { sizeBytes: data.length, stream: chunksOf(data, options.signal) };
  }

  async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<ObjectInfo> {
    checkKey(key);
    throwIfAborted(options.signal);
    const data =
      body instanceof Uint8Array ? Uint8Array.from(body) : await collect(abortable(body, options.signal));
    throwIfAborted(options.signal);
    if (options.ifAbsent === true && this.#objects.has(key)) throw objectExists(key);
    const info = { key, sizeBytes: data.length, modifiedAt: new Date() };
    this.#objects.set(key, { info, data });
    return info;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the contract is asynchronous
  async delete(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key);
    throwIfAborted(options.signal);
    for (const key of keys) this.#objects.delete(key);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Copies, so that nobody can change what is stored. */
// eslint-disable-next-line @typescript-eslint/require-await -- the contract is asynchronous
async function* chunksOf(
  data: Uint8Array,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  const size = 64 * 1024;
  for (let offset = 0; offset < data.length; offset += size) {
    throwIfAborted(signal);
    yield data.slice(offset, offset + size);
  }
}
