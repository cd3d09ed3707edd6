/** Translates the errors of the file system into ours, saying what to do. */

import { LitestreamError, messageOf, systemCode } from '../../base/errors.ts';

/**
 * What a failed call on `path` means to the user.
 * @param verb - `read`, `write` or `delete`.
 */
export function fileError(error: unknown, verb: string, path: string): LitestreamError {
  if (error instanceof LitestreamError) return error;
  const code = systemCode(error);
  const cause = { cause: error };
  const user = typeof process.getuid === 'function' ? ` (user id ${process.getuid()})` : '';
  switch (code) {
    case 'ENOENT':
      return new LitestreamError('not-found', `no such file: ${path}`, cause);
    case 'EACCES':
    case 'EPERM':
      return new LitestreamError(
        'permission',
        `cannot ${verb} ${path}: permission denied; allow the user that runs litestream${user} to ${verb} there`,
        cause,
      );
    case 'EROFS':
      return new LitestreamError(
        'permission',
        `cannot ${verb} ${path}: the file system is mounted read-only; mount it writable or choose another path`,
        cause,
      );
    case 'ENOSPC':
    case 'EDQUOT':
      return new LitestreamError(
        'disk-full',
        `cannot ${verb} ${path}: no space left on the device or in the quota; free some`,
        cause,
      );
    case 'ENOTDIR':
    case 'EEXIST':
      return new LitestreamError(
        'io',
        `cannot ${verb} ${path}: a file stands where a folder is needed; move it away or choose another path`,
        cause,
      );
    default:
      return new LitestreamError('io', `cannot ${verb} ${path}: ${messageOf(error)}`, cause);
  }
}
