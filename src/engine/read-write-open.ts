/** How a database is opened that we may write: by the wal-index that everybody uses, or not at all. */

import { lchownSync, lstatSync } from 'node:fs';
import { LitestreamError, assert, systemCode, wrapError } from '../base/errors.ts';
import { ReadConnection, WalModeConnection, isUsedByOthers } from '../sqlite/connection.ts';
import type { WritablePath } from '../sqlite/writable-path.ts';
import type { DatabaseFiles } from './database-files.ts';
import { divided, isWalIndexInUse, refuseDivided } from './divided-database.ts';

/**
 * Begins a read transaction and opens the descriptors on `-wal` and `-shm`.
 * @param doubtful these were found to be replaced or deleted: then it is made sure that nobody uses the old ones
 * @throws LitestreamError 'not-found' while the file is empty, 'busy', 'permission', 'corrupt', 'io'
 */
export function openReadWrite(
  files: DatabaseFiles,
  writable: WritablePath,
  doubtful: boolean,
): { reader: ReadConnection; pageSizeBytes: number } {
  const found = files.readHeader();
  if (!found) throw new LitestreamError('not-found', `database ${files.path} is empty yet`);
  refuseDivided(files.path);
  const used = doubtful && found.walMode && isUsedByOthers(writable);
  const wasThere = files.openWalIndex();
  if (used && !wasThere) throw divided(files.path);
  const commitsBefore = files.readWalIndex()?.changeCount ?? 0;
  const reader = beginReading(files, writable, { switching: !found.walMode, again: !wasThere });
  try {
    files.openWal();
    // A wal-index that nobody uses is built anew by whoever opens it, and counts from 0.
    const commits = files.readWalIndex()?.changeCount ?? 0;
    const shared = isWalIndexInUse(files.path) || (commitsBefore > 0 && commits >= commitsBefore);
    if (used && !shared) throw divided(files.path);
    const header = files.readHeader();
    assert(header !== undefined, 'a database does not become empty');
    return { reader, pageSizeBytes: header.pageSizeBytes };
  } catch (error) {
    reader.close();
    throw error;
  }
}

/**
 * @param how.switching the database has a rollback journal yet
 * @param how.again the wal-index is made by this: a second connection finds it at its place, so that its identity is known
 */
function beginReading(
  files: DatabaseFiles,
  writable: WritablePath,
  how: { readonly switching: boolean; readonly again: boolean },
): ReadConnection {
  const walMode = how.switching ? new WalModeConnection(writable) : undefined;
  let reader: ReadConnection;
  try {
    reader = beginOne(files.path);
    if (how.again) handToGroup(files);
  } finally {
    walMode?.close();
  }
  if (!how.again) return reader;
  try {
    files.openWalIndex();
  } finally {
    // Read-only, so it leaves both files where they are.
    reader.close();
  }
  return beginOne(files.path);
}

/**
 * `-wal` and `-shm` that we make have our group, unless the folder hands on its own: an application that has its rights
 * by the group of the database could not even read any more. Whoever is in that group may give it to his files.
 */
function handToGroup(files: DatabaseFiles): void {
  const { gid } = files.stat();
  for (const suffix of ['-wal', '-shm']) {
    const path = files.path + suffix;
    const made = lstatSync(path, { throwIfNoEntry: false });
    if (made?.uid !== process.geteuid?.() || made?.gid === gid) continue;
    // Whoever owns the folder can have put another file of ours there.
    if (made?.isFile() !== true || made.nlink > 1) continue;
    try {
      lchownSync(path, -1, gid);
    } catch (error) {
      if (systemCode(error) !== 'EPERM') throw wrapError(error, `give ${path} the group of its database`);
    }
  }
}

function beginOne(path: string): ReadConnection {
  const reader = new ReadConnection(path);
  try {
    reader.begin();
    return reader;
  } catch (error) {
    reader.close();
    throw error;
  }
}
