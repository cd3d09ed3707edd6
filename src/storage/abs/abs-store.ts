/** Objects in a container of Azure Blob Storage, under a key prefix. It must not know what the objects are. */

import type { Readable } from 'node:stream';
import type {
  BlobDownloadResponseParsed,
  BlockBlobUploadOptions,
  ContainerClient,
} from '@azure/storage-blob';
import { throwIfAborted } from '../../base/concurrency.ts';
import { LitestreamError } from '../../base/errors.ts';
import { complete, nothing } from '../body.ts';
import { boundsOf, checkRangeSize } from '../byte-range.ts';
import { checkFolderPrefix, checkKey, checkPrefix, isKey } from '../key.ts';
import { listedObject, listing } from '../listed-object.ts';
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
import { PARTS_AT_ONCE } from '../part-sender.ts';
import { putBody } from '../put-body.ts';
import type { Put } from '../put-body.ts';
import type { AbsStoreConfig } from '../store-config.ts';
import { versionOf } from '../version.ts';
import type { AbsTimeouts } from './agents.ts';
import { bufferOf, checksumOf, uploadBlocks } from './blocks.ts';
import { DEFAULT_TIMEOUTS } from './client.ts';
import { absError, hasAzureCode } from './errors.ts';
import { AbsSession } from './session.ts';
import type { Abortable } from './session.ts';

/** Deletes under way at once: each is a small request of its own, since not every server has batches. */
const DELETES_AT_ONCE = 8;
/** A page is parsed in one go, while nothing else runs. */
const PAGE_SIZE = 1000;

/** Opens a container as an object store. Sends nothing before the first call. */
export function openAbsStore(config: AbsStoreConfig, timeouts: AbsTimeouts = DEFAULT_TIMEOUTS): ObjectStore {
  return new AbsStore(config, timeouts);
}

/** What a page of either kind of listing holds. */
interface Page {
  readonly continuationToken?: string;
  readonly segment: { readonly blobItems: readonly { readonly name: string }[] };
}

class AbsStore implements ObjectStore {
  readonly type = 'abs';
  readonly location: string;
  readonly capabilities: StoreCapabilities = { local: false, concurrency: 64 };
  readonly #session: AbsSession;

  constructor(config: AbsStoreConfig, timeouts: AbsTimeouts) {
    this.#session = new AbsSession(config, timeouts);
    const { account, container, endpoint } = this.#session.target;
    const url = `abs://${account}@${container}${config.path === '' ? '' : `/${config.path}`}`;
    this.location = config.endpoint === undefined ? url : `${url} (endpoint ${endpoint})`;
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    checkPrefix(prefix);
    const { signal } = options;
    const pages = this.#pages(prefix, signal, (container, marker, call) =>
      container.listBlobsFlat(call).byPage(marker),
    );
    for await (const { segment } of pages) {
      for (const { name, properties } of segment.blobItems) {
        throwIfAborted(signal);
        const key = this.#session.keyOf(name);
        // Folder markers and names that we could not ask for are not ours.
        if (!isKey(key)) continue;
        const { contentLength = 0, lastModified, etag } = properties;
        const found = { key, sizeBytes: contentLength, modifiedAt: lastModified, version: versionOf(etag) };
        yield listedObject(listing(prefix), found);
      }
    }
  }

  async *listPrefixes(prefix: string, options: CallOptions = {}): AsyncGenerator<string, void, undefined> {
    checkFolderPrefix(prefix);
    const { signal } = options;
    const pages = this.#pages(prefix, signal, (container, marker, call) =>
      container.listBlobsByHierarchy('/', call).byPage(marker),
    );
    for await (const { segment } of pages) {
      for (const { name } of segment.blobPrefixes ?? []) {
        throwIfAborted(signal);
        const part = this.#session.keyOf(name).slice(prefix.length, -1);
        if (isKey(part)) yield part;
      }
    }
  }

  /** The pages of a listing; `open` begins it at a marker. */
  async *#pages<P extends Page>(
    prefix: string,
    signal: AbortSignal | undefined,
    open: (
      container: ContainerClient,
      marker: { maxPageSize: number; continuationToken?: string },
      call: Abortable & { prefix: string },
    ) => AsyncIterator<P>,
  ): AsyncGenerator<P, void, undefined> {
    const what = listing(prefix);
    const order = new PageOrder(what);
    let continuationToken: string | undefined;
    do {
      const marker = {
        maxPageSize: PAGE_SIZE,
        ...(continuationToken === undefined ? {} : { continuationToken }),
      };
      const page = await this.#session.send(
        async (container, call) =>
          await open(container, marker, { ...call, prefix: this.#session.nameOf(prefix) }).next(),
        what,
        signal,
      );
      if (page.done === true) return;
      const { value } = page;
      continuationToken = value.continuationToken;
      order.add(value.segment.blobItems[0]?.name, continuationToken);
      yield value;
    } while (continuationToken !== undefined && continuationToken !== '');
  }

  async stat(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    try {
      const { contentLength, lastModified, etag } = await this.#session.sendFor(
        key,
        (blob, call) => blob.getProperties(call),
        `look for ${key}`,
        options.signal,
      );
      const modifiedAt = lastModified ?? new Date(0);
      return { key, sizeBytes: contentLength ?? 0, modifiedAt, version: versionOf(etag) };
    } catch (error) {
      if (hasAzureCode(error, 'BlobNotFound')) return undefined;
      throw error;
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<ObjectBody> {
    checkKey(key);
    const { range, signal } = options;
    const { start, end } = boundsOf(key, range);
    const what = `get ${key}`;
    let answer: BlobDownloadResponseParsed;
    try {
      const count = end === Infinity ? undefined : end - start;
      answer = await this.#session.sendFor(
        key,
        (blob, call) => blob.download(start, count, { ...call, maxRetryRequests: 0 }),
        what,
        signal,
      );
    } catch (error) {
      // A range behind the end is an error of Azure's, not of ours.
      if (range !== undefined && hasAzureCode(error, 'InvalidRange'))
        return { sizeBytes: 0, stream: nothing() };
      throw error;
    }
    return this.#bodyOf(answer, range, what, signal);
  }

  #bodyOf(
    answer: BlobDownloadResponseParsed,
    range: GetOptions['range'],
    what: string,
    signal: AbortSignal | undefined,
  ): ObjectBody {
    const stream = answer.readableStreamBody as Readable | undefined;
    const sizeBytes = answer.contentLength;
    // It breaks with its connection, even before anybody reads it; who reads it then is told.
    stream?.on('error', () => undefined);
    if (stream === undefined || sizeBytes === undefined) {
      throw new LitestreamError('io', `${what}: the answer has no body or no length: check endpoint`);
    }
    try {
      // From the beginning to the end nothing is asked for but the object.
      const isRanged = range !== undefined && (range.start > 0 || range.end !== undefined);
      if (isRanged && answer.contentRange === undefined) {
        throw new LitestreamError('unsupported', `${what}: ${this.location} ignores byte ranges`);
      }
      checkRangeSize(range, sizeBytes, what);
    } catch (error) {
      stream.destroy();
      throw error;
    }
    const toError = (error: unknown, place: string): LitestreamError =>
      absError(error, place, this.#session.target, signal);
    return { sizeBytes, stream: complete(stream, { sizeBytes, what, signal, toError }) };
  }

  async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<ObjectInfo> {
    checkKey(key);
    const { signal } = options;
    const condition = options.ifAbsent === true ? { conditions: { ifNoneMatch: '*' } } : {};
    const upload = { concurrency: PARTS_AT_ONCE, signal, spare: options.spare, condition };
    try {
      const stored = await putBody(body, options, {
        whole: (data) => this.#putWhole(key, data, signal, condition),
        inParts: (parts) => uploadBlocks(this.#session, key, parts, upload),
      });
      return { key, ...stored };
    } catch (error) {
      if (hasAzureCode(error, 'BlobAlreadyExists')) throw objectExists(key);
      throw error;
    }
  }

  async putIfAbsent(key: string, data: Uint8Array, options: CallOptions = {}): Promise<boolean> {
    checkKey(key);
    try {
      await this.#putWhole(key, data, options.signal, { conditions: { ifNoneMatch: '*' } });
      return true;
    } catch (error) {
      if (hasAzureCode(error, 'BlobAlreadyExists')) return false;
      throw error;
    }
  }

  async #putWhole(
    key: string,
    data: Uint8Array,
    signal: AbortSignal | undefined,
    condition: Pick<BlockBlobUploadOptions, 'conditions'> = {},
  ): Promise<Put> {
    const { lastModified, etag } = await this.#session.sendFor(
      key,
      (blob, call) =>
        blob.upload(bufferOf(data), data.length, { ...call, ...checksumOf(data), ...condition }),
      `put ${key}`,
      signal,
    );
    return { modifiedAt: lastModified ?? new Date(), version: versionOf(etag) };
  }

  async delete(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key);
    throwIfAborted(options.signal);
    const queue = keys.values();
    let failure: { error: unknown } | undefined;
    const work = async (): Promise<void> => {
      for (const key of queue) {
        if (failure !== undefined) return;
        await this.#deleteOne(key, options.signal).catch((error: unknown) => {
          failure ??= { error };
        });
      }
    };
    await Promise.all(Array.from({ length: Math.min(DELETES_AT_ONCE, keys.length) }, work));
    if (failure !== undefined) throw failure.error;
  }

  async #deleteOne(key: string, signal: AbortSignal | undefined): Promise<void> {
    try {
      await this.#session.sendFor(
        key,
        // Snapshots of a blob, which somebody else made, would keep it from being deleted for ever.
        (blob, call) => blob.delete({ ...call, deleteSnapshots: 'include' }),
        `delete ${key}`,
        signal,
      );
    } catch (error) {
      if (!hasAzureCode(error, 'BlobNotFound')) throw error;
    }
  }

  close(): Promise<void> {
    this.#session.close();
    return Promise.resolve();
  }
}
