/**
 * What the segments of a WAL index hold, read whole: the checksums of their frames, by which each shows what it
 * continues and where it ends. Nothing but the content proves that, and v0.3.13's segments say nothing else.
 */

import { LitestreamError, hasCode } from '../base/errors.ts';
import type { SegmentTrailer } from '../format/object-trailer.ts';
import {
  WAL_HEADER_SIZE,
  type WalChecksum,
  type WalHeader,
  checksumBefore,
  checksumsEqual,
  frameChecksum,
  parseWalHeader,
  readFrameHeader,
  walFrameSize,
} from '../sqlite/wal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { Cut, SegmentInfo } from './catalog.ts';
import { type Content, decodeInOrder } from './restore-content.ts';
import { fetchInOrder } from './restore-fetch.ts';
import { segmentTrailerOf, trailerOf } from './trailer-reader.ts';

/** Frames for which there is room at first. */
const FIRST_ROOM = 1024;

/** A run of frames that continue each other: where it begins, and the running checksum at the end of each. */
export class FrameRun {
  /** Behind the header, when it begins with that. */
  readonly startOffset: number;
  readonly #frameSize: number;
  /** At the start and at the end of each frame, two words each. */
  #checksums: Uint32Array = new Uint32Array(2 * FIRST_ROOM);
  #count = 0;

  constructor(startOffset: number, checksum: WalChecksum, frameSize: number) {
    this.startOffset = startOffset;
    this.#frameSize = frameSize;
    this.#push(checksum);
    this.#count = 0;
  }

  /** Adds a frame. */
  add(checksum: WalChecksum): void {
    this.#count++;
    this.#push(checksum);
  }

  get endOffset(): number {
    return this.startOffset + this.#count * this.#frameSize;
  }

  get start(): Cut {
    return { offset: this.startOffset, checksum: this.#at(0) };
  }

  get end(): Cut {
    return { offset: this.endOffset, checksum: this.#at(this.#count) };
  }

  /** Whether the run leads through a place, its own start and end included. */
  has({ offset, checksum }: Cut): boolean {
    const number = (offset - this.startOffset) / this.#frameSize;
    if (!Number.isInteger(number) || number < 0 || number > this.#count) return false;
    return checksumsEqual(this.#at(number), checksum);
  }

  #at(number: number): WalChecksum {
    return [this.#checksums[2 * number] ?? 0, this.#checksums[2 * number + 1] ?? 0];
  }

  #push(checksum: WalChecksum): void {
    if (2 * this.#count + 2 > this.#checksums.length) {
      const larger = new Uint32Array(2 * this.#checksums.length);
      larger.set(this.#checksums);
      this.#checksums = larger;
    }
    this.#checksums.set(checksum, 2 * this.#count);
  }
}

/** One of `frames`, `anotherWal` and `damage`. */
export interface SegmentContent {
  readonly segment: SegmentInfo;
  /** Undefined for one of v0.3.13's, and a damaged one. */
  readonly trailer: SegmentTrailer | undefined;
  readonly frames: FrameRun | undefined;
  /** It is whole, and of a WAL with another header than the first one. */
  readonly anotherWal: boolean;
  readonly damage: LitestreamError | undefined;
}

/**
 * Reads segments of one index to their ends. Memory: eight bytes a frame.
 * @param segments by offset; the header of the first one counts
 * @throws what the store throws but 'not-found', which is damage
 */
export async function readSegments(
  store: ObjectStore,
  segments: readonly SegmentInfo[],
  options: { readonly parallelism: number; readonly signal?: AbortSignal | undefined },
): Promise<SegmentContent[]> {
  const contents: SegmentContent[] = [];
  let wal: WalHeader | undefined;
  const fetched = fetchInOrder(store, segments, options);
  const decoded = decodeInOrder(fetched, segments.length, { transient: true });
  for await (const content of decoded) {
    const reader: SegmentReader = new SegmentReader(content.object, wal);
    contents.push(await readContent(reader, content));
    wal = reader.wal;
  }
  return contents;
}

async function readContent(
  reader: SegmentReader,
  { object: segment, chunks, end }: Content<SegmentInfo>,
): Promise<SegmentContent> {
  try {
    for await (const chunk of chunks) reader.take(chunk);
    const trailer = segmentTrailerOf(segment, trailerOf(end()));
    return { segment, trailer, ...reader.finish(trailer), damage: undefined };
  } catch (error) {
    if (!hasCode(error, 'corrupt', 'not-found', 'gap')) throw error;
    return { segment, trailer: undefined, frames: undefined, anotherWal: false, damage: error };
  }
}

function crooked(): LitestreamError {
  return new LitestreamError('corrupt', 'segment does not consist of whole frames');
}

class SegmentReader {
  /** Of the index; known from the first segment on. */
  wal: WalHeader | undefined;
  readonly #segment: SegmentInfo;
  #headerLeft: boolean;
  #rest: Uint8Array = new Uint8Array(0);
  #frames: FrameRun | undefined;
  #anotherWal = false;

  constructor(segment: SegmentInfo, wal: WalHeader | undefined) {
    this.#segment = segment;
    this.wal = wal;
    this.#headerLeft = segment.offset === 0;
  }

  take(chunk: Uint8Array): void {
    const data = this.#rest.byteLength === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    let at = 0;
    if (this.#headerLeft && data.byteLength >= WAL_HEADER_SIZE) {
      this.#takeHeader(data);
      at = WAL_HEADER_SIZE;
    }
    const { wal } = this;
    if (wal && !this.#headerLeft) {
      const size = walFrameSize(wal.pageSizeBytes);
      const { offset } = this.#segment;
      if (offset > 0 && (offset - WAL_HEADER_SIZE) % size !== 0) throw crooked();
      for (; at + size <= data.byteLength; at += size) this.#takeFrame(wal, data, at);
    }
    this.#rest = Buffer.from(data.subarray(at));
  }

  #takeHeader(data: Uint8Array): void {
    const wal = parseWalHeader(data);
    this.#headerLeft = false;
    this.wal ??= wal;
    this.#anotherWal = !checksumsEqual(wal.checksum, this.wal.checksum);
    if (!this.#anotherWal) {
      this.#frames = new FrameRun(WAL_HEADER_SIZE, wal.checksum, walFrameSize(wal.pageSizeBytes));
    }
  }

  #takeFrame(wal: WalHeader, data: Uint8Array, at: number): void {
    const frame = readFrameHeader(data, at);
    this.#anotherWal ||= frame.salt1 !== wal.salt1 || frame.salt2 !== wal.salt2;
    if (this.#anotherWal) return;
    const before = this.#frames?.end.checksum ?? checksumBefore(wal, data, at);
    this.#frames ??= new FrameRun(this.#segment.offset, before, walFrameSize(wal.pageSizeBytes));
    if (!checksumsEqual(frameChecksum(wal, data, at, before), frame.checksum)) {
      throw new LitestreamError(
        'corrupt',
        `frame at offset ${this.#frames.endOffset} does not continue the chain of checksums`,
      );
    }
    this.#frames.add(frame.checksum);
  }

  /** @throws LitestreamError 'corrupt' */
  finish(trailer: SegmentTrailer | undefined): Pick<SegmentContent, 'frames' | 'anotherWal'> {
    if (this.#anotherWal) return { frames: undefined, anotherWal: true };
    const frames = this.#frames;
    if (frames === undefined || this.#rest.byteLength > 0) {
      throw crooked();
    }
    const { end } = frames;
    if (trailer && (trailer.end !== end.offset || !checksumsEqual(trailer.checksum, end.checksum))) {
      throw new LitestreamError(
        'corrupt',
        `segment ends at offset ${end.offset}, its trailer tells another end`,
      );
    }
    return { frames, anotherWal: false };
  }
}
