/**
 * Translates what the SDK throws into our errors: one message each that names container and endpoint and says what to
 * check. No secret and no signature gets through: the SDK's error object, which holds the request, is not kept, only
 * its code (as the cause's name) and its redacted text.
 */

import { LitestreamError, messageOf, systemCode } from '../../base/errors.ts';
import { printable } from '../../base/printable.ts';
import { ANSWER_TOO_LONG, explainTooLong } from '../answer-limit.ts';
import {
  explainNoAnswer,
  firstCause,
  isPassingStatus,
  property,
  readRetryAfterMs,
  redacted,
} from '../http-failure.ts';
import type { Explanation } from '../http-failure.ts';

/** What messages say of a store. */
export interface AbsTarget {
  readonly container: string;
  readonly account: string;
  /** The endpoint without credentials. */
  readonly endpoint: string;
  /** What requests are authorised with. */
  readonly credential: 'account-key' | 'sas-token' | 'default credential';
  /** Texts that must never be shown. */
  readonly secrets: readonly string[];
}

/** The parts of an SDK error that we read. */
interface Failure {
  /** Azure's error code (`BlobNotFound`), Node's, or the error's name. */
  readonly code: string;
  readonly status: number | undefined;
  readonly text: string;
  /** Azure's reason for refusing a signature; holds what was signed, so it is never shown. */
  readonly reason: string;
  /** The server's clock minus ours; 0 when it did not say. */
  readonly skewMs: number;
  readonly retryAfterMs: number | undefined;
}

/** Azure takes requests that are dated 15 minutes off, at most. */
const MAX_SKEW_MS = 14 * 60_000;

/** Codes that say who we are was refused; the others that come with 401 and 403 are about what we may do. */
const CREDENTIALS = new Set([
  'AuthenticationFailed',
  'InvalidAuthenticationInfo',
  'NoAuthenticationInformation',
  'AuthorizationFailure',
]);
/** What allows an operation, by how the operation's name begins: the letter of a signature's `sp`, and the least role. */
const RIGHTS: readonly (readonly [operation: string, letters: string, role: string])[] = [
  ['list', 'l', 'Storage Blob Data Reader'],
  ['get', 'r', 'Storage Blob Data Reader'],
  ['look for', 'r', 'Storage Blob Data Reader'],
  ['put', 'cw', 'Storage Blob Data Contributor'],
  ['delete', 'd', 'Storage Blob Data Contributor'],
];
const PASSING = new Set([
  'ServerBusy',
  'OperationTimedOut',
  'InternalError',
  'ContainerBeingDeleted',
  'ServerTimeout',
]);
/** The SDK's names for a connection that broke, or an answer that ended too early. */
const BROKEN = new Set(['AbortError', 'PARSE_ERROR', 'REQUEST_SEND_ERROR']);
/** A failed login whose cause is the network's. */
const LOGIN_UNREACHABLE = /ENOTFOUND|ECONN|EAI_AGAIN|ETIMEDOUT|EHOST|ENET|network_error|socket hang up/;

/**
 * @param what - the operation and its object, for example `put generations/…`.
 * @param signal - the caller's: when it has fired, the failure is its doing.
 */
export function absError(
  error: unknown,
  what: string,
  target: AbsTarget,
  signal?: AbortSignal,
): LitestreamError {
  if (signal?.aborted === true) return new LitestreamError('aborted', `${what}: the operation was aborted`);
  if (error instanceof LitestreamError) return error;
  const failure = readFailure(error, target);
  const { code, advice } = explain(failure, target, what);
  const cause = new Error(failure.text);
  cause.name = failure.code;
  const { retryAfterMs } = failure;
  const passing = code === 'unavailable' && retryAfterMs !== undefined;
  return new LitestreamError(code, `${what}: ${advice}`, passing ? { cause, retryAfterMs } : { cause });
}

/** Whether Azure's code of a failed request is `code`. */
export function hasAzureCode(error: unknown, code: string): boolean {
  return error instanceof LitestreamError && error.cause instanceof Error && error.cause.name === code;
}

function explain(failure: Failure, target: AbsTarget, what: string): Explanation {
  const { code, status } = failure;
  const container = `container "${target.container}" at ${target.endpoint}`;
  const detail = describe(failure);
  switch (code) {
    case 'ContainerNotFound':
      return {
        code: 'not-found',
        advice: `no ${container}: create it, or check bucket, account-name and endpoint`,
      };
    case 'BlobNotFound':
      return { code: 'not-found', advice: `no such object in ${container}` };
    case 'InvalidBlockList':
      return {
        code: 'io',
        advice: `the blocks of the upload are gone from ${container}: something else wrote the object`,
      };
    case 'InvalidResourceName':
      return { code: 'config', advice: `${container} is not a valid name: check bucket (${detail})` };
    case 'ERR_INVALID_URL':
      return { code: 'config', advice: `the endpoint of ${container} is not a URL: check endpoint` };
    case ANSWER_TOO_LONG:
      return explainTooLong(container);
    case 'BlobImmutableDueToPolicy':
      return { code: 'permission', advice: `a policy of ${container} keeps the object as it is (${detail})` };
    case 'BlobArchived':
      return { code: 'io', advice: `the object was moved to the archive tier of ${container}: rehydrate it` };
    case 'LeaseIdMissing':
      return { code: 'busy', advice: `somebody holds a lease on the object in ${container}: end it` };
  }
  if (PASSING.has(code)) {
    return { code: 'unavailable', advice: `${container} did not answer in time or is busy (${detail})` };
  }
  if (/^(CredentialUnavailable|AggregateAuthentication|Authentication(Required)?)Error$/.test(code)) {
    return explainLogin(failure, container);
  }
  if (status !== undefined) return explainStatus(failure, status, target, { container, what });
  // The SDK looks for what is not there.
  if (code === 'TypeError') {
    return { code: 'io', advice: `${container} gave an answer that is not Azure's: check endpoint` };
  }
  return explainConnection(failure, target, container);
}

function explainLogin(failure: Failure, container: string): Explanation {
  const { status = 0 } = failure;
  if (isPassingStatus(status) || LOGIN_UNREACHABLE.test(failure.text)) {
    return { code: 'unavailable', advice: `cannot log in for ${container} now (${describe(failure)})` };
  }
  return {
    code: 'permission',
    advice: `no credentials for ${container}: set account-key or sas-token, or Azure's variables or identity (${describe(failure)})`,
  };
}

/** A request to a container. */
interface Request {
  readonly container: string;
  readonly what: string;
}

function explainStatus(failure: Failure, status: number, target: AbsTarget, request: Request): Explanation {
  const { container } = request;
  const detail = describe(failure);
  if (status === 401 || status === 403) {
    return { code: 'permission', advice: explainRefusal(failure, target, request) };
  }
  if (status === 501) return { code: 'unsupported', advice: `${container} cannot do this (${detail})` };
  if (isPassingStatus(status)) {
    return { code: 'unavailable', advice: `${container} is unavailable (${detail})` };
  }
  if (status === 404 || status === 405 || status < 400) {
    return {
      code: 'io',
      advice: `${container} gave an answer that is not Azure's: check endpoint (${detail})`,
    };
  }
  return { code: 'io', advice: `${container} refused the request (${detail})` };
}

function explainRefusal(failure: Failure, target: AbsTarget, { container, what }: Request): string {
  const { code, reason, skewMs } = failure;
  const detail = describe(failure);
  if (/time frame|expiry|expired/i.test(reason) && target.credential === 'sas-token') {
    return `${container} refused sas-token: it has expired or is not valid yet: make a new one, or check this machine's clock`;
  }
  if (/date header/i.test(reason) || (CREDENTIALS.has(code) && Math.abs(skewMs) > MAX_SKEW_MS)) {
    const minutes = Math.round(Math.abs(skewMs) / 60_000);
    const off = minutes === 0 ? '' : ` (it is ${minutes} minutes ${skewMs > 0 ? 'behind' : 'ahead'})`;
    return `${container} refused the request's time: set this machine's clock${off}`;
  }
  if (code === 'KeyBasedAuthenticationNotPermitted') {
    return `${container} takes no account key: set sas-token, or neither, for Azure's default credential (${detail})`;
  }
  if (!CREDENTIALS.has(code)) {
    return `access to ${container} denied: ${neededFor(what, target)} (${detail})`;
  }
  const keys =
    target.credential === 'account-key'
      ? `account-name "${target.account}" and account-key`
      : target.credential;
  return `${container} refused the credentials: check ${keys} (${detail})`;
}

/** What to allow. */
function neededFor(what: string, { credential }: AbsTarget): string {
  const [, letters, role] = RIGHTS.find(([operation]) => what.startsWith(`${operation} `)) ?? [];
  if (letters === undefined || credential === 'account-key') return `check what ${credential} may do`;
  if (credential === 'default credential') return `give this identity the role ${role} on the container`;
  return `make a sas-token whose sp has ${letters.split('').join(' and ')}`;
}

function explainConnection(failure: Failure, target: AbsTarget, container: string): Explanation {
  const code = BROKEN.has(failure.code) ? 'ECONNRESET' : failure.code;
  const place = {
    name: container,
    server: `${target.endpoint} for container "${target.container}"`,
    keys: 'account-name, endpoint',
  };
  return explainNoAnswer(code, describe(failure), place);
}

function describe({ status, code, text }: Failure): string {
  const parts = [status, text.startsWith(code) ? undefined : code, text];
  return parts.filter((part) => part !== undefined && part !== '').join(' ');
}

function readFailure(error: unknown, target: AbsTarget): Failure {
  const response = property(error, 'response');
  const body = property(response, 'parsedBody');
  const status = property(error, 'statusCode') ?? property(response, 'status');
  const name = header(response, 'x-ms-error-code') ?? codeOf(error);
  const reason = property(body, 'authenticationErrorDetail');
  return {
    code: printable(name),
    status: typeof status === 'number' && status > 0 ? status : undefined,
    text: redacted(textOf(error), target.secrets),
    reason: typeof reason === 'string' ? printable(reason) : '',
    skewMs: skewOf(header(response, 'date')),
    retryAfterMs: readRetryAfterMs(header(response, 'retry-after')),
  };
}

function codeOf(error: unknown): string {
  const code = property(error, 'code') ?? systemCode(firstCause(error)) ?? property(error, 'name');
  return typeof code === 'string' && code !== '' ? code : 'Error';
}

/** What may be shown: no answer's text as it came, which may repeat what was signed, and no signature of a URL. */
function textOf(error: unknown): string {
  return messageOf(firstCause(error))
    .replace(/<.*$/s, '')
    .replaceAll(/\b(sig|skoid|sktid)=[^&\s"']*/gi, '$1=[redacted]');
}

function header(response: unknown, name: string): string | undefined {
  const headers = property(response, 'headers') as { get?: (name: string) => unknown } | undefined;
  const value = headers?.get?.(name);
  return typeof value === 'string' ? value : undefined;
}

function skewOf(date: string | undefined): number {
  const at = Date.parse(date ?? '');
  return Number.isNaN(at) ? 0 : at - Date.now();
}
