/** Objects in a Google Cloud Storage bucket, under a key prefix. It must not know what the objects are. */

import type { IncomingMessage } from 'node:http';
import { throwIfAborted } from '../../base/concurrency.ts';
import { LitestreamError, assert } from '../../base/errors.ts';
import { abortable, complete, nothing } from '../body.ts';
import { checkRangeSize, rangeHeader } from '../byte-range.ts';
import { checkFolderPrefix, checkKey, checkPrefix, isKey } from '../key.ts';
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
import { PageOrder } from '../page-order.ts';
import { BODY_ATTEMPTS } from '../part-sender.ts';
import { partsOf, preceded } from '../parts.ts';
import { retrying } from '../retry.ts';
import type { GcsStoreConfig } from '../store-config.ts';
import { crc32c, encodeCrc32c } from './crc32c.ts';
import { connectionError, isNoSuchObject, isPreconditionFailed } from './errors.ts';
import { listedObject, listing } from '../listed-object.ts';
import { type Page, parsePage } from './page.ts';
import { DEFAULT_SETTINGS, GcsSession } from './session.ts';
import type { Call, GcsSettings } from './session.ts';
import { parseTime, statObject, uploadChunks, uploadWhole } from './upload.ts';

/** Deletes under way at once: the API takes one object a request. */
const DELETES_AT_ONCE = 16;
const PAGE_SIZE = '1000';

/** Opens a bucket as an object store. Sends nothing before the first call. */
export function openGcsStore(config: GcsStoreConfig, settings: Partial<GcsSettings> = {}): ObjectStore {
  return new GcsStore(config, { ...DEFAULT_SETTINGS, ...settings });
}

class GcsStore implements ObjectStore {
  readonly type = 'gcs';
  readonly location: string;
  readonly capabilities: StoreCapabilities = { local: false, concurrency: 64 };
  readonly #session: GcsSession;

  constructor(config: GcsStoreConfig, settings: GcsSettings) {
    this.#session = new GcsSession(config, settings);
    const url = `gcs://${config.bucket}${config.path === '' ? '' : `/${config.path}`}`;
    const { emulator, target } = this.#session;
    this.location = emulator ? `${url} (endpoint ${target.endpoint})` : url;
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    checkPrefix(prefix);
    for await (const page of this.#pages(prefix, {}, options.signal)) {
      for (const { name, size, timeCreated } of page.items) {
        throwIfAborted(options.signal);
        const key = this.#session.keyOf(name);
        // Folder markers and names that we could not ask for are not ours.
        if (!isKey(key)) continue;
        yield listedObject(listing(prefix), {
          key,
          sizeBytes: Number(size),
          modifiedAt: parseTime(timeCreated),
        });
      }
    }
  }

  async *listPrefixes(prefix: string, options: CallOptions = {}): AsyncGenerator<string, void, undefined> {
    checkFolderPrefix(prefix);
    // An emulator repeats them on each page.
    const seen = new Set<string>();
    for await (const page of this.#pages(prefix, { delimiter: '/' }, options.signal)) {
      for (const found of page.prefixes) {
        throwIfAborted(options.signal);
        const name = this.#session.keyOf(found).slice(prefix.length, -1);
        if (!isKey(name) || seen.has(name)) continue;
        seen.add(name);
        yield name;
      }
    }
  }

  async *#pages(
    prefix: string,
    parameters: Readonly<Record<string, string>>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Page, void, undefined> {
    const what = listing(prefix);
    const order = new PageOrder(what);
    let token: string | undefined;
    do {
      const call: Call = {
        method: 'GET',
        url: this.#session.listUrl({
          ...parameters,
          prefix: this.#session.nameOf(prefix),
          maxResults: PAGE_SIZE,
          fields: 'items(name,size,timeCreated),prefixes,nextPageToken',
          ...(token === undefined ? {} : { pageToken: token }),
        }),
        what,
        signal,
        expect: [200],
        missing: 'bucket',
      };
      const answer = await this.#session.json(await this.#session.send(call), call);
      const page = parsePage(answer);
      if (page === undefined) throw this.#session.foreign(answer, call);
      token = page.nextPageToken;
      order.add(page.items[0]?.name, token);
      yield page;
    } while (token !== undefined);
  }

  async stat(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    const stored = await statObject(this.#session, key, options.signal);
    return stored && { key, sizeBytes: stored.sizeBytes, modifiedAt: stored.modifiedAt };
  }

  async get(key: string, options: GetOptions = {}): Promise<ObjectBody> {
    checkKey(key);
    const { range, signal } = options;
    const what = `get ${key}`;
    const response = await this.#session.send({
      method: 'GET',
      url: this.#session.objectUrl(key, { alt: 'media' }),
      // The bytes as they are: a coding on the way would hide their number.
      headers: { 'accept-encoding': 'identity', ...(range && { range: rangeHeader(key, range) }) },
      what,
      signal,
      expect: range === undefined ? [200] : [200, 206, 416],
      missing: 'object',
    });
    const sizeBytes = Number(response.headers['content-length'] ?? NaN);
    const whole = response.statusCode === 200;
    // A range behind the end is an error of the store's, or answered with the whole, and not of ours.
    if (response.statusCode === 416 || (whole && range !== undefined && range.start >= sizeBytes)) {
      response.destroy();
      return { sizeBytes: 0, stream: nothing() };
    }
    try {
      this.#checkCoding(response, what);
      if (Number.isNaN(sizeBytes)) {
        throw new LitestreamError('io', `${what}: the answer has no length: check endpoint`);
      }
      if (whole && range !== undefined) {
        throw new LitestreamError('unsupported', `${what}: ${this.location} ignores byte ranges`);
      }
      checkRangeSize(range, sizeBytes, what);
    } catch (error) {
      response.destroy();
      throw error;
    }
    const toError = (error: unknown, place: string): LitestreamError =>
      connectionError(error, place, this.#session.target, signal);
    const stream = complete(response, { sizeBytes, what, signal, toError });
    const checksum = whole
      ? /crc32c=([^,\s]+)/.exec(String(response.headers['x-goog-hash']))?.[1]
      : undefined;
    return { sizeBytes, stream: checksum === undefined ? stream : checked(stream, checksum, what) };
  }

  /** Objects that were stored in gzip by somebody else are unpacked on the way, and their ranges are not theirs. */
  #checkCoding({ headers }: IncomingMessage, what: string): void {
    for (const name of ['content-encoding', 'x-goog-stored-content-encoding']) {
      const coding = headers[name];
      if (coding === undefined || coding === '' || coding === 'identity') continue;
      const advice = 'store it as it is, without Content-Encoding';
      throw new LitestreamError(
        'unsupported',
        `${what}: the object has the coding ${String(coding)}: ${advice}`,
      );
    }
  }

  async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<ObjectInfo> {
    checkKey(key);
    try {
      return await this.#put(key, body, options);
    } catch (error) {
      if (options.ifAbsent === true && isPreconditionFailed(error)) throw objectExists(key);
      throw error;
    }
  }

  async #put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    { signal, ifAbsent }: PutOptions,
  ): Promise<ObjectInfo> {
    throwIfAborted(signal);
    // No generation: no object.
    const condition = ifAbsent === true ? { ifGenerationMatch: '0' } : {};
    const inMemory = body instanceof Uint8Array;
    const parts = partsOf(inMemory ? body : abortable(body, signal), this.#session.chunkBytes);
    try {
      const first = await parts.next();
      assert(first.done !== true, 'a body has at least one part');
      if (!first.value.last) {
        const chunks = preceded(first.value, parts);
        return { key, ...(await uploadChunks(this.#session, key, chunks, { signal, condition })) };
      }
      const { data } = first.value;
      // Bytes in memory can be put again by the caller; a stream is gone, but we hold all of it here.
      const attempts = inMemory ? 1 : BODY_ATTEMPTS;
      const stored = await retrying(() => uploadWhole(this.#session, key, data, signal, condition), {
        attempts,
        signal,
      });
      return { key, ...stored };
    } finally {
      await parts.return();
    }
  }

  async putIfAbsent(key: string, data: Uint8Array, options: CallOptions = {}): Promise<boolean> {
    checkKey(key);
    throwIfAborted(options.signal);
    try {
      // No generation: no object.
      await uploadWhole(this.#session, key, data, options.signal, { ifGenerationMatch: '0' });
      return true;
    } catch (error) {
      if (isPreconditionFailed(error)) return false;
      throw error;
    }
  }

  /** A few at once, begun in the given order. After a failure none is begun. */
  async delete(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key);
    throwIfAborted(options.signal);
    const queue = keys.values();
    let failure: { readonly error: unknown } | undefined;
    const work = async (): Promise<void> => {
      for (const key of queue) {
        if (failure !== undefined) return;
        try {
          await this.#delete(key, options.signal);
        } catch (error) {
          if (!isNoSuchObject(error)) failure ??= { error };
        }
      }
    };
    await Promise.all(Array.from({ length: DELETES_AT_ONCE }, work));
    if (failure !== undefined) throw failure.error;
  }

  async #delete(key: string, signal: AbortSignal | undefined): Promise<void> {
    const response = await this.#session.send({
      method: 'DELETE',
      url: this.#session.objectUrl(key),
      what: `delete ${key}`,
      signal,
      expect: [200, 204],
      missing: 'object',
    });
    response.resume();
  }

  close(): Promise<void> {
    this.#session.close();
    return Promise.resolve();
  }
}

/** The chunks of a whole object; rejects with 'corrupt' at its end unless it has the checksum. */
async function* checked(
  stream: AsyncIterable<Uint8Array>,
  checksum: string,
  what: string,
): AsyncGenerator<Uint8Array, void, undefined> {
  let crc = 0;
  for await (const chunk of stream) {
    crc = crc32c(chunk, crc);
    yield chunk;
  }
  if (encodeCrc32c(crc) === checksum) return;
  throw new LitestreamError('corrupt', `${what}: the bytes that came have another checksum than the object`);
}
