/** Objects as files under a root folder, with v0.3.13's names and modes. It must not know what the objects are. */

import { open, opendir, rm, rmdir, stat } from 'node:fs/promises';
import type { BigIntStats, Dirent, Stats } from 'node:fs';
import { dirname, join } from 'node:path';
import { throwIfAborted } from '../../base/concurrency.ts';
import { TEMPORARY_SUFFIX, syncDirectory, writeFileDurably } from '../../base/durable-file.ts';
import { makeDirectoryDurably } from '../../base/made-folders.ts';
import type { DurableOptions } from '../../base/durable-file.ts';
import { LitestreamError, assert, systemCode } from '../../base/errors.ts';
import { abortable } from '../body.ts';
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
import type { FileStoreConfig } from '../store-config.ts';
import { fileError } from './errors.ts';

/** Bytes read at a time. */
const READ_SIZE = 2 << 20;
/** How often a put makes a folder that is removed from under it. */
const PUT_ATTEMPTS = 5;

/** Opens a folder as an object store. Nothing is touched before the first call; a missing root is made by the first put. */
export function openFileStore(config: FileStoreConfig): ObjectStore {
  return new FileStore(config);
}

class FileStore implements ObjectStore {
  readonly type = 'file';
  readonly location: string;
  readonly capabilities: StoreCapabilities = { local: true, concurrency: 4 };
  readonly #root: string;
  readonly #ownerLike: string | undefined;

  constructor(config: FileStoreConfig) {
    this.#root = config.path;
    this.#ownerLike = config.ownerLike;
    this.location = config.path;
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    checkPrefix(prefix);
    // Only the folder part of the prefix can be walked to; the rest selects among the names there.
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    for await (const [key, path] of this.#walk(folder, options.signal)) {
      if (!key.startsWith(prefix)) continue;
      const stats = await statIfThere(path);
      if (stats === undefined) continue;
      yield infoOf(key, stats);
    }
  }

  async *listPrefixes(prefix: string, options: CallOptions = {}): AsyncGenerator<string, void, undefined> {
    checkFolderPrefix(prefix);
    for await (const entry of readFolder(join(this.#root, prefix), options.signal)) {
      if (!entry.isDirectory()) continue;
      // A folder without files is no prefix: an object store would not show it.
      const objects = this.#walk(`${prefix}${entry.name}/`, options.signal);
      const first = await objects.next();
      await objects.return();
      if (first.done !== true) yield entry.name;
    }
  }

  /** Key and path of every object below `folder` (a key prefix that ends with a slash, or empty). */
  async *#walk(
    folder: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<[string, string], void, undefined> {
    for await (const [key, path] of this.#walkFiles(folder, signal)) {
      if (!key.endsWith(TEMPORARY_SUFFIX)) yield [key, path];
    }
  }

  /** The same with temporary files. */
  async *#walkFiles(
    folder: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<[string, string], void, undefined> {
    for await (const entry of readFolder(join(this.#root, folder), signal)) {
      const key = `${folder}${entry.name}`;
      if (entry.isDirectory()) yield* this.#walkFiles(`${key}/`, signal);
      else if (entry.isFile()) yield [key, join(this.#root, key)];
    }
  }

  async removeAbandoned(prefix: string, before: Date, options: CallOptions = {}): Promise<number> {
    checkFolderPrefix(prefix);
    const abandoned: string[] = [];
    for await (const [key, path] of this.#walkFiles(prefix, options.signal)) {
      if (!key.endsWith(TEMPORARY_SUFFIX)) continue;
      // An upload that goes on writes to it, whoever's it is.
      const stats = await statIfThere(path);
      if (stats !== undefined && stats.mtimeMs < before.getTime()) abandoned.push(key);
    }
    await this.delete(abandoned, options);
    return abandoned.length;
  }

  async stat(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    throwIfAborted(options.signal);
    const stats = await statIfThere(join(this.#root, key));
    if (stats?.isFile() !== true) return undefined;
    return infoOf(key, stats);
  }

  async get(key: string, options: GetOptions = {}): Promise<ObjectBody> {
    checkKey(key);
    throwIfAborted(options.signal);
    const { start, end } = boundsOf(key, options.range);
    const path = join(this.#root, key);
    const size = (await this.#statObject(path)).size;
    const first = Math.min(start, size);
    const last = Math.min(end, size);
    return { sizeBytes: last - first, stream: readFile(path, first, last, options.signal) };
  }

  async #statObject(path: string): Promise<Stats> {
    let stats: Stats;
    try {
      stats = await stat(path);
    } catch (error) {
      if (systemCode(error) === 'ENOTDIR') throw new LitestreamError('not-found', `no such file: ${path}`);
      throw fileError(error, 'read', path);
    }
    if (!stats.isFile()) throw new LitestreamError('not-found', `no such file: ${path} is not a file`);
    return stats;
  }

  async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<ObjectInfo> {
    checkKey(key);
    assert(!key.endsWith(TEMPORARY_SUFFIX), `object key ${key} would be taken for a temporary file`);
    throwIfAborted(options.signal);
    const path = join(this.#root, key);
    const like = await this.#modes();
    const source = new Source(body, options.signal);
    for (let attempt = 1; ; attempt++) {
      try {
        await makeDirectoryDurably(dirname(path), like.folder);
        const { signal, ifAbsent } = options;
        const written = await writeFileDurably(path, source.data, { ...like.file, signal, ifAbsent });
        return { key, ...written };
      } catch (error) {
        // What the body's own producer threw is for the caller to understand.
        if (source.failed) throw error;
        if (systemCode(error) === 'EEXIST' && options.ifAbsent === true) throw objectExists(key);
        // A delete that empties the folder may remove it between our two steps.
        if (systemCode(error) === 'ENOENT' && !source.taken && attempt < PUT_ATTEMPTS) continue;
        throw fileError(error, 'write', path);
      }
    }
  }

  /** The modes of new files and folders: the database's and its folder's, where there is one. */
  async #modes(): Promise<{ file: DurableOptions; folder: DurableOptions }> {
    if (this.#ownerLike === undefined) return { file: {}, folder: {} };
    return { file: await likeOf(this.#ownerLike), folder: await likeOf(dirname(this.#ownerLike)) };
  }

  async delete(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key);
    // Also of what is not there: a put that was given up may have made the folder.
    const folders = new Set(keys.map((key) => dirname(join(this.#root, key))));
    for (const key of keys) {
      throwIfAborted(options.signal);
      const path = join(this.#root, key);
      try {
        await rm(path);
      } catch (error) {
        if (!['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) throw fileError(error, 'delete', path);
      }
    }
    for (const folder of folders) await this.#settle(folder);
  }

  /** Removes the folder, and its parents up to the root, if nothing is left in them; makes the names that stay durable. */
  async #settle(folder: string): Promise<void> {
    let path = folder;
    try {
      while (path !== this.#root) {
        await rmdir(path);
        path = dirname(path);
      }
    } catch (error) {
      if (!['ENOTEMPTY', 'EEXIST', 'ENOENT', 'EACCES', 'EPERM', 'EBUSY'].includes(systemCode(error) ?? '')) {
        throw fileError(error, 'delete', path);
      }
    }
    try {
      await syncDirectory(path);
    } catch (error) {
      // Another delete may have removed it in the meantime.
      if (systemCode(error) !== 'ENOENT') throw fileError(error, 'delete', path);
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A body that knows whether it was begun, and whether it was its producer that failed. */
class Source {
  readonly data: Uint8Array | AsyncIterable<Uint8Array>;
  taken = false;
  failed = false;

  constructor(body: Uint8Array | AsyncIterable<Uint8Array>, signal: AbortSignal | undefined) {
    this.data = body instanceof Uint8Array ? body : this.#watch(abortable(body, signal));
  }

  async *#watch(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    this.taken = true;
    try {
      yield* chunks;
    } catch (error) {
      this.failed = true;
      throw error;
    }
  }
}

/** Not by `mtime`, which is rounded: an object would have come into being before it did. */
function infoOf(key: string, { size, mtimeMs, mtimeNs }: BigIntStats): ObjectInfo {
  const modifiedNs = Number(mtimeNs % 1_000_000n);
  return { key, sizeBytes: Number(size), modifiedAt: new Date(Number(mtimeMs)), modifiedNs };
}

/** Mode and owner of `path`; nothing when it is not there. */
async function likeOf(path: string): Promise<DurableOptions> {
  const stats = await statIfThere(path);
  return stats === undefined
    ? {}
    : { mode: Number(stats.mode) & 0o777, owner: { uid: Number(stats.uid), gid: Number(stats.gid) } };
}

async function statIfThere(path: string): Promise<BigIntStats | undefined> {
  try {
    return await stat(path, { bigint: true });
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '')) return undefined;
    throw fileError(error, 'read', path);
  }
}

/** The entries of a folder; none when it is not there. */
async function* readFolder(
  path: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Dirent, void, undefined> {
  throwIfAborted(signal);
  try {
    for await (const entry of await opendir(path)) {
      throwIfAborted(signal);
      yield entry;
    }
  } catch (error) {
    if (systemCode(error) !== 'ENOENT') throw fileError(error, 'read', path);
  }
}

/** Bytes [start, end) of a file that is at least `end` long. */
async function* readFile(
  path: string,
  start: number,
  end: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, undefined> {
  if (start === end) return;
  try {
    const handle = await open(path, 'r');
    try {
      for (let offset = start; offset < end;) {
        throwIfAborted(signal);
        const buffer = Buffer.allocUnsafe(Math.min(READ_SIZE, end - offset));
        const { bytesRead } = await handle.read(buffer, 0, buffer.length, offset);
        if (bytesRead === 0) {
          throw new LitestreamError(
            'unavailable',
            `cannot read ${path}: it ended ${end - offset} bytes early`,
          );
        }
        offset += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw fileError(error, 'read', path);
  }
}
