/**
 * Opens files of ours in folders that may belong to somebody else: the service runs as root, and whoever owns the
 * database's folder can put links there. None is followed, neither for the file nor for a folder on the way.
 */

import {
  chmodSync,
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readFileSync,
  writeFileSync,
} from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LitestreamError, systemCode } from './errors.ts';

const { O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR } = constants;
/** Linux: a descriptor that says where a file is and opens nothing. Node.js does not name it. */
const O_PATH = 0o10000000;
const PRIVATE = 0o600;
const OTHERS = 0o077;

/** Of a pipe or a link in the place of a file. */
const FOREIGN: ReadonlySet<string> = new Set(['ELOOP', 'ENXIO', 'EMLINK']);

export interface OwnFileOptions {
  /** Made when it is not there, emptied when it is. Absent: it must be there, and stays as it is. */
  readonly fresh?: boolean;
  /** The folders between this one and the file must be no links either; default: the file's own folder. */
  readonly root?: string;
}

/**
 * Opens a file for reading and writing, with mode 0600 when it is made. The caller closes it.
 * @throws LitestreamError 'permission' when something else is in its place; the system's errors
 */
export function openOwnFile(path: string, { fresh = false, root = dirname(path) }: OwnFileOptions): number {
  for (let folder = dirname(path); folder.length > root.length; folder = dirname(folder)) {
    if (lstatSync(folder).isSymbolicLink()) throw foreign(folder);
  }
  const fd = openFd(path, O_RDWR | (fresh ? O_CREAT : 0));
  try {
    if (!fstatSync(fd).isFile()) throw foreign(path);
    if (fresh) ftruncateSync(fd);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openFd(path: string, flags: number): number {
  try {
    return openSync(path, flags | O_NOFOLLOW | O_NONBLOCK, PRIVATE);
  } catch (error) {
    throw FOREIGN.has(systemCode(error) ?? '') ? foreign(path) : error;
  }
}

/** Puts a short text into a file, which is made when it is not there. @throws as openOwnFile() */
export function writeOwnFile(path: string, text: string): void {
  const fd = openOwnFile(path, { fresh: true });
  try {
    writeFileSync(fd, text);
  } finally {
    closeSync(fd);
  }
}

/** Cuts a file that is there. @throws as openOwnFile() */
export function cutOwnFile(path: string, sizeBytes: number): void {
  const fd = openOwnFile(path, {});
  try {
    ftruncateSync(fd, sizeBytes);
  } finally {
    closeSync(fd);
  }
}

/** The text of a file. @throws as openOwnFile() */
export function readOwnFile(path: string): string {
  const fd = openFd(path, O_RDONLY);
  try {
    if (!fstatSync(fd).isFile()) throw foreign(path);
    return readFileSync(fd, 'utf8');
  } finally {
    closeSync(fd);
  }
}

/**
 * Makes a file if it is not there, and one that others could use this user's alone. One that is there is neither opened nor
 * closed by that: this process may hold locks on it, which any closing would take away.
 * @returns whether it was made
 * @throws as openOwnFile()
 */
export function makePrivate(path: string): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) {
    closeSync(openSync(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, PRIVATE));
    return true;
  }
  if (!stats.isFile()) throw foreign(path);
  if ((stats.mode & OTHERS) !== 0) setMode(path);
  return false;
}

function setMode(path: string): void {
  try {
    if (process.platform !== 'linux') {
      chmodSync(path, PRIVATE);
      return;
    }
    const fd = openSync(path, O_PATH | O_NOFOLLOW);
    try {
      // A link cannot be told by the flags alone: this gives a descriptor of the link itself.
      if (!fstatSync(fd).isFile()) throw foreign(path);
      chmodSync(`/proc/self/fd/${fd}`, PRIVATE);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    // Another user's file in a folder that is shared: its lock can be held nevertheless.
    if (systemCode(error) !== 'EPERM') throw error;
  }
}

/** Opens a folder itself, so that what is done to it is done to no other one. @throws the system's errors */
export function openFolder(path: string): Promise<FileHandle> {
  return open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

function foreign(path: string): LitestreamError {
  return new LitestreamError(
    'permission',
    `${path} is a link or no file, which litestream does not make: remove it, or set meta-path to a folder that only litestream's user can write to`,
  );
}
