/**
 * What happened to the WAL while no read mark was held: whether every commit of that time can still be copied.
 *
 * The proof counts. The wal-index numbers all commits (changeCount), also across a restart of the WAL. So the commits
 * between two looks are known, those of the present WAL can be counted in its frames, and what is left was committed to
 * the old WAL behind the place where we stopped. A chain of valid frames by itself proves nothing there: it may hold a
 * commit whose writer died before it was published, and it may have been cut.
 */

import { hasCode } from '../base/errors.ts';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import {
  WAL_FRAME_HEADER_SIZE,
  WAL_HEADER_SIZE,
  checksumsEqual,
  parseWalHeader,
  readFrameHeader,
  verifyFrames,
  walFrameSize,
  type WalChecksum,
  type WalHeader,
} from '../sqlite/wal.ts';
import type { DatabaseFiles } from './database-files.ts';
import type { WalChain } from './shadow-wal.ts';

export type GapOutcome =
  /** Nothing is missing once the old WAL is copied up to byte `end`. `commits`: how many that are. */
  | { readonly kind: 'proven'; readonly end: number; readonly commits: number }
  /** A writer is in the middle of something. */
  | { readonly kind: 'retry'; readonly reason: string }
  | { readonly kind: 'lost'; readonly reason: string };

export interface Gap {
  readonly files: DatabaseFiles;
  readonly pageSizeBytes: number;
  /** Where copying stopped, and the count of commits there. */
  readonly chain: WalChain;
  readonly changeCount: number;
}

/** Read at a time. */
const CHUNK_SIZE = 1 << 20;

/**
 * Judges the time between the end of `gap.chain` and `now`, the wal-index of a WAL with other salts. Reads only.
 * Frames that are overwritten while it reads fail their checksums, so no lock is needed.
 */
export function examineGap(gap: Gap, now: WalIndexHeader): GapOutcome {
  const since = now.changeCount - gap.changeCount;
  if (since < 0) return lost('the wal-index was rebuilt while no read mark was held');
  const present = countPresent(gap, now);
  if (typeof present !== 'number') return present;
  const missed = since - present;
  if (missed < 0) return lost('commits of the wal cannot be counted');
  const { header } = gap.chain;
  const next = header && (header.salt1 + 1) >>> 0 === now.salt1;
  if (!next) {
    // More than one restart, or a WAL that was empty: there is no old WAL whose end could still be read.
    return missed === 0 ? { kind: 'proven', end: gap.chain.offset, commits: 0 } : lost(describe(missed));
  }
  const tail = new CommitScan(gap.files, header, gap.pageSizeBytes, gap.chain);
  const end = tail.skip(missed);
  if (end === undefined) return lost(describe(missed));
  // One more commit would contradict the count: its writer died before it was published, or the count began anew.
  if (tail.skip(1) !== undefined) return lost('the end of the old wal is uncertain');
  return { kind: 'proven', end, commits: missed };
}

function describe(missed: number): string {
  return `wal started over by the application before ${missed} of its commits could be copied`;
}

/** Commits in the present WAL up to what the wal-index says, which must be proven by its checksum. */
function countPresent(gap: Gap, now: WalIndexHeader): number | Exclude<GapOutcome, { kind: 'proven' }> {
  if (now.mxFrame === 0) return 0;
  const header = readHeader(gap.files);
  if (header?.salt1 !== now.salt1 || header.salt2 !== now.salt2) {
    return { kind: 'retry', reason: 'the wal is being restarted' };
  }
  const start = { offset: 0, checksum: header.checksum };
  const scan = new CommitScan(gap.files, header, gap.pageSizeBytes, start);
  const commits = scan.countTo(WAL_HEADER_SIZE + now.mxFrame * walFrameSize(gap.pageSizeBytes));
  if (scan.padded) return lost('commits of the wal cannot be counted: a frame is written twice');
  if (commits !== undefined && checksumsEqual(scan.checksum, now.frameChecksum)) return commits;
  const later = gap.files.readWalIndex();
  if (later?.salt1 !== now.salt1 || later.salt2 !== now.salt2) {
    return { kind: 'retry', reason: 'the wal was restarted' };
  }
  return lost('wal overwritten by another process');
}

function readHeader(files: DatabaseFiles): WalHeader | undefined {
  const bytes = new Uint8Array(WAL_HEADER_SIZE);
  if (files.readWal(bytes, WAL_HEADER_SIZE, 0) < WAL_HEADER_SIZE) return undefined;
  try {
    return parseWalHeader(bytes);
  } catch (error) {
    if (!hasCode(error, 'corrupt')) throw error;
    return undefined;
  }
}

/** Goes through the valid frames of a WAL from a place on. */
class CommitScan {
  /** Running checksum where the scan is. */
  checksum: WalChecksum;
  /**
   * A commit frame was repeated. SQLite pads so with `synchronous=FULL` and `psow=0`, once per sector; such commits
   * cannot be told from real ones that write the same page again, so nothing can be counted.
   */
  padded = false;
  readonly #files: DatabaseFiles;
  readonly #header: WalHeader;
  readonly #frameSize: number;
  readonly #buffer: Uint8Array;
  #position: number;
  /** Frames of the buffer that are valid and not passed yet. */
  #ahead: Uint8Array = new Uint8Array(0);
  #commitBefore: Uint8Array | undefined;

  constructor(
    files: DatabaseFiles,
    header: WalHeader,
    pageSizeBytes: number,
    start: { readonly offset: number; readonly checksum: WalChecksum },
  ) {
    this.#files = files;
    this.#header = header;
    this.#frameSize = walFrameSize(pageSizeBytes);
    this.#buffer = new Uint8Array(Math.max(1, Math.floor(CHUNK_SIZE / this.#frameSize)) * this.#frameSize);
    this.#position = Math.max(start.offset, WAL_HEADER_SIZE);
    this.checksum = start.checksum;
  }

  /** Commit frames up to byte `end`; undefined when the chain breaks before. */
  countTo(end: number): number | undefined {
    let commits = 0;
    while (this.#position < end) {
      const frame = this.#next();
      if (!frame) return undefined;
      if (readFrameHeader(frame, 0).commitPageCount > 0) commits++;
    }
    return commits;
  }

  /** Passes so many commits. @returns the end of the last of them; undefined when there are not as many */
  skip(commits: number): number | undefined {
    let left = commits;
    while (left > 0) {
      const frame = this.#next();
      if (!frame) return undefined;
      if (readFrameHeader(frame, 0).commitPageCount > 0) left--;
    }
    return this.padded ? undefined : this.#position;
  }

  #next(): Uint8Array | undefined {
    if (this.#ahead.byteLength === 0) {
      const read = this.#files.readWal(this.#buffer, this.#buffer.byteLength, this.#position);
      const run = verifyFrames(this.#header, this.#buffer.subarray(0, read), this.checksum);
      this.#ahead = this.#buffer.subarray(0, run.validBytes);
      if (run.validBytes === 0) return undefined;
    }
    const frame = this.#ahead.subarray(0, this.#frameSize);
    this.#ahead = this.#ahead.subarray(this.#frameSize);
    this.#position += this.#frameSize;
    this.#note(frame);
    return frame;
  }

  #note(frame: Uint8Array): void {
    const { checksum, commitPageCount, pageNumber } = readFrameHeader(frame, 0);
    this.checksum = checksum;
    const before = this.#commitBefore;
    if (commitPageCount > 0 && before && readFrameHeader(before, 0).pageNumber === pageNumber) {
      const pages = [before, frame].map((each) => each.subarray(WAL_FRAME_HEADER_SIZE)) as [
        Uint8Array,
        Uint8Array,
      ];
      if (Buffer.compare(...pages) === 0) this.padded = true;
    }
    this.#commitBefore = commitPageCount > 0 ? Uint8Array.from(frame) : undefined;
  }
}

function lost(reason: string): GapOutcome & { kind: 'lost' } {
  return { kind: 'lost', reason };
}
