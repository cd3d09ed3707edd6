/** Sizes in bytes as people write them. */

import { LitestreamError } from './errors.ts';

/**
 * The bytes that `text` stands for: `1048576`, `64MB`, `1.5 GiB`; a unit is a power of 1024, its case does not matter.
 * Throws 'config' for anything else.
 */
export function parseByteSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) *(?:([kmgt])i?)?b?$/i.exec(text.trim());
  const bytes = Number(match?.[1]) * 1024 ** ' kmgt'.indexOf((match?.[2] ?? ' ').toLowerCase());
  if (Number.isSafeInteger(bytes)) return bytes;
  throw new LitestreamError('config', `size must be bytes or such as 64MB: ${text}`);
}
