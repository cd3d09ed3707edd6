/** WAL segments of a replica: which bytes of the shadow WAL come next, how they are stored, where a stored one ends. */

import { LitestreamError, assert, wrapError } from '../base/errors.ts';
import { type Lz4End, decodeLz4Frame, encodeLz4Frame, encodeLz4FrameBytes } from '../format/lz4-frame.ts';
import { segmentKey } from '../format/names.ts';
import { type ChainEnd, encodeTrailer } from '../format/object-trailer.ts';
import type { Origin } from '../format/origin-frame.ts';
import type { Position } from '../format/position.ts';
import {
  WAL_FRAME_HEADER_SIZE,
  WAL_HEADER_SIZE,
  type WalChecksum,
  readFrameHeader,
  walFrameSize,
} from '../sqlite/wal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo } from './catalog.ts';
import type { SegmentSource } from './segment-source.ts';
import { segmentTrailerOf, trailerOf } from './trailer-reader.ts';

/** A larger backlog is cut at a commit boundary; a single larger transaction stays whole. */
export const MAX_SEGMENT_SIZE: number = 64 << 20;
/** Bytes read from the shadow WAL at once. */
const READ_SIZE = 1 << 20;

/** Bytes [start, end) of one WAL, whole committed transactions; with start 0 the WAL header is among them. */
export interface SegmentRange {
  readonly generation: string;
  readonly index: number;
  readonly start: number;
  readonly end: number;
}

/**
 * Committed bytes of the shadow WAL, read at once: keep the range small.
 * @throws LitestreamError 'aborted' when the source has left the generation: indexes now mean other bytes
 */
export async function readRange(source: SegmentSource, range: SegmentRange): Promise<Uint8Array> {
  const data = await source.readShadow(range.index, range.start, range.end);
  if (source.position().generation !== range.generation) {
    throw new LitestreamError('aborted', `generation ${range.generation} was given up`);
  }
  return data;
}

/** The bytes of a range in order, in chunks of READ_SIZE. */
async function* readChunks(source: SegmentSource, range: SegmentRange): AsyncGenerator<Uint8Array> {
  for (let at = range.start; at < range.end; at += READ_SIZE) {
    yield await readRange(source, { ...range, start: at, end: Math.min(range.end, at + READ_SIZE) });
  }
}

/**
 * The place from which the next segment starts: `stored`, or the start of a later index when that one is complete.
 * @throws LitestreamError 'gap' when the shadow WAL no longer holds what comes next
 */
export function nextStart(source: SegmentSource, stored: Position): Position {
  const current = source.position();
  let { index, offset } = stored;
  while (index < current.index) {
    const end = source.hasIndex(index) ? source.indexEnd(index) : 0;
    if (end <= WAL_HEADER_SIZE || end < offset) {
      throw new LitestreamError('gap', `shadow wal of index ${index} is gone before it was replicated`);
    }
    if (offset < end) break;
    index++;
    offset = 0;
  }
  return { generation: stored.generation, index, offset };
}

/**
 * The next segment after `stored`: up to the committed end of its index, or cut at a commit boundary when that is
 * more than `maxBytes`. Undefined when everything is stored.
 */
export async function nextSegment(
  source: SegmentSource,
  stored: Position,
  maxBytes: number = MAX_SEGMENT_SIZE,
): Promise<SegmentRange | undefined> {
  const { generation, index, offset } = nextStart(source, stored);
  const range: SegmentRange = { generation, index, start: offset, end: source.indexEnd(index) };
  // A WAL header by itself is never stored: the WAL may still be replaced as long as it holds no commit.
  if (range.end <= Math.max(offset, WAL_HEADER_SIZE)) return undefined;
  if (range.end - range.start <= maxBytes) return range;
  return { ...range, end: await cutAtCommit(source, range, maxBytes) };
}

/** The last commit boundary within `maxBytes` of the range's start, else the first one after that. */
async function cutAtCommit(source: SegmentSource, range: SegmentRange, maxBytes: number): Promise<number> {
  const size = walFrameSize(source.pageSizeBytes);
  const step = Math.max(1, Math.floor(READ_SIZE / size)) * size;
  const first = Math.max(range.start, WAL_HEADER_SIZE);
  const limit = first + Math.max(0, Math.floor((range.start + maxBytes - first) / size)) * size;
  for (let end = limit; end > first;) {
    const start = Math.max(first, end - step);
    const data = await readRange(source, { ...range, start, end });
    for (let at = data.byteLength - size; at >= 0; at -= size) {
      if (readFrameHeader(data, at).commitPageCount > 0) return start + at + size;
    }
    end = start;
  }
  for (let start = limit; start < range.end; start += step) {
    const data = await readRange(source, { ...range, start, end: Math.min(range.end, start + step) });
    for (let at = 0; at < data.byteLength; at += size) {
      if (readFrameHeader(data, at).commitPageCount > 0) return start + at + size;
    }
  }
  return range.end;
}

/** Where a stored segment ends: at WAL_HEADER_SIZE when it is nothing but a WAL header. */
export interface SegmentEnd extends ChainEnd {
  /** Time of its last commit in epoch milliseconds; undefined for a segment of v0.3.13's. */
  readonly timeMs: number | undefined;
}

export interface StoredSegment {
  readonly end: SegmentEnd;
  /** In the store. */
  readonly sizeBytes: number;
  /** By the store, as is its version. */
  readonly modifiedAt: Date;
  readonly version?: string | undefined;
}

export interface PutSegmentOptions {
  /** End of the segment before it in the replica, if there is one. */
  readonly previous: SegmentEnd | undefined;
  /** Which generations its own follows, if it shall say so. */
  readonly origin?: Origin | undefined;
  readonly signal: AbortSignal;
  /** Leaves an object that is there as it is, where the store can tell. */
  readonly ifAbsent: boolean;
}

/**
 * Stores a segment. Idempotent: the same range gives the same object. Memory is bounded whatever the range.
 * @throws LitestreamError 'unsupported' when its offset does not fit into the format's names, 'exists'
 */
export async function putSegment(
  store: ObjectStore,
  source: SegmentSource,
  range: SegmentRange,
  { previous, origin, signal, ifAbsent }: PutSegmentOptions,
): Promise<StoredSegment> {
  const { generation, index, start, end } = range;
  const key = segmentKey(generation, index, start);
  const sizeBytes = end - start;
  const data = sizeBytes <= READ_SIZE ? await readRange(source, range) : undefined;
  const frameSize = walFrameSize(source.pageSizeBytes);
  const lastFrame = data ?? (await readRange(source, { ...range, start: end - frameSize }));
  const { checksum } = readFrameHeader(lastFrame, lastFrame.byteLength - frameSize);
  // Times must not decrease in the replica either, whatever has become of the notes in the meta directory.
  const floorMs = previous?.timeMs ?? 0;
  const commits = (await source.commitTimes(index, start, end)).map(({ offset, timeMs }) => ({
    offset,
    timeMs: Math.max(timeMs, floorMs),
  }));
  const { pageSizeBytes } = source;
  const said = { pageSizeBytes, checksum, previous, commits, origin };
  const trailer = encodeTrailer({ kind: 'segment', ...range, ...said });
  const options = { contentSizeBytes: sizeBytes, trailer: () => trailer };
  const body = data ? encodeLz4FrameBytes(data, options) : encodeLz4Frame(readChunks(source, range), options);
  try {
    const stored = await store.put(key, body, {
      signal,
      sizeHintBytes: sizeBytes + trailer.byteLength,
      ifAbsent,
    });
    const timeMs = commits.at(-1)?.timeMs;
    const storedEnd = { index, offset: end, checksum, timeMs };
    return {
      end: storedEnd,
      sizeBytes: stored.sizeBytes,
      modifiedAt: stored.modifiedAt,
      version: stored.version,
    };
  } catch (error) {
    throw wrapError(error, `write wal segment ${key}`);
  }
}

export interface ReadEndOptions {
  readonly pageSizeBytes: number;
  /** Ends beyond this offset of its WAL are all the same to the caller; asked for each time that it matters. */
  readonly endLimit: () => number;
  readonly signal: AbortSignal;
}

/**
 * Reads a stored segment to its end, or to where it is beyond what matters: it may hold any amount. Then the offset is one
 * beyond the limit, and the checksum zeros.
 * @throws LitestreamError 'corrupt' when it cannot be decoded or does not end at the end of a frame
 */
export async function readSegmentEnd(
  store: ObjectStore,
  segment: SegmentInfo,
  { pageSizeBytes, endLimit, signal }: ReadEndOptions,
): Promise<SegmentEnd> {
  const { index } = segment;
  const frameSize = walFrameSize(pageSizeBytes);
  let sizeBytes = 0;
  let tail: Uint8Array = new Uint8Array(0);
  let timeMs: number | undefined;
  try {
    const body = await store.get(segment.key, { signal });
    const onEnd = (end: Lz4End): void => {
      timeMs = segmentTrailerOf(segment, trailerOf(end))?.commits.at(-1)?.timeMs;
    };
    for await (const chunk of decodeLz4Frame(body.stream, { onEnd })) {
      sizeBytes += chunk.byteLength;
      const offset = segment.offset + sizeBytes;
      // Up to there it may be a bare WAL header.
      if (offset > Math.max(endLimit(), WAL_HEADER_SIZE)) {
        return { index, offset, checksum: [0, 0], timeMs: undefined };
      }
      const last = chunk.byteLength >= frameSize ? chunk : Buffer.concat([tail, chunk]);
      tail = last.subarray(-frameSize);
    }
  } catch (error) {
    throw wrapError(error, `read wal segment ${segment.key}`);
  }
  const offset = segment.offset + sizeBytes;
  if (offset === WAL_HEADER_SIZE) return { index, offset, checksum: wordsAt(tail, 24), timeMs };
  const framesBytes = sizeBytes - (segment.offset === 0 ? WAL_HEADER_SIZE : 0);
  if (framesBytes <= 0 || framesBytes % frameSize !== 0) {
    throw new LitestreamError(
      'corrupt',
      `wal segment ${segment.key} holds ${sizeBytes} bytes: not a whole number of frames`,
    );
  }
  assert(tail.byteLength === frameSize && frameSize > WAL_FRAME_HEADER_SIZE, 'the last frame was kept');
  return { index, offset, checksum: readFrameHeader(tail, 0).checksum, timeMs };
}

function wordsAt(data: Uint8Array, at: number): WalChecksum {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  return [view.getUint32(at), view.getUint32(at + 4)];
}
