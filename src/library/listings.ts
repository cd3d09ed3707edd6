/** What replicas hold, as data: `generations()`, `snapshots()`, `wal()` and `timeline()`. They ask the stores, never the database. */

import { type LitestreamError, wrapError } from '../base/errors.ts';
import { listGenerations, type SegmentInfo, type SnapshotInfo } from '../engine/catalog.ts';
import { changedAt } from '../engine/database-path.ts';
import { askBriefly, generationSpans, listAllSnapshots, listSegmentsOf } from '../engine/replica-listing.ts';
import { type Timeline, readTimeline } from '../engine/timeline.ts';
import { isGeneration } from '../format/names.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { type ReplicaSource, type ResolvedSource, resolveSource } from './source.ts';

export interface ListingOptions extends ReplicaSource {
  /**
   * Called with what keeps a replica from being listed; the others are listed all the same. Without it the listing rejects
   * with the first such error.
   */
  readonly onReplicaError?: ((error: LitestreamError, replica: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Generation {
  /** The replica that holds it. */
  readonly replica: string;
  readonly generation: string;
  /** From its newest object to the last change of the database; to now for a replica URL. In milliseconds. */
  readonly lagMs: number;
  /** Time of its oldest object. */
  readonly start: Date;
  /** Time of its newest object. */
  readonly end: Date;
}

export interface Snapshot {
  readonly replica: string;
  readonly generation: string;
  readonly index: number;
  /** As it is stored, compressed. */
  readonly sizeBytes: number;
  readonly createdAt: Date;
}

export interface WalSegment extends Snapshot {
  /** Where in the WAL of its index the segment starts, in bytes. */
  readonly offset: number;
}

/**
 * The generations in the replicas, by replica and name.
 * @throws LitestreamError 'not-found' when there is no such database, 'unavailable', 'permission'
 */
export async function generations(options: ListingOptions = {}): Promise<Generation[]> {
  const source = await resolveSource(options);
  const { signal } = options;
  const changedAtMs = source.database ? await changedAt(source.database.path) : Date.now();
  return forEachReplica(options, source, async (replica, store) => {
    const spans = await generationSpans(store, await listGenerations(store, { signal }), { signal });
    return spans.map((span) => ({ replica, ...span, lagMs: changedAtMs - span.end.getTime() }));
  });
}

/** The snapshots in the replicas, by replica, generation and index. @throws LitestreamError */
export async function snapshots(options: ListingOptions = {}): Promise<Snapshot[]> {
  const { signal } = options;
  return forEachReplica(options, await resolveSource(options), async (replica, store) =>
    (await listAllSnapshots(store, { signal })).map((item) => snapshotOf(replica, item)),
  );
}

/**
 * The WAL segments in the replicas, by replica, generation, index and offset.
 * @param options.generation only those of this generation
 * @throws LitestreamError
 */
export async function wal(
  options: ListingOptions & { readonly generation?: string | undefined } = {},
): Promise<WalSegment[]> {
  const { signal, generation } = options;
  return forEachReplica(options, await resolveSource(options), async (replica, store) => {
    const names =
      generation === undefined ? await listGenerations(store, { signal }) : [generation].filter(isGeneration);
    const segments = await listSegmentsOf(store, names, { signal });
    return segments.map((item) => ({ ...snapshotOf(replica, item), offset: item.offset }));
  });
}

/** What can be restored from one replica. */
export interface ReplicaTimeline extends Timeline {
  readonly replica: string;
}

/** To which times a database can be restored from each replica, in their order, and what is missing. @throws LitestreamError */
export async function timeline(options: ListingOptions = {}): Promise<ReplicaTimeline[]> {
  const { signal } = options;
  return forEachReplica(options, await resolveSource(options), async (replica, store) => [
    { replica, ...(await readTimeline(store, { signal })) },
  ]);
}

function snapshotOf(replica: string, item: SnapshotInfo | SegmentInfo): Snapshot {
  const { generation, index, sizeBytes, createdAt } = item;
  return { replica, generation, index, sizeBytes, createdAt };
}

/** The rows of all replicas, in the order of the replicas. */
async function forEachReplica<Row>(
  { onReplicaError, signal }: ListingOptions,
  { replicas }: ResolvedSource,
  list: (replica: string, store: ObjectStore) => Promise<Row[]>,
): Promise<Row[]> {
  const { openStore } = await import('../storage/registry.ts');
  const rows: Row[] = [];
  for (const { name, store } of replicas) {
    try {
      const found = await askBriefly(await openStore(store), (opened) => list(name, opened), signal);
      for (const row of found) rows.push(row);
    } catch (error) {
      const failure = wrapError(error, `list replica ${name}`);
      if (onReplicaError === undefined || failure.code === 'aborted') throw failure;
      onReplicaError(failure, name);
    }
  }
  return rows;
}
