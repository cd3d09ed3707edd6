/**
 * Brings the WAL to a place where the next writer starts it over, so that it does not grow without bound while our
 * read mark is in it. Nothing is written to the WAL by us: everything is copied into the database file, and for the
 * last moment of that the write lock is held so that no commit comes in between.
 */

import { sleep } from '../base/concurrency.ts';
import type { WriteLockConnection } from '../sqlite/connection.ts';
import type { WritablePath } from '../sqlite/writable-path.ts';
import type { Checkpointer } from './checkpointer.ts';
import type { DatabaseFiles } from './database-files.ts';
import type { WalFollower } from './wal-follower.ts';

export type RotationOutcome =
  /** The next commit starts the WAL over. */
  | { readonly kind: 'rotated'; readonly blockedMs: number }
  /** Somebody is in the way: try again later. */
  | { readonly kind: 'busy'; readonly reason: string; readonly blockedMs: number }
  /** The follower has to deal with its outcome first. */
  | { readonly kind: 'unsynced' };

/** Pages that may be left to copy under the write lock, in bytes: it has to be synced within the time that writers wait. */
const MAX_BACKLOG_BYTES = 8 << 20;
/** How long the write lock may be held, beside the one checkpoint that is under way then. */
const LOCK_HOLD_MS = 40;
/** How long it is tried to get the write lock, without blocking anybody. */
const LOCK_WAIT_MS = 250;
/** Between two tries. */
const STEP_MS = 1;

export interface RotationParts {
  readonly path: WritablePath;
  readonly files: DatabaseFiles;
  readonly follower: WalFollower;
  readonly checkpointer: Checkpointer;
  readonly writeLock: WriteLockConnection;
}

export async function rotateWal(parts: RotationParts): Promise<RotationOutcome> {
  const { path, files, follower, checkpointer, writeLock } = parts;
  // Without the lock, everything that can be copied into the database file: what is left then is small.
  for (let round = 0; round < 2; round++) {
    if ((await follower.sync()).kind !== 'ok') return { kind: 'unsynced' };
    await checkpointer.checkpoint(files.prove(path));
  }
  const backlog = backlogFrames(files);
  const pageSizeBytes = files.readWalIndex()?.pageSizeBytes ?? 0;
  if (backlog === undefined || backlog * pageSizeBytes > MAX_BACKLOG_BYTES) {
    return { kind: 'busy', reason: describePin(files, backlog), blockedMs: 0 };
  }
  if (!(await takeLock(writeLock))) return { kind: 'busy', reason: 'a writer is always busy', blockedMs: 0 };
  const lockedAt = performance.now();
  try {
    const outcome = await finishUnderLock(parts, lockedAt + LOCK_HOLD_MS);
    writeLock.release();
    const blockedMs = performance.now() - lockedAt;
    if (outcome === 'rotated') return { kind: 'rotated', blockedMs };
    if (outcome === 'unsynced') return { kind: 'unsynced' };
    return { kind: 'busy', reason: describePin(files, backlogFrames(files)), blockedMs };
  } finally {
    writeLock.release();
  }
}

/** No commit can come now: copy the rest, and begin a read where the WAL is wholly in the database file. */
async function finishUnderLock(
  { path, files, follower, checkpointer }: RotationParts,
  deadlineMs: number,
): Promise<'rotated' | 'busy' | 'unsynced'> {
  if ((await follower.sync()).kind !== 'ok') return 'unsynced';
  for (;;) {
    await checkpointer.checkpoint(files.prove(path));
    const walIndex = files.readWalIndex();
    const ours = walIndex && follower.framesOf(walIndex);
    if (walIndex?.mxFrame === ours && walIndex?.backfilled === ours) break;
    if (performance.now() >= deadlineMs) return 'busy';
    await sleep(STEP_MS);
  }
  // This read holds READ_LOCK(0); the mark that kept the WAL from being started over goes.
  return (await follower.sync()).kind === 'ok' ? 'rotated' : 'unsynced';
}

async function takeLock(writeLock: WriteLockConnection): Promise<boolean> {
  const deadlineMs = performance.now() + LOCK_WAIT_MS;
  while (!writeLock.tryLock()) {
    if (performance.now() >= deadlineMs) return false;
    await sleep(STEP_MS);
  }
  return true;
}

/** Committed frames that are not in the database file yet. */
function backlogFrames(files: DatabaseFiles): number | undefined {
  const walIndex = files.readWalIndex();
  return walIndex && walIndex.mxFrame - walIndex.backfilled;
}

/** Why the WAL could not be copied whole, in words for a log. */
function describePin(files: DatabaseFiles, backlog: number | undefined): string {
  const walIndex = files.readWalIndex();
  if (!walIndex || backlog === undefined) return 'the wal-index is being written';
  const oldest = Math.min(...walIndex.readMarks.slice(1).filter((mark) => mark >= walIndex.backfilled));
  const pinned =
    Number.isFinite(oldest) && oldest < walIndex.mxFrame ? `; a reader holds frame ${oldest}` : '';
  return `${backlog} of ${walIndex.mxFrame} frames are not in the database file yet${pinned}`;
}
