/**
 * SQLite connections, one class for each thing that we do with one. Nothing else opens databases but the integrity check,
 * in a process of its own, and no class offers more than its purpose needs: in particular only a connection that can
 * write can take the write lock, because `BEGIN IMMEDIATE` on a read-only connection succeeds without taking it. What
 * writes therefore takes a WritablePath.
 *
 * No connection waits: a lock that is not free is reported as busy at once, and the caller waits without blocking the
 * event loop.
 */

import { statSync } from 'node:fs';
import { LitestreamError, messageOf, type ErrorCode } from '../base/errors.ts';
import { type Access, type SqliteDatabase, type SqliteStatement, sqliteDriver } from './driver.ts';
import { type WritablePath, findWritable } from './writable-path.ts';

function open(path: string, access: Access, what = 'database'): SqliteDatabase {
  const driver = sqliteDriver();
  try {
    return driver.open(path, access);
  } catch (error) {
    throw translate(error, `open ${what} ${path}`);
  }
}

/**
 * Opens a connection that can write. SQLite opens a file that it may only read without complaint, and then
 * `BEGIN IMMEDIATE` takes no lock: a volume may have become read-only since the path was proven to be writable.
 */
function openWritable(path: WritablePath): SqliteDatabase {
  const database = open(path, 'read-write');
  try {
    if (findWritable(path) !== undefined) return database;
    throw new LitestreamError('permission', `database ${path} cannot be written any more`);
  } catch (error) {
    database.close();
    throw error;
  }
}

function translate(error: unknown, context: string): LitestreamError {
  return new LitestreamError(codeOf(sqliteDriver().codeOf(error)), `${context}: ${messageOf(error)}`, {
    cause: error,
  });
}

function codeOf(sqliteCode: string): ErrorCode {
  // The last two: a wal-index that we may not write is torn, or has no mark to share, until its application goes on.
  if (/^SQLITE_(BUSY|LOCKED|PROTOCOL|READONLY_CANTINIT|READONLY_RECOVERY)/.test(sqliteCode)) return 'busy';
  if (/^SQLITE_(NOTADB|CORRUPT)/.test(sqliteCode)) return 'corrupt';
  if (/^SQLITE_(READONLY|PERM|AUTH)/.test(sqliteCode)) return 'permission';
  if (sqliteCode.startsWith('SQLITE_FULL')) return 'disk-full';
  return 'io';
}

/**
 * Holds read marks. It is opened read-only, which has a use of its own: when such a connection is the last to close,
 * SQLite leaves the WAL where it is instead of checkpointing and deleting it.
 */
export class ReadConnection {
  readonly #database: SqliteDatabase;
  readonly #begin: SqliteStatement;
  readonly #touch: SqliteStatement;
  readonly #end: SqliteStatement;

  /** @throws LitestreamError 'io', 'corrupt', 'permission' */
  constructor(path: string) {
    this.#database = open(path, 'read-only');
    try {
      this.#begin = this.#database.prepare('BEGIN');
      // Reads the database header and nothing else: it takes the lock and needs no schema.
      this.#touch = this.#database.prepare('PRAGMA user_version');
      this.#end = this.#database.prepare('COMMIT');
    } catch (error) {
      this.#database.close();
      throw translate(error, `read database ${path}`);
    }
  }

  /** Begins a read transaction: afterwards the present end of the WAL is pinned. @throws LitestreamError 'busy', ... */
  begin(): void {
    this.#begin.run();
    try {
      this.#touch.run();
    } catch (error) {
      // SQLite has ended it already after some errors; another error from here would hide the cause.
      if (this.#database.inTransaction) this.#database.exec('ROLLBACK');
      throw translate(error, 'begin read transaction');
    }
  }

  /** Ends the read transaction, if there is one. */
  end(): void {
    if (this.#database.inTransaction) this.#end.run();
  }

  get reading(): boolean {
    return this.#database.inTransaction;
  }

  close(): void {
    this.#database.close();
  }
}

/** Takes SQLite's write lock for a moment and never writes. */
export class WriteLockConnection {
  readonly #database: SqliteDatabase;

  /** @throws LitestreamError */
  constructor(path: WritablePath) {
    this.#database = openWritable(path);
    this.#database.exec('PRAGMA wal_autocheckpoint = 0');
  }

  /** Takes the write lock: until release() no other process can commit. @returns false when somebody else has it */
  tryLock(): boolean {
    try {
      this.#database.exec('BEGIN IMMEDIATE');
      return true;
    } catch (error) {
      const translated = translate(error, 'take the write lock');
      if (translated.code === 'busy') return false;
      throw translated;
    }
  }

  /** Gives the write lock back, if it is held. */
  release(): void {
    if (this.#database.inTransaction) this.#database.exec('ROLLBACK');
  }

  close(): void {
    this.#database.close();
  }
}

export interface CheckpointResult {
  /** Some lock was not free, or a reader kept it from finishing. */
  readonly busy: boolean;
  /** Frames in the WAL, -1 when busy at once. */
  readonly logFrames: number;
  /** Frames of them that are in the database file. */
  readonly checkpointedFrames: number;
}

/** Checkpoints, PASSIVE only: that never waits for, and never blocks, the application. */
export class CheckpointConnection {
  readonly #database: SqliteDatabase;

  /** Opens the WAL too, so that later checkpoints are of the files that are there now. @throws LitestreamError */
  constructor(path: WritablePath) {
    this.#database = openWritable(path);
    try {
      this.#database.exec('PRAGMA wal_autocheckpoint = 0');
      this.#database.exec('PRAGMA user_version');
    } catch (error) {
      this.#database.close();
      throw translate(error, `open ${path} for checkpoints`);
    }
  }

  /** Copies committed frames into the database file, as far as readers allow. @throws LitestreamError 'io', 'disk-full' */
  checkpoint(): CheckpointResult {
    try {
      const [row] = this.#database.all('PRAGMA wal_checkpoint(PASSIVE)') as {
        busy: number;
        log: number;
        checkpointed: number;
      }[];
      return {
        busy: row?.busy !== 0,
        logFrames: row?.log ?? -1,
        checkpointedFrames: row?.checkpointed ?? -1,
      };
    } catch (error) {
      throw translate(error, 'checkpoint');
    }
  }

  close(): void {
    this.#database.close();
  }
}

/**
 * Whether somebody else has a database in WAL mode open, and has read anything. If not, its WAL is copied into the file
 * and deleted, as by any connection that closes last. To be called while this process has no connection to it.
 * @throws LitestreamError 'permission', 'corrupt', 'disk-full', 'io'
 */
export function isUsedByOthers(path: WritablePath): boolean {
  const database = openWritable(path);
  try {
    // The wal-index is in memory then, and the lock on the file excludes everybody: no `-shm` plays a part.
    database.exec('PRAGMA locking_mode = EXCLUSIVE');
    database.exec('BEGIN IMMEDIATE; ROLLBACK');
    return false;
  } catch (error) {
    const translated = translate(error, `look whether ${path} is in use`);
    if (translated.code === 'busy') return true;
    throw translated;
  } finally {
    database.close();
  }
}

/**
 * Switches a database with a rollback journal to WAL mode: the one change that we make to a user's database.
 * The connection stays open until close() so that the caller can open its own before the switch could be undone.
 */
export class WalModeConnection {
  readonly #database: SqliteDatabase;

  /** @throws LitestreamError 'busy' while the application uses the database, 'permission' when it cannot be written */
  constructor(path: WritablePath) {
    this.#database = openWritable(path);
    try {
      const [row] = this.#database.all('PRAGMA journal_mode = WAL');
      const mode = String(row?.['journal_mode']);
      if (mode !== 'wal') throw new LitestreamError('unsupported', `database stays in journal mode ${mode}`);
    } catch (error) {
      this.#database.close();
      if (error instanceof LitestreamError) throw error;
      throw translate(error, `switch ${path} to WAL mode`);
    }
  }

  close(): void {
    this.#database.close();
  }
}

/** An exclusive lock on a file of our own, freed by the kernel when the process ends, however it ends. */
export class LockConnection {
  readonly #database: SqliteDatabase;

  /** @param path of a file that is there @throws LitestreamError 'busy' when another process holds it */
  constructor(path: string) {
    this.#database = open(path, 'read-write', 'lock file');
    try {
      this.#database.exec('BEGIN EXCLUSIVE');
    } catch (error) {
      this.#database.close();
      throw translate(error, `lock ${path}`);
    }
  }

  release(): void {
    this.#database.close();
  }
}

/**
 * SQLite's exclusive lock on a database, until release(): nobody else reads or writes it meanwhile, and no connection that
 * is in WAL mode has ever read it. Its WAL is in the file.
 */
export class ExclusiveConnection {
  /** How the database is damaged: then its WAL is not in the file, and it may not be locked. Undefined: all is well. */
  readonly problem: string | undefined;
  readonly #database: SqliteDatabase;

  /**
   * Blocks this thread while it waits for others.
   * @throws LitestreamError 'busy' when somebody uses the database, 'disk-full', 'io'
   */
  constructor(path: WritablePath, patienceMs: number) {
    const database = openWritable(path);
    this.#database = database;
    try {
      database.exec(`PRAGMA busy_timeout = ${patienceMs}`);
      database.exec('PRAGMA locking_mode = EXCLUSIVE');
      // Else the first page of an empty database leaves a journal behind.
      if (statSync(path).size === 0) database.exec('PRAGMA journal_mode = MEMORY');
      database.exec('BEGIN EXCLUSIVE; ROLLBACK');
      const [row] = database.all('PRAGMA wal_checkpoint(TRUNCATE)') as { busy: number }[];
      if (row?.busy !== 0) throw new LitestreamError('busy', 'its wal cannot be checkpointed');
    } catch (error) {
      const translated = error instanceof LitestreamError ? error : translate(error, `lock ${path}`);
      // Nobody can use a database that is damaged, and replacing it is what this is for.
      if (translated.code === 'corrupt') {
        this.problem = messageOf(error);
        return;
      }
      database.close();
      throw translated;
    }
  }

  release(): void {
    this.#database.close();
  }
}
