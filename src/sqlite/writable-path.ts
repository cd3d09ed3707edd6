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

/** @returns undefined when the database or its folder can only be read @throws LitestreamError 'not-found', 'io' */
export function findWritable(path: string): WritablePath | undefined {
  for (const target of [path, dirname(path)]) {
    try {
      accessSync(target, constants.W_OK);
    } catch (error) {
      if (['EACCES', 'EPERM', 'EROFS'].includes(systemCode(error) ?? '')) return undefined;
      throw wrapError(error, `look at ${target}`);
    }
  }
  return path as WritablePath;
}
