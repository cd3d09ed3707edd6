/**
 * The proof that a database may be written, as a type. A connection that writes, locks for writing or checkpoints takes a
 * WritablePath and nothing else: on a read-only volume SQLite opens such a connection without complaint, and then
 * `BEGIN IMMEDIATE` succeeds without taking the lock.
 */

import { accessSync, constants } from 'node:fs';
import { dirname } from 'node:path';
import { systemCode, wrapError } from '../base/errors.ts';

declare const proven: unique symbol;

/** The path of a database that this process may write, in a folder in which it may create files. */
export type WritablePath = string & { readonly [proven]: true };

/**
 * @returns undefined when the database, its folder, or a WAL or wal-index that is there can only be read
 * @throws LitestreamError 'not-found', 'io'
 */
export function findWritable(path: string): WritablePath | undefined {
  const beside = [`${path}-wal`, `${path}-shm`];
  for (const target of [path, dirname(path), ...beside]) {
    try {
      accessSync(target, constants.W_OK);
    } catch (error) {
      const code = systemCode(error) ?? '';
      if (['EACCES', 'EPERM', 'EROFS'].includes(code)) return undefined;
      if (code !== 'ENOENT' || !beside.includes(target)) throw wrapError(error, `look at ${target}`);
    }
  }
  return path as WritablePath;
}
