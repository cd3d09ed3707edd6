/** The byte ranges of reads, as every driver takes them. */

import { LitestreamError, assert } from '../base/errors.ts';
import type { GetOptions } from './object-store.ts';

/** Bytes [start, end); of everything when there is no range. Asserts that there is at least one. */
export function boundsOf(key: string, range: GetOptions['range']): { start: number; end: number } {
  const { start = 0, end = Infinity } = range ?? {};
  assert(start >= 0 && start < end, `byte range ${start}-${end} of ${key} is empty`);
  return { start, end };
}

/** The value of HTTP's Range header, whose end is inclusive. Asserts as boundsOf() does. */
export function rangeHeader(key: string, range: NonNullable<GetOptions['range']>): string {
  const { start, end } = boundsOf(key, range);
  return `bytes=${start}-${end === Infinity ? '' : end - 1}`;
}

/**
 * That an answer to a range has no more bytes than were asked for.
 * @param what the operation and its object, for messages
 * @throws LitestreamError 'io'
 */
export function checkRangeSize(range: GetOptions['range'], sizeBytes: number, what: string): void {
  if (range?.end === undefined || sizeBytes <= range.end - range.start) return;
  throw new LitestreamError(
    'io',
    `${what}: the store sends ${sizeBytes} bytes where ${range.end - range.start} were asked for: check endpoint`,
  );
}
