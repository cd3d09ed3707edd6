/** Restores from stores that are slow, remote, broken, or made by v0.3.13 in a way that needs care. */

import { copyFileSync, promises as fs, readFileSync, utimesSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Semaphore } from '../../src/base/concurrency.ts';
import { createLogger } from '../../src/base/logger.ts';
import { type RestoreRequest, type RestoreResult, restore } from '../../src/engine/restore.ts';
import { encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { openStore } from '../../src/storage/registry.ts';
import { S3Server } from '../support/s3-server.ts';

const G = '00000000000000aa';

let dir: string;
let lines: string[];

beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), 'restore-'));
  lines = [];
});
afterEach(() => fs.rm(dir, { recursive: true, force: true }));

const output = (): string => join(dir, 'out');

function run(options: Partial<RestoreRequest> & Pick<RestoreRequest, 'replicas'>): Promise<RestoreResult> {
  return restore({
    outputPath: output(),
    parallelism: 4,
    logger: createLogger({ format: 'default', level: 'INFO', write: (line) => lines.push(line) }),
    ...options,
  });
}

async function write(key: string, content: Uint8Array, seconds = 1000): Promise<void> {
  const path = join(dir, 'replica', key);
  await fs.mkdir(join(path, '..'), { recursive: true });
  await fs.writeFile(path, encodeLz4FrameBytes(content));
  utimesSync(path, seconds, seconds);
}

/** The states of a database before and after each of two commits, and its WAL cut at them. */
function twoCommits(sizeBytes: number): { states: Buffer[]; segments: Buffer[]; offsets: number[] } {
  const path = join(dir, 'db');
  const database = new BetterSqlite3(path);
  database.pragma('journal_mode=wal');
  database.pragma('wal_autocheckpoint=0');
  const insert = `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
     INSERT INTO t (b) SELECT randomblob(${sizeBytes / 1000}) FROM n`;
  database.exec(`CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB); ${insert}`);
  database.pragma('wal_checkpoint(TRUNCATE)');
  const states = [readFileSync(path)];
  const offsets = [0];
  const replace = 'DROP TABLE t; CREATE TABLE u (x TEXT); INSERT INTO u SELECT hex(randomblob(40000))';
  for (const sql of [insert, replace]) {
    database.exec(`BEGIN; ${sql}; COMMIT`);
    offsets.push(readFileSync(`${path}-wal`).byteLength);
    // Checkpointed in a copy, since that would let the next commit start the WAL over.
    for (const suffix of ['', '-wal']) copyFileSync(path + suffix, `${path}-copy${suffix}`);
    const copy = new BetterSqlite3(`${path}-copy`);
    copy.pragma('wal_checkpoint(TRUNCATE)');
    states.push(readFileSync(`${path}-copy`));
    copy.close();
  }
  const wal = readFileSync(`${path}-wal`);
  database.close();
  return { states, offsets, segments: [wal.subarray(0, offsets[1]), wal.subarray(offsets[1])] };
}

describe('a snapshot of v0.3.13 that may be later than the requested time', () => {
  /** Commits at 1001 s and 2000 s, and a snapshot of 1000 s with the state after `commits` of them. */
  async function replicaAhead(commits: number): Promise<Buffer[]> {
    const { states, segments, offsets } = twoCommits(400_000);
    await write(snapshotKey(G, 0), states[commits]!);
    for (const [i, segment] of segments.entries())
      await write(segmentKey(G, 0, offsets[i]!), segment, i === 0 ? 1001 : 2000);
    return states;
  }

  const runAt1500 = async (): Promise<RestoreResult> => {
    const store = await openStore({ type: 'file', path: join(dir, 'replica') });
    return run({ replicas: [{ name: 'file', store }], timestamp: new Date(1_500_000) });
  };

  it('is used, with a warning, when the result is sound', async () => {
    const states = await replicaAhead(0);
    await runAt1500();
    expect(readFileSync(output()).equals(states[1]!)).toBe(true);
    expect(lines.some((line) => line.includes('may hold changes later than the requested time'))).toBe(true);
    expect((await fs.readdir(dir)).filter((name) => name.startsWith('out'))).toEqual(['out']);
  });

  it('is refused when the result is not', async () => {
    await replicaAhead(2);
    // The table is there again, but most of its pages are those of the one that came after it.
    await expect(runAt1500()).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining('is later than the requested time') as string,
    });
    expect((await fs.readdir(dir)).filter((name) => name.startsWith('out'))).toEqual([]);
  });
});

describe('a store', () => {
  it('that cannot be listed gives way to the next', async () => {
    const { states, segments } = twoCommits(100_000);
    await write(snapshotKey(G, 0), states[0]!);
    await write(segmentKey(G, 0, 0), segments[0]!);
    const server = await S3Server.start();
    server.onRequest = () => ({ status: 403 });
    const broken = await openStore({ ...s3Config(server), path: 'db' });
    const store = await openStore({ type: 'file', path: join(dir, 'replica') });
    try {
      const replicas = [
        { name: 'broken', store: broken },
        { name: 'file', store },
      ];
      expect((await run({ replicas })).replica).toBe('file');
      expect(readFileSync(output()).equals(states[1]!)).toBe(true);
      expect(lines.some((line) => /cannot list replica, using the others.*broken/.test(line))).toBe(true);
    } finally {
      await broken.close();
      await server.close();
    }
  });

  it.each([256, 1])('that is remote is read in ranges, several at once, with %i places', async (places) => {
    const { states, segments } = twoCommits(10_000_000);
    const server = await S3Server.start();
    const objects: [string, Buffer][] = [
      [snapshotKey(G, 0), states[0]!],
      [segmentKey(G, 0, 0), segments[0]!],
    ];
    for (const [key, content] of objects)
      server.bucket().put(`db/${key}`, Buffer.from(encodeLz4FrameBytes(content)));
    const store = await openStore({ ...s3Config(server), path: 'db' }, { places: new Semaphore(places) });
    try {
      await run({ replicas: [{ name: 's3', store }] });
      expect(readFileSync(output()).equals(states[1]!)).toBe(true);
      const ranges = server.requests.flatMap(({ headers }) => headers.range ?? []);
      // Two objects of about 10 MB in ranges of 4 MiB.
      expect(ranges).toHaveLength(6);
      expect(ranges[0]).toBe('bytes=0-4194303');
    } finally {
      await store.close();
      await server.close();
    }
  });
});

function s3Config(server: S3Server) {
  const { endpoint, credentials } = server;
  return {
    type: 's3',
    bucket: 'bucket',
    endpoint,
    forcePathStyle: true,
    skipVerify: false,
    ...credentials,
  } as const;
}
