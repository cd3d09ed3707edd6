import fc from 'fast-check';
import { expect, it } from 'vitest';
import { formatBytes, parseByteSize } from '../../src/base/byte-size.ts';

it.each([
  ['0', 0],
  ['5242880', 5 * 1024 ** 2],
  ['5MB', 5e6],
  ['64 MiB', 64 * 1024 ** 2],
  ['1.5g', 1.5e9],
  ['1.1kB', 1100],
  ['3kib', 3072],
  ['12B', 12],
])('reads %s', (text, bytes) => {
  expect(parseByteSize(text)).toBe(bytes);
});

it.each(['', 'MB', '-5MB', '5 m s', '5PB', '1e3', '0.3B'])('refuses %j', (text) => {
  expect(() => parseByteSize(text)).toThrow(`size must be bytes or such as 64MB: ${text}`);
});

it.each([
  [0, '0 B'],
  [999, '999 B'],
  [1000, '1.0 kB'],
  [999_949, '999.9 kB'],
  [999_951, '1.0 MB'],
  [100e6, '100.0 MB'],
  [5e15, '5000.0 TB'],
])('shows %i as %s', (bytes, text) => {
  expect(formatBytes(bytes)).toBe(text);
});

it('reads what it shows as that', () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 9e14 }), (bytes) => {
      expect(formatBytes(parseByteSize(formatBytes(bytes)))).toBe(formatBytes(bytes));
    }),
  );
});
