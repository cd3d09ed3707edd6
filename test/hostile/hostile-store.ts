/** A store in this process that lies as it is told to, and keeps a record of what was deleted from it. */

import { LitestreamError, type ErrorCode, wrapError } from '../../src/base/errors.ts';
import { complete } from '../../src/storage/body.ts';
import { checkRangeSize } from '../../src/storage/byte-range.ts';
import type {
  GetOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  StoreCapabilities,
} from '../../src/storage/object-store.ts';
import type { BodyLie, Holdings, Lies, Listed, Operation } from './lie.ts';

/** Whoever takes more of an endless body than this keeps no bound. */
const ENDLESS_LIMIT = 64 << 20;
const CHUNK = 64 << 10;
/** A skippable LZ4 frame: it may stand behind any object, and says nothing. */
const SKIPPED = Buffer.alloc(CHUNK);
SKIPPED.writeUInt32LE(0x184d2a50, 0);
SKIPPED.writeUInt32LE(CHUNK - 8, 4);

function failure(code: ErrorCode, what: string): LitestreamError {
  return new LitestreamError(code, `${what}: the hostile store says ${code}`);
}

/** Where the first key stands that is not before `prefix`. */
function firstOf(keys: readonly string[], prefix: string): number {
  let low = 0;
  for (let high = keys.length; low < high;) {
    const middle = (low + high) >> 1;
    if (keys[middle]! < prefix) low = middle + 1;
    else high = middle;
  }
  return low;
}

export class HostileStore implements ObjectStore {
  readonly type = 'hostile';
  readonly location = 'hostile';
  readonly capabilities: StoreCapabilities = { local: false, concurrency: 4 };
  readonly held: Holdings;
  /** Keys that were there and are gone. */
  readonly deleted = new Set<string>();
  /** What a bound was broken of, in words. */
  readonly overruns: string[] = [];
  readonly #lies: Lies;
  #lists = 0;
  #sorted: string[] | undefined;

  constructor(held: Holdings, lies: Lies) {
    this.held = held;
    this.#lies = lies;
  }

  #fail(operation: Operation, key: string): void {
    const code = this.#lies.first((lie) => lie.fail?.(operation, key));
    if (code !== undefined) throw failure(code, `${operation} ${key}`);
  }

  #listed(prefix: string): readonly Listed[] {
    const all: Listed[] = [];
    // By their order: a replica of very many generations is listed for each of them.
    const keys = (this.#sorted ??= [...this.held.keys()].sort());
    for (let at = firstOf(keys, prefix); keys[at]?.startsWith(prefix) === true; at++) {
      const key = keys[at]!;
      const { data, modifiedAt } = this.held.get(key)!;
      all.push({ key, sizeBytes: data.length, modifiedAt });
    }
    return this.#lies.list(all, this.#lists++);
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the contract is asynchronous
  async *list(prefix: string): AsyncGenerator<ObjectInfo, void, undefined> {
    this.#fail('list', prefix);
    const ends = this.#lies.first((lie) => lie.listEnds?.(this.#lists));
    let left = ends?.after ?? Infinity;
    for (const one of this.#listed(prefix)) {
      if (left-- <= 0) break;
      yield one;
    }
    if (ends) throw failure(ends.code, `list ${prefix}`);
  }

  async *listPrefixes(prefix: string): AsyncGenerator<string, void, undefined> {
    const names = new Set<string>();
    for await (const { key } of this.list(prefix)) {
      const slash = key.indexOf('/', prefix.length);
      if (slash >= 0) names.add(key.slice(prefix.length, slash));
    }
    yield* names;
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the contract is asynchronous
  async stat(key: string): Promise<ObjectInfo | undefined> {
    this.#fail('stat', key);
    const object = this.held.get(key);
    if (!object) return undefined;
    const { data, modifiedAt } = object;
    return this.#lies.list([{ key, sizeBytes: data.length, modifiedAt }], this.#lists++)[0];
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the contract is asynchronous
  async get(key: string, { range, signal }: GetOptions = {}): Promise<ObjectBody> {
    this.#fail('get', key);
    const object = this.held.get(key);
    if (!object) throw new LitestreamError('not-found', `no such object: ${key}`);
    const lie = this.#lies.first((each) => each.body?.(key, object.data, this.held)) ?? { data: object.data };
    const { start = 0, end = Infinity } = (lie.whole === true ? undefined : range) ?? {};
    const data = lie.data.subarray(start, Math.min(end, lie.data.length));
    const endless = lie.then === 'endless' && range === undefined;
    const sizeBytes = endless ? Number.MAX_SAFE_INTEGER : (lie.sizeBytes ?? data.length);
    // What each of our drivers does with an answer.
    const what = `get ${key}`;
    checkRangeSize(range, sizeBytes, what);
    const toError = (error: unknown): LitestreamError => wrapError(error, what);
    const stream = this.#stream(key, data, endless ? 'endless' : lie.then);
    return { sizeBytes, stream: complete(stream, { sizeBytes, what, signal, toError }) };
  }

  async *#stream(
    key: string,
    data: Buffer,
    then: BodyLie['then'],
  ): AsyncGenerator<Uint8Array, void, undefined> {
    for (let at = 0; at < data.length; at += CHUNK) {
      yield Uint8Array.from(data.subarray(at, at + CHUNK));
      // Callers are let in between, as they are by a network.
      await new Promise((resolve) => setImmediate(resolve));
    }
    if (then === 'error') throw failure('unavailable', `get ${key}`);
    for (let given = 0; then === 'endless'; given += CHUNK) {
      if (given > ENDLESS_LIMIT) {
        this.overruns.push(`${given} bytes were read of ${key}`);
        throw failure('io', `get ${key}`);
      }
      yield Uint8Array.from(SKIPPED);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<ObjectInfo> {
    this.#fail('put', key);
    const chunks: Uint8Array[] = [];
    if (body instanceof Uint8Array) chunks.push(body);
    else for await (const chunk of body) chunks.push(Uint8Array.from(chunk));
    if (options.ifAbsent === true && this.held.has(key)) throw failure('exists', `put ${key}`);
    const [data, modifiedAt] = [Buffer.concat(chunks), new Date()];
    const lie = this.#lies.first((each) => each.put?.(key));
    this.#sorted = undefined;
    if (lie !== 'lost') this.held.set(key, { data, modifiedAt });
    if (lie === 'done-and-fails') throw failure('unavailable', `put ${key}`);
    return { key, sizeBytes: data.length, modifiedAt };
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- the contract is asynchronous
  async delete(keys: readonly string[]): Promise<void> {
    this.#fail('delete', keys[0] ?? '');
    const count = this.#lies.first((each) => each.deletes?.(keys.length));
    this.#sorted = undefined;
    for (const key of keys.slice(0, count)) if (this.held.delete(key)) this.deleted.add(key);
    if (count !== undefined) throw failure('unavailable', 'delete');
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
