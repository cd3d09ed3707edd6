/**
 * Continuing a generation although its meta directory was lost, as with a container that has no volume for it: if the
 * present WAL holds the very commit at which a replica ends, what follows it is all that the replica misses.
 */

import { hasCode } from '../base/errors.ts';
import type { Position } from '../format/position.ts';
import type { ReadConnection } from '../sqlite/connection.ts';
import type { WalChecksum } from '../sqlite/wal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { listGenerations, listSegments, listSnapshots, type SegmentInfo } from './catalog.ts';
import type { DatabaseFiles } from './database-files.ts';
import { readSegmentEnd } from './replica-segment.ts';
import { ShadowWal, emptyChain } from './shadow-wal.ts';
import { type CopyOutcome, WalFollower } from './wal-follower.ts';

/** Where a generation ends in a replica. */
export interface StoredEnd extends Position {
  /** Running checksum there. */
  readonly checksum: WalChecksum;
}

/** Asks the replicas, each for the generation that it got last. Never rejects. */
export type FindStoredEnds = (pageSizeBytes: number) => Promise<readonly StoredEnd[]>;

/** So long the start of replication waits for what replicas hold; then a new generation begins. */
export const STORED_END_TIMEOUT_MS = 10_000;

/**
 * The end of the generation that got a segment last, if it can be restored and continued.
 * @throws LitestreamError of the store, 'aborted'
 */
export async function findStoredEnd(
  store: ObjectStore,
  pageSizeBytes: number,
  signal: AbortSignal,
): Promise<StoredEnd | undefined> {
  let newest: SegmentInfo | undefined;
  for (const generation of await listGenerations(store, { signal })) {
    const segment = (await listSegments(store, generation, { signal })).at(-1);
    if (segment && (!newest || segment.createdAt > newest.createdAt)) newest = segment;
  }
  if (!newest) return undefined;
  const { generation } = newest;
  if ((await listSnapshots(store, generation, { signal })).length === 0) return undefined;
  try {
    // The WAL of which it may be the end is not known here: the time for all this is limited.
    const endLimit = (): number => Infinity;
    return { generation, ...(await readSegmentEnd(store, newest, { pageSizeBytes, endLimit, signal })) };
  } catch (error) {
    if (hasCode(error, 'corrupt', 'unsupported')) return undefined;
    throw error;
  }
}

export interface ContinueParts {
  readonly metaPath: string;
  readonly files: DatabaseFiles;
  /** In a read transaction. */
  readonly reader: ReadConnection;
  readonly pageSizeBytes: number;
  /** Copies until writers are out of the way. */
  readonly start: (follower: WalFollower) => Promise<CopyOutcome>;
}

/**
 * A follower of the generation that one of `ends` belongs to, which has copied the whole present WAL and found that end
 * in it. Undefined when none is in it: then the reader is as before and a new generation has to be started.
 * @throws LitestreamError
 */
export async function continueStored(
  ends: readonly StoredEnd[],
  parts: ContinueParts,
): Promise<{ follower: WalFollower; shadow: ShadowWal } | undefined> {
  const { metaPath, files, reader, pageSizeBytes, start } = parts;
  for (const { generation, index, offset, checksum } of ends) {
    const shadow = await ShadowWal.create(metaPath, { continued: generation });
    let continued = false;
    try {
      const follower = new WalFollower(files, shadow, reader, emptyChain(index), pageSizeBytes);
      const outcome = await start(follower);
      continued = outcome.kind === 'ok' && (await shadow.contains(index, offset, checksum));
      if (continued) return { follower, shadow };
    } finally {
      if (!continued) await shadow.close();
    }
  }
  return undefined;
}
