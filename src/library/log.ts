/** Logs in the hands of the application: what it may give as its logger, and what becomes of ours. */

import { createLogger, LogDuration, type LogAttributes, type Logger } from '../base/logger.ts';

export type EntryLevel = 'debug' | 'info' | 'warn' | 'error';

/** One line of the log. Times and durations in `attributes` are as in the JSON log: ISO 8601, nanoseconds. */
export interface LogEntry {
  readonly level: EntryLevel;
  readonly message: string;
  readonly attributes: Readonly<Record<string, unknown>>;
}

/** The methods of `console`, winston and others that take a message and then an object. */
export type LogMethods = Readonly<
  Record<EntryLevel, (message: string, attributes: Record<string, unknown>) => unknown>
>;

/**
 * Where log lines go: an object with the methods of `console`, or a function for every other logger, as for pino
 * `({ level, message, attributes }) => pino[level](attributes, message)`.
 */
export type LogTarget = LogMethods | ((entry: LogEntry) => unknown);

/** What gives an entry to the application. Never throws: a logger that fails must not end the application. */
export type LogSink = (entry: LogEntry) => void;

/** @param target undefined: standard error, in the text format of `replicate` */
export function logSink(target: LogTarget | undefined): LogSink {
  const give = target === undefined ? toStandardError() : callOf(target);
  return (entry) => {
    try {
      give(entry);
    } catch (error) {
      process.emitWarning(error instanceof Error ? error : String(error), 'LitestreamLogger');
    }
  };
}

function callOf(target: LogTarget): (entry: LogEntry) => unknown {
  if (typeof target === 'function') return target;
  return ({ level, message, attributes }) => target[level](message, { ...attributes });
}

function toStandardError(): (entry: LogEntry) => void {
  const logger = createLogger({
    format: 'text',
    level: 'DEBUG',
    write: (line) => void process.stderr.write(line),
  });
  return ({ level, message, attributes }) => {
    const shown = Object.entries(attributes).map(([key, value]) => [
      key,
      typeof value === 'string' ? value : JSON.stringify(value),
    ]);
    logger[level](message, Object.fromEntries(shown) as LogAttributes);
  };
}

/** The engine's logger that gives all to `sink`. */
export function engineLogger(sink: LogSink, before: LogAttributes = {}): Logger {
  const at =
    (level: EntryLevel) =>
    (message: string, attributes: LogAttributes = {}): void => {
      const all = Object.entries({ ...before, ...attributes }).filter(([, value]) => value !== undefined);
      sink({
        level,
        message,
        attributes: Object.fromEntries(all.map(([key, value]) => [key, plain(value)])),
      });
    };
  return {
    debug: at('debug'),
    info: at('info'),
    warn: at('warn'),
    error: at('error'),
    with: (attributes) => engineLogger(sink, { ...before, ...attributes }),
  };
}

function plain(value: LogAttributes[string]): unknown {
  if (value instanceof Error) return value.message;
  if (value instanceof LogDuration) return Math.round(value.ms * 1e6);
  if (value instanceof Date) return value.toISOString();
  return typeof value === 'bigint' ? value.toString() : value;
}

const LEVELS: ReadonlyMap<unknown, EntryLevel> = new Map([
  ['DEBUG', 'debug'],
  ['INFO', 'info'],
  ['WARN', 'warn'],
  ['ERROR', 'error'],
]);

/** A line that a supervised `replicate` has written. What is not of its log, as a crash of Node.js, is an error. */
export function parseLogLine(line: string): LogEntry {
  const { time, level, msg, ...attributes } = parseObject(line);
  const known = LEVELS.get(level);
  if (known !== undefined && typeof msg === 'string' && typeof time === 'string') {
    return { level: known, message: msg, attributes };
  }
  return { level: 'error', message: line, attributes: {} };
}

/** Empty for what is no JSON object. */
function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}
