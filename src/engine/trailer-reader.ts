/**
 * Reads what objects of a replica say of themselves: from an object that is read whole, or from its last bytes alone.
 * v0.3.13's objects say nothing; that one of ours has lost its trailer shows in its first bytes.
 */

import { LitestreamError, assert, wrapError } from '../base/errors.ts';
import { LZ4_HEAD_SIZE, type Lz4End, announcesSize } from '../format/lz4-frame.ts';
import {
  type ObjectTrailer,
  type SegmentTrailer,
  type SnapshotTrailer,
  announcesOrigin,
  decodeTrailer,
  trailerSize,
} from '../format/object-trailer.ts';
import { MAX_ORIGIN_SIZE, originSize } from '../format/origin-frame.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';

/** Enough for the trailer of most segments, and an origin before it. */
const TAIL_SIZE = 4 << 10;

function lostTrailer(): LitestreamError {
  return new LitestreamError('corrupt', 'the trailer is missing or damaged');
}

/**
 * The trailer of an object that was decoded to its end; undefined for one of v0.3.13's.
 * @throws LitestreamError 'corrupt', 'unsupported'
 */
export function trailerOf({ skippable, announcedSizeBytes }: Lz4End): ObjectTrailer | undefined {
  const [frame, another] = skippable.filter((data) => trailerSize(data) !== undefined);
  if (another !== undefined) throw new LitestreamError('corrupt', 'there are two trailers');
  if (frame !== undefined) {
    const before = skippable[skippable.indexOf(frame) - 1];
    return decodeTrailer(frame, before && originSize(before) !== undefined ? before : undefined);
  }
  if (announcedSizeBytes !== undefined) throw lostTrailer();
  return undefined;
}

/** @throws LitestreamError 'corrupt' when a trailer is not that of `segment` */
export function segmentTrailerOf(
  segment: SegmentInfo,
  trailer: ObjectTrailer | undefined,
): SegmentTrailer | undefined {
  if (trailer === undefined) return undefined;
  const { generation, index, offset } = segment;
  const ours =
    trailer.kind === 'segment' &&
    trailer.generation === generation &&
    trailer.index === index &&
    trailer.start === offset;
  if (!ours) throw new LitestreamError('corrupt', 'the trailer is that of another object');
  return trailer;
}

/** @throws LitestreamError 'corrupt' when a trailer is not that of `snapshot` */
export function snapshotTrailerOf(
  snapshot: SnapshotInfo,
  trailer: ObjectTrailer | undefined,
): SnapshotTrailer | undefined {
  if (trailer === undefined) return undefined;
  const { generation, index } = snapshot;
  const ours = trailer.kind === 'snapshot' && trailer.generation === generation && trailer.index === index;
  if (!ours) throw new LitestreamError('corrupt', 'the trailer is that of another object');
  return trailer;
}

/**
 * The trailer of a stored segment, at the price of one small request (two for one of v0.3.13's, which has none).
 * @throws LitestreamError 'corrupt' naming the segment, 'unsupported', and what the store throws
 */
export async function readSegmentTrailer(
  store: ObjectStore,
  segment: SegmentInfo,
  options: CallOptions,
): Promise<SegmentTrailer | undefined> {
  try {
    return segmentTrailerOf(segment, await readTrailer(store, segment, options));
  } catch (error) {
    throw wrapError(error, `read trailer of wal segment ${segment.key}`);
  }
}

/** As readSegmentTrailer, of a snapshot. */
export async function readSnapshotTrailer(
  store: ObjectStore,
  snapshot: SnapshotInfo,
  options: CallOptions,
): Promise<SnapshotTrailer | undefined> {
  try {
    return snapshotTrailerOf(snapshot, await readTrailer(store, snapshot, options));
  } catch (error) {
    throw wrapError(error, `read trailer of snapshot ${snapshot.key}`);
  }
}

async function readTrailer(
  store: ObjectStore,
  object: { readonly key: string; readonly sizeBytes: number },
  { signal }: CallOptions,
): Promise<ObjectTrailer | undefined> {
  const { key } = object;
  const sizeBytes = store.contentSize ? await store.contentSize(object, { signal }) : object.sizeBytes;
  if (sizeBytes === 0) throw new LitestreamError('corrupt', 'the object is empty');
  const read = async (start: number, end: number): Promise<Uint8Array> => {
    const chunks: Uint8Array[] = [];
    const { stream } = await store.get(key, { signal, range: { start, end } });
    for await (const chunk of stream) chunks.push(Uint8Array.from(chunk));
    return Buffer.concat(chunks);
  };
  const start = Math.max(0, sizeBytes - TAIL_SIZE);
  const tail = await read(start, sizeBytes);
  const trailerBytes = trailerSize(tail);
  if (trailerBytes === undefined) {
    const head = start === 0 ? tail : await read(0, LZ4_HEAD_SIZE);
    if (announcesSize(head)) throw lostTrailer();
    return undefined;
  }
  const trailerStart = sizeBytes - trailerBytes;
  if (trailerStart < 0) throw new LitestreamError('corrupt', 'the trailer is larger than the object');
  const inTail = trailerStart >= start;
  assert(inTail || start > 0, 'the tail was read as far as it goes');
  const frame = inTail ? tail.subarray(trailerStart - start) : await read(trailerStart, sizeBytes);
  if (!announcesOrigin(frame)) return decodeTrailer(frame);
  // An object that is nothing but a trailer has none before it.
  if (trailerStart === 0) return decodeTrailer(frame);
  const before =
    start === 0 || trailerStart - start >= MAX_ORIGIN_SIZE
      ? tail.subarray(0, trailerStart - start)
      : await read(Math.max(0, trailerStart - MAX_ORIGIN_SIZE), trailerStart);
  const originBytes = originSize(before);
  return decodeTrailer(frame, originBytes === undefined ? undefined : before.subarray(-originBytes));
}
