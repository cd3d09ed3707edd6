/**
 * The page on a loopback address without a password. All users and programs of the machine reach it: it shows them state, and does
 * nothing before a login. A proxy on the machine must not show it to others.
 */

import { isLoopback } from '../bind-address.ts';
import type { Logins } from './logins.ts';
import { type Access, cookieOf } from './access.ts';
import { respond, textResponse } from './responses.ts';

const SESSION_COOKIE = 'litestream_session';
const OF_PROXIES = /^(forwarded|via|x-real-ip|x-forwarded(-.*)?)$/;

export interface LocalAccessOptions {
  /** Undefined: nobody can log in. */
  readonly logins?: Logins | undefined;
  /** How one gets to log in, as a sentence. */
  readonly hint: string;
}

export class LocalAccess {
  readonly #options: LocalAccessOptions;

  constructor(options: LocalAccessOptions) {
    this.#options = options;
  }

  /** What a request may do, or the answer that refuses it. */
  of(request: Request): Access {
    const refused = refusal(request);
    if (refused) return refused;
    const { logins, hint } = this.#options;
    const session = cookieOf(request, SESSION_COOKIE);
    return logins !== undefined && session !== undefined && logins.isOpen(session) ? {} : { hint };
  }

  /** The answer to an address with a token: the page, with a session. */
  enter(request: Request): Response {
    const { logins, hint } = this.#options;
    const session = logins?.enter(new URL(request.url).searchParams.get('token') ?? '');
    if (session === undefined)
      return textResponse(403, `This address was used before, or is an older one. ${hint}`);
    // Without a path: the browser takes that of the page, under whatever prefix it is seen.
    const cookie = `${SESSION_COOKIE}=${session}; HttpOnly; SameSite=Strict`;
    return respond(303, null, { location: './', 'set-cookie': cookie });
  }
}

function refusal({ url, headers }: Request): Response | undefined {
  const { hostname } = new URL(url);
  const remedy = 'Set LITESTREAM_USERNAME and LITESTREAM_PASSWORD.';
  // A name that is not this machine's may be one that a hostile site has pointed here.
  if (!isLoopback(hostname)) {
    return textResponse(
      421,
      `The dashboard has no password and is only shown as localhost, not as ${hostname}.\n${remedy}`,
    );
  }
  const proxied = [...headers.keys()].find((name) => OF_PROXIES.test(name));
  if (proxied === undefined) return undefined;
  return textResponse(
    421,
    `The dashboard has no password and is not shown through a proxy (${proxied}).\n${remedy}`,
  );
}
