/**
 * Keeps everybody else out of a database while its content is replaced. SQLite's exclusive lock proves that no other
 * connection is reading or writing it, nor has it open in WAL mode and has read anything. Whoever opens it meanwhile waits,
 * and then sees what is there.
 */

import { type FileHandle, open, stat } from 'node:fs/promises';
import { LitestreamError, hasCode, wrapError } from '../base/errors.ts';
import { ExclusiveConnection } from '../sqlite/connection.ts';
import type { WritablePath } from '../sqlite/writable-path.ts';

/** Locks that come and go are waited for so long. */
const PATIENCE_MS = 2000;

export class ExclusiveHold {
  /** The database file. To be closed by end() alone: closing any descriptor of it would take SQLite's locks away. */
  readonly file: FileHandle;
  readonly #connection: ExclusiveConnection;
  #ended = false;

  private constructor(file: FileHandle, connection: ExclusiveConnection) {
    this.file = file;
    this.#connection = connection;
  }

  /** How the database is damaged, so that it is not locked or its WAL is not in the file. Undefined: all is well. */
  get problem(): string | undefined {
    return this.#connection.problem;
  }

  /**
   * Locks the database and copies its WAL into the file, which is then the whole database. This process has no other
   * connection to it.
   * @throws LitestreamError 'busy' when it is in use, 'disk-full', 'io'
   */
  static async begin(path: WritablePath): Promise<ExclusiveHold> {
    const file = await open(path, 'r+');
    let connection: ExclusiveConnection | undefined;
    try {
      connection = new ExclusiveConnection(path, PATIENCE_MS);
      const [own, named] = await Promise.all([file.stat(), stat(path)]);
      if (own.ino !== named.ino || own.dev !== named.dev) {
        throw new LitestreamError('busy', 'it was replaced in this moment');
      }
      return new ExclusiveHold(file, connection);
    } catch (error) {
      connection?.release();
      await file.close();
      if (!hasCode(error, 'busy')) throw wrapError(error, `lock database ${path}, to replace it`);
      throw new LitestreamError('busy', `database ${path} is in use: stop what uses it first`, {
        cause: error,
      });
    }
  }

  /** Lets go. Idempotent. */
  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#connection.release();
    await this.file.close();
  }
}
