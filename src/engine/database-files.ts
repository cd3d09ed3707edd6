/**
 * The descriptors on a followed database, its WAL and its wal-index. POSIX locks belong to the process and any close
 * of the file drops them, so the database file and `-shm` are opened exactly once and closed only after the last
 * SQLite connection has been: close() is for then. Only the `-wal` may be opened and closed freely.
 */

import {
  closeSync,
  fstatSync,
  openSync,
  readSync,
  statSync,
  read as readCallback,
  type Stats,
} from 'node:fs';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';
import { parseDatabaseHeader, DATABASE_HEADER_SIZE, type DatabaseHeader } from '../sqlite/database-header.ts';
import { parseWalIndexHeader, WAL_INDEX_HEADER_SIZE, type WalIndexHeader } from '../sqlite/wal-index.ts';

/** How often a wal-index that is being written is read again at once; a writer needs less than a microsecond. */
const WAL_INDEX_ATTEMPTS = 100;

/** Files that this process has open: a second open and its close would drop the locks of the first. */
const openFiles = new Map<string, string>();

function statIfExists(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw wrapError(error, `stat ${path}`);
  }
}

export class DatabaseFiles {
  /** Real path: no symlinks, so that the WAL is looked for where SQLite puts it. */
  readonly path: string;
  readonly #databaseFd: number;
  readonly #identity: { readonly dev: number; readonly ino: number };
  #shmFd: number | undefined;
  #walFd: number | undefined;
  #walInode = -1;
  readonly #walIndexBuffer = new Uint8Array(WAL_INDEX_HEADER_SIZE);

  /** Opens the database file; do it before the first SQLite connection. @throws LitestreamError */
  constructor(realPath: string) {
    this.path = realPath;
    try {
      const { dev, ino } = statSync(realPath);
      this.#identity = { dev, ino };
      const other = openFiles.get(this.#identityKey());
      if (other !== undefined) {
        throw new LitestreamError('busy', `this process replicates the same file already, as ${other}`);
      }
      this.#databaseFd = openSync(realPath, 'r');
    } catch (error) {
      throw wrapError(error, `open database ${realPath}`);
    }
    openFiles.set(this.#identityKey(), realPath);
  }

  #identityKey(): string {
    return `${this.#identity.dev}:${this.#identity.ino}`;
  }

  /** Mode and size of the database file that is open, wherever its name went. */
  stat(): Stats {
    return fstatSync(this.#databaseFd);
  }

  /** The database's header, or undefined while the file is empty. @throws LitestreamError 'corrupt' */
  readHeader(): DatabaseHeader | undefined {
    const data = new Uint8Array(DATABASE_HEADER_SIZE);
    const length = readSync(this.#databaseFd, data, 0, data.length, 0);
    return length === 0 ? undefined : parseDatabaseHeader(data.subarray(0, length));
  }

  /** Whether `path` (as the user spells it) still leads to the file that is open. */
  isAt(path: string): boolean {
    const stat = statIfExists(path);
    return stat?.ino === this.#identity.ino && stat.dev === this.#identity.dev;
  }

  /** Opens `-shm` and `-wal`: call it while a read transaction is open, when both exist. @throws LitestreamError */
  openWal(): void {
    try {
      this.#shmFd ??= openSync(`${this.path}-shm`, 'r');
      if (this.#walFd !== undefined) closeSync(this.#walFd);
      this.#walFd = undefined;
      this.#walFd = openSync(`${this.path}-wal`, 'r');
    } catch (error) {
      throw wrapError(error, `open wal of ${this.path}`);
    }
    this.#walInode = fstatSync(this.#walFd).ino;
  }

  /** Whether the `-wal` beside the database is still the file that is open. */
  walIsCurrent(): boolean {
    return statIfExists(`${this.path}-wal`)?.ino === this.#walInode;
  }

  walSizeBytes(): number {
    return this.#walFd === undefined ? 0 : fstatSync(this.#walFd).size;
  }

  /** Reads up to `length` bytes of the WAL into the start of `buffer`. @returns the bytes read, fewer at the end */
  readWal(buffer: Uint8Array, length: number, position: number): number {
    if (this.#walFd === undefined) return 0;
    let done = 0;
    while (done < length) {
      const count = readSync(this.#walFd, buffer, done, length - done, position + done);
      if (count === 0) break;
      done += count;
    }
    return done;
  }

  /** The present wal-index header, or undefined while no stable one can be read. */
  readWalIndex(): WalIndexHeader | undefined {
    if (this.#shmFd === undefined) return undefined;
    for (let attempt = 0; attempt < WAL_INDEX_ATTEMPTS; attempt++) {
      const length = readSync(this.#shmFd, this.#walIndexBuffer, 0, WAL_INDEX_HEADER_SIZE, 0);
      if (length < WAL_INDEX_HEADER_SIZE) return undefined;
      const header = parseWalIndexHeader(this.#walIndexBuffer);
      if (header) return header;
    }
    return undefined;
  }

  /** Reads from the database file without blocking the event loop. @returns the bytes read, 0 at the end */
  readDatabase(buffer: Uint8Array, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      readCallback(this.#databaseFd, buffer, 0, buffer.byteLength, position, (error, count) => {
        if (error) reject(wrapError(error, `read database ${this.path}`));
        else resolve(count);
      });
    });
  }

  /** Closes everything. Only after the last SQLite connection to this file in this process is closed. */
  close(): void {
    for (const fd of [this.#walFd, this.#shmFd, this.#databaseFd]) if (fd !== undefined) closeSync(fd);
    this.#walFd = undefined;
    this.#shmFd = undefined;
    openFiles.delete(this.#identityKey());
  }
}
