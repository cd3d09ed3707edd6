/**
 * One replicator a database: an exclusive lock on a tiny file in the meta directory. The kernel frees it when the
 * process ends, so a crash leaves nothing behind that somebody would have to remove.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { LitestreamError, hasCode, systemCode, wrapError } from '../base/errors.ts';
import { LockConnection } from '../sqlite/connection.ts';

const LOCK_FILE = 'lock.sqlite';
/** Who holds the lock, for the message of the one who does not get it. */
const OWNER_FILE = 'lock.owner';

export class DatabaseLock {
  readonly #connection: LockConnection;

  /**
   * @param path the database, for the message
   * @param purpose what the holder does with it, for the message of others
   * @throws LitestreamError 'busy' naming the holder
   */
  constructor(metaPath: string, path: string, purpose: 'replicates' | 'restores' = 'replicates') {
    try {
      this.#connection = new LockConnection(join(metaPath, LOCK_FILE));
    } catch (error) {
      if (!hasCode(error, 'busy')) throw wrapError(error, `lock ${path}`);
      throw new LitestreamError(
        'busy',
        `database ${path} is replicated by another process already (${readOwner(metaPath)}): stop that one first`,
        { cause: error },
      );
    }
    try {
      writeFileSync(
        join(metaPath, OWNER_FILE),
        `pid ${process.pid} on ${hostname()}${purpose === 'restores' ? ', which restores it' : ''}\n`,
      );
    } catch (error) {
      this.#connection.release();
      throw wrapError(error, `lock ${path}`);
    }
  }

  release(): void {
    this.#connection.release();
  }
}

function readOwner(metaPath: string): string {
  try {
    return readFileSync(join(metaPath, OWNER_FILE), 'utf8').trim();
  } catch (error) {
    return `owner unknown: ${systemCode(error) ?? 'unreadable'}`;
  }
}
