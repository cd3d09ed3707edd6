/** Where a database and its meta directory are. */

import { realpath, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';

/** Of the files beside a database that SQLite would apply to it, or read its lock state from. */
export const SIDECAR_SUFFIXES = ['-wal', '-journal', '-shm'] as const;

/** `DIR/.FILE-litestream`, where v0.3.13 has it too. */
export function defaultMetaPath(databasePath: string): string {
  return join(dirname(databasePath), `.${basename(databasePath)}-litestream`);
}

/** The database file with all symlinks followed. @throws LitestreamError 'not-found', 'config' when it is no file */
export async function findDatabaseFile(databasePath: string): Promise<string> {
  try {
    const path = await realpath(databasePath);
    if (!(await stat(path)).isFile()) {
      throw new LitestreamError(
        'config',
        `${databasePath} is not a file: give the path of a SQLite database`,
      );
    }
    return path;
  } catch (error) {
    if (systemCode(error) === 'ENOENT')
      throw new LitestreamError('not-found', `database ${databasePath} is not there`);
    throw wrapError(error, `find database ${databasePath}`);
  }
}

/**
 * When a database last changed, in epoch milliseconds: the newer of the file's and its WAL's times.
 * @throws LitestreamError 'not-found', 'io'
 */
export async function changedAt(path: string): Promise<number> {
  const databaseTime = await modifiedAt(path);
  if (databaseTime === undefined) {
    throw new LitestreamError('not-found', `stat ${path}: no such file or directory`);
  }
  return Math.max(databaseTime, (await modifiedAt(`${path}-wal`)) ?? 0);
}

async function modifiedAt(path: string): Promise<number | undefined> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw wrapError(error, `stat ${path}`);
  }
}
