/** Checks AWS Signature Version 4 in the Authorization header, from the published description of the algorithm. */

import { createHash, createHmac, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { S3Fault } from './fault.ts';

export interface Credentials {
  readonly accessKeyId: string;
  readonly secretAccessKey: string;
}

export interface SignedRequest {
  readonly method: string;
  /** Path and query as they came. */
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

const AUTHORIZATION =
  /^AWS4-HMAC-SHA256 Credential=([^/,]+)\/(\d{8})\/([^/]+)\/s3\/aws4_request,\s*SignedHeaders=([^,]+),\s*Signature=([0-9a-f]{64})$/;
const MAX_SKEW_MS = 15 * 60 * 1000;

/** Throws the fault that S3 answers with unless the request is signed with `credentials` and its body is the signed one. */
export function checkSignature(request: SignedRequest, credentials: Credentials, regions: string[]): void {
  const match = AUTHORIZATION.exec(request.headers.authorization ?? '');
  if (match === null) throw new S3Fault(403, 'AccessDenied', 'Anonymous access is not allowed.');
  const [, accessKeyId, day, region, signedHeaders, signature] = match as unknown as string[];
  if (accessKeyId !== credentials.accessKeyId) {
    throw new S3Fault(403, 'InvalidAccessKeyId', 'The access key id does not exist in our records.');
  }
  if (!regions.includes(region!)) {
    const text = `The authorization header is malformed; the region '${region!}' is wrong; expecting '${regions[0]!}'`;
    throw new S3Fault(400, 'AuthorizationHeaderMalformed', text, { Region: regions[0]! });
  }
  const time = header(request.headers, 'x-amz-date');
  checkTime(time, day!);
  const payload = checkPayload(request);
  const names = signedHeaders!.split(';');
  if (!names.includes('host')) throw new S3Fault(403, 'AccessDenied', 'The host header must be signed.');
  for (const name of Object.keys(request.headers)) {
    if (name.startsWith('x-amz-') && !names.includes(name)) {
      throw new S3Fault(403, 'AccessDenied', `There were headers present which were not signed: ${name}`);
    }
  }
  const scope = `${day!}/${region!}/s3/aws4_request`;
  const text = ['AWS4-HMAC-SHA256', time, scope, sha256(canonical(request, names, payload))].join('\n');
  const key = [day!, region!, 's3', 'aws4_request'].reduce<string | Buffer>(
    (secret, part) => hmac(secret, part),
    `AWS4${credentials.secretAccessKey}`,
  );
  if (!timingSafeEqual(hmac(key, text), Buffer.from(signature!, 'hex'))) {
    throw new S3Fault(
      403,
      'SignatureDoesNotMatch',
      'The request signature we calculated does not match the signature you provided.',
      { StringToSign: text, AWSAccessKeyId: accessKeyId },
    );
  }
}

function checkTime(time: string, day: string): void {
  const iso = time.replace(/^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/, '$1-$2-$3T$4:$5:$6Z');
  const skew = Math.abs(Date.parse(iso) - Date.now());
  if (Number.isNaN(skew) || !time.startsWith(day)) {
    throw new S3Fault(403, 'AccessDenied', 'The request has no valid date.');
  }
  if (skew > MAX_SKEW_MS) {
    throw new S3Fault(403, 'RequestTimeTooSkewed', 'The difference between the times is too large.');
  }
}

/** The payload hash that was signed, which must be the body's. */
function checkPayload({ headers, body }: SignedRequest): string {
  const claimed = header(headers, 'x-amz-content-sha256');
  if (claimed.startsWith('STREAMING-')) {
    throw new S3Fault(501, 'NotImplemented', 'Bodies in signed chunks are not implemented.');
  }
  if (claimed !== 'UNSIGNED-PAYLOAD' && claimed !== sha256(body)) {
    throw new S3Fault(400, 'XAmzContentSHA256Mismatch', 'The x-amz-content-sha256 is not that of the body.');
  }
  return claimed;
}

function canonical({ method, url, headers }: SignedRequest, names: string[], payload: string): string {
  const [path = '/', query = ''] = url.split(/\?(.*)/s);
  const pairs = query === '' ? [] : query.split('&').map((pair) => pair.split(/=(.*)/s));
  const encoded = pairs
    .map(([name = '', value = '']) => [encode(decode(name)), encode(decode(value))] as const)
    .sort(([a, x], [b, y]) => compare(a, b) || compare(x, y));
  return [
    method,
    path
      .split('/')
      .map((part) => encode(decodeURIComponent(part)))
      .join('/'),
    encoded.map(([name, value]) => `${name}=${value}`).join('&'),
    ...names.map((name) => `${name}:${header(headers, name).trim().replaceAll(/ +/g, ' ')}`),
    '',
    names.join(';'),
    payload,
  ].join('\n');
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function decode(text: string): string {
  return decodeURIComponent(text.replaceAll('+', ' '));
}

/** Percent-encodes all but the unreserved characters. */
function encode(text: string): string {
  return encodeURIComponent(text).replaceAll(
    /[!'()*]/g,
    (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`,
  );
}

function header(headers: IncomingHttpHeaders, name: string): string {
  const value = headers[name];
  return Array.isArray(value) ? value.join(',') : (value ?? '');
}

function sha256(data: string | Buffer): string {
  return createHash('sha256').update(data).digest('hex');
}

function hmac(key: string | Buffer, text: string): Buffer {
  return createHmac('sha256', key).update(text).digest();
}
