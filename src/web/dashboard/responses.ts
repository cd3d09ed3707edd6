/** The answers of the dashboard, all with the headers that keep a page from being misused. */

import { LitestreamError, messageOf } from '../../base/errors.ts';
import { errorAnswer } from '../../control/router.ts';

/** Nothing inline, nothing from elsewhere, in nobody's frame. */
const CONTENT_SECURITY_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "form-action 'none'",
  "base-uri 'none'",
  "frame-ancestors 'none'",
].join('; ');

const SECURITY: Readonly<Record<string, string>> = {
  'content-security-policy': CONTENT_SECURITY_POLICY,
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'cross-origin-opener-policy': 'same-origin',
};

/** Not stored anywhere unless `headers` say otherwise. */
export function respond(
  status: number,
  body: string | ReadableStream<Uint8Array> | null,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return new Response(body, { status, headers: { 'cache-control': 'no-store', ...SECURITY, ...headers } });
}

export function textResponse(
  status: number,
  text: string,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return respond(status, `${text}\n`, { 'content-type': 'text/plain; charset=utf-8', ...headers });
}

export function htmlResponse(text: string, headers: Readonly<Record<string, string>> = {}): Response {
  return respond(200, text, { 'content-type': 'text/html; charset=utf-8', ...headers });
}

export function jsonResponse(value: object, status = 200): Response {
  return respond(status, `${JSON.stringify(value)}\n`, { 'content-type': 'application/json' });
}

/** What was thrown, as `{"error":{"code","message"}}`. What is no expected failure is not told in detail. */
export function errorResponse(error: unknown): Response {
  if (error instanceof LitestreamError) {
    const { status, body } = errorAnswer(error);
    return jsonResponse(body, status);
  }
  return jsonResponse({ error: { code: 'internal', message: 'something went wrong: see the log' } }, 500);
}

/** For the log. */
export function describeError(error: unknown): string {
  return error instanceof LitestreamError
    ? error.message
    : `this is a bug in litestream: ${messageOf(error)}`;
}
