/** The `-timestamp` flag: RFC 3339, as v0.3.13 reads it. */

import { LitestreamError } from '../base/errors.ts';

const RFC3339 =
  /^(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))$/;

/**
 * Parses a time with its zone. Fractions count to the millisecond; what is beyond is cut.
 * @throws LitestreamError 'usage' with v0.3.13's message
 */
export function parseTimestamp(text: string): Date {
  const match = RFC3339.exec(text);
  if (match === null) throw invalidTimestamp();
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match.slice(1, 7).map(Number);
  const ms = Number((match[7] ?? '').padEnd(3, '0').slice(0, 3));
  const time = new Date(0);
  time.setUTCFullYear(year, month - 1, day);
  // A month or day that does not exist moves the date on.
  if (time.getUTCMonth() !== month - 1 || time.getUTCDate() !== day) throw invalidTimestamp();
  time.setUTCHours(hour, minute, second, ms);
  const offsetMinutes = Number(match[9] ?? 0) * 60 + Number(match[10] ?? 0);
  return new Date(time.getTime() - (match[8] === '-' ? -1 : 1) * offsetMinutes * 60_000);
}

function invalidTimestamp(): LitestreamError {
  // The no-break space after 8601 is v0.3.13's.
  return new LitestreamError(
    'usage',
    'invalid -timestamp, must specify in ISO 8601\u00a0format (e.g. 2000-01-01T00:00:00Z)',
  );
}
