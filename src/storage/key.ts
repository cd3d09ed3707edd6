/** The rules of object keys, shared by all drivers, so that none can be led out of its root. */

import { LitestreamError } from '../base/errors.ts';
import { printable } from '../base/printable.ts';

/** Whether `key` may name an object: parts between `/` that are neither empty nor `.` nor `..`. */
export function isKey(key: string): boolean {
  return !key.includes('\0') && key.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}

/** Throws 'unsupported' unless `key` may name an object. */
export function checkKey(key: string): void {
  if (!isKey(key)) throw refused('object key', key);
}

/** Throws 'unsupported' unless objects may have `prefix`: empty, or a key with or without a slash behind it. */
export function checkPrefix(prefix: string): void {
  if (prefix !== '' && !isKey(prefix.endsWith('/') ? prefix.slice(0, -1) : prefix)) {
    throw refused('key prefix', prefix);
  }
}

/** Throws 'unsupported' unless `prefix` is empty or a checked prefix that ends with a slash. */
export function checkFolderPrefix(prefix: string): void {
  checkPrefix(prefix);
  if (prefix !== '' && !prefix.endsWith('/')) throw refused('folder prefix', prefix);
}

function refused(what: string, value: string): LitestreamError {
  return new LitestreamError(
    'unsupported',
    `refused ${what} ${printable(JSON.stringify(value))}: its parts must be relative names`,
  );
}
