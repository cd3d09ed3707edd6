/**
 * Whether a replica still holds what was stored, and nothing else: asked of the store, and of an object by its name before
 * a list is believed that does not show it. Lists may be old, cut, or empty for a while; what is asked for by name is not.
 */

import { LitestreamError, hasCode } from '../base/errors.ts';
import { segmentKey } from '../format/names.ts';
import type { CallOptions, ObjectInfo, ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import { type SegmentEnd, type StoredSegment, readSegmentEnd } from './replica-segment.ts';
import type { SegmentSource } from './segment-source.ts';
import type { SegmentPlace, StoredObjects } from './stored-objects.ts';
import { readSegmentTrailer } from './trailer-reader.ts';

/** So many objects that a list shows or leaves out without reason are looked at, at each look: the rest is like them. */
const MAX_LOOKS = 8;

/** What is wrong with a replica. */
export interface Finding {
  /**
   * `lost`: an object that was stored is gone. `foreign`: another process has written the object, other content than ours;
   * `twin`: the same content in another division, as of a process that follows the same WAL; `kept`: an earlier attempt of
   * ours that can neither be read nor overwritten.
   */
  readonly kind: 'lost' | 'foreign' | 'twin' | 'kept';
  readonly key: string;
}

/** The finding in words. */
export function describeFinding({ kind, key }: Finding): string {
  switch (kind) {
    case 'lost':
      return `replica no longer holds ${key}`;
    case 'kept':
      return `an earlier attempt of ${key} is in the replica, and may not be overwritten`;
    case 'foreign':
    case 'twin':
      return `another process has written ${key} of the replica`;
  }
}

export interface PresenceTarget {
  readonly store: ObjectStore;
  readonly source: SegmentSource;
  readonly held: StoredObjects;
  readonly signal: AbortSignal;
}

/** The object of that key; undefined when it is not there. One small request. */
export async function findObject(
  store: ObjectStore,
  key: string,
  options: CallOptions,
): Promise<ObjectInfo | undefined> {
  if (store.stat) return store.stat(key, options);
  return findListed(store, key, options);
}

async function findListed(
  store: ObjectStore,
  key: string,
  options: CallOptions,
): Promise<ObjectInfo | undefined> {
  for await (const object of store.list(key, options)) if (object.key === key) return object;
  return undefined;
}

/** Whether an object is gone: neither found by its name nor shown. @throws what the store throws */
export async function isGone(store: ObjectStore, key: string, options: CallOptions): Promise<boolean> {
  if ((await findObject(store, key, options)) !== undefined) return false;
  return store.stat === undefined || (await findListed(store, key, options)) === undefined;
}

/**
 * Looks for the newest snapshot and the last segment, at the price of two small requests.
 * @returns what is wrong with them; undefined: they are there, as they were stored
 */
export async function lookForNewest({
  store,
  source,
  held,
  signal,
}: PresenceTarget): Promise<Finding | undefined> {
  const { snapshot, last } = held;
  if (!snapshot) return undefined;
  const [foundSnapshot, foundLast] = await Promise.all([
    findObject(store, snapshot.key, { signal }),
    last && findObject(store, last.key, { signal }),
  ]);
  // A newer one may have taken its place meanwhile, with the right to remove this one.
  if (held.snapshot !== snapshot) return undefined;
  if (!foundSnapshot && (await isGone(store, snapshot.key, { signal })))
    return { kind: 'lost', key: snapshot.key };
  if (!last || last.index < snapshot.index) return undefined;
  if (!foundLast)
    return (await isGone(store, last.key, { signal })) ? { kind: 'lost', key: last.key } : undefined;
  const isOfSize = foundLast.sizeBytes === last.sizeBytes;
  if (held.last !== last || (isOfSize && !held.isDoubtful(last, foundLast))) return undefined;
  return whose({ store, source, held, signal }, segmentOf(held, last, foundLast));
}

function segmentOf(held: StoredObjects, { index, start }: SegmentPlace, found: ObjectInfo): SegmentInfo {
  const { key, sizeBytes, modifiedAt: createdAt, version } = found;
  return { key, generation: held.generation, index, offset: start, sizeBytes, createdAt, version };
}

/** What a list says, and whether it may be acted on. */
export interface ListJudgement {
  /** Undefined: nothing is wrong with the replica. */
  readonly finding: Finding | undefined;
  /** Objects that are there are not shown: who deletes by such a list deletes too much. */
  readonly lies: boolean;
}

/**
 * Compares a list of all objects of the generation with what was stored.
 * @param until the last segment when the list was asked for
 */
export async function judgeList(
  target: PresenceTarget,
  list: { readonly snapshots: readonly SnapshotInfo[]; readonly segments: readonly SegmentInfo[] },
  before: { readonly snapshot: SnapshotInfo | undefined; readonly last: SegmentPlace | undefined },
): Promise<ListJudgement> {
  const { store, held, signal } = target;
  const { missing, foreign, doubtful } = held.compare(list.segments, before.last);
  const newest = before.snapshot?.key;
  const isShown = newest === undefined || list.snapshots.some(({ key }) => key === newest);
  const unseen = isShown ? missing : [newest, ...missing];
  for (const key of unseen.slice(0, MAX_LOOKS)) {
    // Of an index before a snapshot that was taken meanwhile nothing is needed any more.
    if (held.snapshot !== before.snapshot) break;
    if ((await findObject(store, key, { signal })) === undefined)
      return { finding: { kind: 'lost', key }, lies: false };
  }
  let finding: Finding | undefined;
  // Of what is doubtful the newest are looked at first, and others the next time: they are mostly our own.
  const looks = [...foreign.slice(0, MAX_LOOKS), ...doubtful.slice(-MAX_LOOKS).toReversed()];
  for (const segment of looks.slice(0, MAX_LOOKS)) {
    finding = await whose(target, segment);
    if (finding) break;
  }
  return { finding, lies: unseen.length > 0 };
}

/**
 * Who has written a segment that is not as this process knows it.
 * @returns undefined when it is ours all the same: of a request that took effect late, or not there at all
 */
export async function whose(
  { store, source, held, signal }: PresenceTarget,
  segment: SegmentInfo,
): Promise<Finding | undefined> {
  const { key, index, sizeBytes } = segment;
  const place = { index, start: segment.offset };
  const isOfSize = held.sizeOf(place) === sizeBytes;
  try {
    const end = await endOf({ store, source, held, signal }, segment, isOfSize);
    const isInChain = source.hasIndex(index) && (await source.contains(index, end.offset, end.checksum));
    const isProven = isInChain || (!source.hasIndex(index) && held.mayEndIn(place, end.checksum));
    if (held.has(place) && isProven && (held.endOf(place) ?? end.offset) === end.offset) {
      held.proven(place, segment);
      return undefined;
    }
    return { kind: isInChain ? 'twin' : 'foreign', key };
  } catch (error) {
    if (hasCode(error, 'not-found')) return undefined;
    if (isOfSize && hasCode(error, 'encrypted')) {
      // Who cannot read it knows no more than its size.
      held.proven(place, segment);
      return undefined;
    }
    if (hasCode(error, 'corrupt', 'unsupported', 'encrypted')) return { kind: 'foreign', key };
    throw error;
  }
}

/** Where a segment ends: one of the size that was stored says so itself, if it is ours; any other is read. */
async function endOf(
  { store, source, held, signal }: PresenceTarget,
  segment: SegmentInfo,
  isOfSize: boolean,
): Promise<Pick<SegmentEnd, 'offset' | 'checksum'>> {
  const trailer = isOfSize ? await readSegmentTrailer(store, segment, { signal }) : undefined;
  if (trailer) return { offset: trailer.end, checksum: trailer.checksum };
  const { index, offset: start } = segment;
  const { pageSizeBytes } = source;
  // Of an index that is not here any more what is known to be stored counts; anything else is not ours.
  const known = held.has({ index, start }) ? (held.endOf({ index, start }) ?? Infinity) : 0;
  const endLimit = (): number => (source.hasIndex(index) ? source.indexEnd(index) : known);
  return readSegmentEnd(store, segment, { pageSizeBytes, endLimit, signal });
}

/**
 * What was to be stored where an object is already: the same, of a request whose answer was lost or that a process before
 * this one has sent, or another process's.
 * @throws LitestreamError 'encrypted' when it cannot be read here, and what the store throws
 */
export async function asSent(
  { store, source, held, signal }: PresenceTarget,
  { index, start, end }: SegmentPlace & { readonly end: number },
): Promise<StoredSegment | Finding> {
  const key = segmentKey(held.generation, index, start);
  try {
    const found = await findObject(store, key, { signal });
    if (!found) throw new LitestreamError('unavailable', `put ${key}: it is there and cannot be found`);
    const segment = segmentOf(held, { index, start }, found);
    const { pageSizeBytes } = source;
    const endLimit = (): number => source.indexEnd(index);
    const actual = await readSegmentEnd(store, segment, { pageSizeBytes, endLimit, signal });
    const isInChain = await source.contains(index, actual.offset, actual.checksum);
    if (isInChain && actual.offset === end) {
      const { sizeBytes, modifiedAt, version } = found;
      return { end: actual, sizeBytes, modifiedAt, version };
    }
    return { kind: isInChain ? 'twin' : 'foreign', key };
  } catch (error) {
    if (hasCode(error, 'corrupt', 'unsupported')) return { kind: 'foreign', key };
    throw error;
  }
}
