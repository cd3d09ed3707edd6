/** Times and chains that a replica tells of itself: written by replicas, read by restores, whatever the store's times. */

import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { type SegmentInfo, listSegments, listSnapshots } from '../../src/engine/catalog.ts';
import { Replica } from '../../src/engine/replica.ts';
import { restore } from '../../src/engine/restore.ts';
import { readSegmentTrailer, readSnapshotTrailer } from '../../src/engine/trailer-reader.ts';
import { decodeLz4FrameBytes, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import type { SegmentTrailer } from '../../src/format/object-trailer.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectInfo, ObjectStore } from '../../src/storage/object-store.ts';
import { FakeSource, FaultStore, OPTIONS, recordingLogger, until } from './replica-rig.ts';

const START_MS = 1_600_000_000_000;

/** A store whose objects have the times that the test gives them. */
class DatedStore extends FaultStore {
  /** Epoch milliseconds. */
  dateOf: (key: string) => number = () => START_MS;

  override async *list(...args: Parameters<ObjectStore['list']>): AsyncGenerator<ObjectInfo> {
    for await (const info of super.list(...args))
      yield { ...info, modifiedAt: new Date(this.dateOf(info.key)) };
  }
}

let dir: string;
let source: FakeSource;
let store: DatedStore;
let replica: Replica | undefined;
let nowMs: number;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'reach-'));
  source = new FakeSource(1024);
  nowMs = START_MS;
  source.clock = () => nowMs;
  store = new DatedStore(openMemoryStore());
});

afterEach(async () => {
  await replica?.stop(AbortSignal.abort());
  replica = undefined;
  source.close();
  rmSync(dir, { recursive: true, force: true });
});

function start(): void {
  replica = new Replica({
    options: { ...OPTIONS, syncIntervalMs: 1 },
    source,
    openStore: () => Promise.resolve(store),
    logger: recordingLogger([]),
  });
  replica.start();
}

async function stop(): Promise<void> {
  await replica?.stop(new AbortController().signal);
  replica = undefined;
}

const stored = (): Promise<unknown> => until('everything is stored', () => replica?.lagging() === undefined);

/** Commits of a second each, every one a segment of its own. */
async function commits(count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    nowMs += 1000;
    source.commit(1, 300);
    await stored();
  }
}

const segments = (): Promise<SegmentInfo[]> => listSegments(store, source.position().generation);
const trailerOf = async (segment: SegmentInfo): Promise<SegmentTrailer> =>
  (await readSegmentTrailer(store, segment, {}))!;

async function contentOf(key: string): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const part of (await store.get(key)).stream) parts.push(Uint8Array.from(part));
  return decodeLz4FrameBytes(Buffer.concat(parts));
}

/** Makes an object one of v0.3.13's. */
async function stripTrailer(key: string): Promise<void> {
  await store.put(key, encodeLz4FrameBytes(await contentOf(key)));
}

/** Rows in the database that is restored, or why there is none. */
async function rowsAt(ms: number | undefined, generation?: string): Promise<number | LitestreamError> {
  const outputPath = join(dir, 'out');
  const timestamp = ms === undefined ? undefined : new Date(ms);
  try {
    const replicas = [{ name: 'test', store }];
    await restore({
      replicas,
      outputPath,
      timestamp,
      generation,
      parallelism: 2,
      logger: recordingLogger([]),
    });
    // Rows are only ever added, and their ids count them: no SQLite is needed to see which is the last.
    return rowsIn(readFileSync(outputPath));
  } catch (error) {
    if (error instanceof LitestreamError) return error;
    throw error;
  } finally {
    rmSync(outputPath, { force: true });
  }
}

/** Counts the cells of table leaf pages, except those of the schema on page 1. */
function rowsIn(database: Buffer): number {
  let rows = 0;
  for (let at = 1024; at < database.byteLength; at += 1024) {
    if (database[at] === 0x0d) rows += database.readUInt16BE(at + 3);
  }
  return rows;
}

describe('what a replica writes', () => {
  it('names the end of the segment before, across indexes and processes', async () => {
    start();
    await commits(2);
    source.checkpoint();
    await commits(1);
    await stop();
    await commits(1);
    start();
    await stored();
    source.checkpoint();
    await commits(2);
    const found = await segments();
    expect(found.length).toBeGreaterThanOrEqual(6);
    let previous: SegmentTrailer | undefined;
    for (const segment of found) {
      const trailer = await trailerOf(segment);
      const { index, end: offset, checksum } = previous ?? {};
      expect(trailer.previous).toEqual(previous && { index, offset, checksum });
      expect(trailer.end).toBe(segment.offset + (await contentOf(segment.key)).byteLength);
      previous = trailer;
    }
    const [snapshot] = await listSnapshots(store, source.position().generation);
    const trailer = await readSnapshotTrailer(store, snapshot!, {});
    expect(trailer).toMatchObject({
      index: 0,
      pageSizeBytes: 1024,
      sizeBytes: (await contentOf(snapshot!.key)).byteLength,
    });
  });

  it('never goes back in time, though the clock does', async () => {
    start();
    await commits(2);
    nowMs -= 60_000;
    await commits(3);
    nowMs += 120_000;
    await commits(1);
    const times = await Promise.all(
      (await segments()).map(async (one) => (await trailerOf(one)).commits.at(-1)!.timeMs),
    );
    const top = START_MS + 2000;
    expect(times).toEqual([START_MS + 1000, top, top, top, top, START_MS + 2000 + 60_000 + 3000 + 1000]);
    // What was seen while the clock was behind counts as seen when it was set back.
    expect(await rowsAt(top - 1)).toBe(1);
    expect(await rowsAt(top)).toBe(5);
  });

  it('has the times of an outage, not of the upload', async () => {
    start();
    await commits(1);
    store.fault = ({ operation }) => {
      if (operation === 'put') throw new LitestreamError('unavailable', 'down');
    };
    for (let i = 0; i < 3; i++) {
      nowMs += 1000;
      source.commit(1, 300);
    }
    nowMs += 3_600_000;
    store.fault = undefined;
    await stored();
    const last = (await segments()).at(-1)!;
    expect((await trailerOf(last)).commits.map(({ timeMs }) => timeMs - START_MS)).toEqual([
      2000, 3000, 4000,
    ]);
    for (const rows of [1, 2, 3, 4]) expect(await rowsAt(START_MS + rows * 1000 + 999)).toBe(rows);
  });
});

describe('a restore', () => {
  it('takes the generation with the newest commit, however new its objects are', async () => {
    start();
    await commits(3);
    const first = source.position().generation;
    nowMs += 1000;
    source.restartGeneration('test');
    await until(
      'the next generation is stored',
      async () => (await listSnapshots(store, source.position().generation)).length,
    );
    await commits(2);
    const second = source.position().generation;
    for (const newest of [first, second]) {
      store.dateOf = (key) => START_MS + (key.includes(newest) ? 1e9 : 0);
      expect(await rowsAt(undefined)).toBe(5);
      expect(await rowsAt(START_MS + 2500)).toBe(2);
      expect(await rowsAt(START_MS + 3500)).toBe(3);
      expect(await rowsAt(START_MS + 5000)).toBe(4);
      expect(await rowsAt(undefined, first)).toBe(3);
    }
  });

  it.each([0, 1e9])(
    'to a time after v0.3.13 was replaced is exact, objects copied after %i ms',
    async (copiedMs) => {
      start();
      await commits(3);
      source.checkpoint();
      await commits(4);
      const [snapshot] = await listSnapshots(store, source.position().generation);
      const found = await segments();
      for (const { key } of [snapshot!, ...found.slice(0, 4)]) await stripTrailer(key);
      const dates = new Map(found.map(({ key }, i) => [key, START_MS + copiedMs + (i + 1) * 1000 + 500]));
      store.dateOf = (key) => dates.get(key) ?? START_MS + copiedMs;
      for (const rows of [5, 6, 7]) {
        expect(await rowsAt(START_MS + rows * 1000)).toBe(rows);
        expect(await rowsAt(START_MS + rows * 1000 + 999)).toBe(rows);
      }
      // Before that the times of the objects count, as they do for v0.3.13.
      if (copiedMs === 0) expect(await rowsAt(START_MS + 4600)).toBe(4);
      expect(await rowsAt(undefined)).toBe(7);
    },
  );

  it('to a time before v0.3.13 took over is exact; after that the times of objects count', async () => {
    start();
    await commits(5);
    const found = await segments();
    for (const { key } of found.slice(3)) await stripTrailer(key);
    const dates = new Map(found.map(({ key }, i) => [key, START_MS + (i + 1) * 1000 + 500]));
    store.dateOf = (key) => dates.get(key) ?? START_MS;
    for (const rows of [1, 2, 3]) expect(await rowsAt(START_MS + rows * 1000)).toBe(rows);
    expect(await rowsAt(START_MS + 4499)).toBe(3);
    expect(await rowsAt(START_MS + 4500)).toBe(4);
    expect(await rowsAt(START_MS + 1e6)).toBe(5);
  });

  it('needs no more than a few ends of objects to find a time among many', async () => {
    start();
    await commits(40);
    for (const rows of [1, 17, 40]) {
      store.requests.length = 0;
      expect(await rowsAt(START_MS + rows * 1000 + 1)).toBe(rows);
      const gets = store.requests.filter(({ operation }) => operation === 'get').length;
      // The plan itself, and the objects that it needs.
      expect(gets - (rows + 1)).toBeLessThanOrEqual(12);
    }
  });

  it('to a time that only lost snapshots could give is refused, and says what is missing', async () => {
    start();
    await commits(2);
    const first = source.position().generation;
    nowMs += 1000;
    source.restartGeneration('test');
    const { generation } = source.position();
    await until('the next generation is stored', async () => (await listSnapshots(store, generation)).length);
    await commits(2);
    const [snapshot] = await listSnapshots(store, generation);
    await store.delete([snapshot!.key]);
    expect(await rowsAt(nowMs)).toMatchObject({
      code: 'gap',
      message: expect.stringContaining(snapshot!.key) as string,
    });
    // The generation before went on after that time: it is the one.
    expect(await rowsAt(START_MS + 1500)).toBe(1);
    expect(await rowsAt(nowMs, first)).toBe(2);
  });
});
