/**
 * Writes that survive a power loss: temporary file in the same folder, fsync, rename, fsync of the folder. Nothing
 * ever sees a file that is half written. It must not know what is written.
 */

import { randomBytes } from 'node:crypto';
import { fsync } from 'node:fs';
import { link, mkdir, open, rename, rm, stat, unlink } from 'node:fs/promises';
import type { FileHandle } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { throwIfAborted } from './concurrency.ts';
import { systemCode } from './errors.ts';

export interface Owner {
  readonly uid: number;
  readonly gid: number;
}

export interface DurableOptions {
  /** Permission bits, whatever the umask; 0600 by default for files and 0700 for folders. */
  readonly mode?: number | undefined;
  /** Whose it shall be. Only root can give files away, so a refusal is not an error. */
  readonly owner?: Owner | undefined;
}

export interface DurableFileOptions extends DurableOptions {
  /** Looked at between chunks; when it fires, nothing is left behind. */
  readonly signal?: AbortSignal | undefined;
  /** Fails with EEXIST when there is something of that name, also when two processes write it at once. */
  readonly ifAbsent?: boolean | undefined;
}

/** Errors of link() where file systems have no hard links, or do not let this user make one. */
export const NO_LINKS: ReadonlySet<string> = new Set([
  'EPERM',
  'EACCES',
  'EOPNOTSUPP',
  'ENOTSUP',
  'ENOSYS',
  'EINVAL',
  'EMLINK',
  'EXDEV',
]);

/** fsync. By the descriptor: Yarn's Plug'n'Play gives handles of its own, which have no sync(). @throws the system's errors */
export async function syncFile(handle: FileHandle): Promise<void> {
  await promisify(fsync)(handle.fd);
}

/** What a finished write left on disk. */
export interface WrittenFile {
  readonly sizeBytes: number;
  readonly modifiedAt: Date;
}

export const TEMPORARY_SUFFIX = '.tmp';

/** Temporary files that this process is writing: two writers of one path must not share theirs. */
const temporaryInUse = new Set<string>();

/**
 * Replaces `path` with `data`, whole or not at all; on failure the old file is untouched and no temporary file stays.
 * The folder must exist. Two calls for one path at once are safe within this process (the later rename wins), not
 * between processes.
 * @param data - bytes, text, or a stream whose chunks may be reused by their producer after they were taken.
 * @throws the system's own errors, and what `data` throws; LitestreamError 'aborted'.
 */
export async function writeFileDurably(
  path: string,
  data: Uint8Array | string | AsyncIterable<Uint8Array>,
  options: DurableFileOptions = {},
): Promise<WrittenFile> {
  throwIfAborted(options.signal);
  const temporary = claimTemporary(path, options.ifAbsent === true);
  try {
    const written = await writeTemporary(temporary, data, options);
    if (options.ifAbsent === true) await renameToAbsent(temporary, path);
    else await rename(temporary, path);
    await syncDirectory(dirname(path));
    return written;
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  } finally {
    temporaryInUse.delete(temporary);
  }
}

/**
 * `path.tmp`, the name that v0.3.13 uses too and so overwrites after a crash; another one while that is being written.
 * One that becomes a second name of the finished file has a name that nobody else ever opens.
 */
function claimTemporary(path: string, unique: boolean): string {
  const stem = unique ? `${path}.${randomBytes(8).toString('hex')}` : path;
  let temporary = `${stem}${TEMPORARY_SUFFIX}`;
  for (let number = 1; temporaryInUse.has(temporary); number++) {
    temporary = `${path}.${number}${TEMPORARY_SUFFIX}`;
  }
  temporaryInUse.add(temporary);
  return temporary;
}

/** @throws EEXIST. Without hard links another process may still come between the look and the rename. */
async function renameToAbsent(from: string, to: string): Promise<void> {
  try {
    await link(from, to);
  } catch (error) {
    if (!NO_LINKS.has(systemCode(error) ?? '')) throw error;
    if (await isThere(to)) throw Object.assign(new Error(`EEXIST: ${to}`), { code: 'EEXIST' });
    await rename(from, to);
    return;
  }
  try {
    await unlink(from);
  } catch (error) {
    // Whoever tidies up has taken it for one that a crash left.
    if (systemCode(error) !== 'ENOENT') throw error;
  }
}

async function isThere(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

async function writeTemporary(
  path: string,
  data: Uint8Array | string | AsyncIterable<Uint8Array>,
  options: DurableFileOptions,
): Promise<WrittenFile> {
  const mode = options.mode ?? 0o600;
  const handle = await openNew(path, mode);
  try {
    // The umask may have taken bits away.
    await handle.chmod(mode);
    if (options.owner !== undefined) await giveTo(handle, options.owner);
    if (typeof data === 'string') await writeAll(handle, Buffer.from(data));
    else if (data instanceof Uint8Array) await writeAll(handle, data);
    else {
      for await (const chunk of data) {
        throwIfAborted(options.signal);
        await writeAll(handle, chunk);
      }
    }
    throwIfAborted(options.signal);
    await syncFile(handle);
    const stats = await handle.stat();
    return { sizeBytes: stats.size, modifiedAt: stats.mtime };
  } finally {
    await handle.close();
  }
}

/** A new empty file; one that a crash left, whatever its mode, makes way. */
async function openNew(path: string, mode: number): Promise<FileHandle> {
  try {
    return await open(path, 'wx', mode);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
    await rm(path);
    return open(path, 'wx', mode);
  }
}

async function writeAll(handle: FileHandle, data: Uint8Array): Promise<void> {
  for (let offset = 0; offset < data.length;) {
    const { bytesWritten } = await handle.write(data, offset);
    offset += bytesWritten;
  }
}

/** Changes the owner where that is allowed and needed. */
export async function giveTo(handle: FileHandle, owner: Owner): Promise<void> {
  const { uid, gid } = await handle.stat();
  if (uid === owner.uid && gid === owner.gid) return;
  try {
    await handle.chown(owner.uid, owner.gid);
  } catch (error) {
    if (systemCode(error) !== 'EPERM') throw error;
  }
}

/**
 * Makes the folder and its missing parents. Not by mkdir's own option, which never returns where a file system refuses
 * a name with ENOENT although the parent is there (/proc).
 * @returns the first folder that was made, undefined when all were there
 */
export async function makeDirectories(path: string, mode: number): Promise<string | undefined> {
  try {
    return (await makeDirectory(path, mode)) ? path : undefined;
  } catch (error) {
    if (systemCode(error) !== 'ENOENT' || path === dirname(path)) throw error;
    const first = await makeDirectories(dirname(path), mode);
    const made = await makeDirectory(path, mode);
    return first ?? (made ? path : undefined);
  }
}

/** Whether the folder was made; false: it was there. @throws the system's errors */
export async function makeDirectory(path: string, mode: number): Promise<boolean> {
  try {
    await mkdir(path, { mode });
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST' && (await stat(path)).isDirectory()) return false;
    throw error;
  }
}

/** Makes the names in a folder durable. File systems that cannot (some network ones answer EINVAL) keep their own promise. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await syncFile(handle);
  } catch (error) {
    if (!['EINVAL', 'ENOTSUP', 'ENOSYS'].includes(systemCode(error) ?? '')) throw error;
  } finally {
    await handle.close();
  }
}
