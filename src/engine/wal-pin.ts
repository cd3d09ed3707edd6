/**
 * Who keeps a WAL from being started over: what the wal-index says, and, on Linux, the kernel's list of locks. Read when
 * somebody asks; for showing only, nothing is decided by it.
 */

import { readFileSync, statSync } from 'node:fs';
import { type WalIndexHeader, READ_MARK_NOT_USED } from '../sqlite/wal-index.ts';

export interface WalPin {
  /** Committed frames in the WAL. */
  readonly frames: number;
  /** Frames of them that are not in the database file yet. */
  readonly backlogFrames: number;
  /** The read mark that is in the way, 0 to 4; null: none that can be told, as with a writer that never pauses. */
  readonly slot: number | null;
  /** The last frame that its reader sees; 0: none of the WAL. */
  readonly frame: number | null;
  /** Processes that hold that mark, as far as this one may know: not those of other containers. */
  readonly pids: readonly number[];
}

/** Byte of the `-shm` whose lock is read mark 0 (https://www.sqlite.org/walformat.html, "WAL locks"). */
const READ_LOCK_0 = 123;

/** Describes what is in the way after a checkpoint: the marks that it left behind are in use. */
export function findWalPin(walIndex: WalIndexHeader, shmPath: string): WalPin {
  const { mxFrame, backfilled, readMarks } = walIndex;
  const frames = { frames: mxFrame, backlogFrames: mxFrame - backfilled };
  const holders = readLockHolders(shmPath);
  const others = (slot: number): number[] =>
    [...(holders?.get(slot) ?? [])].filter((pid) => pid !== process.pid);
  const marks = readMarks
    .map((frame, slot) => ({ slot, frame, pids: others(slot) }))
    .filter(({ slot, frame, pids }) => {
      if (frame === READ_MARK_NOT_USED || frame >= mxFrame) return false;
      // Mark 0 is no number but a lock: only the kernel's list can tell whether it is held.
      return pids.length > 0 || (slot > 0 && frame >= backfilled);
    })
    .toSorted((a, b) => a.frame - b.frame);
  const [oldest] = marks;
  return { ...frames, slot: oldest?.slot ?? null, frame: oldest?.frame ?? null, pids: oldest?.pids ?? [] };
}

/** In words, for a reason. */
export function describeWalPin({ frames, backlogFrames, slot, frame, pids }: WalPin): string {
  const backlog = `${backlogFrames} of ${frames} frames are not in the database file yet`;
  if (slot === null) return backlog;
  const who = pids.length === 0 ? 'a reader' : `a reader (pid ${pids.join(', ')})`;
  return `${who} has held frame ${String(frame)} (read mark ${slot}) in a transaction that does not end; ${backlog}`;
}

/** Processes by the read mark that they hold; undefined where the kernel does not list them. */
function readLockHolders(shmPath: string): Map<number, Set<number>> | undefined {
  if (process.platform !== 'linux') return undefined;
  try {
    const { ino } = statSync(shmPath);
    return parseReadLocks(readFileSync('/proc/locks', 'utf8'), ino);
  } catch {
    return undefined; // Hidden in some containers: then the marks alone have to do.
  }
}

/** @param text of /proc/locks: `1: POSIX  ADVISORY  READ 4711 08:01:1234 124 124` */
function parseReadLocks(text: string, inode: number): Map<number, Set<number>> | undefined {
  const holders = new Map<number, Set<number>>();
  let own = false;
  for (const line of text.split('\n')) {
    const match = /^\d+: POSIX +ADVISORY +(?:READ|WRITE) +(\d+) [\da-f]+:[\da-f]+:(\d+) (\d+) (\d+)$/.exec(
      line,
    );
    if (match === null || Number(match[2]) !== inode) continue;
    const [pid, start, end] = [Number(match[1]), Number(match[3]), Number(match[4])];
    own ||= pid === process.pid;
    for (let slot = 0; slot < 5; slot++) {
      const byte = READ_LOCK_0 + slot;
      if (byte >= start && byte <= end) holders.set(slot, (holders.get(slot) ?? new Set()).add(pid));
    }
  }
  // We hold a mark ourselves: where that is not listed, inodes or processes have other names here.
  return own ? holders : undefined;
}
