/**
 * The one error class of the program. Callers decide by `code`, never by message or by `instanceof` of a library's
 * error: drivers translate what their SDK throws.
 */

import { withNames } from './held-names.ts';

/** Why something failed. Closed: a new code is added here with its "when". */
export type ErrorCode =
  /** The command line is wrong: unknown flag, missing argument, contradicting options. */
  | 'usage'
  /** The config file is missing, malformed or contradicts itself. */
  | 'config'
  /** A named thing (object, database, replica, generation) is not there. */
  | 'not-found'
  /** An output that must not be overwritten is there. */
  | 'exists'
  /** Credentials or file permissions are refused. Retrying without a change will not help. */
  | 'permission'
  /** The store cannot be reached or answers 5xx/408/429. Retrying may help. */
  | 'unavailable'
  /** An operation took longer than its limit. Retrying may help. */
  | 'timeout'
  /** The caller's AbortSignal fired. */
  | 'aborted'
  /** Bytes fail a checksum or do not parse as what they should be. */
  | 'corrupt'
  /** Bytes are encrypted, and there is no key to try on them. They may be whole. */
  | 'encrypted'
  /** A segment, an index or a snapshot that the chain needs is missing. */
  | 'gap'
  /** No backup matches the request. */
  | 'no-backup'
  /** Another process holds the lock that is needed. */
  | 'busy'
  /** No space left on a device, or a configured limit reached. */
  | 'disk-full'
  /** A feature that is not there (yet), or not on this platform. */
  | 'unsupported'
  /** Any other failure of the operating system or a library. */
  | 'io';

/**
 * An expected failure. The message is lowercase, names the object, says what to do where that is known, and never
 * holds a secret. `cause` keeps the original error for debugging; its text is not shown by itself.
 */
export class LitestreamError extends Error {
  readonly code: ErrorCode;
  /** For `unavailable`: the server's Retry-After, when it sent one. */
  readonly retryAfterMs: number | undefined;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown; retryAfterMs?: number }) {
    super(withNames(message), options?.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'LitestreamError';
    this.code = code;
    this.retryAfterMs = options?.retryAfterMs;
  }
}

/** Whether `error` is a LitestreamError with one of `codes`. */
export function hasCode(error: unknown, ...codes: ErrorCode[]): error is LitestreamError {
  return error instanceof LitestreamError && codes.includes(error.code);
}

/** The message of anything that was thrown. What a library has parsed out of an answer may be anything but a text. */
export function messageOf(error: unknown): string {
  return withNames(String(error instanceof Error ? (error.message as unknown) : error));
}

/** The `code` of a Node system error (`ENOENT`, ...), or undefined. */
export function systemCode(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}

/** `verb object: cause`, keeping the cause's code: wrap once per layer. */
export function wrapError(error: unknown, context: string): LitestreamError {
  if (error instanceof LitestreamError) {
    const options =
      error.retryAfterMs === undefined
        ? { cause: error }
        : { cause: error, retryAfterMs: error.retryAfterMs };
    return new LitestreamError(error.code, `${context}: ${error.message}`, options);
  }
  return new LitestreamError(codeOfSystemError(error), `${context}: ${messageOf(error)}`, { cause: error });
}

function codeOfSystemError(error: unknown): ErrorCode {
  switch (systemCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return 'not-found';
    case 'EEXIST':
      return 'exists';
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
      return 'permission';
    case 'ENOSPC':
    case 'EDQUOT':
      return 'disk-full';
    case 'ABORT_ERR':
      return 'aborted';
    default:
      return 'io';
  }
}

/** States an invariant. A failure is a bug of ours, not of the user's. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Error(`assertion failed: ${message}`);
}
