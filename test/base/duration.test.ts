import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { durationNanoseconds, formatDuration, parseDuration } from '../../src/base/duration.ts';

describe('parseDuration', () => {
  it.each([
    ['0', 0],
    ['0s', 0],
    ['5s', 5000],
    ['1478s', 1_478_000],
    ['-5s', -5000],
    ['+5s', 5000],
    ['5.0s', 5000],
    ['5.6s', 5600],
    ['5.s', 5000],
    ['.5s', 500],
    ['100.00100s', 100_001],
    ['10ns', 0.00001],
    ['11us', 0.011],
    ['12µs', 0.012],
    ['12μs', 0.012],
    ['3h30m', 12_600_000],
    ['10.5s4m', 250_500],
    ['-2m3.4s', -123_400],
    ['1h2m3s4ms5us6ns', 3_723_004.005006],
    ['0.3333333333333333333h', 1_200_000],
    ['0.100000000000000000000h', 360_000],
  ])('reads %s as %d ms', (text, ms) => {
    expect(parseDuration(text)).toBe(ms);
  });

  it.each([
    ['', 'time: invalid duration ""'],
    ['xyz', 'time: invalid duration "xyz"'],
    ['3', 'time: missing unit in duration "3"'],
    ['-', 'time: invalid duration "-"'],
    ['s', 'time: invalid duration "s"'],
    ['.', 'time: invalid duration "."'],
    ['-.s', 'time: invalid duration "-.s"'],
    ['1d', 'time: unknown unit "d" in duration "1d"'],
    ['1h5x', 'time: unknown unit "x" in duration "1h5x"'],
    ['1 h', 'time: unknown unit " h" in duration "1 h"'],
    ['3000000h', 'time: invalid duration "3000000h"'],
    ['9223372036854775808ns', 'time: invalid duration "9223372036854775808ns"'],
    ['1"\u00e9\n', 'time: unknown unit "\\"\\xc3\\xa9\\x0a" in duration "1\\"\\xc3\\xa9\\x0a"'],
  ])('refuses %j', (text, message) => {
    expect(() => parseDuration(text)).toThrow(expect.objectContaining({ code: 'usage', message }) as Error);
  });

  it('takes the most negative duration, which has no positive counterpart', () => {
    expect(parseDuration('-9223372036854775808ns')).toBe(-9223372036854.775808);
  });
});

describe('formatDuration', () => {
  it.each([
    [0, '0s'],
    [60_000, '1m0s'],
    [200, '200ms'],
    [1500, '1.5s'],
    [-156, '-156ms'],
    [3_600_000, '1h0m0s'],
    [24 * 3_600_000, '24h0m0s'],
    [18.539384, '18.539384ms'],
    [0.000001, '1ns'],
    [0.0011, '1.1µs'],
    [2.2, '2.2ms'],
    [245_001, '4m5.001s'],
    [18_367_001, '5h6m7.001s'],
    [0.0000001, '0s'],
  ])('prints %d ms as %s', (ms, text) => {
    expect(formatDuration(ms)).toBe(text);
  });

  it('gives back every duration that it prints', () => {
    const month = 31n * 24n * 3600n * 1_000_000_000n;
    fc.assert(
      fc.property(fc.bigInt({ min: -month, max: month }), (nanoseconds) => {
        const ms = Number(nanoseconds / 1_000_000n) + Number(nanoseconds % 1_000_000n) / 1e6;
        const parsed = parseDuration(formatDuration(ms));
        expect(durationNanoseconds(parsed)).toBe(nanoseconds);
      }),
    );
  });

  it('adds up what its parts say', () => {
    const part = fc.record({ n: fc.nat(10_000), unit: fc.constantFrom('h', 'm', 's', 'ms') });
    const unitMs = { h: 3_600_000, m: 60_000, s: 1000, ms: 1 };
    fc.assert(
      fc.property(fc.array(part, { minLength: 1, maxLength: 6 }), (parts) => {
        const text = parts.map(({ n, unit }) => `${n}${unit}`).join('');
        expect(parseDuration(text)).toBe(parts.reduce((sum, { n, unit }) => sum + n * unitMs[unit], 0));
      }),
    );
  });
});
