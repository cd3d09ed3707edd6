/**
 * The header of the wal-index (`-shm`): what SQLite says is committed (https://www.sqlite.org/walformat.html,
 * section 2.1). It is in the byte order of the machine and is updated without a lock that we could take, so it comes
 * in two copies and with a checksum.
 */

import { isPageSize } from './database-header.ts';
import { checksumsEqual, walChecksum, type WalChecksum } from './wal.ts';

/** Both copies of the 48-byte header and the 40 bytes of checkpoint information behind them. */
export const WAL_INDEX_HEADER_SIZE = 136;
const COPY_SIZE = 48;
const CHECKPOINT_INFO = 2 * COPY_SIZE;
/** Behind the number of frames copied, five read marks and eight bytes of locks. */
const ATTEMPTED = 4 + 5 * 4 + 8;
/** A read mark that is not in use (`READMARK_NOT_USED`). */
export const READ_MARK_NOT_USED = 0xffffffff;

const HOST_IS_LITTLE_ENDIAN = new Uint8Array(new Uint32Array([1]).buffer)[0] === 1;

export interface WalIndexHeader {
  /** 0 while the WAL is empty. */
  readonly pageSizeBytes: number;
  /** Number of the last committed frame; 0: none. */
  readonly mxFrame: number;
  /** Size of the database in pages. */
  readonly pageCount: number;
  /**
   * Goes up by one with each commit, also when the WAL is started over (iChange); from 0 again only when the wal-index
   * is built anew, which takes that no process uses it or that a writer died while writing this header.
   */
  readonly changeCount: number;
  /** Checksum in the header of frame mxFrame. */
  readonly frameChecksum: WalChecksum;
  /** The salts of the WAL that mxFrame counts, as they stand in its header. */
  readonly salt1: number;
  readonly salt2: number;
  /** Frames that a checkpoint has copied into the database file (nBackfill). */
  readonly backfilled: number;
  /** Frames that a checkpoint was about to copy when it began last (nBackfillAttempted). */
  readonly attempted: number;
  /** The five read marks; slot 0 always means "the database file alone". */
  readonly readMarks: readonly number[];
}

/**
 * Parses the first 136 bytes of a `-shm` file.
 * @returns undefined while it is being written (the copies differ), is not initialised, or fails its checksum:
 *          read it again; if that lasts, the next connection that begins a transaction repairs it
 */
export function parseWalIndexHeader(data: Uint8Array): WalIndexHeader | undefined {
  if (data.byteLength < WAL_INDEX_HEADER_SIZE) return undefined;
  for (let i = 0; i < COPY_SIZE; i++) if (data[i] !== data[COPY_SIZE + i]) return undefined;
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const word = (at: number) => view.getUint32(at, HOST_IS_LITTLE_ENDIAN);
  if (data[12] === 0) return undefined;
  const checksum = walChecksum(data, 0, COPY_SIZE - 8, !HOST_IS_LITTLE_ENDIAN, [0, 0]);
  if (!checksumsEqual(checksum, [word(40), word(44)])) return undefined;
  // 65536 does not fit in the two bytes and is stored as 1.
  const storedPageSize = view.getUint16(14, HOST_IS_LITTLE_ENDIAN);
  const pageSizeBytes = storedPageSize === 1 ? 65536 : storedPageSize;
  // An empty WAL has no page size yet.
  if (word(16) > 0 && !isPageSize(pageSizeBytes)) return undefined;
  return {
    pageSizeBytes,
    mxFrame: word(16),
    pageCount: word(20),
    changeCount: word(8),
    frameChecksum: [word(24), word(28)],
    // The salts are copied byte by byte from the WAL's header, which is big-endian.
    salt1: view.getUint32(32),
    salt2: view.getUint32(36),
    backfilled: word(CHECKPOINT_INFO),
    attempted: word(CHECKPOINT_INFO + ATTEMPTED),
    readMarks: [0, 1, 2, 3, 4].map((slot) => word(CHECKPOINT_INFO + 4 + 4 * slot)),
  };
}
