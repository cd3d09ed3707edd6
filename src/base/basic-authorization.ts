/** The credentials in a URL as the header of a request, which does not send them by itself. */

import { unescape } from 'node:querystring';

/** The Authorization (or Proxy-Authorization) header for a URL's name and password; undefined without a name. */
export function basicAuthorization({ username, password }: URL): string | undefined {
  if (username === '') return undefined;
  // Unlike decodeURIComponent it leaves what is no escape as it is, as the URL does: a password may have a `%` in it.
  const login = `${unescape(username)}:${unescape(password)}`;
  return `Basic ${Buffer.from(login).toString('base64')}`;
}
