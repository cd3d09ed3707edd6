/** The one error of a put that must not overwrite. */

import { LitestreamError } from '../base/errors.ts';

/** There is an object of that key, which was left as it is. */
export function objectExists(key: string): LitestreamError {
  return new LitestreamError('exists', `put ${key}: there is such an object already`);
}
