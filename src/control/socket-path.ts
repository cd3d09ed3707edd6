/** Where the control socket is: beside the first database if the system permits so long a path. */

import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, mkdtempSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemCode } from '../base/errors.ts';

/** What fits in `sockaddr_un` with a zero behind it. */
export const MAX_SOCKET_PATH_BYTES: number = process.platform === 'linux' ? 107 : 103;

export const SOCKET_FILE = 'control.sock';

export function fitsSocket(path: string): boolean {
  return Buffer.byteLength(path) <= MAX_SOCKET_PATH_BYTES;
}

/**
 * A path that surely fits, the same for every process of this user that asks for `wanted`: in $XDG_RUNTIME_DIR, else in a
 * folder of the user's own among the temporary files.
 */
export function runtimeSocketPath(wanted: string, env: Readonly<Record<string, string | undefined>>): string {
  const name = `${shortHash(wanted)}.sock`;
  const runtime = env['XDG_RUNTIME_DIR'];
  if (runtime !== undefined && isOwnFolder(runtime)) {
    const path = join(runtime, `litestream-${name}`);
    if (fitsSocket(path)) return path;
  }
  const path = join(privateFolder(tmpdir()), name);
  return fitsSocket(path) ? path : join(privateFolder('/tmp'), name);
}

/**
 * A folder on this host that every process of this user finds by the same `purpose`, made if need be, for this user alone. Its
 * place does not depend on the environment, which processes of one application do not always share.
 * @returns undefined where there is no place for temporary files
 */
export function hostFolder(purpose: string): string | undefined {
  const parent = join('/tmp', `litestream-${process.getuid?.() ?? 0}`);
  const path = join(parent, shortHash(purpose));
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
  } catch {
    return undefined; // As in a container whose files are all read-only.
  }
  return isOwnFolder(parent) && isOwnFolder(path) ? path : undefined;
}

function shortHash(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16);
}

/** A folder that nobody else can put anything in; under a name of its own when the usual one belongs to another. */
function privateFolder(parent: string): string {
  const path = join(parent, `litestream-${process.getuid?.() ?? 0}`);
  try {
    mkdirSync(path, { mode: 0o700 });
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
  }
  return isOwnFolder(path) ? path : mkdtempSync(join(parent, 'litestream-'));
}

function isOwnFolder(path: string): boolean {
  try {
    const { uid, mode } = lstatSync(path);
    return statSync(path).isDirectory() && uid === process.getuid?.() && (mode & 0o077) === 0;
  } catch {
    return false; // Not there, or not for us to see.
  }
}
