/** How much room there is on a disk, and whether that number is to be trusted. */

import { statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { systemCode } from './errors.ts';

export interface DiskSpace {
  /** Free for this user, as `df` shows it. */
  readonly freeBytes: number;
  /**
   * More than that cannot be written whatever its content is. Infinity where a file system may hold more than it says is
   * free: it compresses, shares blocks, or gives others back when it is full.
   */
  readonly limitBytes: number;
}

/** By the numbers of statfs(2) on Linux. What is below them, as a thin volume, may hold less, but never more. */
const EXT = 0xef53;
const TMPFS = 0x0102_1994;

/** Of the disk of `path`, which need not be there: the nearest folder above it counts. */
export async function diskSpace(path: string): Promise<DiskSpace> {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    try {
      const { type, bsize, blocks, bfree, bavail } = await statfs(folder);
      const exact = process.platform === 'linux' && (type === EXT || type === TMPFS) && blocks > 0;
      // What is reserved for root, root can have.
      const writable = process.getuid?.() === 0 ? bfree : bavail;
      return { freeBytes: bavail * bsize, limitBytes: exact ? writable * bsize : Infinity };
    } catch (error) {
      const missing = ['ENOENT', 'ENOTDIR'].includes(systemCode(error) ?? '');
      if (!missing || folder === dirname(folder)) throw error;
    }
  }
}

/** As diskSpace(), what is free for this user alone. */
export async function freeBytesOf(path: string): Promise<number> {
  return (await diskSpace(path)).freeBytes;
}
