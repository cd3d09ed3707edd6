/** Reads from a generation's objects which generations it follows. */

import { hasCode } from '../base/errors.ts';
import type { Origin } from '../format/origin-frame.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import { readSegmentTrailer, readSnapshotTrailer } from './trailer-reader.ts';

/**
 * What the newest snapshot says, or where it says nothing the last or the first segment: at the price of a few small
 * requests. Undefined where nothing is said, or cannot be read: then the times of the store tell the order.
 * @param listing snapshots by index, segments by index and offset
 * @throws what the store throws
 */
export async function readOrigin(
  store: ObjectStore,
  listing: { readonly snapshots: readonly SnapshotInfo[]; readonly segments: readonly SegmentInfo[] },
  signal: AbortSignal | undefined,
): Promise<Origin | undefined> {
  const { snapshots, segments } = listing;
  const snapshot = snapshots.at(-1);
  const said = snapshot && (await unlessUnreadable(() => readSnapshotTrailer(store, snapshot, { signal })));
  if (said?.origin) return said.origin;
  for (const segment of new Set([segments.at(-1), segments[0]])) {
    const trailer = segment && (await unlessUnreadable(() => readSegmentTrailer(store, segment, { signal })));
    if (trailer?.origin) return trailer.origin;
  }
  return undefined;
}

/** Damage is for a restore or a verification to report; 'not-found' is retention at work, 'encrypted' a host without keys. */
async function unlessUnreadable<T>(read: () => Promise<T | undefined>): Promise<T | undefined> {
  try {
    return await read();
  } catch (error) {
    if (hasCode(error, 'corrupt', 'unsupported', 'not-found', 'encrypted')) return undefined;
    throw error;
  }
}
