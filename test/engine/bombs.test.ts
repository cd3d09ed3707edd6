/** Small objects that hold far more than they should: what of it is written, and what is said. */

import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type RestoreRequest, restore } from '../../src/engine/restore.ts';
import { readSnapshot } from '../../src/engine/snapshot-content.ts';
import { verifyReplica } from '../../src/engine/verify-alone.ts';
import { requireSpace } from '../../src/engine/verify-folder.ts';
import { type VerificationRequest, verify } from '../../src/engine/verify.ts';
import { decodeLz4Frame, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { xxh32 } from '../../src/format/xxh32.ts';
import { openFileStore } from '../../src/storage/file/file-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { FaultStore, type LogLine, Replicas, allStored, recordingLogger, until } from './replica-rig.ts';
import { GENERATION, RestoreSource } from './restore-source.ts';

const KEY = snapshotKey(GENERATION, 0);
const MIB = 1 << 20;

let dir: string;
let store: ObjectStore;
let log: LogLine[];

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'bombs-'));
  store = openMemoryStore();
  log = [];
});

afterEach(() => rmSync(dir, { recursive: true, force: true }));

function request(more: Partial<RestoreRequest> = {}): RestoreRequest {
  return {
    replicas: [{ name: 'test', store }],
    outputPath: join(dir, 'out/db'),
    parallelism: 2,
    logger: recordingLogger(log),
    ...more,
  };
}

/** A database of one table, with zeros behind it that no page of it refers to, to a given size. */
function padded(sizeBytes: number): Buffer {
  const database = new Database(':memory:');
  try {
    database.pragma('page_size = 4096');
    database.exec('CREATE TABLE t (x)');
    const content = database.serialize();
    return Buffer.concat([content, Buffer.alloc(sizeBytes - content.byteLength)]);
  } finally {
    database.close();
  }
}

/** Chunks of which nobody may ask for more than are given. */
async function* limited(...chunks: Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
  await Promise.reject(new Error('more was asked for than is needed to know'));
}

/** An object whose header says that it holds as many bytes. */
function announcing(sizeBytes: number, content: Uint8Array): Buffer {
  const object = Buffer.from(encodeLz4FrameBytes(content, { contentSizeBytes: content.byteLength }));
  object.writeBigUInt64LE(BigInt(sizeBytes), 6);
  object[14] = (xxh32(object.subarray(4, 14)) >>> 8) & 0xff;
  return object;
}

describe('a snapshot of what is no database', () => {
  const info = { key: KEY, generation: GENERATION, index: 0, sizeBytes: 1, createdAt: new Date(0) };

  it.each([
    ['at once', [Buffer.alloc(200)]],
    ['in pieces', [Buffer.alloc(60), Buffer.alloc(60)]],
  ])('is refused before any of it is used: its first bytes come %s', async (_how, chunks) => {
    const taken: number[] = [];
    const content = { object: info, chunks: limited(...chunks), end: () => expect.unreachable() };
    const reading = readSnapshot(content, (chunk) => {
      taken.push(chunk.byteLength);
      return undefined;
    });
    await expect(reading).rejects.toMatchObject({
      code: 'corrupt',
      message: 'file is not a SQLite database',
    });
    expect(taken).toEqual([]);
  });

  it('is refused without being read to its end', async () => {
    const object = encodeLz4FrameBytes(Buffer.alloc(64 * MIB));
    // Whoever comes to the end finds that it is cut.
    await store.put(KEY, object.subarray(0, -4));
    await expect(restore(request())).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining(`snapshot ${KEY}: file is not a SQLite database`) as string,
    });
    expect(readdirSync(dir)).toEqual([]);
  });
});

it('nothing is used of an object beyond the size that it says', async () => {
  let sizeBytes = 0;
  const object = announcing(5 * MIB, Buffer.alloc(64 * MIB));
  const read = async (): Promise<void> => {
    for await (const chunk of decodeLz4Frame(limited(object))) sizeBytes += chunk.byteLength;
  };
  await expect(read()).rejects.toMatchObject({
    code: 'corrupt',
    message: expect.stringContaining(`more than the ${5 * MIB} bytes that its header says`) as string,
  });
  expect(sizeBytes).toBeLessThanOrEqual(5 * MIB);
});

describe('a snapshot that ends inside a page', () => {
  it('is damaged, by its name, to restores and to the verification of the replica alone', async () => {
    await store.put(KEY, encodeLz4FrameBytes(padded(8192 + 4095)));
    const message = expect.stringContaining(
      `snapshot ${KEY}: the database file ends inside a page: 12287 bytes in pages of 4096`,
    ) as string;
    await expect(restore(request())).rejects.toMatchObject({ code: 'corrupt', message });
    expect(existsSync(join(dir, 'out'))).toBe(false);
    const { signal } = new AbortController();
    const result = await verifyReplica({
      name: 'test',
      store,
      parallelism: 2,
      signal,
      logger: request().logger,
    });
    expect(result).toMatchObject({ result: 'failed', problems: [{ object: KEY, message }] });
  });
});

describe('a snapshot that does not say how large it is', () => {
  const full = (what: RegExp): unknown =>
    expect.objectContaining({ code: 'disk-full', message: expect.stringMatching(what) as string });

  it('leaves the rest of the disk to others', async () => {
    const object = encodeLz4FrameBytes(padded(64 * MIB));
    await store.put(KEY, object);
    let largest = 0;
    const spaceOf = (path: string) => {
      const sizeBytes = statSync(path).size;
      largest = Math.max(largest, sizeBytes);
      return Promise.resolve({ freeBytes: 40 * MIB - sizeBytes, limitBytes: Infinity });
    };
    await expect(restore(request({ spaceOf }))).rejects.toEqual(
      full(
        /00000000\.snapshot\.lz4: not enough room for .*db\.restore-\w+\.tmp: .* of it are written, .* left free/,
      ),
    );
    expect(largest).toBeGreaterThan(30 * MIB);
    expect(largest).toBeLessThan(40 * MIB);
    expect(readdirSync(dir)).toEqual([]);
  });

  it('is restored where nobody else takes room, however little the disk says that there is', async () => {
    const content = padded(12 * MIB);
    await store.put(KEY, encodeLz4FrameBytes(content));
    await restore(request({ spaceOf: () => Promise.resolve({ freeBytes: 1000, limitBytes: Infinity }) }));
    expect(readFileSync(join(dir, 'out/db')).equals(content)).toBe(true);
  });

  it('has no more than a restore may take', async () => {
    await store.put(KEY, encodeLz4FrameBytes(padded(16 * MIB)));
    await expect(restore(request({ limitBytes: 16 * MIB - 1 }))).rejects.toEqual(
      full(/than 16\.8 MB \(16777215 bytes\)/),
    );
    await restore(request({ limitBytes: 16 * MIB }));
  });
});

it('a restore that may not be so large as the snapshot says writes nothing', async () => {
  const content = padded(16 * MIB);
  // Whoever comes to the end finds that it is cut.
  const object = encodeLz4FrameBytes(content, { contentSizeBytes: content.byteLength }).subarray(0, -4);
  await store.put(KEY, object);
  await expect(restore(request({ limitBytes: 8 * MIB }))).rejects.toMatchObject({ code: 'disk-full' });
});

it('WAL makes a database no larger than a restore may take', async () => {
  mkdirSync(join(dir, 'source'));
  const source = new RestoreSource(join(dir, 'source'));
  for (let i = 0; i < 20; i++) source.commit();
  const path = source.replica;
  const { byteLength } = source.close();
  const replicas = [{ name: 'test', store: openFileStore({ type: 'file', path }) }];
  await expect(restore(request({ replicas, limitBytes: byteLength - 1 }))).rejects.toMatchObject({
    code: 'disk-full',
  });
  expect(existsSync(join(dir, 'out'))).toBe(false);
  await restore(request({ replicas, limitBytes: byteLength }));
});

describe('a verification', () => {
  it.each([
    { neededBytes: 8192, freeBytes: 1024 * MIB, limitBytes: 512 * MIB },
    { neededBytes: 600 * MIB, freeBytes: 1024 * MIB, limitBytes: 750 * MIB },
    { neededBytes: 936 * MIB, freeBytes: 1024 * MIB, limitBytes: 960 * MIB },
  ])('takes some of what is free: %j', async ({ neededBytes, freeBytes, limitBytes }) => {
    expect(await requireSpace(dir, neededBytes, () => Promise.resolve(freeBytes))).toBe(limitBytes);
  });

  it("does not fill the application's disk, and names what would", async () => {
    const replicas = new Replicas();
    try {
      const { source } = replicas;
      source.commit();
      await allStored(replicas.start(store));
      const { generation } = source.position();
      const key = snapshotKey(generation, 0);
      await store.put(key, encodeLz4FrameBytes(padded(96 * MIB)));
      const verification: VerificationRequest = {
        name: 'test',
        store,
        source,
        logger: recordingLogger(log),
        depth: 'latest',
        retentionMs: 0,
        signal: new AbortController().signal,
        storedThrough: () => Promise.resolve(),
        unstored: () => undefined,
        snapshotKey: () => undefined,
        freeBytes: () => Promise.resolve(130 * MIB),
      };
      const { result, message } = await verify(verification);
      expect(message).toContain(`restore snapshot ${key}: the database would become larger than 68.2 MB`);
      expect(result).toBe('inconclusive');
      expect(readdirSync(source.metaPath)).toEqual([]);
    } finally {
      await replicas.end();
    }
  });
});

/** Counts what is read of objects, which come in small pieces. */
class CountingStore extends FaultStore {
  readonly readBytes = new Map<string, number>();

  override async get(...[key, options]: Parameters<ObjectStore['get']>): ReturnType<ObjectStore['get']> {
    const { stream, ...more } = await super.get(key, options);
    const { readBytes } = this;
    const pieces = async function* (): AsyncGenerator<Uint8Array> {
      for await (const chunk of stream) {
        for (let at = 0; at < chunk.byteLength; at += 65536) {
          const piece = chunk.subarray(at, at + 65536);
          readBytes.set(key, (readBytes.get(key) ?? 0) + piece.byteLength);
          yield piece;
        }
      }
    };
    return { ...more, stream: pieces() };
  }
}

describe('a last segment that is longer than the WAL whose end it should be', () => {
  it.each(['with its index', 'without its index'])('is not read to its end at a start: %s', async (how) => {
    const replicas = new Replicas();
    const counting = new CountingStore(store);
    try {
      const { source } = replicas;
      source.commit();
      const first = replicas.start(counting);
      await allStored(first);
      await first.stop(AbortSignal.timeout(10_000));
      const { generation, index } = source.position();
      const key = segmentKey(generation, index, 0);
      const wal = source.shadow.get(index)!;
      const content = Buffer.concat([wal, randomBytes(16 * MIB)]);
      const object = encodeLz4FrameBytes(content);
      await store.put(key, object);
      counting.readBytes.clear();
      if (how === 'without its index') source.shadow.delete(index);
      replicas.start(counting);
      await until('it is looked at', () => source.restarts.length > 0);
      expect(source.restarts[0]).toMatch(/^replica's end 00000000:\d+ is not in the shadow wal$/);
      expect(counting.readBytes.get(key)).toBeLessThan(8 * MIB);
    } finally {
      await replicas.end();
    }
  });
});
