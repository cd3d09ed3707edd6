/**
 * Folders of ours in the folders of others. Whoever owns a folder can rename what is in it and put something else in its
 * place, whosever that is: so ours are opened once, and what is in them is reached by the descriptor, whatever its name
 * leads to later.
 */

import {
  closeSync,
  constants,
  existsSync,
  fstatSync,
  lstatSync,
  openSync,
  realpathSync,
  statSync,
} from 'node:fs';
import { dirname, resolve } from 'node:path';
import { LitestreamError, systemCode, wrapError } from './errors.ts';
import { nameHeld, withNames } from './held-names.ts';

const DESCRIPTORS = '/proc/self/fd';
const WRITABLE_BY_OTHERS = 0o022;
/** In such a folder only the owner of a file renames it. */
const STICKY = 0o1000;
/** Folders that were held in the place of one name: each is a descriptor that stays open. */
const MAX_REPLACED = 32;

/** By device and inode, which no other folder gets while it is open. */
const held = new Map<string, string>();
const replacedCounts = new Map<string, number>();

/**
 * The path by which a folder is to be used: its own one when nobody but root and this user can change what that leads to,
 * else one that leads to the folder that is there now for as long as this process lives. Elsewhere than on Linux always
 * its own one.
 * @throws LitestreamError 'permission' when a link that somebody else can change is there; the system's errors
 */
export function holdFolder(path: string): string {
  if (isHeld(path) || !existsSync(DESCRIPTORS) || !isExposed(path)) return path;
  const name = resolve(path);
  const own = lstatSync(name);
  // A link of our own nobody else can have made.
  if (own.isSymbolicLink() && own.uid === process.geteuid?.()) return holdFolder(realpathSync(name));
  const fd = openFolderFd(name);
  const { dev, ino } = fstatSync(fd);
  const known = held.get(`${dev}:${ino}`);
  if (known !== undefined) {
    closeSync(fd);
    return known;
  }
  const count = (replacedCounts.get(name) ?? 0) + 1;
  if (count > MAX_REPLACED) {
    closeSync(fd);
    throw new LitestreamError(
      'permission',
      `${name} was replaced ${MAX_REPLACED} times: find out by whom, and start this process again`,
    );
  }
  replacedCounts.set(name, count);
  const byDescriptor = `${DESCRIPTORS}/${fd}`;
  held.set(`${dev}:${ino}`, byDescriptor);
  nameHeld(byDescriptor, name);
  return byDescriptor;
}

function openFolderFd(path: string): number {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    if (!['ENOTDIR', 'ELOOP'].includes(systemCode(error) ?? ''))
      throw wrapError(error, `open folder ${path}`);
    throw new LitestreamError(
      'permission',
      `${path} is a link or no folder, and others than litestream's user can change that: remove it, or set meta-path to a folder that only litestream's user can write to`,
    );
  }
}

/** Whether it is used by its descriptor, since others can change what its name leads to. */
export function isHeld(path: string): boolean {
  return path.startsWith(DESCRIPTORS);
}

/** Whether the name of a folder from holdFolder() still leads to it. */
export function isHeldInPlace(path: string): boolean {
  if (!isHeld(path)) return true;
  const now = lstatSync(withNames(path), { throwIfNoEntry: false });
  const own = statSync(path);
  return now?.ino === own.ino && now.dev === own.dev;
}

/** Whether others than root and this user can put something else in the place of a folder that is there, or into it. */
export function isExposed(path: string): boolean {
  const literal = resolve(path);
  return [...foldersTo(literal), ...foldersTo(realpathSync(literal))].some((folder) => !isOurs(folder));
}

function foldersTo(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [path, ...foldersTo(parent)];
}

function isOurs(folder: string): boolean {
  const { uid, mode } = statSync(folder);
  if (uid !== 0 && uid !== process.geteuid?.()) return false;
  return (mode & WRITABLE_BY_OTHERS) === 0 || (mode & STICKY) !== 0;
}
