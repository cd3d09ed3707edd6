/** Durations in Go's syntax (`1h30m`, `200ms`, `1.5s`), the one that config files, flags and logs use. */

import { LitestreamError } from './errors.ts';

const MAX_NANOSECONDS = 2n ** 63n - 1n;

const UNITS: ReadonlyMap<string, bigint> = new Map([
  ['ns', 1n],
  ['us', 1000n],
  ['µs', 1000n], // U+00B5 micro sign
  ['μs', 1000n], // U+03BC Greek mu
  ['ms', 1_000_000n],
  ['s', 1_000_000_000n],
  ['m', 60_000_000_000n],
  ['h', 3_600_000_000_000n],
]);

/** One number with its unit: digits, an optional fraction, everything up to the next digit or point. */
const PART = /^(\d*)(?:(\.)(\d*))?([^\d.]*)/;

/**
 * Parses Go's duration syntax into milliseconds, possibly fractional: exact to the nanosecond for about a month, to
 * the precision of a double beyond. Throws 'usage' with Go's own text (`time: invalid duration "xyz"`), also when
 * the value does not fit in 63 bits of nanoseconds (about 292 years).
 */
export function parseDuration(text: string): number {
  const negative = text.startsWith('-');
  let rest = /^[-+]/.test(text) ? text.slice(1) : text;
  if (rest === '0') return 0;
  if (rest === '') throw invalid(text);
  let total = 0n;
  while (rest !== '') {
    const match = PART.exec(rest);
    const [whole = '', fraction = '', unit = ''] = [match?.[1], match?.[3], match?.[4]];
    if (whole === '' && fraction === '') throw invalid(text);
    if (unit === '') throw failure(`time: missing unit in duration ${quote(text)}`);
    const scale = UNITS.get(unit);
    if (scale === undefined) throw failure(`time: unknown unit ${quote(unit)} in duration ${quote(text)}`);
    total += BigInt(whole) * scale + fractionOf(fraction, scale);
    if (total > MAX_NANOSECONDS + (negative ? 1n : 0n)) throw invalid(text);
    rest = rest.slice(match?.[0].length);
  }
  return nanosecondsToMs(negative ? -total : total);
}

/** `.digits` of a unit in whole nanoseconds: through a double as in Go, whose rounding gives `0.333…h` its 20 minutes. */
function fractionOf(digits: string, scale: bigint): bigint {
  let used = digits.slice(0, 19);
  if (BigInt(used) > MAX_NANOSECONDS) used = digits.slice(0, 18);
  return BigInt(Math.trunc(Number(used) * (Number(scale) / 10 ** used.length)));
}

function nanosecondsToMs(nanoseconds: bigint): number {
  // In two steps: a direct conversion would round large values before the division.
  return Number(nanoseconds / 1_000_000n) + Number(nanoseconds % 1_000_000n) / 1e6;
}

/** The nearest whole number of nanoseconds. */
export function durationNanoseconds(ms: number): bigint {
  const whole = Math.trunc(ms);
  return BigInt(whole) * 1_000_000n + BigInt(Math.round((ms - whole) * 1e6));
}

/** Milliseconds exactly as Go prints a duration: `1h0m0s`, `1.5s`, `200ms`, `10.25µs`, `0s`, `-156ms`. */
export function formatDuration(ms: number): string {
  const signed = durationNanoseconds(ms);
  if (signed === 0n) return '0s';
  const sign = signed < 0n ? '-' : '';
  const value = signed < 0n ? -signed : signed;
  if (value < 1000n) return `${sign}${value.toString()}ns`;
  if (value < 1_000_000n) return `${sign}${decimal(value, 3)}µs`;
  if (value < 1_000_000_000n) return `${sign}${decimal(value, 6)}ms`;
  const minutes = value / 60_000_000_000n;
  const seconds = `${decimal(value % 60_000_000_000n, 9)}s`;
  if (minutes === 0n) return sign + seconds;
  if (minutes < 60n) return `${sign}${minutes.toString()}m${seconds}`;
  return `${sign}${(minutes / 60n).toString()}h${(minutes % 60n).toString()}m${seconds}`;
}

/** `value / 10^places` without trailing zeros. */
function decimal(value: bigint, places: number): string {
  const digits = value.toString().padStart(places + 1, '0');
  const fraction = digits.slice(-places).replace(/0+$/, '');
  return digits.slice(0, -places) + (fraction === '' ? '' : `.${fraction}`);
}

/** Go's quoting of a duration in its error texts: ASCII as it is, control characters and bytes beyond as `\xNN`. */
function quote(text: string): string {
  const bytes = [...new TextEncoder().encode(text)].map((byte) => {
    if (byte === 0x22 || byte === 0x5c) return `\\${String.fromCharCode(byte)}`;
    if (byte >= 0x20 && byte < 0x80) return String.fromCharCode(byte);
    return `\\x${byte.toString(16).padStart(2, '0')}`;
  });
  return `"${bytes.join('')}"`;
}

function invalid(text: string): LitestreamError {
  return failure(`time: invalid duration ${quote(text)}`);
}

function failure(message: string): LitestreamError {
  return new LitestreamError('usage', message);
}
