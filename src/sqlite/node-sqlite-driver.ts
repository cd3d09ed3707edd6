/** `node:sqlite`, which Node.js brings. Versions that are too old for us lack it: nothing but the load may fail there. */

import { absolutePath } from './absolute-path.ts';
import type { Access, SqliteDatabase, SqliteDriver, SqliteStatement } from './driver.ts';
import { moduleRequire } from './require.ts';
import { resultCodeName } from './result-codes.ts';

/** What we use of the module. The type definitions that we compile with are those of a Node.js without it. */
interface NodeSqlite {
  readonly DatabaseSync: new (path: string, options: DatabaseSyncOptions) => DatabaseSync;
}

interface DatabaseSyncOptions {
  readonly readOnly?: boolean;
  /** Busy timeout. */
  readonly timeout?: number;
}

interface DatabaseSync {
  readonly isTransaction: boolean;
  exec(sql: string): void;
  prepare(sql: string): { all(): Record<string, unknown>[]; run(): unknown };
  close(): void;
}

/** @throws Error when this Node.js has none */
export function loadNodeSqlite(): SqliteDriver {
  const { DatabaseSync } = load();
  const memory = new DatabaseSync(':memory:', {});
  const [row] = memory.prepare('SELECT sqlite_version() AS version').all();
  memory.close();
  return {
    name: 'node:sqlite',
    version: String(row?.['version']),
    open: (path: string, access: Access): SqliteDatabase => {
      const options = { readOnly: access === 'read-only', timeout: 0 };
      return new Connection(new DatabaseSync(uriOf(path, access), options));
    },
    codeOf,
  };
}

function load(): NodeSqlite {
  const require = moduleRequire();
  try {
    return withoutExperimentalWarning(() => require('node:sqlite') as NodeSqlite);
  } catch (error) {
    throw new Error(`Node.js ${process.version} has none`, { cause: error });
  }
}

/**
 * Loads a module whose ExperimentalWarning tells users of the program nothing. It is emitted while the module loads, once a
 * thread; other warnings pass.
 */
function withoutExperimentalWarning<T>(load: () => T): T {
  const descriptor = Object.getOwnPropertyDescriptor(process, 'emitWarning');
  const emitWarning = process.emitWarning.bind(process) as (...args: unknown[]) => void;
  Object.defineProperty(process, 'emitWarning', {
    configurable: true,
    value: (warning: unknown, ...rest: unknown[]): void => {
      const [options] = rest;
      const type = typeof options === 'object' ? (options as { type?: unknown } | null)?.type : options;
      const name = warning instanceof Error ? warning.name : type;
      if (name !== 'ExperimentalWarning') emitWarning(warning, ...rest);
    },
  });
  try {
    return load();
  } finally {
    if (descriptor === undefined) Reflect.deleteProperty(process, 'emitWarning');
    else Object.defineProperty(process, 'emitWarning', descriptor);
  }
}

/** The only way to say that a file must be there. */
function uriOf(path: string, access: Access): string {
  let encoded = '';
  for (const byte of Buffer.from(absolutePath(path))) {
    const character = String.fromCharCode(byte);
    // A zero byte stays as it is: Node.js refuses it, but to SQLite `%00` is the end of the path.
    encoded +=
      byte === 0 || /[\w./~-]/.test(character)
        ? character
        : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return `file://${encoded}?mode=${{ 'read-only': 'ro', 'read-write': 'rw', create: 'rwc' }[access]}`;
}

function codeOf(error: unknown): string {
  if (!(error instanceof Error) || !('errcode' in error) || typeof error.errcode !== 'number') return '';
  return resultCodeName(error.errcode);
}

class Connection implements SqliteDatabase {
  readonly #database: DatabaseSync;
  #open = true;

  constructor(database: DatabaseSync) {
    this.#database = database;
  }

  exec(sql: string): void {
    this.#database.exec(sql);
  }

  all(sql: string): Record<string, unknown>[] {
    return this.#database.prepare(sql).all();
  }

  prepare(sql: string): SqliteStatement {
    const statement = this.#database.prepare(sql);
    return { run: () => void statement.run() };
  }

  get inTransaction(): boolean {
    return this.#open && this.#database.isTransaction;
  }

  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#database.close();
  }
}
