/** Whether what stands in a replica is one unbroken chain: no byte of WAL missing between two segments, no snapshot ahead of them. */

import {
  type SegmentInfo,
  type SnapshotInfo,
  listGenerations,
  listSegments,
  listSnapshots,
} from '../../src/engine/catalog.ts';
import { readSegmentTrailer, readSnapshotTrailer } from '../../src/engine/trailer-reader.ts';
import { decodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import type { ChainEnd } from '../../src/format/object-trailer.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';

/**
 * Throws, naming the object, unless the segments of each generation follow each other without a hole or an overlap, and
 * each snapshot has those that it needs. For replicas that we wrote and from which retention has deleted nothing.
 */
export async function expectChain(store: ObjectStore): Promise<void> {
  for (const generation of await listGenerations(store)) {
    const segments = await listSegments(store, generation);
    const ends: ChainEnd[] = [];
    for (const segment of segments) ends.push(await follow(store, segment, ends.at(-1)));
    for (const snapshot of await listSnapshots(store, generation)) {
      await expectSegments(store, snapshot, segments, ends);
    }
  }
}

/** Where `segment` ends, when it begins where the one before it did. */
async function follow(
  store: ObjectStore,
  segment: SegmentInfo,
  before: ChainEnd | undefined,
): Promise<ChainEnd> {
  const { key, index, offset } = segment;
  const trailer = await readSegmentTrailer(store, segment, {});
  if (trailer === undefined) throw new Error(`${key} has no trailer`);
  const { end, checksum, previous } = trailer;
  const found = JSON.stringify(previous);
  if (found !== JSON.stringify(before))
    throw new Error(`${key} follows ${found}, but there is ${JSON.stringify(before)}`);
  const start = index === before?.index ? before.offset : 0;
  if (offset !== start) throw new Error(`${key} does not begin at ${start}`);
  const { length } = decodeLz4FrameBytes(await bytesOf(store, key));
  if (offset + length !== end) throw new Error(`${key} ends at ${offset + length}, not ${end}`);
  return { index, offset: end, checksum };
}

async function expectSegments(
  store: ObjectStore,
  snapshot: SnapshotInfo,
  segments: readonly SegmentInfo[],
  ends: readonly ChainEnd[],
): Promise<void> {
  const { key, index } = snapshot;
  const trailer = await readSnapshotTrailer(store, snapshot, {});
  if (trailer === undefined) throw new Error(`${key} has no trailer`);
  const stored = ends.findLast((end) => end.index === index)?.offset ?? 0;
  if (stored < trailer.offset) throw new Error(`${key} needs wal up to ${trailer.offset}, not ${stored}`);
  const first = segments[0];
  if (first !== undefined && first.index > index) throw new Error(`${key} stands before ${first.key}`);
}

/**
 * The same replica, once for each snapshot, with that one and the WAL of its generation alone: nothing stands in for a
 * snapshot that is damaged, or for WAL that is missing.
 */
export async function* snapshotsAlone(store: ObjectStore): AsyncGenerator<ObjectStore> {
  for (const generation of await listGenerations(store)) {
    const segments = await listSegments(store, generation);
    for (const snapshot of await listSnapshots(store, generation)) {
      const replica = openMemoryStore();
      for (const { key } of [snapshot, ...segments]) await replica.put(key, await bytesOf(store, key));
      yield replica;
    }
  }
}

async function bytesOf(store: ObjectStore, key: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of (await store.get(key)).stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}
