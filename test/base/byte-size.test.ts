import { expect, it } from 'vitest';
import { parseByteSize } from '../../src/base/byte-size.ts';

it.each([
  ['0', 0],
  ['5242880', 5 * 1024 ** 2],
  ['5MB', 5 * 1024 ** 2],
  ['64 MiB', 64 * 1024 ** 2],
  ['1.5g', 1.5 * 1024 ** 3],
  ['3kb', 3072],
  ['12B', 12],
])('reads %s', (text, bytes) => {
  expect(parseByteSize(text)).toBe(bytes);
});

it.each(['', 'MB', '-5MB', '5 m s', '5PB', '1e3', '0.3B'])('refuses %j', (text) => {
  expect(() => parseByteSize(text)).toThrow(`size must be bytes or such as 64MB: ${text}`);
});
