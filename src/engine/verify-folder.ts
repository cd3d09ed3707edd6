/**
 * The folder of a restored database while it is verified, in the meta directory. Its name tells the process, so that
 * one that was killed leaves nothing behind for longer than to the next verification or start.
 */

import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { freeBytesOf } from '../base/disk-space.ts';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';

const SUFFIX = '.tmp';

function prefixOf(replica: string): string {
  return `verification-${encodeURIComponent(replica)}-`;
}

/**
 * Calls `use` with the path of a new folder that nobody else uses, and removes it whatever happens. One at a time for
 * each replica and process.
 * @param parent a folder that is there
 */
export async function withVerificationFolder<T>(
  parent: string,
  replica: string,
  use: (folder: string) => Promise<T>,
): Promise<T> {
  await sweepVerificationFolders(parent, replica);
  const folder = join(parent, `${prefixOf(replica)}${process.pid}${SUFFIX}`);
  try {
    await mkdir(folder, { mode: 0o700 });
  } catch (error) {
    throw wrapError(error, `create ${folder}`);
  }
  try {
    return await use(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Removes what processes that were killed have left, and this process: none of its own is in use. */
export async function sweepVerificationFolders(parent: string, replica: string): Promise<void> {
  const prefix = prefixOf(replica);
  try {
    for (const name of await readdir(parent)) {
      if (!name.startsWith(prefix) || !name.endsWith(SUFFIX)) continue;
      const pid = Number(name.slice(prefix.length, -SUFFIX.length));
      if (!(pid > 0) || (pid !== process.pid && isRunning(pid))) continue;
      await rm(join(parent, name), { recursive: true, force: true });
    }
  } catch (error) {
    throw wrapError(error, `remove files of an earlier verification from ${parent}`);
  }
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
}

/** Room that a verification leaves to the database, whose disk it usually shares. */
const RESERVE_BYTES = 64 << 20;

/** What is restored may be larger on its way than at its end, by so much at the least. */
const SLACK = 1.25;
/** A database that was much larger once may take so much of what is free. */
const FREE_SHARE = 0.5;

/**
 * @param neededBytes size of what is restored
 * @returns what it may take on its way, in bytes: a replica may hold far more than it should
 * @throws LitestreamError 'disk-full' when less than `neededBytes` and some room for others is free
 */
export async function requireSpace(
  folder: string,
  neededBytes: number,
  freeBytes: (folder: string) => Promise<number> = freeBytesOf,
): Promise<number> {
  const free = await freeBytes(folder);
  const spare = free - RESERVE_BYTES;
  if (spare >= neededBytes)
    return Math.floor(Math.min(spare, Math.max(neededBytes * SLACK, free * FREE_SHARE)));
  throw new LitestreamError(
    'disk-full',
    `restoring takes ${neededBytes} bytes in ${folder}, where ${free} are free and ${RESERVE_BYTES} must stay so`,
  );
}
