/** A database whose WAL indexes go into a replica, each cut into segments at commits, as v0.3.13 stores them. */

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';

export const GENERATION = '00000000000000aa';

export class RestoreSource {
  readonly path: string;
  /** Root of the replica. */
  readonly replica: string;
  readonly #database: BetterSqlite3.Database;
  #index = 0;
  #offset = 0;

  /** @param dir gets the database `db` and the replica `replica`, which begins with a snapshot */
  constructor(dir: string) {
    this.path = join(dir, 'db');
    this.replica = join(dir, 'replica');
    this.#database = new BetterSqlite3(this.path);
    for (const pragma of ['page_size=512', 'journal_mode=wal', 'wal_autocheckpoint=0'])
      this.#database.pragma(pragma);
    this.#database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, x)');
    this.#database.pragma('wal_checkpoint(TRUNCATE)');
    this.snapshot();
  }

  snapshot(): void {
    this.#write(snapshotKey(GENERATION, this.#index), readFileSync(this.path));
  }

  /** Commits a row and stores it in a segment, in each of the given replicas' folders (default: the own one). */
  commit(...replicas: string[]): void {
    this.#database.exec('INSERT INTO t (x) VALUES (randomblob(300))');
    this.store(...replicas);
  }

  /** Commits a row that is stored with the next segment. */
  commitOnly(): void {
    this.#database.exec('INSERT INTO t (x) VALUES (randomblob(300))');
  }

  store(...replicas: string[]): void {
    const wal = readFileSync(`${this.path}-wal`);
    const key = segmentKey(GENERATION, this.#index, this.#offset);
    for (const replica of replicas.length === 0 ? [this.replica] : replicas)
      this.#write(key, wal.subarray(this.#offset), replica);
    this.#offset = wal.byteLength;
  }

  /** Begins the next index. */
  rotate(): void {
    this.#database.pragma('wal_checkpoint(TRUNCATE)');
    this.#index++;
    this.#offset = 0;
  }

  /** Bytes of the WAL now. */
  wal(): Buffer {
    return readFileSync(`${this.path}-wal`);
  }

  /** @returns the database file with everything in it */
  close(): Buffer {
    this.#database.close();
    return readFileSync(this.path);
  }

  #write(key: string, content: Uint8Array, replica = this.replica): void {
    const path = join(replica, key);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, encodeLz4FrameBytes(content));
  }
}

/** Rows of a database, which must be sound. */
export function rowsOf(path: string): number {
  const database = new BetterSqlite3(path);
  try {
    const problems = database.prepare('PRAGMA integrity_check').pluck().all();
    if (problems.join() !== 'ok') throw new Error(`${path}: ${problems.join('; ')}`);
    return database.prepare('SELECT count(*) FROM t').pluck().get() as number;
  } finally {
    database.close();
  }
}
