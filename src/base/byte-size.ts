/** Sizes in bytes as people write them. */

import { LitestreamError } from './errors.ts';

/**
 * The bytes that `text` stands for: `1048576`, `64MB`, `1.5 GiB`. A unit is a power of 1000, with an `i` of 1024; its case
 * does not matter. Throws 'config' for anything else.
 */
export function parseByteSize(text: string): number {
  const match = /^(\d+(?:\.\d+)?) *(?:([kmgt])(i?))?b?$/i.exec(text.trim());
  const power = ' kmgt'.indexOf((match?.[2] ?? ' ').toLowerCase());
  const product = Number(match?.[1]) * (match?.[3] ? 1024 : 1000) ** power;
  const bytes = Math.round(product);
  // Products such as 4.1 * 1000 ** 4 are not quite whole.
  const whole = Math.abs(product - bytes) <= 2 * Number.EPSILON * bytes;
  if (whole && Number.isSafeInteger(bytes)) return bytes;
  throw new LitestreamError('config', `size must be bytes or such as 64MB: ${text}`);
}

/** `1.5 MB`: powers of 1000. parseByteSize() reads it back as what it shows. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  let value = bytes;
  // 999.95 would print as 1000.0.
  while (value >= 999.95 && unit < units.length - 1) {
    value /= 1000;
    unit++;
  }
  return `${unit === 0 ? String(Math.round(value)) : value.toFixed(1)} ${units[unit] ?? ''}`;
}
