/**
 * One replicator a database: an exclusive lock on a tiny file in the meta directory. The kernel frees it when the
 * process ends, so a crash leaves nothing behind that somebody would have to remove.
 */

import { type Stats, readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { LitestreamError, hasCode, systemCode, wrapError } from '../base/errors.ts';
import { refuseLink, writeOwnFile } from '../base/own-file.ts';
import { LockConnection } from '../sqlite/connection.ts';
import { refuseOthers } from './other-replicators.ts';

export const LOCK_FILE = 'lock.sqlite';
/** Who holds the lock, for the message of the one who does not get it. */
const OWNER_FILE = 'lock.owner';

export class DatabaseLock {
  readonly #connection: LockConnection;
  readonly #metaPath: string;
  readonly #path: string;
  readonly #stats: Stats | undefined;

  /**
   * @param path the database, for the message
   * @param purpose what the holder does with it, for the message of others
   * @throws LitestreamError 'busy' naming the holder
   */
  constructor(metaPath: string, path: string, purpose: 'replicates' | 'restores' = 'replicates') {
    this.#metaPath = metaPath;
    this.#path = join(metaPath, LOCK_FILE);
    refuseLink(this.#path);
    const isNewLock = statIfThere(this.#path) === undefined;
    try {
      this.#connection = new LockConnection(this.#path);
    } catch (error) {
      if (!hasCode(error, 'busy')) throw wrapError(error, `lock ${path}`);
      throw new LitestreamError(
        'busy',
        `database ${path} is replicated by another process already (${readOwner(metaPath)}): stop that one first`,
        { cause: error },
      );
    }
    try {
      this.#stats = statIfThere(this.#path);
      if (purpose === 'replicates') refuseOthers(path, { metaPath, lockPath: this.#path, isNewLock });
      writeOwnFile(
        join(metaPath, OWNER_FILE),
        `pid ${process.pid} on ${hostname()}${purpose === 'restores' ? ', which restores it' : ''}\n`,
      );
    } catch (error) {
      this.#connection.release();
      throw wrapError(error, `lock ${path}`);
    }
  }

  /** Whether the lock is still what others find: its file can be deleted, and then they find another one. */
  get isInPlace(): boolean {
    const now = statIfThere(this.#path);
    return now !== undefined && now.ino === this.#stats?.ino && now.dev === this.#stats.dev;
  }

  /** @throws LitestreamError 'busy' when another process replicates the database nevertheless, as far as this one can see */
  refuseOthers(path: string): void {
    refuseOthers(path, { metaPath: this.#metaPath, lockPath: this.#path, isNewLock: false, anew: true });
  }

  release(): void {
    this.#connection.release();
  }
}

function statIfThere(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined; // Its folder is no folder any more.
  }
}

/** Who took the lock last, for people and to tell one from another. */
export function readOwner(metaPath: string): string {
  try {
    return readFileSync(join(metaPath, OWNER_FILE), 'utf8').trim();
  } catch (error) {
    return `owner unknown: ${systemCode(error) ?? 'unreadable'}`;
  }
}
