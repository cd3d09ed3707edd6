/** What -timestamp takes besides RFC 3339: see parsing.test.ts for that. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseTimestamp } from '../../src/cmd/timestamp.ts';

const NOW = Date.parse('2026-03-01T12:00:00Z');

describe('how long ago', () => {
  test.each([
    ['10m ago', '2026-03-01T11:50:00.000Z'],
    ['2h30m ago', '2026-03-01T09:30:00.000Z'],
    ['0s ago', '2026-03-01T12:00:00.000Z'],
    ['1d ago', '2026-02-28T12:00:00.000Z'],
    ['1d12h  ago', '2026-02-28T00:00:00.000Z'],
    [' 1.5s ago ', '2026-03-01T11:59:58.500Z'],
  ])('%s', (text, time) => {
    expect(parseTimestamp(text, NOW).toISOString()).toBe(time);
  });

  test.each(['10 ago', 'x ago', '-5m ago', ' ago', '999999999999d ago'])('%s is refused', (text) => {
    expect(() => parseTimestamp(text, NOW)).toThrow(/invalid -timestamp/);
  });
});

describe('in Berlin', () => {
  const before = process.env['TZ'];
  beforeAll(() => {
    process.env['TZ'] = 'Europe/Berlin';
  });
  afterAll(() => {
    if (before === undefined) delete process.env['TZ'];
    else process.env['TZ'] = before;
  });

  test.each([
    ['2026-01-02 15:04:05', '2026-01-02T14:04:05.000Z'],
    ['2026-07-02 15:04:05', '2026-07-02T13:04:05.000Z'],
    ['2026-07-02T15:04:05.25', '2026-07-02T13:04:05.250Z'],
    ['2026-07-02 15:04', '2026-07-02T13:04:00.000Z'],
    ['2026-07-02 15:04:05Z', '2026-07-02T15:04:05.000Z'],
    ['2026-07-02 15:04:05 UTC', '2026-07-02T15:04:05.000Z'],
    ['2026-07-02 15:04:05 +0530', '2026-07-02T09:34:05.000Z'],
    ['2026-07-02T15:04:05-01:00', '2026-07-02T16:04:05.000Z'],
  ])('%s', (text, time) => {
    expect(parseTimestamp(text, NOW).toISOString()).toBe(time);
  });

  test('a time that clocks jump over is refused', () => {
    expect(() => parseTimestamp('2026-03-29 02:30:00', NOW)).toThrow('clocks were set forward over it here');
  });

  test('a time that comes twice is refused, with both', () => {
    expect(() => parseTimestamp('2026-10-25 02:30:00', NOW)).toThrow(
      'say 2026-10-25T00:30:00.000Z or 2026-10-25T01:30:00.000Z',
    );
  });

  test.each(['2026-02-30 10:00:00', '2026-01-02 25:00:00', '2026-01-02', '15:04:05'])(
    '%s is refused',
    (text) => {
      expect(() => parseTimestamp(text, NOW)).toThrow(/^usage: invalid|^invalid -timestamp/);
    },
  );
});
