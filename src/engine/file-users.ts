/**
 * Which processes have a file open, as far as /proc tells: those of this user (all of them for root) in this container.
 * Where there is no /proc nothing can be told.
 */

import { readFileSync, readdirSync, readlinkSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import { LitestreamError, systemCode } from '../base/errors.ts';

export interface FileUser {
  readonly pid: number;
  /** Name of its program. */
  readonly name: string;
}

/** `process 12 (puma), process 34 (node)` */
function describeUsers(users: readonly FileUser[]): string {
  return users.map(({ pid, name }) => `process ${pid} (${name})`).join(', ');
}

/** @returns undefined where that cannot be told */
export function findFileUsers(paths: readonly string[]): FileUser[] | undefined {
  const files = paths.flatMap((path) => {
    const stats = statSync(path, { throwIfNoEntry: false });
    return stats ? [{ name: basename(path), id: `${stats.dev}:${stats.ino}` }] : [];
  });
  let pids: number[];
  try {
    pids = readdirSync('/proc').map(Number).filter(Number.isInteger);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw error;
  }
  const names = new Set(files.map(({ name }) => name));
  const ids = new Set(files.map(({ id }) => id));
  return pids.flatMap((pid) => (hasOpen(pid, names, ids) ? [{ pid, name: nameOf(pid) }] : []));
}

function hasOpen(pid: number, names: ReadonlySet<string>, ids: ReadonlySet<string>): boolean {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).some((fd) => {
      try {
        // The name first: other files are not touched, they may be on a file system that hangs.
        if (!names.has(basename(readlinkSync(`${folder}/${fd}`)))) return false;
        const stats = statSync(`${folder}/${fd}`);
        return ids.has(`${stats.dev}:${stats.ino}`);
      } catch {
        return false; // Closed meanwhile.
      }
    });
  } catch {
    return false; // Ended meanwhile, or of another user.
  }
}

function nameOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
  } catch {
    return 'ended';
  }
}

/**
 * Refuses a database, or files of one, that a process has open, as far as that can be seen.
 * @param suffixes of the files to look at
 * @param except a process that will let go of it
 * @throws LitestreamError 'busy'
 */
export function refuseUsed(path: string, suffixes: readonly string[], except?: number): void {
  const users = findFileUsers(suffixes.map((suffix) => path + suffix));
  const others = users?.filter(({ pid }) => pid !== except) ?? [];
  if (others.length === 0) return;
  throw new LitestreamError(
    'busy',
    `cannot restore, ${path} is in use by ${describeUsers(others)}: stop that first`,
  );
}
