/**
 * Structured logging in the formats of Go's log/slog, as v0.3.13 prints them: text
 * (`time=… level=INFO msg=… key=value`), JSON, and slog's default handler (`2026/11/21 07:51:34 ERROR msg key=value`).
 * It must not know who logs what.
 */

import { durationNanoseconds, formatDuration } from './duration.ts';

/** A duration attribute: Go syntax in text (`1s`), integer nanoseconds in JSON. */
export class LogDuration {
  readonly ms: number;
  constructor(ms: number) {
    this.ms = ms;
  }
}

export type LogValue = string | number | boolean | bigint | Date | LogDuration | Error | undefined;
/** Attributes in the order in which they are printed; undefined values are left out. */
export type LogAttributes = Readonly<Record<string, LogValue>>;
export type LogLevel = 'DEBUG' | 'INFO' | 'WARN' | 'ERROR';

export interface Logger {
  debug(message: string, attributes?: LogAttributes): void;
  info(message: string, attributes?: LogAttributes): void;
  warn(message: string, attributes?: LogAttributes): void;
  error(message: string, attributes?: LogAttributes): void;
  /** A logger that prints `attributes` before those of each call. */
  with(attributes: LogAttributes): Logger;
}

/** `text` and `json` as slog's handlers print them, `default` as Go's log package does before a handler is chosen. */
export type LogFormat = 'text' | 'json' | 'default';

export interface LoggerOptions {
  readonly format: LogFormat;
  /** Messages below this level are dropped. */
  readonly level: LogLevel;
  /** Gets one complete line at a time, with its newline. */
  readonly write: (line: string) => void;
  /** The clock; the times of `text` and `default` are printed in the local zone. */
  readonly now?: (() => Date) | undefined;
}

const SEVERITY = { DEBUG: 0, INFO: 1, WARN: 2, ERROR: 3 } as const satisfies Record<LogLevel, number>;

/** A logger that prints to `options.write`. Secrets must not be passed to it; it prints what it gets. */
export function createLogger(options: LoggerOptions): Logger {
  return new LineLogger(options, {});
}

class LineLogger implements Logger {
  readonly #options: LoggerOptions;
  readonly #attributes: LogAttributes;

  constructor(options: LoggerOptions, attributes: LogAttributes) {
    this.#options = options;
    this.#attributes = attributes;
  }

  debug(message: string, attributes?: LogAttributes): void {
    this.#log('DEBUG', message, attributes);
  }

  info(message: string, attributes?: LogAttributes): void {
    this.#log('INFO', message, attributes);
  }

  warn(message: string, attributes?: LogAttributes): void {
    this.#log('WARN', message, attributes);
  }

  error(message: string, attributes?: LogAttributes): void {
    this.#log('ERROR', message, attributes);
  }

  with(attributes: LogAttributes): Logger {
    return new LineLogger(this.#options, { ...this.#attributes, ...attributes });
  }

  #log(level: LogLevel, message: string, attributes: LogAttributes | undefined): void {
    const { format, level: lowest, write, now } = this.#options;
    if (SEVERITY[level] < SEVERITY[lowest]) return;
    const time = now === undefined ? new Date() : now();
    const entries = Object.entries({ ...this.#attributes, ...attributes });
    write(`${FORMATS[format](time, level, message, entries)}\n`);
  }
}

type Formatter = (time: Date, level: LogLevel, message: string, entries: [string, LogValue][]) => string;

const FORMATS: Record<LogFormat, Formatter> = {
  text: (time, level, message, entries) =>
    `time=${localTime(time)} level=${level} msg=${quoteText(message)}${pairs(entries)}`,
  default: (time, level, message, entries) =>
    `${localTime(time).slice(0, 19).replaceAll('-', '/').replace('T', ' ')} ${level} ${message}${pairs(entries)}`,
  json: (time, level, message, entries) => {
    const fields = entries.flatMap(([key, value]) =>
      value === undefined ? [] : [`${JSON.stringify(key)}:${jsonValue(value)}`],
    );
    const head = [`"time":${jsonValue(time)}`, `"level":"${level}"`, `"msg":${JSON.stringify(message)}`];
    return `{${[...head, ...fields].join(',')}}`;
  },
};

function pairs(entries: [string, LogValue][]): string {
  return entries
    .map(([key, value]) => (value === undefined ? '' : ` ${quoteText(key)}=${textValue(value)}`))
    .join('');
}

function textValue(value: Exclude<LogValue, undefined>): string {
  if (value instanceof LogDuration) return formatDuration(value.ms);
  if (value instanceof Date) return localTime(value);
  if (value instanceof Error) return quoteText(value.message);
  return quoteText(String(value));
}

function jsonValue(value: Exclude<LogValue, undefined>): string {
  if (value instanceof LogDuration) return durationNanoseconds(value.ms).toString();
  // Go trims the zeros that end a fraction.
  if (value instanceof Date) return JSON.stringify(localTime(value).replace(/\.?0+(?=Z|[-+]\d\d:)/, ''));
  if (value instanceof Error) return JSON.stringify(value.message);
  // What JSON has no number for (bigints are fine as digits).
  if (typeof value === 'number' && !Number.isFinite(value)) return JSON.stringify(String(value));
  return typeof value === 'bigint' ? value.toString() : JSON.stringify(value);
}

/** RFC 3339 with milliseconds in the local zone: `Z` when that is UTC, else `+02:00`. */
function localTime(time: Date): string {
  const offsetMinutes = -time.getTimezoneOffset();
  const iso = new Date(time.getTime() + offsetMinutes * 60_000).toISOString();
  if (offsetMinutes === 0) return iso;
  const minutes = Math.abs(offsetMinutes);
  const [hh, mm] = [Math.floor(minutes / 60), minutes % 60].map((n) => String(n).padStart(2, '0'));
  return `${iso.slice(0, -1)}${offsetMinutes < 0 ? '-' : '+'}${hh ?? ''}:${mm ?? ''}`;
}

/** What Go prints as it is: letters, marks, numbers, punctuation, symbols; of the spaces only U+0020. */
const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u;
/** Values of these characters alone stay bare: no space, `=` or quote; DEL counts as safe in slog. */
const BARE = /^(?:[\p{L}\p{M}\p{N}\p{P}\p{S}\u007f])+$/u;
const NEEDS_QUOTES = /[="\ufffd]/;
const SHORT_ESCAPES: ReadonlyMap<string, string> = new Map([
  ['"', '\\"'],
  ['\\', '\\\\'],
  ['\u0007', '\\a'],
  ['\b', '\\b'],
  ['\f', '\\f'],
  ['\n', '\\n'],
  ['\r', '\\r'],
  ['\t', '\\t'],
  ['\v', '\\v'],
]);

/** A string as slog's text handler prints it: bare when nothing in it could be misread, else in Go's `%q` form. */
export function quoteText(text: string): string {
  return BARE.test(text) && !NEEDS_QUOTES.test(text) ? text : quoteGo(text);
}

/** A string in Go's `%q` form, always in quotes. */
export function quoteGo(text: string): string {
  let out = '';
  for (const char of text) out += SHORT_ESCAPES.get(char) ?? escapeUnprintable(char);
  return `"${out}"`;
}

function escapeUnprintable(char: string): string {
  if (PRINTABLE.test(char)) return char;
  const code = char.codePointAt(0) ?? 0;
  // Half a surrogate pair cannot be written as UTF-8.
  if (code >= 0xd800 && code <= 0xdfff) return '\ufffd';
  const hex = code.toString(16);
  if (code < 0x80) return `\\x${hex.padStart(2, '0')}`;
  return code <= 0xffff ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
}
