/**
 * One replicator a database: an exclusive lock on a tiny file in the meta directory. The kernel frees it when the
 * process ends, so a crash leaves nothing behind that somebody would have to remove.
 */

import { type Stats, readFileSync, statSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { LitestreamError, hasCode, systemCode, wrapError } from '../base/errors.ts';
import { isHeldInPlace } from '../base/held-folder.ts';
import { withNames } from '../base/held-names.ts';
import { makePrivate, readOwnFile, writeOwnFile } from '../base/own-file.ts';
import { LockConnection } from '../sqlite/connection.ts';
import { refuseOthers } from './other-replicators.ts';

export const LOCK_FILE = 'lock.sqlite';
/** Who holds the lock, for the message of the one who does not get it. */
const OWNER_FILE = 'lock.owner';
/** Of /proc/locks: `1: POSIX  ADVISORY  READ 4711 08:01:1234 124 124` */
const LOCK = /^\d+: POSIX +ADVISORY +(READ|WRITE) +(\d+) [\da-f]+:[\da-f]+:(\d+) /;

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
    const isNewLock = makePrivate(this.#path);
    try {
      this.#connection = new LockConnection(this.#path);
    } catch (error) {
      if (!hasCode(error, 'busy')) throw wrapError(error, `lock ${path}`);
      throw busyError(path, { metaPath, lockPath: this.#path }, error);
    }
    try {
      this.#stats = statIfThere(this.#path);
      if (!this.isInPlace) throw new LitestreamError('io', `${this.#path} was replaced in this moment`);
      if (purpose === 'replicates')
        refuseOthers(path, { metaPath: withNames(metaPath), lockPath: this.#path, isNewLock });
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
    return (
      isHeldInPlace(this.#metaPath) &&
      now !== undefined &&
      now.ino === this.#stats?.ino &&
      now.dev === this.#stats.dev
    );
  }

  /** @throws LitestreamError 'busy' when another process replicates the database nevertheless, as far as this one can see */
  refuseOthers(path: string): void {
    refuseOthers(path, {
      metaPath: withNames(this.#metaPath),
      lockPath: this.#path,
      isNewLock: false,
      anew: true,
    });
  }

  release(): void {
    this.#connection.release();
  }
}

function busyError(
  path: string,
  where: { readonly metaPath: string; readonly lockPath: string },
  cause: unknown,
): LitestreamError {
  const reader = soleReader(where.lockPath);
  const message =
    reader === undefined
      ? `database ${path} is replicated by another process already (${readOwner(where.metaPath)}): stop that one first`
      : `database ${path} cannot be locked: pid ${reader} reads ${where.lockPath} and locks it by that: stop that process`;
  return new LitestreamError('busy', message, { cause });
}

/** A process that has no more than a lock for reading on the file, which no `replicate` has; undefined: that is not all. */
function soleReader(lockPath: string): number | undefined {
  try {
    const { ino } = statSync(lockPath);
    const locks = readFileSync('/proc/locks', 'utf8')
      .split('\n')
      .flatMap((line) => {
        const [, kind, pid, inode] = LOCK.exec(line) ?? [];
        return Number(inode) === ino ? [{ kind, pid: Number(pid) }] : [];
      });
    return locks.every(({ kind }) => kind === 'READ') ? locks[0]?.pid : undefined;
  } catch {
    return undefined; // Not told on this system.
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
    return readOwnFile(join(metaPath, OWNER_FILE)).trim();
  } catch (error) {
    return `owner unknown: ${systemCode(error) ?? 'unreadable'}`;
  }
}
