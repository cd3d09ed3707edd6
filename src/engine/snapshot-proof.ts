/**
 * Whether an object with the name of a snapshot is one that its generation can be restored from. Retention deletes what
 * a snapshot replaces, so it must not take a name's word for it: whoever may write to a replica may write any name.
 */

import { assert, hasCode, messageOf } from '../base/errors.ts';
import { type Lz4End, decodeLz4Frame } from '../format/lz4-frame.ts';
import type { SegmentTrailer, SnapshotTrailer } from '../format/object-trailer.ts';
import { isPageSize } from '../sqlite/database-header.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import { readSnapshot } from './snapshot-content.ts';
import { readSegmentTrailer, readSnapshotTrailer } from './trailer-reader.ts';

/** Times of one store come from many machines. */
const ORDER_TOLERANCE_MS = 60_000;

/** What one object was found to be. */
export interface Finding {
  /** Why the snapshot proves nothing; undefined: it is proven. */
  readonly reason: string | undefined;
  /** Whether the whole object had to be read to know. */
  readonly wasDecoded: boolean;
}

/**
 * Looks at a snapshot: what the listing shows around it, what it says of itself, and whether its position lies in the WAL
 * of its index. Two small requests, or three; one of v0.3.13, which says nothing of itself, is read whole.
 * @param segments of its generation, by index and offset
 * @throws LitestreamError what the store throws, but for 'not-found'
 */
export async function examineSnapshot(
  store: ObjectStore,
  snapshot: SnapshotInfo,
  segments: readonly SegmentInfo[],
  options: CallOptions,
): Promise<Finding> {
  const misfit = findMisfit(snapshot, segments);
  if (misfit !== undefined) return { reason: misfit, wasDecoded: false };
  let wasDecoded = false;
  try {
    const trailer = await readSnapshotTrailer(store, snapshot, options);
    wasDecoded = trailer === undefined;
    const reason = trailer
      ? await checkTrailer(store, snapshot, trailer, segments, options)
      : await checkContent(store, snapshot, segments, options);
    return { reason, wasDecoded };
  } catch (error) {
    if (hasCode(error, 'encrypted')) {
      return { reason: 'it is encrypted and cannot be read here: age.identities is missing', wasDecoded };
    }
    if (hasCode(error, 'corrupt', 'unsupported', 'not-found'))
      return { reason: messageOf(error), wasDecoded };
    throw error;
  }
}

/** What is wrong with a snapshot by the listing alone. */
function findMisfit(
  { index, sizeBytes, createdAt }: SnapshotInfo,
  segments: readonly SegmentInfo[],
): string | undefined {
  if (sizeBytes === 0) return 'it is empty';
  const own = segments.find((segment) => segment.index === index);
  if (own ? own.offset !== 0 : segments.length > 0) return 'the WAL of its index is not there';
  const laterMs = createdAt.getTime() + ORDER_TOLERANCE_MS;
  const younger = segments.find((segment) => segment.index < index && segment.createdAt.getTime() > laterMs);
  return younger && `WAL from before it was stored later: ${younger.key}`;
}

async function checkTrailer(
  store: ObjectStore,
  { index, createdAt }: SnapshotInfo,
  trailer: SnapshotTrailer,
  segments: readonly SegmentInfo[],
  options: CallOptions,
): Promise<string | undefined> {
  const { pageSizeBytes, sizeBytes, offset, timeMs } = trailer;
  if (!isPageSize(pageSizeBytes) || sizeBytes === 0 || sizeBytes % pageSizeBytes !== 0)
    return `it says that it is of ${sizeBytes} bytes in pages of ${pageSizeBytes}`;
  // It would replace what is from between the two times, and does not hold that.
  if (timeMs > createdAt.getTime() + ORDER_TOLERANCE_MS)
    return `it says that it is of ${new Date(timeMs).toISOString()}, and the store has it since ${createdAt.toISOString()}`;
  if (offset === 0) return undefined;
  const covering = segments.findLast((segment) => segment.index === index && segment.offset < offset);
  const said = covering && (await readSegmentTrailer(store, covering, options));
  // WAL that v0.3.13 has stored says nothing of itself: that it is there has to do.
  if (covering && !said) return undefined;
  return said && holds(said, trailer) ? undefined : `its position ${index}:${offset} is not in the WAL`;
}

function holds(segment: SegmentTrailer, { offset, checksum }: SnapshotTrailer): boolean {
  if (offset === segment.end) return segment.checksum.every((word, i) => word === checksum[i]);
  return segment.start < offset && offset < segment.end;
}

/** Of an object of v0.3.13: no name in it says where it belongs, so that the WAL around it has to. */
async function checkContent(
  store: ObjectStore,
  snapshot: SnapshotInfo,
  segments: readonly SegmentInfo[],
  { signal }: CallOptions,
): Promise<string | undefined> {
  if (segments.length === 0) return 'no WAL follows it, and it does not say where it belongs';
  const { index } = snapshot;
  const before = segments.findLast((segment) => segment.index < index);
  if (before && before.index !== index - 1)
    return 'the WAL before it is not there, and it does not say where it belongs';
  const { stream } = await store.get(snapshot.key, { signal });
  let end: Lz4End | undefined;
  const chunks = decodeLz4Frame(stream, { transient: true, onEnd: (found) => (end = found) });
  const endOf = (): Lz4End => {
    assert(end !== undefined, 'the snapshot was read to its end');
    return end;
  };
  await readSnapshot({ object: snapshot, chunks, end: endOf }, () => undefined);
  return undefined;
}

/** What examines snapshots for retention. */
export interface SnapshotExaminer {
  /**
   * Why retention must not count on a snapshot; undefined when it may.
   * @param segments of its generation, by index and offset
   * @throws LitestreamError what the store throws
   */
  examine(
    store: ObjectStore,
    snapshot: SnapshotInfo,
    segments: readonly SegmentInfo[],
    options: CallOptions,
  ): Promise<string | undefined>;
}

/** Looks at each snapshot whenever it is asked. */
export const PLAIN_EXAMINER: SnapshotExaminer = {
  examine: async (...request) => (await examineSnapshot(...request)).reason,
};
