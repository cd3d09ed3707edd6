/** Each way to say who may see the dashboard, as the one question that is asked of every request. */

import { type Access, type Authentication, accessOf } from './access.ts';
import { LocalAccess } from './local-access.ts';
import { PasswordAccess } from './password-access.ts';

/** What it gives is to be kept for all requests: it counts wrong passwords. Rejects as the function of the options does. */
export function accessBy(auth: Authentication | LocalAccess): (request: Request) => Promise<Access> {
  if (auth instanceof LocalAccess) return (request) => Promise.resolve(auth.of(request));
  if (typeof auth !== 'object') return (request) => accessOf(request, auth);
  const password = new PasswordAccess(auth);
  return (request) => Promise.resolve(password.of(request));
}
