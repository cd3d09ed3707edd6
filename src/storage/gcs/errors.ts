/**
 * Translates refusing answers and failed connections into our errors: one message each that names bucket and endpoint
 * and says what to check. No token, key or upload address gets through: neither the answer nor Node's or Google's
 * error object is kept, only a code (as the cause's name) and redacted text.
 */

import { LitestreamError, messageOf, systemCode } from '../../base/errors.ts';
import { ANSWER_TOO_LONG, explainTooLong } from '../answer-limit.ts';
import {
  connectionFault,
  explainNoAnswer,
  firstCause,
  isPassingStatus,
  property,
  readRetryAfterMs,
  redacted,
} from '../http-failure.ts';
import type { Explanation } from '../http-failure.ts';

/** What messages say of a store. */
export interface GcsTarget {
  readonly bucket: string;
  /** The endpoint without credentials, or `Google Cloud Storage`. */
  readonly endpoint: string;
  /** Texts that must never be shown, at the time of asking. */
  readonly secrets: () => readonly string[];
}

/** An answer that refuses. */
export interface Refusal {
  readonly status: number;
  readonly retryAfter: string | undefined;
  /** The answer's body, or its beginning. */
  readonly body: string;
  /** What a plain "not found" is about. */
  readonly missing: 'object' | 'bucket' | 'upload';
}

const NO_URL = /^ERR_INVALID_(URL|PROTOCOL)$/;
/** What allows an operation, by how the operation's name begins: the permission, and the least role that has it. */
const RIGHTS: readonly (readonly [operation: string, permission: string, role: string])[] = [
  ['list', 'storage.objects.list', 'roles/storage.objectViewer'],
  ['get', 'storage.objects.get', 'roles/storage.objectViewer'],
  ['look for', 'storage.objects.get', 'roles/storage.objectViewer'],
  ['put', 'storage.objects.create', 'roles/storage.objectCreator'],
  ['delete', 'storage.objects.delete', 'roles/storage.objectUser'],
];
/** Reasons of a 403 that no role helps against. */
const KEPT = /^(retentionPolicyNotMet|objectUnderActiveHold)$/;
/** Reasons of a 403 that mean "later". */
const RATE_LIMIT = /^(user)?rateLimitExceeded$/i;
/** What tokens, keys and upload addresses look like, wherever they turn up. */
const SECRETS =
  /ya29\.[\w.-]+|Bearer\s+\S+|-----BEGIN[^-]*PRIVATE KEY-----.*|(upload_id|assertion|refresh_token|client_secret)=[^&\s"]+/gs;

const NO_SUCH_OBJECT = 'NoSuchObject';
const CREDENTIALS_ADVICE = 'check GOOGLE_APPLICATION_CREDENTIALS, or the service account of this machine';

/** @param what - the operation and its object, for example `put generations/…`. */
export function refusalError(refusal: Refusal, what: string, target: GcsTarget): LitestreamError {
  const { reason, text } = readBody(refusal.body);
  const detail = `${refusal.status} ${redact(text === '' ? reason : text, target)}`.trimEnd();
  const { code, advice } = explainRefusal(refusal, { reason, text, detail, what }, target);
  const cause = new Error(detail);
  cause.name = advice === noSuchObject(target) ? NO_SUCH_OBJECT : `status ${refusal.status}`;
  const retryAfterMs = code === 'unavailable' ? readRetryAfterMs(refusal.retryAfter) : undefined;
  const options = retryAfterMs === undefined ? { cause } : { cause, retryAfterMs };
  return new LitestreamError(code, `${what}: ${advice}`, options);
}

/**
 * The error of a request that got no whole answer.
 * @param signal - the caller's: when it has fired, the failure is its doing.
 */
export function connectionError(
  error: unknown,
  what: string,
  target: GcsTarget,
  signal?: AbortSignal,
): LitestreamError {
  if (signal?.aborted === true) return new LitestreamError('aborted', `${what}: the operation was aborted`);
  if (error instanceof LitestreamError) return error;
  const first = firstCause(error);
  const text = redact(messageOf(first), target);
  const name = systemCode(first) ?? (first instanceof Error ? first.name : 'Error');
  const detail = text.includes(name) ? text : `${name} ${text}`;
  const { code, advice } = explainConnection(name, detail, target);
  const cause = new Error(text);
  cause.name = name;
  return new LitestreamError(code, `${what}: ${advice}`, { cause });
}

/** The error of a request that could not be sent for want of an access token. */
export function credentialsError(
  error: unknown,
  what: string,
  target: GcsTarget,
  signal?: AbortSignal,
): LitestreamError {
  if (signal?.aborted === true) return new LitestreamError('aborted', `${what}: the operation was aborted`);
  const bucket = bucketOf(target);
  // A parser's message quotes what it read, and that was a key file.
  const text = error instanceof SyntaxError ? 'the file is not JSON' : redact(messageOf(error), target);
  const name = systemCode(error) ?? (error instanceof Error ? error.name : 'Error');
  const cause = new Error(text);
  cause.name = name;
  if (isPassing(error, name)) {
    const message = `${what}: cannot get an access token for ${bucket}: check the network (${text})`;
    return new LitestreamError('unavailable', message, { cause });
  }
  const missing = /default credentials/i.test(text);
  const advice = missing
    ? `no credentials for ${bucket}: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run where a service account is attached`
    : `the credentials for ${bucket} do not work: ${CREDENTIALS_ADVICE} (${text})`;
  return new LitestreamError('permission', `${what}: ${advice}`, { cause });
}

function isPassing(error: unknown, name: string): boolean {
  const status = property(property(error, 'response'), 'status');
  if (typeof status === 'number') return isPassingStatus(status);
  return connectionFault(name) === 'network' || property(error, 'type') === 'request-timeout';
}

function explainRefusal(
  { status, missing, body }: Refusal,
  { reason, text, detail, what }: { reason: string; text: string; detail: string; what: string },
  target: GcsTarget,
): Explanation {
  const bucket = bucketOf(target);
  if (isPassingStatus(status) || RATE_LIMIT.test(reason)) {
    return { code: 'unavailable', advice: `${bucket} is unavailable (${detail})` };
  }
  if (status === 401) {
    return {
      code: 'permission',
      advice: `${bucket} refused the credentials: ${CREDENTIALS_ADVICE} (${detail})`,
    };
  }
  if (status === 403 && KEPT.test(reason)) {
    return { code: 'permission', advice: `a policy of ${bucket} keeps the object as it is (${detail})` };
  }
  if (status === 403) {
    return {
      code: 'permission',
      advice: `access to ${bucket} denied: ${neededFor(what, text)} (${detail})`,
    };
  }
  if (status === 501) return { code: 'unsupported', advice: `${bucket} cannot do this (${detail})` };
  if (status === 400 && /bucket name/i.test(text)) {
    return { code: 'config', advice: `${bucket} is not a valid bucket name: check bucket (${detail})` };
  }
  if (status === 400 && /crc32c|md5|checksum|hash/i.test(text)) {
    return { code: 'unavailable', advice: `${bucket} received other bytes than were sent (${detail})` };
  }
  const foreign = status < 400 || status === 405 || body.trimStart().startsWith('<');
  if (foreign) {
    return {
      code: 'io',
      advice: `${bucket} gave an answer that is not Google Cloud Storage's: check endpoint (${detail})`,
    };
  }
  if (status === 404 || status === 410) return explainMissing(missing, text, target);
  return { code: 'io', advice: `${bucket} refused the request (${detail})` };
}

/** What to allow. @param text - the answer's: it tells an object that is new from one that would be overwritten */
function neededFor(what: string, text: string): string {
  // For Google, to overwrite is to delete.
  const operation = what.startsWith('put ') && text.includes('storage.objects.delete') ? 'delete' : what;
  const [, permission, role] = RIGHTS.find(([name]) => `${operation} `.startsWith(`${name} `)) ?? [];
  if (permission === undefined) return 'check the credentials and what they may do';
  return `allow ${permission} to this account, as ${role} does`;
}

function explainMissing(missing: Refusal['missing'], text: string, target: GcsTarget): Explanation {
  if (missing === 'upload') {
    return { code: 'io', advice: `the upload is gone from ${bucketOf(target)}: something else ended it` };
  }
  if (missing === 'object' && !/bucket does not exist/i.test(text)) {
    return { code: 'not-found', advice: noSuchObject(target) };
  }
  return { code: 'not-found', advice: `no ${bucketOf(target)}: create it, or check bucket and endpoint` };
}

function noSuchObject(target: GcsTarget): string {
  return `no such object in ${bucketOf(target)}`;
}

/** Whether `error` says that an object is missing, and not its bucket. */
export function isNoSuchObject(error: unknown): boolean {
  return (
    error instanceof LitestreamError && error.cause instanceof Error && error.cause.name === NO_SUCH_OBJECT
  );
}

/** Whether `error` says that a condition of a request did not hold. */
export function isPreconditionFailed(error: unknown): boolean {
  return (
    error instanceof LitestreamError && error.cause instanceof Error && error.cause.name === 'status 412'
  );
}

function explainConnection(code: string, detail: string, target: GcsTarget): Explanation {
  const name = bucketOf(target);
  if (code === ANSWER_TOO_LONG) return explainTooLong(name);
  if (NO_URL.test(code)) {
    return { code: 'config', advice: `the endpoint of ${name} is not an http or https URL: check endpoint` };
  }
  const server = `${target.endpoint} for bucket "${target.bucket}"`;
  return explainNoAnswer(code, detail, { name, server, keys: 'endpoint', trust: 'set NODE_EXTRA_CA_CERTS' });
}

function bucketOf(target: GcsTarget): string {
  return `bucket "${target.bucket}" at ${target.endpoint}`;
}

/** The reason and the text of a refusal: Google's JSON, or whatever else was sent. */
function readBody(body: string): { reason: string; text: string } {
  let parsed: unknown;
  try {
    parsed = JSON.parse(body);
  } catch {
    // Answers to downloads, and those of proxies, are plain text.
    return { reason: '', text: body };
  }
  const error = property(parsed, 'error');
  const errors = property(error, 'errors');
  const reason = property(Array.isArray(errors) ? errors[0] : undefined, 'reason');
  const message = property(error, 'message');
  return {
    reason: typeof reason === 'string' ? reason : '',
    text: typeof message === 'string' ? message : body,
  };
}

/** Tokens that were sent are known; others are told by what they look like. */
function redact(text: string, target: GcsTarget): string {
  return redacted(text.replaceAll(SECRETS, '[redacted]'), target.secrets());
}
