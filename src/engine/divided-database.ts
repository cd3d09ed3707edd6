/**
 * A database is divided when a process has it open by a `-wal` or `-shm` that is not beside it any more: these were
 * deleted, moved or replaced under it. SQLite makes new ones for whoever opens the database then, and the two sides
 * know nothing of each other's locks and commits. A checkpoint of ours would be the second side's, so we open nothing
 * until the first is gone.
 */

import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { basename } from 'node:path';
import { LitestreamError } from '../base/errors.ts';
import { identityOf, type FileIdentity } from './file-identity.ts';
import { findOtherName } from './other-names.ts';

/** SQLite's shared lock on the database file, and the lock on `-shm` of everybody who uses it. */
const SHARED_FIRST = 0x40000002;
const SWITCH_BYTE = 128;
/** `1: POSIX  ADVISORY  READ 4711 fe:00:2425070 124 124` */
const LOCK = /^\d+: POSIX +ADVISORY +READ (\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) (\d+) \d+$/;

/** Other processes that hold SQLite's lock at byte `start` of that file, as far as can be seen: Linux, this container. */
function holdersOf(file: FileIdentity, start: number): number[] {
  let text: string;
  try {
    text = readFileSync('/proc/locks', 'utf8');
  } catch {
    return []; // Not told on this system.
  }
  return text.split('\n').flatMap((line) => {
    const [, pid = '', major = '', minor = '', inode = '', from = ''] = LOCK.exec(line) ?? [];
    if (Number(from) !== start || `${deviceOf(major, minor)}:${inode}` !== file) return [];
    return Number(pid) === process.pid ? [] : [Number(pid)];
  });
}

/** The number that stat() gives for a device. */
function deviceOf(majorHex: string, minorHex: string): bigint {
  const [major, minor] = [BigInt(`0x${majorHex || 0}`), BigInt(`0x${minorHex || 0}`)];
  return ((major & ~0xfffn) << 32n) | ((minor & ~0xffn) << 12n) | ((major & 0xfffn) << 8n) | (minor & 0xffn);
}

/** Whether another process uses the `-shm` that is beside the database, as far as can be seen. */
export function isWalIndexInUse(path: string): boolean {
  const shm = identityOf(`${path}-shm`);
  return shm !== undefined && holdersOf(shm, SWITCH_BYTE).length > 0;
}

/** Refuses a database that is seen to be divided. @throws LitestreamError 'busy' */
export function refuseDivided(path: string): void {
  const database = identityOf(path);
  if (database === undefined) return;
  const pid = holdersOf(database, SHARED_FIRST).find((holder) => hasOtherSides(holder, path));
  if (pid !== undefined) throw divided(path, `process ${pid}`);
}

function hasOtherSides(pid: number, path: string): boolean {
  const folder = `/proc/${pid}/fd`;
  try {
    return readdirSync(folder).some((fd) => {
      const target = readlinkSync(`${folder}/${fd}`);
      return ['-wal', '-shm'].some((suffix) => {
        const name = `${basename(path)}${suffix}`;
        if (![name, `${name} (deleted)`].includes(basename(target))) return false;
        return identityOf(`${folder}/${fd}`) !== identityOf(path + suffix);
      });
    });
  } catch {
    return false; // Ended meanwhile, closed meanwhile, or of another user.
  }
}

export function divided(path: string, user = 'a process'): LitestreamError {
  const otherName = findOtherName(path);
  if (otherName !== undefined)
    return new LitestreamError('busy', `${user} has ${path} open with another -wal: ${otherName}`);
  return new LitestreamError(
    'busy',
    `${user} has ${path} open by a -wal or -shm that is not beside it any more, because they were deleted or ` +
      `replaced meanwhile: end that process (whoever opens the database now does not see its commits)`,
  );
}
