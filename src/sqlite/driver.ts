/**
 * SQLite itself: `node:sqlite` where Node.js brings one that is new enough, else better-sqlite3, if the user has installed
 * it. A thin layer: connections and programs cannot tell which of them it is.
 *
 * There is one for each process: two copies of SQLite in one process take each other's locks away.
 */

import { LitestreamError, messageOf } from '../base/errors.ts';
import { loadBetterSqlite3 } from './better-sqlite3-driver.ts';
import { loadNodeSqlite } from './node-sqlite-driver.ts';

/** `create` makes the file when it is missing; the others fail then. */
export type Access = 'read-only' | 'read-write' | 'create';

export interface SqliteStatement {
  /** Runs it. Of rows that it has at least the first is looked for, and none is given back. @throws what codeOf() knows */
  run(): void;
}

/** A connection. It never waits for a lock: SQLITE_BUSY at once, unless the caller sets a busy timeout. */
export interface SqliteDatabase {
  /** Runs statements, separated by semicolons. Rows are dropped. @throws what codeOf() knows */
  exec(sql: string): void;
  /** The rows of one statement that has some. @throws what codeOf() knows */
  all(sql: string): Readonly<Record<string, unknown>>[];
  /** One statement, compiled once. @throws what codeOf() knows */
  prepare(sql: string): SqliteStatement;
  /** Whether a transaction is open. SQLite ends one by itself after some errors. False when closed. */
  readonly inTransaction: boolean;
  /** Ends its transaction and its locks, and makes its statements unusable. Idempotent. */
  close(): void;
}

export interface SqliteDriver {
  readonly name: 'node:sqlite' | 'better-sqlite3';
  /** What `sqlite_version()` says. */
  readonly version: string;
  /**
   * Opens a connection. A file that may only be read is opened for `read-write` all the same, as SQLite does.
   * @param path of a file; never a URI, nor in memory
   * @throws what codeOf() knows, or an error of the driver when the folder is not there, or it cannot open such a name
   */
  open(path: string, access: Access): SqliteDatabase;
  /** SQLite's name of an error, the extended one where there is one: `SQLITE_BUSY_SNAPSHOT`. Empty: not of SQLite. */
  codeOf(error: unknown): string;
}

/** The oldest SQLite without the WAL-reset bug, which lets a checkpoint from another process corrupt a database. */
const MIN_SQLITE_VERSION = [3, 51, 3] as const;

/** Each throws when it is not there or cannot be loaded. In the order in which they are tried. */
export type Loaders = Readonly<Record<SqliteDriver['name'], () => SqliteDriver>>;

const LOADERS: Loaders = { 'node:sqlite': loadNodeSqlite, 'better-sqlite3': loadBetterSqlite3 };

let chosen: SqliteDriver | undefined;

/**
 * The driver of this thread, chosen when it is first asked for. What is chosen depends on nothing that differs between
 * the threads of a process.
 * @throws LitestreamError 'unsupported' when there is none, 'usage' when LITESTREAM_SQLITE names none
 */
export function sqliteDriver(): SqliteDriver {
  return (chosen ??= chooseDriver(process.env['LITESTREAM_SQLITE']));
}

/**
 * @param wanted `node` or `better-sqlite3`: that one and no other; undefined or empty: the first that can be used
 * @throws LitestreamError 'unsupported' with what each lacks and what to do, 'usage' when `wanted` is neither
 */
export function chooseDriver(wanted: string | undefined, loaders: Loaders = LOADERS): SqliteDriver {
  const reasons: string[] = [];
  for (const name of namesOf(wanted)) {
    try {
      const driver = loaders[name]();
      if (isNewEnough(driver.version)) return driver;
      reasons.push(`${name} is SQLite ${driver.version}`);
    } catch (error) {
      reasons.push(`${name}: ${messageOf(error)}`);
    }
  }
  throw new LitestreamError(
    'unsupported',
    `no SQLite that can be used, ${MIN_SQLITE_VERSION.join('.')} or later (those before can corrupt databases that ` +
      `another process checkpoints): ${reasons.join('; ')}. Either run it on a newer Node.js (22.22.3, 24.15, 26 or ` +
      'later), or run `npm install better-sqlite3` with the Node.js that runs it, and allow its install script',
  );
}

function namesOf(wanted: string | undefined): readonly SqliteDriver['name'][] {
  switch (wanted) {
    case undefined:
    case '':
      return ['node:sqlite', 'better-sqlite3'];
    case 'node':
    case 'node:sqlite':
      return ['node:sqlite'];
    case 'better-sqlite3':
      return ['better-sqlite3'];
    default:
      throw new LitestreamError(
        'usage',
        `LITESTREAM_SQLITE=${wanted}: unknown: set it to node or better-sqlite3, or do not set it`,
      );
  }
}

/** @param version what `sqlite_version()` says */
export function isNewEnough(version: string): boolean {
  const parts = version.split('.').map(Number);
  return (MIN_SQLITE_VERSION.map((part, i) => (parts[i] ?? 0) - part).find((d) => d !== 0) ?? 0) >= 0;
}
