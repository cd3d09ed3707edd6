/** The `-mode` and `-owner` flags: who may use a restored file. */

import { readFileSync } from 'node:fs';
import type { Owner } from '../base/durable-file.ts';
import { LitestreamError } from '../base/errors.ts';

/** @throws LitestreamError 'usage' */
export function parseMode(text: string): number {
  if (!/^0?[0-7]{3}$/.test(text)) {
    throw new LitestreamError('usage', `invalid -mode "${text}": three octal digits, such as 640`);
  }
  return parseInt(text, 8);
}

/**
 * `USER`, `USER:GROUP` or `:GROUP`, by name or number; the group of a user alone is the user's own.
 * @throws LitestreamError 'usage' for a name that this machine does not know
 */
export function parseOwner(text: string): Owner {
  const [user = '', group = ''] = text.split(':', 2);
  const entry = user === '' ? undefined : findUser(user);
  const gid = group === '' ? entry?.gid : findGroup(group);
  const uid = entry?.uid ?? process.getuid?.();
  if (uid === undefined || gid === undefined || text.split(':').length > 2) {
    throw new LitestreamError('usage', `invalid -owner "${text}": USER, USER:GROUP or UID:GID`);
  }
  return { uid, gid };
}

function findUser(name: string): { uid: number; gid: number | undefined } {
  const byNumber = /^\d+$/.test(name);
  const fields = entryOf('/etc/passwd', name, byNumber);
  if (fields) return { uid: Number(fields[2]), gid: Number(fields[3]) };
  if (byNumber) return { uid: Number(name), gid: Number(name) };
  throw new LitestreamError('usage', `invalid -owner: there is no user ${name} here, try its number`);
}

function findGroup(name: string): number {
  if (/^\d+$/.test(name)) return Number(name);
  const fields = entryOf('/etc/group', name, false);
  if (fields) return Number(fields[2]);
  throw new LitestreamError('usage', `invalid -owner: there is no group ${name} here, try its number`);
}

/** The fields of a line of a table of accounts, by its name or its number. */
function entryOf(path: string, name: string, byNumber: boolean): string[] | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch {
    return undefined; // A machine without accounts, as in a minimal container.
  }
  const rows = text.split('\n').map((line) => line.split(':'));
  return rows.find((fields) => fields[byNumber ? 2 : 0] === name && fields.length > 2);
}
