/** Objects as files on an SFTP server, with v0.3.13's names and the server's modes. It must not know what the objects are. */

import { randomBytes } from 'node:crypto';
import type { FileEntryWithStats } from 'ssh2';
import { allowManyListeners, sleep, throwIfAborted } from '../../base/concurrency.ts';
import { TEMPORARY_SUFFIX } from '../../base/durable-file.ts';
import { LitestreamError, assert, hasCode } from '../../base/errors.ts';
import { abortable } from '../body.ts';
import { boundsOf } from '../byte-range.ts';
import { checkFolderPrefix, checkKey, checkPrefix, isKey } from '../key.ts';
import type {
  CallOptions,
  GetOptions,
  ObjectBody,
  ObjectInfo,
  ObjectStore,
  OpenOptions,
  PutOptions,
  StoreCapabilities,
} from '../object-store.ts';
import { PageOrder } from '../page-order.ts';
import type { SftpStoreConfig } from '../store-config.ts';
import { DEFAULT_TIMEOUTS } from './channel.ts';
import type { SftpChannel, SftpTimeouts } from './channel.ts';
import { STATUS, noSpace, readOnly, sftpError, statusOf } from './errors.ts';
import { makeFolders, placeNewFile, removeEmptyFolders, replaceFile, syncFolder } from './folders.ts';
import { SftpSession } from './session.ts';
import { FileReader, FileWriter } from './transfer.ts';
import { walkFolders } from './walk.ts';
import { Window } from './window.ts';

/** How often a put makes a folder that is removed from under it. */
const PUT_ATTEMPTS = 5;
/** Blocks that a get asks for together with the size: most objects are not larger. */
const FIRST_BLOCKS = 4;
/** Deletes under way at once. */
const DELETES_AHEAD = 32;
/** The names of temporary files: random, so that a late request of a lost connection never meets a newer upload. */
const TEMPORARY = /\.[0-9a-f]{16}\.tmp$/;
/** An upload that has not been touched for so long is nobody's any more, whatever the clocks say. */
const STALE_MS = 86_400_000;
/** How long close() waits for temporary files to be removed. */
const CLEANUP_MS = 1000;

/** Opens a folder on an SFTP server as an object store. Nothing is sent before the first call; a missing root is made by the first put. */
export function openSftpStore(
  config: SftpStoreConfig,
  options: OpenOptions = {},
  timeouts: Partial<SftpTimeouts> = {},
): ObjectStore {
  return new SftpStore(config, options, { ...DEFAULT_TIMEOUTS, ...timeouts });
}

class SftpStore implements ObjectStore {
  readonly type = 'sftp';
  readonly location: string;
  readonly capabilities: StoreCapabilities = { local: false, concurrency: 8 };
  readonly #session: SftpSession;
  readonly #root: string;
  /** Temporary files that nobody writes any more. */
  readonly #leftovers = new Set<string>();
  readonly #cleaning = new Set<Promise<void>>();

  constructor(config: SftpStoreConfig, options: OpenOptions, timeouts: SftpTimeouts) {
    const { user, host, port, path } = config;
    const server = `${user}@${host.includes(':') ? `[${host}]` : host}:${port}`;
    const secrets = [config.password ?? '', config.keyPassphrase ?? ''];
    const target = { server, user, root: path, secrets };
    this.#session = new SftpSession(config, target, timeouts, options.warn);
    this.#root = path === '' || path === '/' ? path : `${path.replace(/\/+$/, '')}/`;
    this.location = `sftp://${server}${path.startsWith('/') ? '' : '/~/'}${path}`;
  }

  async *list(prefix: string, options: CallOptions = {}): AsyncGenerator<ObjectInfo, void, undefined> {
    checkPrefix(prefix);
    const { signal } = options;
    // Only the folder part of the prefix can be walked to; the rest selects among the names there.
    const folder = prefix.slice(0, prefix.lastIndexOf('/') + 1);
    for await (const info of this.#walk(folder, signal)) {
      throwIfAborted(signal);
      if (info.key.startsWith(prefix)) yield info;
    }
  }

  async *listPrefixes(prefix: string, options: CallOptions = {}): AsyncGenerator<string, void, undefined> {
    checkFolderPrefix(prefix);
    const { signal } = options;
    for await (const { filename, attrs } of this.#readFolder(prefix, signal)) {
      throwIfAborted(signal);
      if (!attrs.isDirectory() || filename.includes('/') || !isKey(filename)) continue;
      // A folder without files is no prefix: an object store would not show it.
      const objects = this.#walk(`${prefix}${filename}/`, signal);
      const first = await objects.next();
      await objects.return();
      if (first.done !== true) yield filename;
    }
  }

  /** Every object below `folder` (a key prefix that ends with a slash, or empty). */
  #walk(folder: string, signal: AbortSignal | undefined): AsyncGenerator<ObjectInfo, void, undefined> {
    return walkFolders(folder, {
      read: (each) => this.#readFolder(each, signal),
      onTemporary: (key, modifiedAt) => this.#noteLeftover(key, modifiedAt),
    });
  }

  /** The entries of a folder; none when it is not there, and no more when it vanishes. */
  async *#readFolder(
    folder: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<FileEntryWithStats, void, undefined> {
    const path = this.#path(folder === '' ? '.' : folder.slice(0, -1));
    const what = `list ${folder === '' ? 'all objects' : folder}`;
    const order = new PageOrder(what);
    try {
      allowManyListeners(signal);
      const channel = await this.#session.channel(signal);
      const handle = await channel.openFolder(path, signal);
      try {
        const ask = (): Promise<FileEntryWithStats[] | undefined> => {
          const entries = channel.readFolder(handle, signal);
          // Its failure is thrown where its turn comes, if it does.
          entries.catch(() => undefined);
          return entries;
        };
        // Two at once: the second mostly says that there is nothing more.
        let next = [ask(), ask()] as const;
        for (let entries = await next[0]; entries !== undefined; entries = await next[0]) {
          next = [next[1], ask()];
          order.add(entries[0]?.filename);
          yield* entries;
        }
      } finally {
        channel.closeQuietly(handle);
      }
    } catch (error) {
      if (statusOf(error) !== STATUS.noSuchFile) {
        throw this.#error(error, what, signal);
      }
    }
  }

  async stat(key: string, options: CallOptions = {}): Promise<ObjectInfo | undefined> {
    checkKey(key);
    const { signal } = options;
    try {
      allowManyListeners(signal);
      const channel = await this.#session.channel(signal);
      const stats = await channel.stat(this.#path(key), signal);
      if (!stats.isFile()) return undefined;
      return { key, sizeBytes: stats.size, modifiedAt: new Date(stats.mtime * 1000) };
    } catch (error) {
      if (statusOf(error) === STATUS.noSuchFile) return undefined;
      throw this.#error(error, `look for ${key}`, signal);
    }
  }

  async get(key: string, options: GetOptions = {}): Promise<ObjectBody> {
    checkKey(key);
    const { signal } = options;
    const { start, end } = boundsOf(key, options.range);
    const what = `get ${key}`;
    try {
      allowManyListeners(signal);
      const channel = await this.#session.channel(signal);
      const handle = await this.#openObject(channel, this.#path(key), signal);
      const reader = new FileReader(channel, handle, start, signal);
      try {
        reader.ask(end, FIRST_BLOCKS);
        const stats = await channel.fstat(handle, signal);
        if (!stats.isFile()) throw notFound(this.location, key);
        const last = Math.min(end, stats.size);
        const sizeBytes = Math.max(0, last - start);
        return { sizeBytes, stream: this.#read(reader, last, what, signal) };
      } catch (error) {
        reader.close();
        throw error;
      }
    } catch (error) {
      throw this.#error(error, what, signal);
    }
  }

  async #openObject(channel: SftpChannel, path: string, signal: AbortSignal | undefined): Promise<Buffer> {
    try {
      return await channel.open(path, 'r', signal);
    } catch (error) {
      // Some servers refuse to open a folder, others do not.
      if (statusOf(error) === STATUS.failure && (await channel.stat(path, signal)).isDirectory()) {
        throw notFound(this.location, path);
      }
      throw error;
    }
  }

  async *#read(
    reader: FileReader,
    end: number,
    what: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      for await (const chunk of reader.read(end)) {
        throwIfAborted(signal);
        yield chunk;
      }
    } catch (error) {
      throw this.#error(error, what, signal);
    }
  }

  async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options: PutOptions = {},
  ): Promise<ObjectInfo> {
    checkKey(key);
    assert(!key.endsWith(TEMPORARY_SUFFIX), `object key ${key} would be taken for a temporary file`);
    const { signal } = options;
    const source = new Source(body, signal);
    let channel: SftpChannel | undefined;
    const path = this.#path(key);
    const temporary = `${path}.${randomBytes(8).toString('hex')}${TEMPORARY_SUFFIX}`;
    try {
      allowManyListeners(signal);
      channel = await this.#session.channel(signal);
      // First, so that a late request of a lost connection cannot put an older upload into the place of this one.
      void this.#sweep(channel);
      const ifAbsent = options.ifAbsent === true;
      const stored = await this.#upload(channel, source, { key, path, temporary, signal, ifAbsent });
      return { key, ...stored };
    } catch (error) {
      // What the body's own producer threw is for the caller to understand.
      const failure = source.failed ? error : await this.#explain(channel, error, `put ${key}`, signal);
      if (channel !== undefined) {
        this.#leftovers.add(temporary);
        const swept = this.#sweep(channel);
        // Who gave up does not wait.
        if (signal?.aborted !== true) await swept;
      }
      throw failure;
    }
  }

  async #upload(
    channel: SftpChannel,
    source: Source,
    { key, path, temporary, signal, ifAbsent }: Upload,
  ): Promise<{ sizeBytes: number; modifiedAt: Date }> {
    const { file, folder } = await create(channel, temporary, signal);
    let closed: Promise<void> | undefined;
    try {
      const writer = new FileWriter(channel, file, signal);
      const sizeBytes = await writer.send(source.data);
      // Requests on one file are carried out in the order in which they are sent.
      const synced = offered(channel.sync(file, signal));
      const [stats, isSynced] = await Promise.all([channel.fstat(file, signal), synced, writer.answered()]);
      closed = channel.close(file);
      // Without a sync, a server may tell of a full disk only now.
      if (!isSynced) await closed;
      const renamed = ifAbsent
        ? placeNewFile(channel, temporary, { path, key, signal })
        : replaceFile(channel, temporary, path, signal);
      const settled = folder === undefined ? undefined : syncFolder(channel, folder, signal);
      await Promise.all([closed, renamed, settled]);
      return { sizeBytes, modifiedAt: new Date(stats.mtime * 1000) };
    } finally {
      if (closed === undefined) channel.closeQuietly(file);
      if (folder !== undefined) channel.closeQuietly(folder);
    }
  }

  async delete(keys: readonly string[], options: CallOptions = {}): Promise<void> {
    for (const key of keys) checkKey(key);
    const { signal } = options;
    throwIfAborted(signal);
    if (keys.length === 0) return;
    allowManyListeners(signal);
    let deleting = keys[0] ?? '';
    try {
      const channel = await this.#session.channel(signal);
      void this.#sweep(channel);
      const window = new Window(DELETES_AHEAD);
      // Also of what is not there: a put that was given up may have made the folder.
      const folders = new Set(keys.map(folderOf));
      for (const key of keys) {
        await window.send(async () => {
          try {
            await channel.remove(this.#path(key), signal);
          } catch (error) {
            deleting = key;
            if (statusOf(error) !== STATUS.noSuchFile) throw error;
          }
        });
      }
      await window.drain();
      await removeEmptyFolders(channel, folders, (folder) => this.#path(folder), signal);
    } catch (error) {
      throw this.#error(error, `delete ${deleting}`, signal);
    }
  }

  async close(): Promise<void> {
    const cleaned = Promise.all(this.#cleaning);
    const limit = new AbortController();
    await Promise.race([cleaned, sleep(CLEANUP_MS, { signal: limit.signal }).catch(() => undefined)]);
    limit.abort();
    await this.#session.close();
  }

  #path(key: string): string {
    return `${this.#root}${key}`;
  }

  #error(error: unknown, what: string, signal: AbortSignal | undefined): LitestreamError {
    return sftpError(error, what, this.#session.target, signal);
  }

  /** The error of a put. OpenSSH gives no reason for many failures, so this looks for one. */
  async #explain(
    channel: SftpChannel | undefined,
    error: unknown,
    what: string,
    signal: AbortSignal | undefined,
  ): Promise<LitestreamError> {
    if (channel !== undefined && statusOf(error) === STATUS.failure) {
      const { target } = this.#session;
      try {
        const space = await channel.space(this.#root === '' ? '.' : this.#root, signal);
        if (space.readOnly) return new LitestreamError('permission', `${what}: ${readOnly(target)}`);
        if (space.freeBytes < 65536 || space.freeFiles === 0) {
          return new LitestreamError('disk-full', `${what}: ${noSpace(target)}`);
        }
      } catch {
        // The first failure says more.
      }
    }
    return this.#error(error, what, signal);
  }

  #noteLeftover(key: string, modifiedAt: Date): void {
    if (TEMPORARY.test(key) && Date.now() - modifiedAt.getTime() > STALE_MS) {
      this.#leftovers.add(this.#path(key));
    }
  }

  /** Removes temporary files of failed uploads: this store's, and old ones that a listing met. Never fails. */
  #sweep(channel: SftpChannel): Promise<void> {
    const paths = [...this.#leftovers];
    if (paths.length === 0) return Promise.resolve();
    this.#leftovers.clear();
    const removals = paths.map(async (path) => {
      try {
        await channel.remove(path);
      } catch (error) {
        // Without an answer it may still be there; a server that refuses will go on refusing.
        if (statusOf(error) === undefined) this.#leftovers.add(path);
      }
    });
    const cleaning = Promise.all(removals).then(() => {
      this.#cleaning.delete(cleaning);
    });
    this.#cleaning.add(cleaning);
    return cleaning;
  }
}

interface Upload {
  readonly key: string;
  readonly path: string;
  readonly temporary: string;
  readonly signal: AbortSignal | undefined;
  readonly ifAbsent: boolean;
}

/** A body that knows whether it was its producer that failed. */
class Source {
  readonly data: Uint8Array | AsyncIterable<Uint8Array>;
  failed = false;

  constructor(body: Uint8Array | AsyncIterable<Uint8Array>, signal: AbortSignal | undefined) {
    this.data = body instanceof Uint8Array ? body : this.#watch(abortable(body, signal));
  }

  async *#watch(chunks: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, undefined> {
    try {
      yield* chunks;
    } catch (error) {
      this.failed = true;
      throw error;
    }
  }
}

/** A new file, and its folder opened so that its names can be brought to the disk, where the server allows that. */
async function create(
  channel: SftpChannel,
  path: string,
  signal: AbortSignal | undefined,
): Promise<{ file: Buffer; folder: Buffer | undefined }> {
  const parent = folderOf(path);
  for (let attempt = 1; ; attempt++) {
    const [file, folder] = await Promise.allSettled([
      channel.open(path, 'wx', signal),
      channel.open(parent === '' ? '.' : parent, 'r', signal),
    ]);
    const handle = folder.status === 'fulfilled' ? folder.value : undefined;
    if (file.status === 'fulfilled') return { file: file.value, folder: handle };
    if (handle !== undefined) channel.closeQuietly(handle);
    // A delete that empties the folder may remove it between our two steps.
    if (statusOf(file.reason) !== STATUS.noSuchFile || attempt === PUT_ATTEMPTS) throw file.reason;
    await makeFolders(channel, parent, signal);
  }
}

/** Whether the server has what was asked for. */
async function offered(request: Promise<void>): Promise<boolean> {
  try {
    await request;
    return true;
  } catch (error) {
    if (hasCode(error, 'unsupported')) return false;
    throw error;
  }
}

/** The part before the last slash; empty when there is none. */
function folderOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}

function notFound(location: string, key: string): LitestreamError {
  return new LitestreamError('not-found', `no such file in ${location}: ${key} is not a file`);
}
