/** The byte ranges of reads, as every driver takes them. */

import { assert } from '../base/errors.ts';
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
