/**
 * Signs that a database file has a second name: a hard link, or a mount of the file alone. SQLite makes `-wal` and `-shm`
 * beside the name by which it was opened, so whoever uses the other name has others, and commits that we never see.
 */

import { readFileSync, statSync } from 'node:fs';

/**
 * In words, with the remedy behind a colon.
 * @param realPath no symlinks @returns undefined: there is none, as far as can be told
 */
export function findOtherName(realPath: string): string | undefined {
  if (isMountPoint(realPath)) return `${realPath} is mounted as a single file: mount its folder instead`;
  return findHardLink(realPath);
}

/** findOtherName() at the price of one stat(). */
export function findHardLink(realPath: string): string | undefined {
  const nlink = statSync(realPath, { throwIfNoEntry: false })?.nlink ?? 1;
  if (nlink < 2) return undefined;
  return `${realPath} has ${nlink} hard links: remove the others (find -samefile), or copy the file`;
}

/** Linux tells; elsewhere no file is mounted alone in practice. */
function isMountPoint(path: string): boolean {
  let text: string;
  try {
    text = readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return false;
  }
  // `36 35 98:0 /root /mount/point options`; blanks and such are written as `\\040`.
  const unescape = (point: string): string =>
    point.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8)));
  return text.split('\n').some((line) => {
    const point = line.split(' ')[4];
    return point !== undefined && unescape(point) === path;
  });
}
