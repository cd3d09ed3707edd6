/** What a replica holds: its generations, snapshots and WAL segments, read from an object store's listings. */

import {
  GENERATIONS_PREFIX,
  generationPrefix,
  isGeneration,
  parseSegmentName,
  parseSnapshotName,
  segmentsPrefix,
  snapshotsPrefix,
} from '../format/names.ts';
import { LitestreamError } from '../base/errors.ts';
import type { ChecksumWords } from '../format/object-trailer.ts';
import type { CallOptions, ObjectInfo, ObjectStore } from '../storage/object-store.ts';

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
  /** What the store calls the content, where it does. */
  readonly version?: string | undefined;
  /** Where the chosen path through a generation leaves the segment; undefined: at its end. */
  readonly cut?: Cut | undefined;
}

/** A place inside a segment, and the running checksum there. */
export interface Cut {
  readonly offset: number;
  readonly checksum: ChecksumWords;
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

/** The snapshots and segments of a generation, each sorted, from one listing. Foreign names are ignored. */
export async function listObjects(
  store: ObjectStore,
  generation: string,
  options?: CallOptions,
): Promise<{ snapshots: SnapshotInfo[]; segments: SegmentInfo[] }> {
  const objects: ObjectInfo[] = [];
  const prefix = generationPrefix(generation);
  for await (const object of store.list(prefix, options)) objects.push(object);
  return { snapshots: snapshotsIn(objects, generation), segments: segmentsIn(objects, generation) };
}

/** What has no time has no place in an order: no restore and no deletion can go by it. */
function checkTime(key: string, modifiedAt: Date): void {
  if (!Number.isNaN(modifiedAt.getTime())) return;
  throw new LitestreamError('io', `the store gives no valid time of object ${key}: check the store`);
}

/** The snapshots of a generation by index. Foreign names are ignored. */
export async function listSnapshots(
  store: ObjectStore,
  generation: string,
  options?: CallOptions,
): Promise<SnapshotInfo[]> {
  const objects: ObjectInfo[] = [];
  for await (const object of store.list(snapshotsPrefix(generation), options)) objects.push(object);
  return snapshotsIn(objects, generation);
}

function snapshotsIn(objects: readonly ObjectInfo[], generation: string): SnapshotInfo[] {
  const prefix = snapshotsPrefix(generation);
  const snapshots: SnapshotInfo[] = [];
  for (const { key, sizeBytes, modifiedAt, modifiedNs } of objects) {
    if (!key.startsWith(prefix)) continue;
    const index = parseSnapshotName(key.slice(prefix.length));
    if (index === undefined) continue;
    checkTime(key, modifiedAt);
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
  const objects: ObjectInfo[] = [];
  for await (const object of store.list(segmentsPrefix(generation), options)) objects.push(object);
  return segmentsIn(objects, generation);
}

function segmentsIn(objects: readonly ObjectInfo[], generation: string): SegmentInfo[] {
  const prefix = segmentsPrefix(generation);
  const segments: SegmentInfo[] = [];
  for (const { key, sizeBytes, modifiedAt: createdAt, modifiedNs: createdNs, version } of objects) {
    if (!key.startsWith(prefix)) continue;
    const place = parseSegmentName(key.slice(prefix.length));
    if (!place) continue;
    checkTime(key, createdAt);
    segments.push({ key, generation, ...place, sizeBytes, createdAt, createdNs, version });
  }
  return segments.sort((a, b) => a.index - b.index || a.offset - b.offset);
}
