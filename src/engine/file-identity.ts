/**
 * Whether the files of a database are still those that a session has open: the database, its `-wal` and its `-shm`, by
 * device and inode, and the `-wal` by what the wal-index says of it. Everything here is stat() by path and reads of
 * descriptors that are open anyway, so it can be asked before each act and from any thread.
 *
 * Why it is asked before each checkpoint: docs/architecture.md, "Nothing of ours in the user's database".
 */

import { readSync, statSync } from 'node:fs';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';
import { WAL_HEADER_SIZE, parseWalHeader, type WalHeader } from '../sqlite/wal.ts';
import { WAL_INDEX_HEADER_SIZE, parseWalIndexHeader, type WalIndexHeader } from '../sqlite/wal-index.ts';
import type { WritablePath } from '../sqlite/writable-path.ts';

/** How often a wal-index that is being written is read again at once; a writer needs less than a microsecond. */
const WAL_INDEX_ATTEMPTS = 100;

declare const proven: unique symbol;

/** Device and inode of a file. */
export type FileIdentity = string;

/** What a session has open. Plain data: it is sent to the thread that checkpoints. */
export interface OpenFiles {
  /** Real path of the database. */
  readonly path: string;
  readonly database: FileIdentity;
  readonly wal: FileIdentity;
  readonly shm: FileIdentity;
  readonly walFd: number;
  readonly shmFd: number;
}

/**
 * Files that a moment ago were proven to be the ones that everybody finds by their names. Only DatabaseFiles gives it,
 * and only with it can a checkpoint be asked for.
 */
export type ProvenFiles = OpenFiles & { readonly path: WritablePath; readonly [proven]: true };

/** @returns undefined when there is no such file @throws LitestreamError */
export function identityOf(path: string): FileIdentity | undefined {
  try {
    const { dev, ino } = statSync(path, { bigint: true });
    return `${dev}:${ino}`;
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw wrapError(error, `stat ${path}`);
  }
}

/** Reads a wal-index header again and again: it is parsed only when it has changed. */
export class WalIndexReader {
  readonly #bytes = Buffer.alloc(WAL_INDEX_HEADER_SIZE);
  readonly #parsed = Buffer.alloc(WAL_INDEX_HEADER_SIZE);
  #header: WalIndexHeader | undefined;

  /** The present one, or undefined while no stable one can be read. */
  read(shmFd: number): WalIndexHeader | undefined {
    for (let attempt = 0; attempt < WAL_INDEX_ATTEMPTS; attempt++) {
      const length = readSync(shmFd, this.#bytes, 0, WAL_INDEX_HEADER_SIZE, 0);
      if (length < WAL_INDEX_HEADER_SIZE) return undefined;
      if (this.#header && this.#bytes.equals(this.#parsed)) return this.#header;
      const header = parseWalIndexHeader(this.#bytes);
      if (!header) continue;
      this.#bytes.copy(this.#parsed);
      this.#header = header;
      return header;
    }
    return undefined;
  }
}

/** Which of the three files another one, or none, has taken the place of, in words; undefined: none. @throws LitestreamError */
export function findReplaced(files: OpenFiles): string | undefined {
  const { path, database, wal, shm } = files;
  for (const [file, identity] of [
    [path, database],
    [`${path}-wal`, wal],
    [`${path}-shm`, shm],
  ] as const) {
    const found = identityOf(file);
    if (found !== identity) return `${file} was ${found === undefined ? 'moved or deleted' : 'replaced'}`;
  }
  return undefined;
}

/**
 * What speaks against a checkpoint by these files at this moment, in words.
 * @returns undefined: nothing; 'unclear': it is being written, ask again @throws LitestreamError 'io'
 */
export function findForeign(files: OpenFiles): { readonly reason: string } | 'unclear' | undefined {
  const replaced = findReplaced(files);
  return replaced === undefined ? compareSalts(files) : { reason: replaced };
}

/**
 * Frames that a checkpoint would copy are counted by the wal-index, and read from the WAL: both must be of one WAL. A
 * writer that starts the WAL over sets the wal-index first, to no frames.
 */
function compareSalts({
  path,
  walFd,
  shmFd,
}: OpenFiles): { readonly reason: string } | 'unclear' | undefined {
  const reader = new WalIndexReader();
  const before = reader.read(shmFd);
  if (!before) return 'unclear';
  if (before.mxFrame <= before.backfilled) return undefined;
  const header = readHeader(walFd);
  if (header?.salt1 === before.salt1 && header.salt2 === before.salt2) return undefined;
  const after = reader.read(shmFd);
  if (after?.salt1 !== before.salt1 || after.salt2 !== before.salt2) return 'unclear';
  return { reason: `${path}-wal is not the one that ${path}-shm belongs to` };
}

function readHeader(walFd: number): WalHeader | undefined {
  const bytes = new Uint8Array(WAL_HEADER_SIZE);
  if (readSync(walFd, bytes, 0, WAL_HEADER_SIZE, 0) < WAL_HEADER_SIZE) return undefined;
  try {
    return parseWalHeader(bytes);
  } catch {
    return undefined;
  }
}

/** @throws LitestreamError 'not-found' when these are not the files that their names lead to */
export function requireUnreplaced(files: OpenFiles): void {
  const replaced = findReplaced(files);
  if (replaced !== undefined) throw new LitestreamError('not-found', replaced);
}
