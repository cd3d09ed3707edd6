/** Where a replica stands when a process begins: learnt from its listings and its last segment, proven by the source. */

import { LitestreamError, hasCode } from '../base/errors.ts';
import { formatIndex, segmentKey, snapshotKey } from '../format/names.ts';
import type { Position } from '../format/position.ts';
import { WAL_HEADER_SIZE } from '../sqlite/wal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { EncryptionRecord } from './encryption-record.ts';
import { type SegmentInfo, type SnapshotInfo, listSegments, listSnapshots } from './catalog.ts';
import { findObject } from './replica-presence.ts';
import { type SegmentEnd, readSegmentEnd } from './replica-segment.ts';
import type { SegmentSource } from './segment-source.ts';
import { CLOCK_STEP_MS } from './steady-clock.ts';
import type { SentSegment } from './upload-record.ts';

/** A commit that is dated so long after it was stored: no time zone explains that. */
const MISDATED_MS = 24 * 3600_000;

export interface StartingPoint {
  /** The end of what is stored of the generation; undefined when nothing is. */
  readonly stored: Position | undefined;
  /** The end of the last segment before `stored`; undefined when there is none. */
  readonly end: SegmentEnd | undefined;
  /** The newest snapshot of the generation. */
  readonly snapshot: SnapshotInfo | undefined;
  /** Time of the oldest snapshot of the generation, in epoch milliseconds. */
  readonly oldestSnapshotAtMs: number | undefined;
  /** Time of the newest object of the generation, in epoch milliseconds. */
  readonly newestObjectAtMs?: number | undefined;
  /** Why the generation cannot be continued; undefined when it can. */
  readonly broken: string | undefined;
  /** All that the replica holds of the generation, in order. */
  readonly segments: readonly SegmentInfo[];
  /** Key of the last segment when it is not whole: it is to be written anew. */
  readonly rewrites: string | undefined;
}

/** Of a generation that is new: there is nothing to ask a store for. */
export const NOTHING_STORED: StartingPoint = {
  stored: undefined,
  end: undefined,
  snapshot: undefined,
  oldestSnapshotAtMs: undefined,
  broken: undefined,
  segments: [],
  rewrites: undefined,
};

export interface Learning {
  readonly store: ObjectStore;
  readonly source: SegmentSource;
  readonly generation: string;
  /** Of those that are encrypted for now; undefined: nothing is encrypted. */
  readonly recipients: string | undefined;
  /** What was remembered the last time, if something was. */
  readonly record: EncryptionRecord | undefined;
  /** What was sent last by a process before this one, if that is known. */
  readonly sent: SentSegment | undefined;
  /** Whether it is no use to ask a store again whose lists do not show what it holds. */
  readonly hopeless: boolean;
  /** Epoch milliseconds. */
  readonly nowMs: number;
  readonly signal: AbortSignal;
}

/**
 * Learns how far `generation` is stored: one LIST of its snapshots, one of its segments, and one or two GETs.
 * What it finds to be stored belongs to the source's chain; else `broken` says why not.
 * @throws LitestreamError 'unavailable' when the lists do not show what is there: ask again
 */
export async function learnPosition(learning: Learning): Promise<StartingPoint> {
  const { store, generation, signal } = learning;
  const [listed, segments] = await Promise.all([
    listSnapshots(store, generation, { signal }),
    listSegments(store, generation, { signal }),
  ]);
  // Of an index that is still to come nobody has taken one.
  const snapshots = listed.filter(({ index }) => index <= learning.source.position().index);
  const snapshot = snapshots.at(-1);
  const oldestSnapshotAtMs = snapshots[0]?.createdAt.getTime();
  const times = [snapshot, segments.at(-1)].map((object) => object?.createdAt.getTime() ?? -Infinity);
  const newestObjectAtMs = (snapshot ?? segments[0]) ? Math.max(...times) : undefined;
  const unknown = {
    stored: undefined,
    end: undefined,
    snapshot,
    oldestSnapshotAtMs,
    newestObjectAtMs,
    segments,
    rewrites: undefined,
  };
  const unlike = learning.sent && (await compareWithSent(learning, learning.sent, { snapshot, segments }));
  if (unlike !== undefined) return { ...unknown, broken: unlike };
  const hole = findHole(snapshot, segments);
  if (hole !== undefined) return { ...unknown, broken: hole };
  const mixed = snapshots.length + segments.length > 0 ? encryptionChange(learning) : undefined;
  if (mixed !== undefined) return { ...unknown, broken: mixed };
  const end = await findEnd(learning, { snapshot, segments });
  if (typeof end === 'string') return { ...unknown, broken: end };
  const last = segments.at(-1);
  const misdated = end && last && misdating(end, last, learning.nowMs);
  if (misdated !== undefined) return { ...unknown, broken: misdated };
  const stored = end && { generation, index: end.index, offset: end.offset };
  const isWhole =
    !last || !end || last.index < end.index || (last.index === end.index && last.offset < end.offset);
  return {
    ...unknown,
    stored,
    end: end && 'checksum' in end ? end : undefined,
    broken: undefined,
    rewrites: isWhole ? undefined : last.key,
  };
}

/**
 * Compares what the lists show with what a process before this one has stored. An object that is not shown is asked for by
 * its name: a list may be old, cut or empty, and who believed it would store again, from an older place, over what is there.
 * @returns why the generation cannot be continued, if it cannot
 * @throws LitestreamError 'unavailable' when the lists do not show what is there
 */
async function compareWithSent(
  { store, generation, hopeless, signal }: Learning,
  sent: SentSegment,
  { snapshot, segments }: Contents,
): Promise<string | undefined> {
  if (sent.generation !== generation) return undefined;
  const shown = new Set(segments.map(({ key }) => key));
  const notShown = (key: string): string => {
    const message = `the store's list does not show ${key}, which is there`;
    if (hopeless) return message;
    throw new LitestreamError('unavailable', `${message}: asked again in a moment`);
  };
  const { before } = sent;
  const sentKey = segmentKey(generation, sent.index, sent.start);
  if (!shown.has(sentKey) && (await findObject(store, sentKey, { signal }))) return notShown(sentKey);
  if (!before) return undefined;
  const { last, since, count } = before;
  // Of a newer snapshot, or of v0.3.13's, only the newest objects are needed.
  if (since !== undefined && snapshot && snapshot.index > since) return undefined;
  const snapshotSent =
    since === undefined || snapshot?.index === since ? undefined : snapshotKey(generation, since);
  if (snapshotSent !== undefined && (await findObject(store, snapshotSent, { signal })))
    return notShown(snapshotSent);
  const lastKey = segmentKey(generation, last.index, last.start);
  if (!shown.has(lastKey)) {
    if (await findObject(store, lastKey, { signal })) return notShown(lastKey);
    return `replica no longer holds ${lastKey}`;
  }
  const isCounted = ({ index, offset }: SegmentInfo): boolean =>
    index >= (since ?? 0) && (index < last.index || (index === last.index && offset <= last.start));
  const shownCount = segments.filter(isCounted).length;
  if (shownCount === count || (since === undefined && snapshot)) return undefined;
  if (shownCount > count) return `replica holds ${shownCount} wal segments where ${count} were stored`;
  const lacks = `replica shows ${shownCount} of the ${count} wal segments that were stored`;
  if (hopeless) return lacks;
  throw new LitestreamError('unavailable', `${lacks}: asked again in a moment`);
}

/** A generation has one kind of objects: who could read some of them only could restore nothing. */
function encryptionChange({ generation, recipients, record }: Learning): string | undefined {
  const known = record?.generation === generation ? record : undefined;
  if (known?.recipients === recipients) return undefined;
  if (recipients === undefined) return 'replica is encrypted, and is to be so no longer';
  return known ? 'replica is encrypted for other recipients' : 'replica is not known to be encrypted';
}

/** The first index after the newest snapshot whose WAL does not begin in the replica, although a later one is there. */
function findHole(snapshot: SnapshotInfo | undefined, segments: readonly SegmentInfo[]): string | undefined {
  const last = segments.at(-1);
  if (!last) return undefined;
  const begun = new Set(segments.filter(({ offset }) => offset === 0).map(({ index }) => index));
  const from = snapshot?.index ?? last.index;
  for (let index = from; index <= last.index; index++) {
    if (!begun.has(index)) return `replica misses the start of wal index ${formatIndex(index)}`;
  }
  return undefined;
}

/** The end of a segment, or the start of an index of which nothing is stored. */
type Place = SegmentEnd | { readonly index: number; readonly offset: 0 };

interface Contents {
  readonly snapshot: SnapshotInfo | undefined;
  readonly segments: readonly SegmentInfo[];
}

/** The end of what is stored, undefined when nothing is, or the reason why it cannot be continued. */
async function findEnd(
  learning: Learning,
  { snapshot, segments }: Contents,
): Promise<Place | string | undefined> {
  const { source } = learning;
  const last = segments.at(-1);
  if (!last) return snapshot && startOfIndex(source, snapshot.index);
  const unreadable = `replica's last wal segment cannot be read: ${last.key}`;
  const end = await readEnd(learning, last);
  if (end === 'encrypted') return unreadable;
  if (end && end.offset > WAL_HEADER_SIZE) return provenEnd(source, last, end);
  // A bare WAL header, or bytes that do not decode: the segment before it is the proof, and this one is written anew.
  const rewritable =
    end !== undefined || (source.hasIndex(last.index) && source.indexEnd(last.index) > last.offset);
  if (!rewritable) return unreadable;
  const previous = segments.at(-2);
  if (!previous) return last.offset === 0 ? startOfIndex(source, last.index) : unreadable;
  const previousEnd = await readEnd(learning, previous);
  if (!previousEnd || previousEnd === 'encrypted' || !adjoins(source, previous, previousEnd, last)) {
    return `replica's last wal segments cannot be read: ${previous.key}, ${last.key}`;
  }
  return provenEnd(source, previous, previousEnd);
}

/** Undefined when the segment cannot be decoded; 'encrypted' when it should not need to be decrypted. */
async function readEnd(
  { store, source, recipients, record, signal }: Learning,
  segment: SegmentInfo,
): Promise<SegmentEnd | 'encrypted' | undefined> {
  try {
    const { pageSizeBytes } = source;
    // What is longer than the shadow WAL does not end in it.
    const endLimit = (): number => source.indexEnd(segment.index);
    return await readSegmentEnd(store, segment, { pageSizeBytes, endLimit, signal });
  } catch (error) {
    if (hasCode(error, 'encrypted')) return recipients === undefined ? 'encrypted' : endOf(segment, record);
    if (hasCode(error, 'corrupt', 'unsupported')) return undefined;
    throw error;
  }
}

/** The end of a segment that we have stored, and cannot read. */
function endOf({ index, offset }: SegmentInfo, record: EncryptionRecord | undefined): SegmentEnd | undefined {
  const last = record?.last;
  return last?.start === offset && last.end.index === index ? last.end : undefined;
}

async function provenEnd(
  source: SegmentSource,
  segment: SegmentInfo,
  end: SegmentEnd,
): Promise<Place | string> {
  if (await source.contains(segment.index, end.offset, end.checksum)) return end;
  return `replica's end ${formatIndex(segment.index)}:${end.offset} is not in the shadow wal`;
}

/**
 * Times never decrease in a generation, so a commit that is dated years ahead would date all that follow: a clock was wrong
 * once, or somebody has written it. The store's word counts as well as this machine's, which may have no clock yet.
 */
function misdating(end: Place, last: SegmentInfo, nowMs: number): string | undefined {
  const timeMs = 'timeMs' in end ? end.timeMs : undefined;
  if (timeMs === undefined || timeMs - nowMs <= CLOCK_STEP_MS) return undefined;
  if (timeMs - last.createdAt.getTime() <= MISDATED_MS) return undefined;
  const [dated, stored] = [new Date(timeMs), last.createdAt].map((date) => date.toISOString());
  return `replica's last commit is dated ${dated ?? ''}, and was stored at ${stored ?? ''}`;
}

/** Whether writing on from `end` of `segment` writes the object of `next` anew, under the same key. */
function adjoins(source: SegmentSource, segment: SegmentInfo, end: SegmentEnd, next: SegmentInfo): boolean {
  if (next.index === segment.index) return next.offset === end.offset;
  return (
    next.offset === 0 && next.index === segment.index + 1 && source.indexEnd(segment.index) === end.offset
  );
}

function startOfIndex(source: SegmentSource, index: number): Place | string {
  if (index === source.position().index || source.hasIndex(index)) return { index, offset: 0 };
  return `shadow wal of index ${formatIndex(index)} is gone before it was replicated`;
}
