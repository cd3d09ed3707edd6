/** What lists say of objects, held against what an object has: whoever reads it plans and deletes by sizes and times. */

import { LitestreamError } from '../base/errors.ts';
import { printable } from '../base/printable.ts';
import type { ObjectInfo } from './object-store.ts';

/** What messages call a listing. */
export function listing(prefix: string): string {
  return `list ${prefix === '' ? 'all objects' : prefix}`;
}

/**
 * An object of a list.
 * @param what the listing, for messages
 * @throws LitestreamError 'io' when its size is no number of bytes, or its time none
 */
export function listedObject(
  what: string,
  object: Omit<ObjectInfo, 'modifiedAt'> & { readonly modifiedAt: Date | undefined },
): ObjectInfo {
  const { key, sizeBytes, modifiedAt } = object;
  if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw senseless(what, key, 'size');
  if (modifiedAt === undefined || Number.isNaN(modifiedAt.getTime())) throw senseless(what, key, 'time');
  return { ...object, modifiedAt };
}

function senseless(what: string, key: string, part: string): LitestreamError {
  return new LitestreamError(
    'io',
    `${what}: the store tells no ${part} of ${printable(JSON.stringify(key))} that makes sense: check endpoint`,
  );
}
