/**
 * Whether another process uses a database that we may only read. Its `-shm` alone does not tell: it stays when processes
 * are killed, and after a power loss it may be older than the WAL. SQLite holds a lock on a byte of `-shm` as long as it
 * is in use, and a read-only connection takes its share of that lock only if somebody else has it already.
 */

import { readFileSync } from 'node:fs';
import { wrapError } from '../base/errors.ts';

/** The "dead man switch": behind the locks of the WAL, which are bytes 120 to 127. */
const SWITCH_BYTE = 128;
/** `1: POSIX  ADVISORY  READ 4711 fe:00:2425070 124 124`; a lock that is waited for has `->` before its kind. */
const LOCK = /^\d+: POSIX +ADVISORY +READ (\d+) \S+ (\d+) (\d+)$/;

/**
 * How many `-shm` files this process shares with another one, or did when it opened them: compare before and after a
 * read transaction began.
 * @throws LitestreamError 'unsupported' where the system does not list locks
 */
export function countSharedWalIndexes(): number {
  let text: string;
  try {
    text = readFileSync('/proc/locks', 'utf8');
  } catch (error) {
    throw wrapError(error, 'follow a database on a read-only volume, which needs the list of locks');
  }
  return text.split('\n').filter((line) => {
    const [, pid, start, end] = LOCK.exec(line) ?? [];
    return Number(pid) === process.pid && Number(start) <= SWITCH_BYTE && Number(end) === SWITCH_BYTE;
  }).length;
}
