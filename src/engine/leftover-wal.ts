/**
 * A WAL that was left behind without its database, as when that was moved away while it was replicated: SQLite would
 * apply it to whatever database gets its name next. When all of its commits are restored anyway, it holds nothing.
 */

import { type FileHandle, open } from 'node:fs/promises';
import { systemCode, wrapError } from '../base/errors.ts';
import {
  WAL_HEADER_SIZE,
  type WalChecksum,
  type WalHeader,
  checksumsEqual,
  parseWalHeader,
  verifyFrames,
  walFrameSize,
} from '../sqlite/wal.ts';

const READ_SIZE = 4 << 20;

export interface LeftoverWal {
  /** Undefined: it is not a WAL, so that nothing can be said of what it holds. */
  readonly header: WalHeader | undefined;
  /** Where its last commit ends. */
  readonly endOffset: number;
  /** Running checksum there. */
  readonly checksum: WalChecksum;
}

/**
 * Reads a WAL to its last commit frame, whether or not SQLite ever counted that.
 * @returns undefined when it has none @throws LitestreamError 'permission', 'io'
 */
export async function readLeftoverWal(path: string): Promise<LeftoverWal | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, 'r');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw wrapError(error, `read ${path}`);
  }
  try {
    return await readCommits(file);
  } catch (error) {
    throw wrapError(error, `read ${path}`);
  } finally {
    await file.close();
  }
}

async function readCommits(file: FileHandle): Promise<LeftoverWal | undefined> {
  const head = Buffer.alloc(WAL_HEADER_SIZE);
  const { bytesRead: headBytes } = await file.read(head, 0, WAL_HEADER_SIZE, 0);
  if (headBytes === 0) return undefined;
  const header = headerOf(head);
  if (!header) return { header, endOffset: Infinity, checksum: [0, 0] };
  const frameSize = walFrameSize(header.pageSizeBytes);
  const buffer = Buffer.alloc(Math.max(1, Math.floor(READ_SIZE / frameSize)) * frameSize);
  let found: LeftoverWal | undefined;
  let { checksum } = header;
  for (let offset = WAL_HEADER_SIZE; ;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.byteLength, offset);
    const run = verifyFrames(header, buffer.subarray(0, bytesRead), checksum);
    if (run.commitCount > 0) {
      found = { header, endOffset: offset + run.committedBytes, checksum: run.committedChecksum };
    }
    if (run.validBytes < buffer.byteLength) return found;
    offset += run.validBytes;
    ({ checksum } = run);
  }
}

function headerOf(head: Buffer): WalHeader | undefined {
  try {
    return parseWalHeader(head);
  } catch {
    return undefined; // What stands there is for a human to look at.
  }
}

/** Whether `wal`, in which a commit ends at `offset` with `checksum`, is the leftover one with all of its commits. */
export function isWholeLeftover(
  leftover: LeftoverWal,
  wal: WalHeader,
  offset: number,
  checksum: WalChecksum,
): boolean {
  const { header } = leftover;
  return (
    header !== undefined &&
    offset === leftover.endOffset &&
    checksumsEqual(wal.checksum, header.checksum) &&
    wal.salt1 === header.salt1 &&
    wal.salt2 === header.salt2 &&
    checksumsEqual(checksum, leftover.checksum)
  );
}
