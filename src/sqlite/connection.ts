/**
 * SQLite connections, one class for each thing that we do with one. Nothing else imports better-sqlite3, and no class
 * offers more than its purpose needs: in particular only a connection that can write can take the write lock, because
 * `BEGIN IMMEDIATE` on a read-only connection succeeds without taking it. What writes therefore takes a WritablePath.
 *
 * No connection waits: a lock that is not free is reported as busy at once, and the caller waits without blocking the
 * event loop.
 */

import BetterSqlite3 from 'better-sqlite3';
import { LitestreamError, messageOf, type ErrorCode } from '../base/errors.ts';
import { type WritablePath, findWritable } from './writable-path.ts';

/** The oldest SQLite without the WAL-reset bug, which lets a checkpoint from another process corrupt a database. */
const MIN_SQLITE_VERSION = [3, 51, 3] as const;

function open(path: string, readonly: boolean): BetterSqlite3.Database {
  try {
    return new BetterSqlite3(path, { readonly, fileMustExist: true, timeout: 0 });
  } catch (error) {
    throw translate(error, `open database ${path}`);
  }
}

/**
 * Opens a connection that can write. SQLite opens a file that it may only read without complaint, and then
 * `BEGIN IMMEDIATE` takes no lock: a volume may have become read-only since the path was proven to be writable.
 */
function openWritable(path: WritablePath): BetterSqlite3.Database {
  const database = open(path, false);
  try {
    if (findWritable(path) !== undefined) return database;
    throw new LitestreamError('permission', `database ${path} cannot be written any more`);
  } catch (error) {
    database.close();
    throw error;
  }
}

function translate(error: unknown, context: string): LitestreamError {
  const sqliteCode = error instanceof BetterSqlite3.SqliteError ? error.code : '';
  return new LitestreamError(codeOf(sqliteCode), `${context}: ${messageOf(error)}`, { cause: error });
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
 * Refuses a SQLite library that is too old to checkpoint beside other processes.
 * @throws LitestreamError 'unsupported'
 */
export function checkSqliteVersion(): void {
  const database = new BetterSqlite3(':memory:');
  const version = database.prepare<[], string>('SELECT sqlite_version()').pluck().get() ?? '';
  database.close();
  const parts = version.split('.').map(Number);
  const difference = MIN_SQLITE_VERSION.map((part, i) => (parts[i] ?? 0) - part).find((d) => d !== 0) ?? 0;
  if (difference < 0) {
    throw new LitestreamError(
      'unsupported',
      `sqlite ${version} has a bug that can corrupt databases while they are checkpointed by another process: ` +
        `${MIN_SQLITE_VERSION.join('.')} or later is needed (reinstall better-sqlite3 12.11.1)`,
    );
  }
}

/**
 * Holds read marks. It is opened read-only, which has a use of its own: when such a connection is the last to close,
 * SQLite leaves the WAL where it is instead of checkpointing and deleting it.
 */
export class ReadConnection {
  readonly #database: BetterSqlite3.Database;
  readonly #begin: BetterSqlite3.Statement;
  readonly #touch: BetterSqlite3.Statement;
  readonly #end: BetterSqlite3.Statement;

  /** @throws LitestreamError 'io', 'corrupt', 'permission' */
  constructor(path: string) {
    this.#database = open(path, true);
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
      this.#touch.get();
    } catch (error) {
      this.#database.exec('ROLLBACK');
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
  readonly #database: BetterSqlite3.Database;

  /** @throws LitestreamError */
  constructor(path: WritablePath) {
    this.#database = openWritable(path);
    this.#database.pragma('wal_autocheckpoint = 0');
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
  readonly #database: BetterSqlite3.Database;

  /** @throws LitestreamError */
  constructor(path: WritablePath) {
    this.#database = openWritable(path);
    this.#database.pragma('wal_autocheckpoint = 0');
  }

  /** Copies committed frames into the database file, as far as readers allow. @throws LitestreamError 'io', 'disk-full' */
  checkpoint(): CheckpointResult {
    try {
      const [row] = this.#database.pragma('wal_checkpoint(PASSIVE)') as {
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
 * Switches a database with a rollback journal to WAL mode: the one change that we make to a user's database.
 * The connection stays open until close() so that the caller can open its own before the switch could be undone.
 */
export class WalModeConnection {
  readonly #database: BetterSqlite3.Database;

  /** @throws LitestreamError 'busy' while the application uses the database, 'permission' when it cannot be written */
  constructor(path: WritablePath) {
    this.#database = openWritable(path);
    try {
      const mode = this.#database.pragma('journal_mode = WAL', { simple: true });
      if (mode !== 'wal')
        throw new LitestreamError('unsupported', `database stays in journal mode ${String(mode)}`);
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
  readonly #database: BetterSqlite3.Database;

  /** @throws LitestreamError 'busy' when another process holds it */
  constructor(path: string) {
    try {
      this.#database = new BetterSqlite3(path, { timeout: 0 });
    } catch (error) {
      throw translate(error, `open lock file ${path}`);
    }
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
