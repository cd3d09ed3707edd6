/**
 * Restores to the times that a busy run left in its replica: each is exactly the commits up to that time, also from a copy
 * of the replica in which all times of objects are changed.
 */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import { listGenerations, listSegments } from '../../src/engine/catalog.ts';
import { restore } from '../../src/engine/restore.ts';
import { readSegmentTrailer } from '../../src/engine/trailer-reader.ts';
import { decodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { WAL_HEADER_SIZE, readFrameHeader, walFrameSize } from '../../src/sqlite/wal.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openStore } from '../../src/storage/registry.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { until } from '../support/process.ts';
import type { SqliteProcess } from '../support/sqlite.ts';

const PAGE_SIZE = 1024;
const WRITERS = 4;
const TARGETS = 200;
const logger = createLogger({ format: 'default', level: 'ERROR', write: () => undefined });

/** Everything up to the `count`-th commit was there at `timeMs`. */
interface Moment {
  readonly timeMs: number;
  readonly count: number;
}

/** One row and one commit each, by all writers at once, with pauses, so that commits are seen at many times. */
async function write(apps: readonly SqliteProcess[], each: number, random: () => number): Promise<void> {
  await Promise.all(
    apps.map(async (app, writer) => {
      for (let i = 0; i < each; i++) {
        await setTimeout(random() < 0.3 ? 0 : random() * 12);
        await app.exec(`INSERT INTO t (writer, b) VALUES (${writer}, randomblob(${(i % 4) * 60}))`);
      }
    }),
  );
}

/** Counts the commits in the segments up to each entry of their trailers. */
async function readMoments(store: ObjectStore): Promise<Moment[]> {
  const [generation = ''] = await listGenerations(store);
  const moments: Moment[] = [];
  let count = 0;
  for (const segment of await listSegments(store, generation)) {
    const { commits } = (await readSegmentTrailer(store, segment, {}))!;
    const parts: Uint8Array[] = [];
    for await (const part of (await store.get(segment.key)).stream) parts.push(Uint8Array.from(part));
    const data = decodeLz4FrameBytes(Buffer.concat(parts));
    const times = new Map(commits.map(({ offset, timeMs }) => [offset, timeMs]));
    const frameSize = walFrameSize(PAGE_SIZE);
    for (let at = segment.offset === 0 ? WAL_HEADER_SIZE : 0; at < data.byteLength; at += frameSize) {
      if (readFrameHeader(data, at).commitPageCount > 0) count++;
      const timeMs = times.get(segment.offset + at + frameSize);
      if (timeMs !== undefined) moments.push({ timeMs, count });
    }
  }
  return moments;
}

async function idsAt(
  store: ObjectStore,
  timestamp: Date,
  path: string,
): Promise<{ ids: number; max: number }> {
  await restore({ replicas: [{ name: 'file', store }], outputPath: path, timestamp, parallelism: 4, logger });
  const database = new Database(path);
  try {
    return database.prepare('SELECT count(*) AS ids, max(id) AS max FROM t').get() as {
      ids: number;
      max: number;
    };
  } finally {
    database.close();
    for (const suffix of ['', '-wal', '-shm']) await fs.rm(path + suffix, { force: true });
  }
}

/** Each file at another time, in no order: before, among and after the commits. */
async function changeTimes(folder: string, random: () => number): Promise<void> {
  for (const entry of await fs.readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const time = new Date(Date.now() + (random() - 0.5) * 1e7);
    await fs.utimes(join(entry.parentPath, entry.name), time, time);
  }
}

async function busyRun(rig: Rig, random: () => number): Promise<void> {
  const pragmas = [`page_size=${PAGE_SIZE}`, 'journal_mode=WAL', 'wal_autocheckpoint=0'];
  const apps = [await rig.application({ pragmas, timeoutMs: 20_000 })];
  await apps[0]!.exec('CREATE TABLE t (id INTEGER PRIMARY KEY AUTOINCREMENT, writer INTEGER, b BLOB)');
  await apps[0]!.checkpoint('TRUNCATE');
  for (let i = 1; i < WRITERS; i++)
    apps.push(await rig.application({ pragmas: pragmas.slice(2), timeoutMs: 20_000 }));
  const rotations = ['min-checkpoint-page-count: 40', 'snapshot-interval: 400ms'];
  const litestream = await rig.replicate({
    database: rotations.slice(0, 1),
    replica: [`path: ${rig.replica}`, 'sync-interval: 100ms', rotations[1]!],
  });
  await rig.snapshotStored();
  const names = async (part: string) => (await rig.replicaFiles()).filter((name) => name.includes(part));
  await until(async () => {
    await write(apps, 60, random);
    const indexes = new Set((await names('/wal/')).map((name) => name.slice(21, 29)));
    if (indexes.size <= 20 || (await names('/snapshots/')).length <= 2) return false;
    const moments = await readMoments(await openStore({ type: 'file', path: rig.replica }));
    return moments.length > TARGETS / 2;
  });
  await litestream.stop();
}

it(
  'restores to 200 times exactly, from the replica and from a copy with other times',
  { timeout: 180_000 },
  async () => {
    const seed = Math.floor(Math.random() * 2 ** 31);
    let state = seed;
    const random = (): number => (state = (state * 48_271 + 11) % 2_147_483_647) / 2_147_483_647;
    await withRig(async (rig) => {
      await busyRun(rig, random);
      const copy = join(rig.dir, 'copy');
      await fs.cp(rig.replica, copy, { recursive: true });
      await changeTimes(copy, random);
      const stores = [
        await openStore({ type: 'file', path: rig.replica }),
        await openStore({ type: 'file', path: copy }),
      ];
      const moments = await readMoments(stores[0]!);
      for (const [i, { timeMs }] of moments.entries())
        expect(timeMs).toBeGreaterThanOrEqual(moments[i - 1]?.timeMs ?? 0);
      for (let n = 0; n < TARGETS; n++) {
        const chosen = moments[Math.floor(random() * moments.length)]!;
        // Just at a commit, or just before it.
        const timeMs = n % 4 === 3 ? Math.max(moments[0]!.timeMs, chosen.timeMs - 1) : chosen.timeMs;
        const { count } = moments.findLast((moment) => moment.timeMs <= timeMs)!;
        for (const store of stores) {
          const found = await idsAt(store, new Date(timeMs), join(rig.dir, 'restored'));
          expect(found, `${timeMs} from ${store.location} (seed ${seed})`).toEqual({
            ids: count,
            max: count,
          });
        }
      }
    });
  },
);
