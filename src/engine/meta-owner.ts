/**
 * Whose the meta directory is. Root follows databases of anybody, and whoever owns a folder decides what is in it: before
 * anything in it is written or removed, the meta directory becomes root's own.
 */

import {
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  lstatSync,
  openSync,
  readdirSync,
  rmSync,
  statSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { LitestreamError, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';

const PRIVATE = 0o700;
const WRITABLE_BY_OTHERS = 0o022;
/** `generations/G/wal` is three deep. */
const MAX_DEPTH = 8;

/**
 * @param metaPath as from holdFolder()
 * @throws LitestreamError 'permission' when it is neither this user's, nor root's, nor that of the database's or its folder's owner
 */
export function refuseForeign(metaPath: string, databasePath: string): void {
  const { uid } = statSync(metaPath);
  const owners = [databasePath, dirname(databasePath)].map(
    (path) => statSync(path, { throwIfNoEntry: false })?.uid,
  );
  if ([0, process.geteuid?.(), ...owners].includes(uid)) return;
  throw new LitestreamError(
    'permission',
    `${metaPath} belongs to user ${uid}, who owns neither the database nor its folder: ` +
      "remove it, or set meta-path to a folder of litestream's user",
  );
}

/**
 * Makes a held meta directory root's, with all folders in it: v0.3.13 gave it to the owner of the database's folder. What
 * that one may have put there as a trap is removed: links, and second names of files. Does nothing for other users, who
 * cannot give it to themselves. Where the file system knows no owners, that is a warning.
 * @param metaPath as from holdFolder(); its lock is held
 */
export function takeOver(metaPath: string, logger: Logger): void {
  if (process.geteuid?.() !== 0) return;
  try {
    takeOverFolder(metaPath, MAX_DEPTH);
  } catch (error) {
    logger.warn('meta directory cannot be made ours, and its owner can change it: set meta-path', {
      'meta-path': metaPath,
      error: messageOf(error),
    });
  }
}

function takeOverFolder(path: string, depth: number): void {
  const isTop = depth === MAX_DEPTH;
  const { O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  const fd = openSync(path, O_RDONLY | O_DIRECTORY | (isTop ? 0 : O_NOFOLLOW));
  try {
    const { uid, mode } = fstatSync(fd);
    const wasOurs = uid === 0 && (mode & WRITABLE_BY_OTHERS) === 0;
    if (!wasOurs) {
      fchownSync(fd, 0, 0);
      fchmodSync(fd, PRIVATE);
    }
    // From here on nobody else puts anything in.
    const own = `/proc/self/fd/${fd}`;
    for (const entry of readdirSync(own, { withFileTypes: true })) {
      const inside = join(own, entry.name);
      if (entry.isDirectory() && depth > 0) takeOverFolder(inside, depth - 1);
      else if (!wasOurs && !isPlain(inside)) rmSync(inside, { recursive: true, force: true });
    }
  } finally {
    closeSync(fd);
  }
}

/** A file with no other name. */
function isPlain(path: string): boolean {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  return stats === undefined || (stats.isFile() && stats.nlink === 1);
}
