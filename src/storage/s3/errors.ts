/**
 * Translates what the SDK throws into our errors: one message each that names bucket and endpoint and says what to
 * check. No secret and no signed header gets through: the SDK's error object is not kept, only its code (as the
 * cause's name) and its redacted text.
 */

import { LitestreamError, messageOf, systemCode } from '../../base/errors.ts';
import { printable } from '../../base/printable.ts';
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
export interface S3Target {
  readonly bucket: string;
  /** The endpoint without credentials, or `Amazon S3`. */
  readonly endpoint: string;
  /** Texts that must never be shown. */
  readonly secrets: readonly string[];
}

/** The parts of an SDK error that we read. */
interface Failure {
  /** S3's error code (`NoSuchKey`) or the error's name. */
  readonly code: string;
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
  /** The region that the server says to use. */
  readonly region: string | undefined;
}

const CREDENTIALS = new Set([
  'InvalidAccessKeyId',
  'SignatureDoesNotMatch',
  'ExpiredToken',
  'InvalidToken',
  'TokenRefreshRequired',
  'InvalidSecurity',
]);
const WRONG_REGION = new Set([
  'PermanentRedirect',
  'TemporaryRedirect',
  'AuthorizationHeaderMalformed',
  'IllegalLocationConstraintException',
]);
/** The action of a policy that allows an operation, by how the operation's name begins. */
const ACTIONS: readonly (readonly [operation: string, action: string])[] = [
  ['list unfinished uploads', 's3:ListBucketMultipartUploads'],
  ['list', 's3:ListBucket'],
  ['get', 's3:GetObject'],
  ['put', 's3:PutObject'],
  ['delete', 's3:DeleteObject'],
  ['abort', 's3:AbortMultipartUpload'],
];
const PASSING = new Set([
  'RequestTimeout',
  'SlowDown',
  'OperationAborted',
  'ThrottlingException',
  'ConditionalRequestConflict',
]);

/**
 * @param what - the operation and its object, for example `put generations/…`.
 * @param signal - the caller's: when it has fired, the failure is its doing.
 */
export function s3Error(
  error: unknown,
  what: string,
  target: S3Target,
  signal?: AbortSignal,
): LitestreamError {
  if (signal?.aborted === true) return new LitestreamError('aborted', `${what}: the operation was aborted`);
  if (error instanceof LitestreamError) return error;
  const failure = readFailure(error, target);
  const { code, advice } = explain(failure, target, what);
  const cause = new Error(failure.text);
  cause.name = failure.code;
  const message = `${what}: ${advice}`;
  if (code !== 'unavailable') return new LitestreamError(code, message, { cause });
  const retryAfterMs = readRetryAfterMs(failure.headers['retry-after']);
  return new LitestreamError(code, message, retryAfterMs === undefined ? { cause } : { cause, retryAfterMs });
}

/** Whether S3's code of a failed request is `code`. */
export function hasS3Code(error: unknown, code: string): boolean {
  return error instanceof LitestreamError && error.cause instanceof Error && error.cause.name === code;
}

/** The error of an answer that says that all is well, but is none of S3's: of a web server, or a page to log in. */
export function notS3(what: string, target: S3Target): LitestreamError {
  const bucket = `bucket "${target.bucket}" at ${target.endpoint}`;
  return new LitestreamError('io', `${what}: ${bucket} gave an answer that is not S3's: check endpoint`);
}

/**
 * The error of a put whose answer says that all is well and has no ETag: nothing was stored. Anything may say that to
 * anything that it is sent; a store that gives its request an id was Swift, which lets a put pass that came at the same
 * moment as another one of that object or, by its own clock, before the object that is there (its proxy makes a success
 * of the object servers' 409). A later put has a later time.
 */
export function notStored(
  what: string,
  target: S3Target,
  { requestId }: { readonly requestId?: string | undefined },
): LitestreamError {
  if (requestId === undefined) return notS3(what, target);
  const bucket = `bucket "${target.bucket}" at ${target.endpoint}`;
  const why = 'an object of this name has the same time or a later one';
  return new LitestreamError(
    'unavailable',
    `${what}: ${bucket} did not store it: ${why}; if this goes on, check the clocks of the store's servers`,
  );
}

function explain(failure: Failure, target: S3Target, what: string): Explanation {
  const { code, status } = failure;
  const bucket = `bucket "${target.bucket}" at ${target.endpoint}`;
  const detail = describe(failure);
  switch (code) {
    case 'NoSuchBucket':
      return { code: 'not-found', advice: `no ${bucket}: create it, or check bucket, region and endpoint` };
    case 'NoSuchKey':
      // Asked for a list, a server that looks for an object was given the bucket's name twice, or not at all.
      if (what.startsWith('list ')) {
        return {
          code: 'io',
          advice: `nothing to list for ${bucket}: check endpoint and force-path-style (${detail})`,
        };
      }
      return { code: 'not-found', advice: `no such object in ${bucket}` };
    case 'NoSuchUpload':
      return { code: 'io', advice: `the upload is gone from ${bucket}: something else removed it` };
    case 'InvalidBucketName':
      return { code: 'config', advice: `${bucket} is not a valid bucket name: check bucket (${detail})` };
    case 'ERR_INVALID_URL':
      return { code: 'config', advice: `the endpoint of ${bucket} is not a URL: check endpoint` };
    case ANSWER_TOO_LONG:
      return explainTooLong(bucket);
    case 'TimeoutError':
      return {
        code: 'unavailable',
        advice: `${bucket} did not answer in time: check endpoint, and what is on the way (proxy, firewall)`,
      };
    case 'RequestTimeTooSkewed':
      return { code: 'permission', advice: `${bucket} refused the request's time: set this machine's clock` };
    case 'CredentialsProviderError':
      return {
        code: 'permission',
        advice: `no credentials for ${bucket}: set access-key-id and secret-access-key, or the AWS variables, profile or role (${detail})`,
      };
  }
  // The SDK puts it into the address, and says no more than a text.
  if (/^Region not accepted/.test(failure.text)) {
    return { code: 'config', advice: `the region for ${bucket} is no name of one: check region (${detail})` };
  }
  if (PASSING.has(code))
    return { code: 'unavailable', advice: `${bucket} did not answer in time or is overloaded (${detail})` };
  if (WRONG_REGION.has(code) || status === 301 || status === 307) {
    const right =
      failure.region === undefined ? 'set the region of the bucket' : `set region: ${failure.region}`;
    return { code: 'config', advice: `wrong region or endpoint for ${bucket}: ${right} (${detail})` };
  }
  if (CREDENTIALS.has(code)) {
    return {
      code: 'permission',
      advice: `${bucket} refused the credentials: check access-key-id and secret-access-key (${detail})`,
    };
  }
  // An answer whose body broke off has a status and says nothing.
  if (status !== undefined && connectionFault(code) === undefined)
    return explainStatus(failure, status, { bucket, what });
  return explainConnection(failure, target, bucket);
}

function explainStatus(
  failure: Failure,
  status: number,
  { bucket, what }: { readonly bucket: string; readonly what: string },
): Explanation {
  const detail = describe(failure);
  if (status === 401 || status === 403) {
    return {
      code: 'permission',
      advice: `access to ${bucket} denied: ${neededFor(what)} (${detail})`,
    };
  }
  if (status === 501) return { code: 'unsupported', advice: `${bucket} cannot do this (${detail})` };
  if (status === 400 && /Content-MD5/i.test(failure.text) && what.startsWith('put ')) {
    const advice = `${bucket} asks for digests, as buckets with object lock do: set require-content-md5: true`;
    return { code: 'config', advice: `${advice} (${detail})` };
  }
  if (isPassingStatus(status)) {
    return { code: 'unavailable', advice: `${bucket} is unavailable (${detail})` };
  }
  if (status === 404 || status === 405 || status < 400) {
    return { code: 'io', advice: `${bucket} gave an answer that is not S3's: check endpoint (${detail})` };
  }
  return { code: 'io', advice: `${bucket} refused the request (${detail})` };
}

/** What to allow. Stores that have no policies of their own know their rights by these names, too. */
function neededFor(what: string): string {
  const action = ACTIONS.find(([operation]) => what.startsWith(`${operation} `))?.[1];
  if (action === undefined) return 'check the credentials and what they may do';
  return `allow ${action} to this key, or check access-key-id and secret-access-key`;
}

function explainConnection(failure: Failure, target: S3Target, bucket: string): Explanation {
  const place = {
    name: bucket,
    server: `${target.endpoint} for bucket "${target.bucket}"`,
    keys: 'endpoint, region',
    trust: 'set skip-verify',
  };
  return explainNoAnswer(failure.code, describe(failure), place);
}

function describe({ status, code, text }: Failure): string {
  const parts = [status, text.startsWith(code) ? undefined : code, text];
  return parts.filter((part) => part !== undefined && part !== '').join(' ');
}

function readFailure(error: unknown, target: S3Target): Failure {
  const response = property(error, '$response');
  const headers = readHeaders(property(response, 'headers'));
  const status = property(property(error, '$metadata'), 'httpStatusCode') ?? property(response, 'statusCode');
  const name = property(error, 'Code') ?? systemCode(firstCause(error)) ?? property(error, 'name');
  const region = headers['x-amz-bucket-region'] ?? property(error, 'Region');
  return {
    code: typeof name === 'string' ? printable(name) : 'Error',
    status: typeof status === 'number' && status > 0 ? status : undefined,
    headers,
    text: redacted(textOf(error), target.secrets),
    region: typeof region === 'string' ? region : undefined,
  };
}

/** The SDK's advice on debugging is not for users. */
function textOf(error: unknown): string {
  return messageOf(firstCause(error)).replace(/Deserialization error: to see .*$/s, '');
}

function readHeaders(value: unknown): Record<string, string> {
  const headers: Record<string, string> = {};
  if (typeof value !== 'object' || value === null) return headers;
  for (const [name, text] of Object.entries(value)) {
    if (typeof text === 'string') headers[name.toLowerCase()] = text;
  }
  return headers;
}

/** Whether a failed request names the region that the bucket is in. */
export function regionInError(error: unknown): string | undefined {
  return readFailure(error, { bucket: '', endpoint: '', secrets: [] }).region;
}
