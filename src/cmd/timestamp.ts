/** The `-timestamp` flag: RFC 3339 as v0.3.13 reads it, the machine's local time, or how long ago. */

import { parseDuration } from '../base/duration.ts';
import { LitestreamError, messageOf } from '../base/errors.ts';

const RFC3339 =
  /^(\d{4})-(\d\d)-(\d\d)T([01]\d|2[0-3]):([0-5]\d):([0-5]\d)(?:[.,](\d+))?(?:Z|([+-])(\d\d):(\d\d))$/;
/** A date, a blank or `T`, a time whose seconds may be missing, and maybe a zone. */
const DATE_TIME = /^(\d{4}-\d\d-\d\d)(?:T| +)(\d\d:\d\d)(:\d\d)?([.,]\d+)?(?: *(Z|UTC|[+-]\d\d:?\d\d))?$/;
const AGO = /^(?:(\d+)d)?(\S*?)\s+ago$/;
const DAY_MS = 24 * 3600_000;
/** Clocks are set back by so much, where they are. */
const SHIFTS_MS = [30, 60, 120].map((minutes) => minutes * 60_000);

/**
 * Parses a time. Fractions count to the millisecond; what is beyond is cut. Without a zone it is the local time of this
 * process.
 * @param nowMs epoch milliseconds: what `10m ago` counts from
 * @throws LitestreamError 'usage', with v0.3.13's message first when it is no time at all
 */
export function parseTimestamp(text: string, nowMs: number = Date.now()): Date {
  const trimmed = text.trim();
  const ago = AGO.exec(trimmed);
  if (ago) return timeAgo(trimmed, nowMs - agoMs(trimmed, ago[1], ago[2] ?? ''));
  const [, date = '', minutes = '', seconds = ':00', fraction = '', zone] = DATE_TIME.exec(trimmed) ?? [];
  if (zone !== undefined) {
    const offset = zone === 'UTC' ? 'Z' : zone.replace(/^([+-]\d\d):?(\d\d)$/, '$1:$2');
    return parseWithZone(`${date}T${minutes}${seconds}${fraction}${offset}`);
  }
  // As if it were UTC, to have its parts checked.
  return date === ''
    ? parseWithZone(text)
    : localTime(parseWithZone(`${date}T${minutes}${seconds}${fraction}Z`), trimmed);
}

function parseWithZone(text: string): Date {
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

function timeAgo(text: string, timeMs: number): Date {
  const time = new Date(timeMs);
  if (Number.isNaN(time.getTime()))
    throw new LitestreamError('usage', `invalid -timestamp "${text}": there is no date so long ago`);
  return time;
}

function agoMs(text: string, days: string | undefined, rest: string): number {
  try {
    const ms = Number(days ?? 0) * DAY_MS + (days !== undefined && rest === '' ? 0 : parseDuration(rest));
    if (ms >= 0) return ms;
  } catch (error) {
    throw new LitestreamError('usage', `invalid -timestamp "${text}": ${messageOf(error)}`);
  }
  throw new LitestreamError('usage', `invalid -timestamp "${text}": it is in the future`);
}

/** @param wall the wanted time on the wall, as if in UTC */
function localTime(wall: Date, text: string): Date {
  const time = new Date(
    wall.getUTCFullYear(),
    wall.getUTCMonth(),
    wall.getUTCDate(),
    wall.getUTCHours(),
    wall.getUTCMinutes(),
    wall.getUTCSeconds(),
    wall.getUTCMilliseconds(),
  );
  if (onWall(time) !== wall.getTime()) {
    throw new LitestreamError('usage', `invalid -timestamp "${text}": clocks were set forward over it here`);
  }
  const again = SHIFTS_MS.flatMap((ms) => [ms, -ms])
    .map((ms) => new Date(time.getTime() + ms))
    .find((other) => onWall(other) === wall.getTime());
  if (again) {
    const [first, second] = [time, again]
      .sort((a, b) => a.getTime() - b.getTime())
      .map((at) => at.toISOString());
    throw new LitestreamError(
      'usage',
      `-timestamp "${text}" was twice here, as clocks were set back: say ${first} or ${second}`,
    );
  }
  return time;
}

/** What the wall clock shows at a time, as if in UTC. */
function onWall(time: Date): number {
  return time.getTime() - time.getTimezoneOffset() * 60_000;
}

function invalidTimestamp(): LitestreamError {
  // The no-break space after 8601 is v0.3.13's.
  return new LitestreamError(
    'usage',
    'invalid -timestamp, must specify in ISO 8601\u00a0format (e.g. 2000-01-01T00:00:00Z) ' +
      "or as 2000-01-01T02:00:00.5+02:00, '2000-01-01 02:00:00' in local time, or '2h30m ago'",
  );
}
