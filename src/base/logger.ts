/**
 * Structured logging in the formats of Go's log/slog, as v0.3.13 prints them: text
 * (`time=… level=INFO msg=… key=value`), JSON, and slog's default handler (`2026/11/21 07:51:34 ERROR msg key=value`).
 * It must not know who logs what.
 */

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
