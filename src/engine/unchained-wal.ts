/**
 * A WAL that is committed and yet no chain of checksums. SQLite before its fix of sqlite3WalSavepointUndo() leaves such
 * a WAL when a transaction has spilled its cache, is rolled back to a savepoint, and then commits: the frames of that
 * commit have zeros in the place of salts and checksum. Everything in them is right as long as a process has the
 * wal-index, by which readers and checkpoints go; a crash loses them, and what comes after them, since recovery goes by
 * the checksums. Anything else that breaks the chain is damage, or another process's doing.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import {
  WAL_HEADER_SIZE,
  checksumsEqual,
  readFrameHeader,
  verifyFrames,
  walFrameSize,
  walOffsetOfFrame,
  type WalChecksum,
  type WalHeader,
} from '../sqlite/wal.ts';
import type { DatabaseFiles } from './database-files.ts';

/** The cause, for log and status. */
export const UNCHAINED_REASON: string =
  'the wal holds frames without checksum (left by an old SQLite, such as 3.40, after ROLLBACK TO), ' +
  'and these commits would be lost in a crash: update the SQLite of the application';

/** Read at a time; between two the event loop has its turn. */
const CHUNK_SIZE = 1 << 20;

/**
 * Whether frames without checksum are all that breaks the chain up to mxFrame: each other frame has the WAL's salts and
 * continues the one before it, and the last one is the one that the wal-index knows.
 */
export async function isUnchained(
  files: Pick<DatabaseFiles, 'readWal'>,
  header: WalHeader,
  walIndex: WalIndexHeader,
): Promise<boolean> {
  const frameSize = walFrameSize(header.pageSizeBytes);
  const buffer = new Uint8Array(Math.max(1, Math.floor(CHUNK_SIZE / frameSize)) * frameSize);
  const end = walOffsetOfFrame(walIndex.mxFrame, header.pageSizeBytes);
  /** Undefined behind a frame without checksum. */
  let checksum: WalChecksum | undefined = header.checksum;
  let found = false;
  for (let position = WAL_HEADER_SIZE; position < end; position += buffer.byteLength) {
    const length = Math.min(buffer.byteLength, end - position);
    if (files.readWal(buffer, length, position) < length) return false;
    for (let at = 0; at < length; at += frameSize) {
      const frame = buffer.subarray(at, at + frameSize);
      const { pageNumber, salt1, salt2, checksum: stored } = readFrameHeader(frame, 0);
      if (pageNumber === 0) return false;
      if (salt1 === 0 && salt2 === 0 && checksumsEqual(stored, [0, 0])) {
        found = true;
        checksum = undefined;
        continue;
      }
      if (salt1 !== header.salt1 || salt2 !== header.salt2) return false;
      if (checksum && verifyFrames(header, frame, checksum).validBytes === 0) return false;
      checksum = stored;
    }
    await nextTurn();
  }
  return found && (checksum === undefined || checksumsEqual(checksum, walIndex.frameChecksum));
}
