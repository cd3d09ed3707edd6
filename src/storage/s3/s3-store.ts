/** Objects in an S3 bucket, under a key prefix. It must not know what the objects are. */

import {
  DeleteObjectsCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from '@aws-sdk/client-s3';
import type { GetObjectCommandOutput, ListObjectsV2CommandOutput, _Error } from '@aws-sdk/client-s3';
import { throwIfAborted } from '../../base/concurrency.ts';
import { LitestreamError, hasCode } from '../../base/errors.ts';
import { complete, nothing } from '../body.ts';
import { checkRangeSize, rangeHeader } from '../byte-range.ts';
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
import { PART_LIMITS } from '../parts.ts';
import type { PartLimits } from '../parts.ts';
import { putBody } from '../put-body.ts';
import type { Put } from '../put-body.ts';
import type { S3StoreConfig } from '../store-config.ts';
import { versionOf } from '../version.ts';
import { abortAbandoned } from './abandoned.ts';
import { DEFAULT_TIMEOUTS, newClient, targetOf } from './client.ts';
import type { S3Timeouts } from './client.ts';
import { hasS3Code, notS3, notStored, s3Error } from './errors.ts';
import { uploadParts } from './multipart.ts';
import { S3Session } from './session.ts';

/** Keys in one batch delete, at most. */
const DELETE_BATCH = 1000;

/** Opens a bucket as an object store. Sends nothing before the first call. */
export function openS3Store(config: S3StoreConfig, timeouts: S3Timeouts = DEFAULT_TIMEOUTS): ObjectStore {
  return new S3Store(config, timeouts);
}

class S3Store implements ObjectStore {
  readonly type = 's3';
  readonly location: string;
  readonly capabilities: StoreCapabilities = { local: false, concurrency: 64 };
  readonly #session: S3Session;
  readonly #uploadConcurrency: number;
  readonly #partLimits: PartLimits;
  /** The server refuses what a condition comes with. */
  #refusesConditions = false;

  constructor(config: S3StoreConfig, timeouts: S3Timeouts) {
    const target = targetOf(config);
    this.#uploadConcurrency = config.uploadConcurrency ?? PARTS_AT_ONCE;
    this.#partLimits = {
      minSizeBytes: config.partSizeBytes ?? PART_LIMITS.minSizeBytes,
      maxParts: config.maxParts ?? PART_LIMITS.maxParts,
    };
    this.#session = new S3Session(newClient(config, timeouts), target, config.path);
    const url = `s3://${config.bucket}${config.path === '' ? '' : `/${config.path}`}`;
    this.location = config.endpoint === undefined ? url : `${url} (endpoint ${target.endpoint})`;
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    checkPrefix(prefix);
    for await (const page of this.#pages(prefix, undefined, options.signal)) {
      for (const { Key, Size = 0, LastModified = new Date(0), ETag } of page.Contents ?? []) {
        throwIfAborted(options.signal);
        const key = this.#session.keyOf(Key ?? '');
        // Folder markers and names that we could not ask for are not ours.
        if (!isKey(key)) continue;
        const found = { key, sizeBytes: Size, modifiedAt: LastModified, version: versionOf(ETag) };
        yield listedObject(listing(prefix), found);
      }
    }
  }

  async *listPrefixes(prefix: string, options: CallOptions = {}): AsyncGenerator<string, void, undefined> {
    checkFolderPrefix(prefix);
    for await (const page of this.#pages(prefix, '/', options.signal)) {
      for (const { Prefix } of page.CommonPrefixes ?? []) {
        throwIfAborted(options.signal);
        const name = this.#session.keyOf(Prefix ?? '').slice(prefix.length, -1);
        if (isKey(name)) yield name;
      }
    }
  }

  async *#pages(
    prefix: string,
    delimiter: string | undefined,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<ListObjectsV2CommandOutput, void, undefined> {
    const { Bucket, Key } = this.#session.object(prefix);
    const what = listing(prefix);
    const order = new PageOrder(what);
    let token: string | undefined;
    for (;;) {
      const command = new ListObjectsV2Command({
        Bucket,
        Prefix: Key,
        Delimiter: delimiter,
        ContinuationToken: token,
      });
      const { output } = await this.#session.send(command, what, signal);
      // Taken for an empty list, a page of a web server would make a replica look empty.
      if (output.IsTruncated === undefined && output.Name === undefined)
        throw notS3(what, this.#session.target);
      token = output.IsTruncated === true ? output.NextContinuationToken : undefined;
      order.add(output.Contents?.[0]?.Key, token);
      yield output;
      if (output.IsTruncated !== true) return;
      // To go on without one would give a part of the list as if it were all of it.
      if (token === undefined) {
        throw new LitestreamError('io', `${what}: the store cut the list without a way to go on`);
      }
    }
  }

  stat(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    return this.#session.stat(key, options.signal);
  }

  async get(key: string, options: GetOptions = {}): Promise<ObjectBody> {
    checkKey(key);
    const { range, signal } = options;
    const what = `get ${key}`;
    const command = new GetObjectCommand({
      ...this.#session.object(key),
      Range: range && rangeHeader(key, range),
    });
    let output: GetObjectCommandOutput;
    try {
      ({ output } = await this.#session.send(command, what, signal));
    } catch (error) {
      // A range behind the end is an error of S3's, not of ours.
      if (range !== undefined && hasS3Code(error, 'InvalidRange')) return { sizeBytes: 0, stream: nothing() };
      throw error;
    }
    const stream = output.Body as (AsyncIterable<Uint8Array> & { destroy(): void }) | undefined;
    const sizeBytes = output.ContentLength;
    if (stream === undefined || sizeBytes === undefined) {
      throw new LitestreamError('io', `${what}: the answer has no body or no length: check endpoint`);
    }
    try {
      if (range !== undefined && output.ContentRange === undefined) {
        throw new LitestreamError('unsupported', `${what}: ${this.location} ignores byte ranges`);
      }
      checkRangeSize(range, sizeBytes, what);
    } catch (error) {
      stream.destroy();
      throw error;
    }
    const toError = (error: unknown, place: string): LitestreamError =>
      s3Error(error, place, this.#session.target, signal);
    return { sizeBytes, stream: complete(stream, { sizeBytes, what, signal, toError }) };
  }

  async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<ObjectInfo> {
    checkKey(key);
    const { signal } = options;
    const ifAbsent = options.ifAbsent === true && !this.#refusesConditions;
    const upload = { concurrency: this.#uploadConcurrency, signal, spare: options.spare, ifAbsent };
    const stored = await putBody(body, options, {
      whole: (data) =>
        ifAbsent ? this.#putWholeIfAbsent(key, data, signal) : this.#putWhole(key, data, signal),
      inParts: (parts) => uploadParts(this.#session, key, parts, upload),
      limits: this.#partLimits,
    });
    return { key, ...stored };
  }

  async putIfAbsent(key: string, data: Uint8Array, options: CallOptions = {}): Promise<boolean> {
    checkKey(key);
    try {
      await this.#putWhole(key, data, options.signal, { IfNoneMatch: '*' });
      return true;
    } catch (error) {
      if (hasS3Code(error, 'PreconditionFailed')) return false;
      throw error;
    }
  }

  /** A server that refuses the condition itself is asked without it, this time and from then on. */
  async #putWholeIfAbsent(key: string, data: Uint8Array, signal: AbortSignal | undefined): Promise<Put> {
    try {
      return await this.#putWhole(key, data, signal, { IfNoneMatch: '*' });
    } catch (error) {
      if (hasS3Code(error, 'PreconditionFailed')) throw objectExists(key);
      if (!hasCode(error, 'io', 'unsupported')) throw error;
    }
    const stored = await this.#putWhole(key, data, signal);
    this.#refusesConditions = true;
    return stored;
  }

  async #putWhole(
    key: string,
    data: Uint8Array,
    signal: AbortSignal | undefined,
    condition: { readonly IfNoneMatch?: string } = {},
  ): Promise<Put> {
    const command = new PutObjectCommand({
      ...this.#session.object(key),
      ...condition,
      Body: data,
      ContentLength: data.length,
    });
    const { output, date } = await this.#session.send(command, `put ${key}`, signal);
    if (output.ETag === undefined) throw notStored(`put ${key}`, this.#session.target, output.$metadata);
    return { modifiedAt: date, version: versionOf(output.ETag) };
  }

  async delete(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key);
    throwIfAborted(options.signal);
    for (let start = 0; start < keys.length; start += DELETE_BATCH) {
      const batch = keys.slice(start, start + DELETE_BATCH);
      await this.#deleteBatch(batch, options.signal);
    }
  }

  async #deleteBatch(keys: readonly string[], signal: AbortSignal | undefined): Promise<void> {
    const what = keys.length === 1 ? `delete ${keys[0] ?? ''}` : `delete ${keys.length} objects`;
    const command = new DeleteObjectsCommand({
      Bucket: this.#session.target.bucket,
      Delete: { Objects: keys.map((key) => ({ Key: this.#session.object(key).Key })), Quiet: true },
    });
    const { output } = await this.#session.send(command, what, signal);
    const errors = (output.Errors ?? []).filter(({ Code }) => Code !== 'NoSuchKey');
    const [first] = errors;
    if (first !== undefined) throw this.#deleteError(first, errors.length);
  }

  /** The error of a batch of which some keys were not deleted. */
  #deleteError(first: _Error, count: number): LitestreamError {
    const key = this.#session.keyOf(first.Key ?? '');
    const what = count === 1 ? `delete ${key}` : `delete ${key} and ${count - 1} more`;
    const failure = new Error(first.Message ?? '');
    const status = first.Code === 'AccessDenied' ? 403 : first.Code === 'InternalError' ? 500 : 400;
    Object.assign(failure, { Code: first.Code, $metadata: { httpStatusCode: status } });
    return s3Error(failure, what, this.#session.target);
  }

  removeAbandoned(prefix: string, before: Date, options: CallOptions = {}): Promise<number> {
    checkPrefix(prefix);
    return abortAbandoned(this.#session, prefix, before, options);
  }

  close(): Promise<void> {
    this.#session.close();
    return Promise.resolve();
  }
}
