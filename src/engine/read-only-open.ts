/** How a database is opened that we may only read: with the locks of an application that has it open, or not at all. */

import { accessSync, constants } from 'node:fs';
import { LitestreamError, hasCode, systemCode, wrapError } from '../base/errors.ts';
import { ReadConnection } from '../sqlite/connection.ts';
import type { DatabaseFiles } from './database-files.ts';
import { countSharedWalIndexes } from './read-only-liveness.ts';

/**
 * Begins a read transaction with real locks, which needs a process that has the database open.
 * @throws LitestreamError 'not-found' while there is none, 'unsupported' when the database is not in WAL mode,
 *   'permission', 'busy', 'corrupt', 'io'
 */
export function openReadOnly(files: DatabaseFiles): { reader: ReadConnection; pageSizeBytes: number } {
  const header = files.readHeader();
  if (!header) throw new LitestreamError('not-found', `database ${files.path} is empty yet`);
  if (!header.walMode) throw notInWalMode(files.path);
  for (const suffix of ['-shm', '-wal']) requireReadable(files.path, suffix);
  const before = countSharedWalIndexes();
  const reader = new ReadConnection(files.path);
  try {
    reader.begin();
    if (countSharedWalIndexes() <= before) throw notOpen(files.path, 'its -wal and -shm are left over');
    files.openWal();
    return { reader, pageSizeBytes: header.pageSizeBytes };
  } catch (error) {
    reader.close();
    if (!hasCode(error, 'busy')) throw error;
    throw wrapError(error, `database ${files.path} is being opened or repaired by its application`);
  }
}

function requireReadable(path: string, suffix: string): void {
  try {
    accessSync(`${path}${suffix}`, constants.R_OK);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw notOpen(path, `there is no ${suffix}`);
    throw wrapError(error, `${path}${suffix} is not readable`);
  }
}

function notOpen(path: string, sign: string): LitestreamError {
  return new LitestreamError(
    'not-found',
    `no process has database ${path} open (${sign}) and its folder is read-only: replication begins when the application starts`,
  );
}

export function notInWalMode(path: string): LitestreamError {
  return new LitestreamError(
    'unsupported',
    `database ${path} is not in WAL mode and cannot be switched in a read-only folder: ` +
      `have the application run PRAGMA journal_mode=WAL once`,
  );
}
