/**
 * Opens files of ours in folders that may belong to somebody else: the service runs as root, and whoever owns the
 * database's folder can put links there. None is followed, neither for the file nor for a folder on the way.
 */

import { closeSync, constants, fstatSync, ftruncateSync, lstatSync, openSync, writeFileSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LitestreamError, systemCode } from './errors.ts';

const { O_CREAT, O_DIRECTORY, O_NOFOLLOW, O_NONBLOCK, O_RDONLY, O_RDWR } = constants;

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
  const fd = openFd(path, fresh);
  try {
    if (!fstatSync(fd).isFile()) throw foreign(path);
    if (fresh) ftruncateSync(fd);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function openFd(path: string, fresh: boolean): number {
  try {
    return openSync(path, O_RDWR | O_NOFOLLOW | O_NONBLOCK | (fresh ? O_CREAT : 0), 0o600);
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

/** @throws LitestreamError 'permission' when a file of ours is a link. One that is not there is none. */
export function refuseLink(path: string): void {
  if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true) throw foreign(path);
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
