/**
 * Follows the WAL of one database without ever losing a frame and without writing to it.
 *
 * Two rules make that true (docs/architecture.md, "Following the WAL"):
 * 1. Overlap. While a reader holds a nonzero read mark nobody can restart or truncate the WAL; while it holds
 *    READ_LOCK(0) the WAL can be restarted only at the place where the reader began. So the next read transaction
 *    begins on a second connection before the present one ends, and all frames are copied in between.
 * 2. Bound and prove by the wal-index. A commit frame is in the file before it is committed: if its writer dies there,
 *    the next writer overwrites it. So frames are copied only up to mxFrame, and the chain copied must end in the
 *    checksum that SQLite itself keeps for that frame.
 */

import { setImmediate as nextTurn } from 'node:timers/promises';
import { assert, hasCode } from '../base/errors.ts';
import { sleep } from '../base/concurrency.ts';
import { ReadConnection } from '../sqlite/connection.ts';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';
import {
  WAL_HEADER_SIZE,
  checksumsEqual,
  parseWalHeader,
  verifyFrames,
  walFrameCount,
  walFrameSize,
  walOffsetOfFrame,
  type WalHeader,
} from '../sqlite/wal.ts';
import type { DatabaseFiles } from './database-files.ts';
import { examineGap } from './read-only-gap.ts';
import { emptyChain, type ShadowWal, type WalChain } from './shadow-wal.ts';
import { UNCHAINED_REASON, isUnchained } from './unchained-wal.ts';

export type CopyOutcome =
  /** The chain ends where SQLite says that the WAL ends. */
  | { readonly kind: 'ok'; readonly copiedBytes: number }
  /** A writer is in the middle of something: nothing is lost, try again soon. */
  | { readonly kind: 'retry'; readonly reason: string }
  /**
   * What is in the WAL does not continue the chain: a new generation is needed. `unchained`: and there is no chain in
   * this WAL that a generation could begin with, see passOver().
   */
  | { readonly kind: 'lost'; readonly reason: string; readonly unchained?: boolean };

type CopyFailure = Exclude<CopyOutcome, { kind: 'ok' }>;
/** No commit before the present WAL is missing if `continuous`. */
type Bridge =
  { readonly kind: 'ok'; readonly copiedBytes: number; readonly continuous: boolean } | CopyFailure;

/** A WAL that is left out: a generation begins behind its frame `mxFrame`. */
interface PassedOver extends Pick<WalIndexHeader, 'salt1' | 'salt2' | 'mxFrame'> {
  /** False: it is passed over as it grows. */
  readonly settled: boolean;
}

/** Copied at a time; between two the event loop has its turn. */
const CHUNK_SIZE = 1 << 20;
/** A writer between two steps needs microseconds. When it lasts, the caller decides. */
const COPY_ATTEMPTS = 20;

export class WalFollower {
  readonly #files: DatabaseFiles;
  readonly #shadow: ShadowWal;
  readonly #pageSizeBytes: number;
  readonly #buffer: Uint8Array;
  #chain: WalChain;
  /** Holds the mark at all times after start(). */
  #current: ReadConnection;
  #other: ReadConnection | undefined;
  /** A mark has been held since before the last copy, so a restart of the WAL loses nothing. */
  #overlapping = false;
  /** The wal-index's count of commits at the end of the chain; undefined before the first copy. */
  #changeCount: number | undefined;
  /**
   * The wal-index as it was before the present read transaction began; undefined after start(). What changed since may
   * be copied, but the mark does not cover it: a checkpoint can be waiting for the mark, so there is something to do.
   */
  #seen: WalIndexHeader | undefined;
  /** The last sync found the WAL backfilled whole. */
  #backfilled = false;
  #passed: PassedOver | undefined;

  /**
   * @param reader a connection inside a read transaction; the follower owns it from now on
   * @param chain where the shadow WAL ends: an empty chain for a new generation, or what the last process left
   */
  constructor(
    files: DatabaseFiles,
    shadow: ShadowWal,
    reader: ReadConnection,
    chain: WalChain,
    pageSizeBytes: number,
  ) {
    assert(reader.reading, 'the follower starts inside a read transaction');
    this.#files = files;
    this.#shadow = shadow;
    this.#current = reader;
    this.#chain = chain;
    this.#pageSizeBytes = pageSizeBytes;
    const frameSize = walFrameSize(pageSizeBytes);
    this.#buffer = new Uint8Array(Math.max(1, Math.floor(CHUNK_SIZE / frameSize)) * frameSize);
  }

  /** The committed end of what has been copied. */
  get chain(): WalChain {
    return this.#chain;
  }

  /**
   * The first copy. Continues the chain that it was given only if the WAL provably does.
   * 'lost' then means: start a new generation (with a new follower and the same reader).
   */
  async start(): Promise<CopyOutcome> {
    const outcome = await this.#copy();
    this.#overlapping = outcome.kind === 'ok';
    return outcome;
  }

  /**
   * Leaves out the present WAL, which is no chain, in place of start(): sync() then moves along it and copies nothing.
   * Once it is wholly in the database file and the mark says so, settle() begins the generation behind it.
   */
  passOver(): void {
    const { salt1, salt2, mxFrame } = this.#files.readWalIndex() ?? { salt1: 0, salt2: 0, mxFrame: 0 };
    this.#passed = { salt1, salt2, mxFrame, settled: false };
  }

  /** From now on a commit that is appended to the WAL that was left out is 'lost': it would be in no snapshot. */
  settle(): void {
    if (this.#passed) this.#passed = { ...this.#passed, settled: true };
  }

  /** How many frames of the WAL with these salts were copied, or left out. */
  framesOf({ salt1, salt2 }: Pick<WalIndexHeader, 'salt1' | 'salt2'>): number {
    if (this.#passed?.salt1 === salt1 && this.#passed.salt2 === salt2) return this.#passed.mxFrame;
    const { header, offset } = this.#chain;
    return header?.salt1 === salt1 && header.salt2 === salt2
      ? walFrameCount(offset, header.pageSizeBytes)
      : 0;
  }

  /** Whether a mark is held, so that no commit can be lost. */
  get holding(): boolean {
    return this.#overlapping;
  }

  /** Whether the mark that is held is in nobody's way: the WAL was wholly in the database file when it was taken. */
  get resting(): boolean {
    return this.#overlapping && this.#backfilled;
  }

  /**
   * Gives up the mark, so that a checkpoint of the application gets through. Until the next sync() the WAL may be
   * restarted at any place; the next copy proves that no commit was missed, or is 'lost'.
   */
  letGo(): void {
    this.#current.end();
    this.#overlapping = false;
  }

  /** Whether the WAL that is followed was started over, or is wholly in the database file: time for a mark again. */
  walIsOver(): boolean {
    const now = this.#files.readWalIndex();
    const { header } = this.#chain;
    if (!now) return false;
    return now.salt1 !== header?.salt1 || now.salt2 !== header.salt2 || now.backfilled === now.mxFrame;
  }

  /**
   * Copies without a mark what is committed to the WAL that is followed; once that was restarted or is wholly
   * backfilled, takes a mark as sync() does. To be called after letGo().
   */
  async syncFreely(): Promise<CopyOutcome> {
    if (this.walIsOver()) return this.sync();
    const seen = this.#files.readWalIndex();
    const outcome = await this.#copyOnce();
    if (outcome.kind === 'ok') this.#seen = seen;
    return outcome;
  }

  /**
   * Moves the read mark to the end of the WAL and copies everything up to there. In this order: begin the next read
   * transaction, copy, end the present one. Not to be called again before it is done.
   */
  async sync(): Promise<CopyOutcome> {
    this.#other ??= new ReadConnection(this.#files.path);
    const next = this.#other;
    const seen = this.#files.readWalIndex();
    try {
      next.begin();
    } catch (error) {
      if (!hasCode(error, 'busy')) throw error;
      return { kind: 'retry', reason: 'the database is locked exclusively' };
    }
    let outcome: CopyOutcome | undefined;
    try {
      outcome = await this.#copy();
    } finally {
      if (outcome?.kind !== 'ok') next.end();
    }
    if (outcome.kind !== 'ok') return outcome;
    this.#current.end();
    this.#other = this.#current;
    this.#current = next;
    this.#overlapping = true;
    this.#remember(seen);
    return outcome;
  }

  /**
   * @param seen as it was before the mark was moved. A checkpoint says that it has finished a moment before it unlocks
   * READ_LOCK(0): a reader that begins in between takes an ordinary mark, for which the checkpoint then waits. So there
   * is something to do once more after the first sync that finds it finished.
   */
  #remember(seen: WalIndexHeader | undefined): void {
    const backfilled = seen !== undefined && seen.mxFrame > 0 && seen.backfilled === seen.mxFrame;
    this.#seen = backfilled && !this.#backfilled ? undefined : seen;
    this.#backfilled = backfilled;
  }

  /**
   * Whether sync() has something to do, at the price of one small read: commits that the mark does not cover, a WAL that
   * was restarted, or a checkpoint that has finished and waits for the mark to go. Without a mark also a restart with
   * nothing in the new WAL yet: the end of the old one must be saved before it is overwritten.
   */
  hasNews(): boolean {
    const now = this.#files.readWalIndex();
    const seen = this.#seen;
    if (!now || !seen) return true;
    if (now.mxFrame !== seen.mxFrame || now.salt1 !== seen.salt1 || now.salt2 !== seen.salt2)
      return now.mxFrame > 0 || !this.#overlapping;
    return now.backfilled !== seen.backfilled && now.backfilled === now.mxFrame;
  }

  /** Gives the reader that holds the mark to the next follower; this one is of no use afterwards. */
  handOver(): ReadConnection {
    this.#other?.close();
    this.#other = undefined;
    return this.#current;
  }

  /** Closes what it has opened itself when it came to nothing; `reader` is the one that it was given. */
  giveBack(reader: ReadConnection): void {
    for (const connection of [this.#current, this.#other]) if (connection !== reader) connection?.close();
  }

  /** Closes the connections; read-only ones, so SQLite leaves the WAL in place. */
  close(): void {
    this.#other?.close();
    this.#current.close();
  }

  async #copy(): Promise<CopyOutcome> {
    let outcome: CopyOutcome = { kind: 'retry', reason: 'not tried' };
    for (let attempt = 0; attempt < COPY_ATTEMPTS; attempt++) {
      outcome = await this.#copyOnce();
      if (outcome.kind !== 'retry') return outcome;
      await sleep(attempt < 5 ? 0 : 1);
    }
    return outcome;
  }

  async #copyOnce(): Promise<CopyOutcome> {
    const walIndex = this.#files.readWalIndex();
    if (!walIndex) return { kind: 'retry', reason: 'the wal-index is being written' };
    if (walIndex.mxFrame > 0 && walIndex.pageSizeBytes !== this.#pageSizeBytes)
      return lost('page size changed');
    const bridged = await this.#bridge(walIndex);
    if (bridged.kind !== 'ok') return bridged;
    const outcome = await this.#copyPresent(walIndex, bridged.continuous);
    if (outcome.kind !== 'ok') return outcome;
    this.#changeCount = walIndex.changeCount;
    return { kind: 'ok', copiedBytes: outcome.copiedBytes + bridged.copiedBytes };
  }

  /** Completes the old WAL when it was restarted while no mark was held. */
  async #bridge(walIndex: WalIndexHeader): Promise<Bridge> {
    const { header, offset } = this.#chain;
    const changeCount = this.#changeCount;
    const sameWal = header?.salt1 === walIndex.salt1 && header.salt2 === walIndex.salt2;
    const known = this.#overlapping || changeCount === undefined || (sameWal && walIndex.mxFrame > 0);
    if (known) return { kind: 'ok', copiedBytes: 0, continuous: this.#overlapping };
    const gap = { files: this.#files, pageSizeBytes: this.#pageSizeBytes, chain: this.#chain, changeCount };
    const found = examineGap(gap, walIndex);
    if (found.kind !== 'proven') return found;
    if (header && found.end > offset) {
      const copied = await this.#copyFrames(this.#chain, header, found.end, walIndex);
      if ('kind' in copied) return copied;
      this.#shadow.commit(copied, this.#chain);
      this.#chain = copied;
    }
    this.#changeCount = changeCount + found.commits;
    return { kind: 'ok', copiedBytes: found.end - offset, continuous: true };
  }

  /** @param continuous no commit between the chain and the present WAL is missing */
  async #copyPresent(walIndex: WalIndexHeader, continuous: boolean): Promise<CopyOutcome> {
    if (walIndex.mxFrame === 0) {
      if (!continuous && this.#chain.offset > 0) return lost('wal truncated by another process');
      return { kind: 'ok', copiedBytes: 0 };
    }
    const passed = this.#pass(walIndex);
    if (passed) return passed;
    const chain = this.#chainFor(walIndex, continuous);
    if ('kind' in chain) return chain;
    const { header } = chain;
    assert(header !== undefined, 'a chain to be copied has a header');

    const end = walOffsetOfFrame(walIndex.mxFrame, this.#pageSizeBytes);
    if (end < chain.offset)
      return lost('wal overwritten by another process: it is shorter than what was copied');
    const copied = await this.#copyFrames(chain, header, end, walIndex);
    if ('kind' in copied) return copied;
    if (!checksumsEqual(copied.checksum, walIndex.frameChecksum)) {
      return this.#mismatch(
        walIndex,
        'wal overwritten by another process: its last frame is not the one committed',
      );
    }
    const copiedBytes = end - (chain === this.#chain ? chain.offset : 0);
    if (copiedBytes > 0) this.#shadow.commit(copied, this.#chain);
    this.#chain = copied;
    return { kind: 'ok', copiedBytes };
  }

  /** What comes of a WAL that is left out; undefined: the present one is another. */
  #pass(walIndex: WalIndexHeader): CopyOutcome | undefined {
    const { salt1, salt2, mxFrame } = walIndex;
    if (this.#passed?.salt1 !== salt1 || this.#passed.salt2 !== salt2) {
      this.#passed = undefined;
      return undefined;
    }
    if (!this.#passed.settled) this.#passed = { ...this.#passed, mxFrame };
    return this.#passed.mxFrame === mxFrame ? { kind: 'ok', copiedBytes: 0 } : lostUnchained();
  }

  /** The chain that frames of this WAL are appended to: the present one, or a new index when it was restarted. */
  #chainFor(walIndex: WalIndexHeader, continuous: boolean): WalChain | CopyFailure {
    const { header } = this.#chain;
    const sameWal = header?.salt1 === walIndex.salt1 && header.salt2 === walIndex.salt2;
    if (sameWal && continuous) return this.#chain;
    const headerBytes = new Uint8Array(WAL_HEADER_SIZE);
    if (this.#files.readWal(headerBytes, WAL_HEADER_SIZE, 0) < WAL_HEADER_SIZE) {
      return { kind: 'retry', reason: 'the wal has no header yet' };
    }
    let found: WalHeader;
    try {
      found = parseWalHeader(headerBytes);
    } catch (error) {
      if (!hasCode(error, 'corrupt')) throw error;
      return { kind: 'retry', reason: 'the wal header is being written' };
    }
    if (found.salt1 !== walIndex.salt1 || found.salt2 !== walIndex.salt2) {
      return { kind: 'retry', reason: 'the wal is being restarted' };
    }
    if (sameWal && Buffer.compare(headerBytes, this.#chain.headerBytes ?? new Uint8Array()) === 0)
      return this.#chain;
    if (!continuous && this.#chain.offset > 0) {
      return lost('wal header mismatch: it was restarted while nobody followed it');
    }
    const index = this.#chain.offset > 0 ? this.#chain.index + 1 : this.#chain.index;
    return { ...emptyChain(index), header: found, headerBytes, checksum: found.checksum };
  }

  /** Copies and verifies frames from the end of `chain` up to byte `end`, all of which SQLite says are committed. */
  async #copyFrames(
    chain: WalChain,
    header: WalHeader,
    end: number,
    walIndex: WalIndexHeader,
  ): Promise<WalChain | CopyFailure> {
    let { checksum } = chain;
    let position = chain.offset;
    if (position === 0) {
      assert(chain.headerBytes !== undefined, 'a new index has its header');
      this.#shadow.write(chain.index, chain.headerBytes, 0);
      position = WAL_HEADER_SIZE;
    }
    while (position < end) {
      const length = Math.min(this.#buffer.byteLength, end - position);
      const read = this.#files.readWal(this.#buffer, length, position);
      const run = verifyFrames(header, this.#buffer.subarray(0, read), checksum);
      if (run.validBytes < length) {
        this.#shadow.discardUncommitted(chain.index);
        const unchained = await isUnchained(this.#files, header, walIndex);
        const mismatch = this.#mismatch(walIndex, 'wal overwritten by another process');
        return unchained && mismatch.kind === 'lost' ? lostUnchained() : mismatch;
      }
      this.#files.mainFile?.note(header.pageSizeBytes, this.#buffer.subarray(0, length), walIndex);
      this.#shadow.write(chain.index, this.#buffer.subarray(0, length), position);
      checksum = run.checksum;
      position += length;
      if (position < end) await nextTurn();
    }
    return { ...chain, offset: end, checksum };
  }

  /** Frames that are not what they should be: a restart in this moment, or a real break. */
  #mismatch(before: WalIndexHeader, reason: string): CopyFailure {
    const now = this.#files.readWalIndex();
    const restarted = now?.salt1 !== before.salt1 || now.salt2 !== before.salt2;
    return restarted ? { kind: 'retry', reason: 'the wal was restarted' } : lost(reason);
  }
}

function lost(reason: string): CopyFailure {
  return { kind: 'lost', reason };
}

function lostUnchained(): CopyFailure {
  return { kind: 'lost', reason: UNCHAINED_REASON, unchained: true };
}
