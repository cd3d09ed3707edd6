/** What a replica holds: its generations, snapshots and WAL segments, read from an object store's listings. */

import {
  GENERATIONS_PREFIX,
  isGeneration,
  parseSegmentName,
  parseSnapshotName,
  segmentsPrefix,
  snapshotsPrefix,
} from '../format/names.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';

export interface SnapshotInfo {
  readonly key: string;
  readonly generation: string;
  readonly index: number;
  /** Compressed. */
  readonly sizeBytes: number;
  readonly createdAt: Date;
  /** Nanoseconds beyond the milliseconds of `createdAt`, where they are known. */
  readonly createdNs?: number | undefined;
}

export interface SegmentInfo {
  readonly key: string;
  readonly generation: string;
  readonly index: number;
  /** Where in the WAL of that index the segment starts. */
  readonly offset: number;
  /** Compressed. */
  readonly sizeBytes: number;
  readonly createdAt: Date;
  /** As in SnapshotInfo. */
  readonly createdNs?: number | undefined;
}

/** The first millisecond (epoch) at which an object was there. */
export function thereFromMs({ createdAt, createdNs = 0 }: SnapshotInfo | SegmentInfo): number {
  return createdAt.getTime() + (createdNs > 0 ? 1 : 0);
}

/** Names of all generations, sorted by name. Foreign names are ignored. */
export async function listGenerations(store: ObjectStore, options?: CallOptions): Promise<string[]> {
  const generations: string[] = [];
  for await (const name of store.listPrefixes(GENERATIONS_PREFIX, options)) {
    if (isGeneration(name)) generations.push(name);
  }
  return generations.sort();
}

/** The snapshots of a generation by index. Foreign names are ignored. */
export async function listSnapshots(
  store: ObjectStore,
  generation: string,
  options?: CallOptions,
): Promise<SnapshotInfo[]> {
  const prefix = snapshotsPrefix(generation);
  const snapshots: SnapshotInfo[] = [];
  for await (const { key, sizeBytes, modifiedAt, modifiedNs } of store.list(prefix, options)) {
    const index = parseSnapshotName(key.slice(prefix.length));
    if (index === undefined) continue;
    snapshots.push({ key, generation, index, sizeBytes, createdAt: modifiedAt, createdNs: modifiedNs });
  }
  return snapshots.sort((a, b) => a.index - b.index);
}

/** The WAL segments of a generation by index and offset. Foreign names are ignored. */
export async function listSegments(
  store: ObjectStore,
  generation: string,
  options?: CallOptions,
): Promise<SegmentInfo[]> {
  const prefix = segmentsPrefix(generation);
  const segments: SegmentInfo[] = [];
  for await (const { key, sizeBytes, modifiedAt, modifiedNs } of store.list(prefix, options)) {
    const place = parseSegmentName(key.slice(prefix.length));
    if (!place) continue;
    segments.push({ key, generation, ...place, sizeBytes, createdAt: modifiedAt, createdNs: modifiedNs });
  }
  return segments.sort((a, b) => a.index - b.index || a.offset - b.offset);
}
