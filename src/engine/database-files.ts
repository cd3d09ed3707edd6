/**
 * The descriptors on a followed database, its WAL and its wal-index. POSIX locks belong to the process and any close
 * of the file drops them, so the database file and `-shm` are opened exactly once and closed only after the last
 * SQLite connection has been: close() is for then. Only the `-wal` may be opened and closed freely.
 */

import { closeSync, fstatSync, openSync, readSync, read as readCallback, type Stats } from 'node:fs';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';
import { parseDatabaseHeader, DATABASE_HEADER_SIZE, type DatabaseHeader } from '../sqlite/database-header.ts';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import type { WritablePath } from '../sqlite/writable-path.ts';
import {
  findReplaced,
  identityOf,
  WalIndexReader,
  type FileIdentity,
  type OpenFiles,
  type ProvenFiles,
} from './file-identity.ts';
import { MainFile, type FileTimes, type MainFileView } from './main-file.ts';

/** Files that this process has open: a second open and its close would drop the locks of the first. */
const openFiles = new Map<string, string>();

/** Opens a file that may be missing. */
function openIfExists(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

function identityOfOpen(fd: number): FileIdentity {
  const { dev, ino } = fstatSync(fd, { bigint: true });
  return `${dev}:${ino}`;
}

export class DatabaseFiles implements MainFileView {
  /** Real path: no symlinks, so that the WAL is looked for where SQLite puts it. */
  readonly path: string;
  readonly #databaseFd: number;
  readonly #identity: FileIdentity;
  #shmFd: number | undefined;
  #walFd: number | undefined;
  /** Present once openWal() has been called. */
  #open: OpenFiles | undefined;
  #mainFile: MainFile | undefined;
  readonly #walIndex = new WalIndexReader();

  /** Opens the database file; do it before the first SQLite connection. @throws LitestreamError */
  constructor(realPath: string) {
    this.path = realPath;
    try {
      const identity = identityOf(realPath);
      if (identity === undefined) throw new LitestreamError('not-found', 'it is not there');
      this.#identity = identity;
      const other = openFiles.get(identity);
      if (other !== undefined) {
        throw new LitestreamError('busy', `this process replicates the same file already, as ${other}`);
      }
      this.#databaseFd = openSync(realPath, 'r');
    } catch (error) {
      throw wrapError(error, `open database ${realPath}`);
    }
    openFiles.set(this.#identity, realPath);
  }

  /** Mode and size of the database file that is open, wherever its name went. */
  stat(): Stats {
    return fstatSync(this.#databaseFd);
  }

  /** The database's header, or undefined while the file is empty. @throws LitestreamError 'corrupt' */
  readHeader(): DatabaseHeader | undefined {
    const data = this.start();
    return data.byteLength === 0 ? undefined : parseDatabaseHeader(data);
  }

  times(): FileTimes {
    const { size, mtimeNs } = fstatSync(this.#databaseFd, { bigint: true });
    return { sizeBytes: size, modifiedNs: mtimeNs };
  }

  start(): Uint8Array {
    const data = new Uint8Array(DATABASE_HEADER_SIZE);
    return data.subarray(0, readSync(this.#databaseFd, data, 0, data.length, 0));
  }

  page(number: number, sizeBytes: number): Uint8Array {
    const data = new Uint8Array(sizeBytes);
    return data.subarray(0, readSync(this.#databaseFd, data, 0, sizeBytes, (number - 1) * sizeBytes));
  }

  /**
   * Watches from now on whether anything but checkpoints writes to the database file. To be called while a read mark is
   * held, before the first frame is copied. @param wholeWal the present WAL will be copied from its first frame on
   */
  watchMainFile(wholeWal: boolean): void {
    this.#mainFile = new MainFile(this, wholeWal);
  }

  /** What is known of the database file; undefined while it is not watched. */
  get mainFile(): MainFile | undefined {
    return this.#mainFile;
  }

  /** Whether `path` (as the user spells it) still leads to the file that is open. */
  isAt(path: string): boolean {
    return identityOf(path) === this.#identity;
  }

  /**
   * Opens `-shm` if it is there: call it before the first SQLite connection. The file that is at its place then and
   * still after a connection has begun to read is the one that SQLite has mapped.
   * @returns whether it is there @throws LitestreamError
   */
  openWalIndex(): boolean {
    try {
      this.#shmFd ??= openIfExists(`${this.path}-shm`);
    } catch (error) {
      throw wrapError(error, `open wal-index of ${this.path}`);
    }
    return this.#shmFd !== undefined;
  }

  /**
   * Opens `-shm` and `-wal`: call it while a read transaction is open, when both exist.
   * @throws LitestreamError 'busy' when one of them is being replaced
   */
  openWal(): void {
    try {
      this.#shmFd ??= openSync(`${this.path}-shm`, 'r');
      if (this.#walFd !== undefined) closeSync(this.#walFd);
      this.#walFd = undefined;
      this.#walFd = openSync(`${this.path}-wal`, 'r');
    } catch (error) {
      throw wrapError(error, `open wal of ${this.path}`);
    }
    const [shm, wal] = [identityOfOpen(this.#shmFd), identityOfOpen(this.#walFd)];
    this.#open = {
      path: this.path,
      database: this.#identity,
      wal,
      shm,
      walFd: this.#walFd,
      shmFd: this.#shmFd,
    };
    const replaced = findReplaced(this.#open);
    if (replaced !== undefined) throw new LitestreamError('busy', `open wal: ${replaced} meanwhile`);
  }

  /**
   * What is not any more as it was opened, in words: one of the three files.
   * @param path of the database as the user spells it @throws LitestreamError
   */
  findReplaced(path: string = this.path): string | undefined {
    if (!this.isAt(path)) return `${path} was moved, replaced or deleted`;
    return this.#open && findReplaced(this.#open);
  }

  /**
   * The proof without which nothing is checkpointed. It is of this moment: whoever acts on it looks again.
   * @throws LitestreamError 'not-found' when one of the files is not the one that was opened
   */
  prove(path: WritablePath): ProvenFiles {
    const replaced = this.findReplaced(path);
    if (replaced !== undefined || !this.#open) {
      throw new LitestreamError('not-found', `no checkpoint: ${replaced ?? `${path} is not open`}`);
    }
    return this.#open as ProvenFiles;
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
    return this.#shmFd === undefined ? undefined : this.#walIndex.read(this.#shmFd);
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
    openFiles.delete(this.#identity);
  }
}
