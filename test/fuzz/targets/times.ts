/** Durations, sizes and times as people write them. */

import assert from 'node:assert/strict';
import { formatBytes, parseByteSize } from '../../../src/base/byte-size.ts';
import { formatDuration, parseDuration } from '../../../src/base/duration.ts';
import { parseTimestamp } from '../../../src/cmd/timestamp.ts';
import { resolveScalar } from '../../../src/config/scalar.ts';
import { readRetryAfterMs } from '../../../src/storage/http-failure.ts';
import { parseMoment } from '../../../src/web/dashboard/view/parse-moment.ts';
import { type FuzzTarget, bytesOf, checkNatural, refusable, textOf } from '../target.ts';

const NOW_MS = Date.UTC(2026, 0, 15, 10, 30);
/** 2^63 nanoseconds. */
const LONGEST_MS = 2 ** 63 / 1e6;

function checkDuration(text: string): void {
  const ms = refusable(['usage'], () => parseDuration(text));
  if (ms === undefined) return;
  assert(Math.abs(ms) <= LONGEST_MS, `${ms} ms`);
  const again = parseDuration(formatDuration(ms));
  // Beyond a month a double has no nanoseconds.
  assert(Math.abs(again - ms) <= Math.abs(ms) * 2 ** -51, `${formatDuration(ms)} is not ${ms} ms`);
}

function checkSize(text: string): void {
  const bytes = refusable(['config'], () => parseByteSize(text));
  if (bytes === undefined) return;
  checkNatural(bytes, 'the size');
  const again = refusable(['config'], () => parseByteSize(formatBytes(bytes)));
  if (again !== undefined)
    assert(Math.abs(again - bytes) <= bytes * 0.06, `${formatBytes(bytes)} is not ${bytes}`);
}

/** Times that are accepted are times: they can be written as such. */
function checkTimes(text: string): void {
  const time = refusable(['usage'], () => parseTimestamp(text, NOW_MS));
  if (time !== undefined) {
    assert(!Number.isNaN(time.getTime()), `${JSON.stringify(text)} is no time`);
    const year = time.getUTCFullYear();
    // RFC 3339 has four digits for it.
    if (year >= 0 && year <= 9999) assert.equal(parseTimestamp(time.toISOString()).getTime(), time.getTime());
  }
  const moment = parseMoment(text, NOW_MS);
  if (moment !== undefined) assert(!Number.isNaN(new Date(moment).getTime()), `moment ${moment}`);
  const retryMs = readRetryAfterMs(text);
  if (retryMs !== undefined) assert(retryMs >= 0, `retry after ${retryMs} ms`);
}

function checkScalar(text: string): void {
  for (const plain of [true, false]) {
    const resolved = resolveScalar({ kind: 'scalar', start: 0, end: text.length, text, plain });
    if (resolved.tag === '!!int') assert(Number.isInteger(resolved.value), `${text} is ${resolved.value}`);
    if (!plain) assert.deepEqual(resolved, { tag: '!!str', value: text });
  }
}

export const target: FuzzTarget = {
  name: 'times',
  seeds: () =>
    bytesOf(
      ...[
        '1h30m',
        '1.5s',
        '-200ms',
        '0.333333333333333333333333h',
        '9223372036854775807ns',
        '10µs',
        '+5m',
        '0',
      ],
      ...[
        '1048576',
        '64MB',
        '1.5 GiB',
        '4.1TB',
        '2000-01-01T00:00:00Z',
        '2000-02-29T23:59:59.123456789+14:00',
      ],
      ...['2000-01-01 02:00', '2h30m ago', '3d ago', '1d2h ago', 'now', 'latest', '2 weeks ago', '1.5h ago'],
      ...[
        '0x1f',
        '1_000',
        '0o17',
        '012',
        '-.inf',
        '.nan',
        '1e400',
        'yes',
        '~',
        '120',
        'Wed, 21 Oct 2026 07:28:00 GMT',
      ],
    ),
  dictionary: [
    ...[
      'ns',
      'us',
      'µs',
      'ms',
      's',
      'm',
      'h',
      'd',
      'w',
      ' ago',
      '.',
      '-',
      '+',
      '0',
      '9999999999',
      'GiB',
      'kB',
      'TB',
    ],
    ...[
      'T',
      'Z',
      ':',
      '+14:00',
      '-00:00',
      ' ',
      '9999-12-31',
      '0000-01-01',
      '0x',
      '_',
      'e',
      '.inf',
      'now',
      'UTC',
    ],
  ],
  maxBytes: 256,
  run(data) {
    const text = textOf(data);
    checkDuration(text);
    checkSize(text);
    checkTimes(text);
    checkScalar(text);
  },
};
