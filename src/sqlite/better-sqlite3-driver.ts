/**
 * better-sqlite3, which the user installs where Node.js has no SQLite that is new enough. The only place that names it.
 */

import type BetterSqlite3 from 'better-sqlite3';
import { messageOf } from '../base/errors.ts';
import { absolutePath } from './absolute-path.ts';
import type { Access, SqliteDatabase, SqliteDriver, SqliteStatement } from './driver.ts';
import { moduleRequire } from './require.ts';

/** The loader lists all places that it looked at. */
const MESSAGE_LIMIT = 200;

/** @throws Error when it is not installed, or its native part cannot be loaded */
export function loadBetterSqlite3(): SqliteDriver {
  const { Database, version } = load();
  return {
    name: 'better-sqlite3',
    version,
    open: (path: string, access: Access): SqliteDatabase => new Connection(Database, path, access),
    codeOf: (error: unknown): string => (error instanceof Database.SqliteError ? error.code : ''),
  };
}

function load(): { readonly Database: typeof BetterSqlite3; readonly version: string } {
  const require = moduleRequire();
  try {
    require.resolve('better-sqlite3');
  } catch (error) {
    throw new Error('it is not installed', { cause: error });
  }
  try {
    const Database = require('better-sqlite3') as typeof BetterSqlite3;
    // The first connection loads the native part.
    const memory = new Database(':memory:');
    const version = memory.prepare<[], string>('SELECT sqlite_version()').pluck().get() ?? '';
    memory.close();
    return { Database, version };
  } catch (error) {
    throw new Error(
      'its native part is missing or made for another Node.js: install scripts were skipped, or Node.js was changed ' +
        `(${messageOf(error).replaceAll(/\s+/g, ' ').slice(0, MESSAGE_LIMIT)})`,
      { cause: error },
    );
  }
}

/**
 * What it opens for a path. It takes a few relative names for databases in memory, and opens another file than it is told
 * when white space is at the end, or a zero byte within.
 */
function nameOf(path: string): string {
  const absolute = absolutePath(path);
  if (absolute === absolute.trim() && !absolute.includes('\0')) return absolute;
  throw new Error(
    `better-sqlite3 cannot open ${JSON.stringify(path)}: white space at its end, or a zero byte`,
  );
}

class Connection implements SqliteDatabase {
  readonly #database: BetterSqlite3.Database;

  constructor(Database: typeof BetterSqlite3, path: string, access: Access) {
    this.#database = new Database(nameOf(path), {
      readonly: access === 'read-only',
      fileMustExist: access !== 'create',
      timeout: 0,
    });
  }

  exec(sql: string): void {
    this.#database.exec(sql);
  }

  all(sql: string): Record<string, unknown>[] {
    return this.#database.prepare<[], Record<string, unknown>>(sql).all();
  }

  prepare(sql: string): SqliteStatement {
    const statement = this.#database.prepare(sql);
    // It refuses to run what has rows, and the other way round.
    return { run: statement.reader ? () => void statement.get() : () => void statement.run() };
  }

  get inTransaction(): boolean {
    return this.#database.open && this.#database.inTransaction;
  }

  close(): void {
    this.#database.close();
  }
}
