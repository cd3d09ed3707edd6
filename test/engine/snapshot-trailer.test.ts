/** What a snapshot says of itself is compared with the database file and the WAL when it is restored. */

import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { listSnapshots } from '../../src/engine/catalog.ts';
import { Replica } from '../../src/engine/replica.ts';
import { restore } from '../../src/engine/restore.ts';
import { readSnapshotTrailer } from '../../src/engine/trailer-reader.ts';
import { decodeLz4FrameBytes, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { type SnapshotTrailer, encodeTrailer } from '../../src/format/object-trailer.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { FakeSource, OPTIONS, recordingLogger, until } from './replica-rig.ts';

const FRAME = 24 + 4096;

let source: FakeSource;
let store: ObjectStore;
let key: string;
let content: Uint8Array;
let trailer: SnapshotTrailer;

beforeAll(async () => {
  source = new FakeSource();
  store = openMemoryStore();
  source.commit(3);
  source.commit(3);
  const replica = new Replica({
    options: OPTIONS,
    source,
    openStore: () => Promise.resolve(store),
    logger: recordingLogger([]),
  });
  replica.start();
  await until('everything is stored', () => replica.lagging() === undefined);
  source.commit(3);
  await replica.stop(AbortSignal.timeout(10_000));
  const [snapshot] = await listSnapshots(store, source.position().generation);
  key = snapshot!.key;
  trailer = (await readSnapshotTrailer(store, snapshot!, {}))!;
  const parts: Uint8Array[] = [];
  for await (const part of (await store.get(key)).stream) parts.push(Uint8Array.from(part));
  content = decodeLz4FrameBytes(Buffer.concat(parts));
});

afterAll(() => source.close());

/** Restores from a snapshot that is whole by every checksum of its own, and says what `changes` say. */
async function restoreSaying(changes: Partial<SnapshotTrailer>, body = content): Promise<void> {
  const forged = encodeLz4FrameBytes(body, {
    contentSizeBytes: body.byteLength,
    trailer: (contentChecksum) => encodeTrailer({ ...trailer, contentChecksum, ...changes }),
  });
  await store.put(key, forged);
  const outputPath = join(source.dir, `restored-${Math.random()}`);
  await restore({
    replicas: [{ name: 'r', store }],
    outputPath,
    parallelism: 1,
    logger: recordingLogger([]),
  });
}

it('tells size, pages, checksum and position of what it holds', async () => {
  expect(trailer).toMatchObject({ sizeBytes: content.byteLength, pageSizeBytes: 4096, index: 0 });
  expect(trailer.offset).toBeGreaterThan(0);
  expect(await source.contains(0, trailer.offset, trailer.checksum)).toBe(true);
  await restoreSaying({});
});

it.each<[string, () => Partial<SnapshotTrailer>, RegExp]>([
  ['another size', () => ({ sizeBytes: trailer.sizeBytes + 4096 }), /another database file/],
  ['another size of pages', () => ({ pageSizeBytes: 1024 }), /another database file/],
  [
    'another checksum of the content',
    () => ({ contentChecksum: (trailer.contentChecksum ^ 1) >>> 0 }),
    /another database file/,
  ],
  ['another generation', () => ({ generation: 'f'.repeat(16) }), /another object/],
  ['another index', () => ({ index: 1 }), /another object/],
  [
    'another checksum in the WAL',
    () => ({ checksum: [(trailer.checksum[0] ^ 1) >>> 0, trailer.checksum[1]] }),
    /does not belong to this WAL/,
  ],
  ['an offset between commits', () => ({ offset: trailer.offset - FRAME }), /does not belong to this WAL/],
  ['an offset inside of a frame', () => ({ offset: trailer.offset - 8 }), /does not belong to this WAL/],
  ['an offset that the WAL does not have', () => ({ offset: trailer.offset + 1000 * FRAME }), /missing WAL/],
])('is refused when it says %s', async (_, changes, message) => {
  await expect(restoreSaying(changes())).rejects.toMatchObject({
    message: expect.stringMatching(message) as string,
  });
});

it('is refused when the file is another one that is whole, too', async () => {
  const changed = Buffer.from(content);
  changed[changed.byteLength - 1]! ^= 1;
  const { contentChecksum } = trailer;
  await expect(restoreSaying({ contentChecksum }, changed)).rejects.toThrow(/another database file/);
  await expect(restoreSaying({ sizeBytes: trailer.sizeBytes }, content.subarray(0, -4096))).rejects.toThrow(
    /another database file/,
  );
});
