/** Who may use the dashboard, and requests that other sites make in a viewer's name refused. */

import { randomBytes, timingSafeEqual } from 'node:crypto';
import { LitestreamError } from '../../base/errors.ts';
import { textResponse } from './responses.ts';
import { CSRF_HEADER } from './view/csrf-header.ts';

export interface Credentials {
  readonly username: string;
  readonly password: string;
}

/**
 * `'none'`: whoever can reach it, as behind the application's own login. A function is asked for each request. `undefined`: nobody.
 */
export type Authentication =
  'none' | Credentials | ((request: Request) => boolean | Promise<boolean>) | undefined;

const CSRF_COOKIE = 'litestream_token';
const TOKEN_PATTERN = /^[A-Za-z0-9_-]{32}$/;

/** LITESTREAM_USERNAME and LITESTREAM_PASSWORD; undefined without both. @throws LitestreamError 'config' with one alone */
export function credentialsOf(env: Readonly<Record<string, string | undefined>>): Credentials | undefined {
  const username = env['LITESTREAM_USERNAME'] ?? '';
  const password = env['LITESTREAM_PASSWORD'] ?? '';
  if (username === '' && password === '') return undefined;
  if (username !== '' && password !== '') return { username, password };
  throw new LitestreamError('config', 'set both LITESTREAM_USERNAME and LITESTREAM_PASSWORD, or neither');
}

/** The answer to who may not see the page; else what the viewer may do: everything, or with a hint only look. */
export type Access = Response | Granted;

export interface Granted {
  /** How one gets to do something; undefined: the viewer may. */
  readonly hint?: string;
  /** To be set with the page. */
  readonly cookie?: string;
}

/** Rejects as the function of the options does. */
export async function accessOf(
  request: Request,
  auth: Exclude<Authentication, Credentials>,
): Promise<Access> {
  if (auth === 'none') return {};
  if (auth === undefined) {
    return textResponse(
      403,
      'The dashboard shows itself to nobody before it knows to whom: set LITESTREAM_USERNAME and LITESTREAM_PASSWORD,\n' +
        "or give createDashboard() its option auth ('none' behind a login of your own). /metrics and /healthz are open.",
    );
  }
  return (await auth(request)) ? {} : textResponse(403, 'You may not see this page.');
}

/** The token that a page gets, and the cookie that it is compared with: the viewer's own if there is one. */
export function csrfToken(request: Request): { readonly token: string; readonly cookie: string } {
  const token = cookieToken(request) ?? randomBytes(24).toString('base64url');
  // Without a path: the browser takes that of the page, under whatever prefix it is seen.
  return { token, cookie: `${CSRF_COOKIE}=${token}; HttpOnly; SameSite=Strict` };
}

function cookieToken(request: Request): string | undefined {
  const token = cookieOf(request, CSRF_COOKIE) ?? '';
  return TOKEN_PATTERN.test(token) ? token : undefined;
}

export function cookieOf(request: Request, name: string): string | undefined {
  const pairs = (request.headers.get('cookie') ?? '').split(/; */).map((pair) => pair.split('='));
  return pairs.find(([candidate]) => candidate === name)?.[1];
}

/**
 * Refuses what a page of another site sends: an action needs a header that forms cannot set, with the token of our page, and must
 * come from our own origin as far as the browser tells.
 * @throws LitestreamError 'permission'
 */
export function checkSameSite(request: Request): void {
  checkOrigin(request);
  const expected = cookieToken(request);
  const given = request.headers.get(CSRF_HEADER) ?? '';
  const same =
    expected !== undefined &&
    given.length === expected.length &&
    timingSafeEqual(Buffer.from(given), Buffer.from(expected));
  if (!same)
    throw new LitestreamError('permission', 'the request is not from this page: reload it and try again');
}

/** @throws LitestreamError 'permission' for a request that a page of another site has caused */
export function checkOrigin({ headers, url }: Request): void {
  const refuse = (): never => {
    throw new LitestreamError('permission', 'requests from other sites are refused');
  };
  const site = headers.get('sec-fetch-site');
  if (site !== null && site !== 'same-origin' && site !== 'none') refuse();
  const origin = headers.get('origin');
  if (origin === null) return;
  // A proxy may have changed the host; what it was is in a header that no page can set.
  const hosts = [headers.get('x-forwarded-host'), headers.get('host'), new URL(url).host];
  if (!URL.canParse(origin) || !hosts.includes(new URL(origin).host)) refuse();
}
