/**
 * Applies the WAL segments of a generation to a database file in order. Verifies the whole chain: offsets without a
 * hole, the header of each index, salts and the cumulative checksum across segments. Only committed transactions get
 * into the result.
 */

import { LitestreamError } from '../base/errors.ts';
import type { ChainEnd, SegmentTrailer, SnapshotTrailer } from '../format/object-trailer.ts';
import { type Position, formatPosition } from '../format/position.ts';
import {
  WAL_FRAME_HEADER_SIZE,
  WAL_HEADER_SIZE,
  type WalChecksum,
  type WalHeader,
  checksumsEqual,
  parseWalHeader,
  readFrameHeader,
  verifyFrames,
  walFrameSize,
} from '../sqlite/wal.ts';
import type { SegmentInfo } from './catalog.ts';
import { type LeftoverWal, isWholeLeftover } from './leftover-wal.ts';
import type { PageSink } from './page-writer.ts';
import { missingSegmentError } from './restore-plan.ts';
import { WalOverlap } from './wal-overlap.ts';

/**
 * Compares what a segment says of itself with the chain that was applied.
 * @param before the chain's end before the segment; undefined when it was the first
 * @param after its end now, if the segment was applied whole
 * @throws LitestreamError 'gap' when a segment is missing before it, 'corrupt'
 */
export function checkSegmentTrailer(
  trailer: SegmentTrailer,
  before: ChainEnd | undefined,
  after: ChainEnd | undefined,
): void {
  const { generation, previous } = trailer;
  if (after && (after.offset !== trailer.end || !checksumsEqual(after.checksum, trailer.checksum))) {
    throw corrupt(`segment ends at offset ${after.offset}, its trailer tells another end: ${trailer.end}`);
  }
  if (before === undefined || previous === undefined) return;
  if (before.index === previous.index && before.offset === previous.offset) {
    if (checksumsEqual(before.checksum, previous.checksum)) return;
    throw corrupt(`segment follows another WAL, by the checksums at offset ${previous.offset}`);
  }
  const isAfter =
    previous.index > before.index || (previous.index === before.index && previous.offset > before.offset);
  // A segment of v0.3.13's may reach over the start of the next one.
  if (!isAfter && previous.index === trailer.index && before.index === trailer.index) return;
  if (isAfter) throw missingSegmentError({ generation, index: before.index, offset: before.offset });
  const [wanted, found] = [previous, before].map((end) => formatPosition({ generation, ...end }));
  throw corrupt(`segment follows ${wanted}, but the one before it ends at ${found}`);
}

/** Frames of a transaction whose commit is not in sight yet are held back in memory, up to this much. */
const PENDING_LIMIT = 32 << 20;
const NOTHING = new Uint8Array(0);

function corrupt(message: string): LitestreamError {
  return new LitestreamError('corrupt', message);
}

/** The open index: how far its chain is verified. */
interface OpenIndex {
  readonly wal: WalHeader;
  readonly index: number;
  /** From the start of the WAL. */
  offset: number;
  checksum: WalChecksum;
  /** Size of the database after the last commit; undefined before the first. */
  pageCount: number | undefined;
}

export class WalApplier {
  readonly #writer: PageSink;
  readonly #pageSizeBytes: number;
  /** The state that the snapshot needs, if it says so. */
  readonly #needed: SnapshotTrailer | undefined;
  readonly #leftover: LeftoverWal | undefined;
  #leftoverMet = false;
  #open: OpenIndex | undefined;
  /** The end of the index before. */
  #closed: ChainEnd | undefined;
  /** What the present segment repeats of the one before it, as long as it does. */
  #overlap: WalOverlap | undefined;
  /** Frames after the last commit. */
  #pending: Uint8Array[] = [];
  #pendingBytes = 0;
  /** Frames of an open transaction went to the writer because it is larger than memory: its commit must follow. */
  #spilled = false;

  /**
   * @param needed of the snapshot that the writer's file holds: the chain must lead through its position
   * @param leftover is looked for in the chain
   */
  constructor(writer: PageSink, needed: SnapshotTrailer | undefined, leftover?: LeftoverWal) {
    this.#needed = needed;
    this.#leftover = leftover;
    this.#writer = writer;
    this.#pageSizeBytes = writer.pageSizeBytes;
  }

  /**
   * Applies one segment, which must be the next one.
   * @param content its decompressed bytes, cut anywhere; a chunk need not outlive the next
   * @param endOffset frames of the WAL beyond this offset are left out
   * @throws LitestreamError 'gap' when a segment is missing before it, 'corrupt' when it does not continue the chain
   */
  async applySegment(
    segment: SegmentInfo,
    content: AsyncIterable<Uint8Array>,
    endOffset?: number,
  ): Promise<void> {
    const expected = this.#open?.offset ?? 0;
    if (segment.offset > expected) {
      throw missingSegmentError({ generation: segment.generation, index: segment.index, offset: expected });
    }
    const repeats = this.#open && segment.offset < expected;
    this.#overlap = repeats && this.#open ? new WalOverlap(this.#open, segment.offset) : undefined;
    let rest: Uint8Array = NOTHING;
    for await (const chunk of content)
      rest = await this.#applyChunk(segment.index, rest, chunk, endOffset ?? Infinity);
    if (this.#open === undefined) throw corrupt(`segment of ${rest.byteLength} bytes has no WAL header`);
    if (rest.byteLength > 0) throw corrupt(`segment ends inside the frame at offset ${this.#open.offset}`);
    this.#overlap?.end();
    this.#overlap = undefined;
  }

  /** The position that the snapshot needs, if it is of this index. */
  neededOf(index: number): ChainEnd | undefined {
    return this.#needed?.index === index ? this.#needed : undefined;
  }

  /**
   * Where the chain stands: what the trailer of the next segment is compared with. Undefined before the first segment.
   */
  get end(): ChainEnd | undefined {
    if (this.#open === undefined) return this.#closed;
    const { index, offset, checksum } = this.#open;
    return { index, offset, checksum };
  }

  /** Whether the left-over WAL has no commits but those that were applied. */
  get leftoverRestored(): boolean {
    return this.#leftover === undefined || this.#leftoverMet;
  }

  /**
   * Ends the chain.
   * @param position what closeIndex() gave for the last index, or the start of the snapshot's index without segments
   * @throws LitestreamError 'gap' when the snapshot needs more, 'no-backup' when less is wanted than it holds
   */
  finish(position: Position, endOffset: number | undefined): void {
    const needed = this.#needed;
    if (needed === undefined || position.index !== needed.index || position.offset >= needed.offset) return;
    if (endOffset === undefined || endOffset >= needed.offset) throw missingSegmentError(position);
    const wanted = formatPosition({ ...position, offset: endOffset });
    throw new LitestreamError(
      'no-backup',
      `the snapshot holds commits up to ${formatPosition(needed)}, which is after ${wanted}`,
    );
  }

  /**
   * Ends an index: drops what is not committed and cuts the database to its size, as a checkpoint does.
   * @returns the position up to which the index was applied
   */
  closeIndex(generation: string, index: number): Position {
    const open = this.#open;
    const position = { generation, index, offset: open?.offset ?? 0 };
    if (this.#spilled) {
      throw corrupt(
        `WAL index ends inside a transaction at ${formatPosition(position)}: segments are missing at its end`,
      );
    }
    position.offset -= this.#pendingBytes;
    if (open?.pageCount !== undefined) this.#writer.cut(open.pageCount);
    this.#closed = this.end;
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#open = undefined;
    return position;
  }

  /** Applies the whole frames in `rest` and `chunk`; gives the bytes after them. */
  async #applyChunk(
    index: number,
    rest: Uint8Array,
    chunk: Uint8Array,
    endOffset: number,
  ): Promise<Uint8Array> {
    if (this.#open === undefined) {
      const data = rest.byteLength === 0 ? chunk : Buffer.concat([rest, chunk]);
      if (data.byteLength < WAL_HEADER_SIZE) return Buffer.from(data);
      this.#open = this.#openIndex(index, data);
      return this.#applyWhole(this.#open, data.subarray(WAL_HEADER_SIZE), endOffset);
    }
    if (rest.byteLength === 0) return this.#applyWhole(this.#open, chunk, endOffset);
    // What it repeats may begin with a header, so that frames begin elsewhere.
    if (this.#overlap) return this.#applyWhole(this.#open, Buffer.concat([rest, chunk]), endOffset);
    // Only the frame that is cut in two is copied together, not the whole chunk.
    const missing = walFrameSize(this.#pageSizeBytes) - rest.byteLength;
    const frame = Buffer.concat([rest, chunk.subarray(0, missing)]);
    if (chunk.byteLength < missing) return frame;
    await this.#applyWhole(this.#open, frame, endOffset);
    return this.#applyWhole(this.#open, chunk.subarray(missing), endOffset);
  }

  #openIndex(index: number, data: Uint8Array): OpenIndex {
    const wal = parseWalHeader(data);
    if (wal.pageSizeBytes !== this.#pageSizeBytes) {
      throw corrupt(`WAL has pages of ${wal.pageSizeBytes} bytes, the snapshot of ${this.#pageSizeBytes}`);
    }
    return { wal, index, offset: WAL_HEADER_SIZE, checksum: wal.checksum, pageCount: undefined };
  }

  /** Applies whole frames and gives the bytes after them. What lies beyond `endOffset` is dropped. */
  async #applyWhole(open: OpenIndex, data: Uint8Array, endOffset: number): Promise<Uint8Array> {
    if (this.#overlap) {
      const repeatedBytes = this.#overlap.take(data);
      if (this.#overlap.leftBytes > 0) return Buffer.from(data.subarray(repeatedBytes));
      this.#overlap = undefined;
      return this.#applyWhole(open, data.subarray(repeatedBytes), endOffset);
    }
    const frameSize = walFrameSize(this.#pageSizeBytes);
    const available = Math.min(data.byteLength, endOffset - open.offset);
    const wholeBytes = available - (available % frameSize);
    const frames = data.subarray(0, wholeBytes);
    const run = verifyFrames(open.wal, frames, open.checksum);
    if (run.validBytes < wholeBytes) {
      throw corrupt(
        `frame at offset ${open.offset + run.validBytes} does not continue the chain of checksums`,
      );
    }
    this.#checkNeeded(open, frames);
    this.#lookForLeftover(open, frames);
    open.offset += wholeBytes;
    open.checksum = run.checksum;
    if (run.commitCount > 0) {
      open.pageCount = run.commitPageCount;
      this.#settle();
      this.#putFrames(frames.subarray(0, run.committedBytes));
    }
    this.#hold(frames.subarray(run.committedBytes));
    if (this.#writer.full) await this.#writer.flush();
    return open.offset + frameSize > endOffset ? NOTHING : Buffer.from(data.subarray(wholeBytes));
  }

  /** The snapshot was taken at a place in the chain: it must be this chain. `frames` continue the open index. */
  #checkNeeded(open: OpenIndex, frames: Uint8Array): void {
    const needed = this.#needed;
    if (needed?.index !== open.index || needed.offset <= open.offset) return;
    const at = needed.offset - open.offset - walFrameSize(this.#pageSizeBytes);
    if (at + walFrameSize(this.#pageSizeBytes) > frames.byteLength) return;
    if (at % walFrameSize(this.#pageSizeBytes) === 0) {
      const frame = readFrameHeader(frames, at);
      if (frame.commitPageCount > 0 && checksumsEqual(frame.checksum, needed.checksum)) return;
    }
    throw corrupt(`the snapshot does not belong to this WAL, by their checksums at offset ${needed.offset}`);
  }

  #lookForLeftover(open: OpenIndex, frames: Uint8Array): void {
    if (this.#leftover === undefined) return;
    const at = this.#leftover.endOffset - open.offset - walFrameSize(this.#pageSizeBytes);
    if (at < 0 || at + walFrameSize(this.#pageSizeBytes) > frames.byteLength) return;
    const { checksum } = readFrameHeader(frames, at);
    this.#leftoverMet ||= isWholeLeftover(this.#leftover, open.wal, this.#leftover.endOffset, checksum);
  }

  #putFrames(frames: Uint8Array): void {
    const frameSize = walFrameSize(this.#pageSizeBytes);
    // Not readFrameHeader: an object for each of a million frames is a burden.
    const view = new DataView(frames.buffer, frames.byteOffset, frames.byteLength);
    for (let at = 0; at < frames.byteLength; at += frameSize) {
      this.#writer.put(view.getUint32(at), frames, at + WAL_FRAME_HEADER_SIZE);
    }
  }

  /** Frames whose transaction is open. Too many: they go to the writer, and the restore fails if no commit follows. */
  #hold(frames: Uint8Array): void {
    if (frames.byteLength === 0) return;
    if (this.#spilled) {
      this.#putFrames(frames);
      return;
    }
    this.#pending.push(Buffer.from(frames));
    this.#pendingBytes += frames.byteLength;
    if (this.#pendingBytes < PENDING_LIMIT) return;
    this.#settle();
    this.#spilled = true;
  }

  #settle(): void {
    for (const frames of this.#pending) this.#putFrames(frames);
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#spilled = false;
  }
}
