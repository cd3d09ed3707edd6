/** Small objects that hold far more than they should: what of it is written, and what is said. */

import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type RestoreRequest, restore } from '../../src/engine/restore.ts';
import { readSnapshot } from '../../src/engine/snapshot-content.ts';
import { verifyReplica } from '../../src/engine/verify-alone.ts';
import { decodeLz4Frame, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { snapshotKey } from '../../src/format/names.ts';
import { xxh32 } from '../../src/format/xxh32.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { type LogLine, recordingLogger } from './replica-rig.ts';
import { GENERATION } from './restore-source.ts';

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
