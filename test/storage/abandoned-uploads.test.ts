/** What uploads that died leave in a store, and that it goes in time, and nothing else. */

import { mkdir, mkdtemp, readdir, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { AbandonedUploads } from '../../src/engine/abandoned-uploads.ts';
import { withCounts } from '../../src/storage/counting-store.ts';
import { withEncryption } from '../../src/storage/encryption/encrypting-store.ts';
import { openFileStore } from '../../src/storage/file/file-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { withRetry } from '../../src/storage/retrying-store.ts';
import { openS3Store } from '../../src/storage/s3/s3-store.ts';
import { type LogLine, recordingLogger, until } from '../engine/replica-rig.ts';
import { newAgeKey } from '../support/age.ts';
import { S3Server } from '../support/s3-server.ts';
import { readAll } from './contract.ts';

const HOUR = 3600_000;
const old = (): Date => new Date(Date.now() - 25 * HOUR);
const young = (): Date => new Date(Date.now() - 23 * HOUR);

let log: LogLine[];
beforeEach(() => {
  log = [];
});

/** Like those that the program opens. */
async function decorated(store: ObjectStore): Promise<ObjectStore> {
  const { recipient } = await newAgeKey();
  const encrypting = await withEncryption(withCounts(store), { recipients: [recipient], identities: [] });
  return withRetry(withCounts(encrypting), { attempts: 2, baseMs: 1 });
}

async function sweep(store: ObjectStore): Promise<void> {
  await new AbandonedUploads(await decorated(store), recordingLogger(log)).remove(Date.now());
}

describe('of a file replica', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'abandoned-'));
  });
  afterEach(() => rm(root, { recursive: true, force: true }));

  it('temporary files go that nothing was written to for a day', async () => {
    const folder = join(root, 'generations/0123456789abcdef/wal');
    await mkdir(folder, { recursive: true });
    await mkdir(join(root, 'generations/fedcba9876543210/snapshots'), { recursive: true });
    const files: [string, Date][] = [
      ['generations/0123456789abcdef/wal/00000000_00000000.wal.lz4', old()],
      ['generations/0123456789abcdef/wal/00000000_00001000.wal.lz4.tmp', old()],
      ['generations/0123456789abcdef/wal/00000000_00002000.wal.lz4.1.tmp', old()],
      ['generations/0123456789abcdef/wal/00000000_00003000.wal.lz4.tmp', young()],
      ['generations/fedcba9876543210/snapshots/00000000.snapshot.lz4.tmp', old()],
      ['somebody-elses.tmp', old()],
    ];
    for (const [name, time] of files) {
      await writeFile(join(root, name), 'x');
      await utimes(join(root, name), time, time);
    }
    await sweep(openFileStore({ type: 'file', path: root }));
    expect((await readdir(root, { recursive: true })).filter((name) => name.includes('.')).sort()).toEqual([
      'generations/0123456789abcdef/wal/00000000_00000000.wal.lz4',
      'generations/0123456789abcdef/wal/00000000_00003000.wal.lz4.tmp',
      'somebody-elses.tmp',
    ]);
    // Also the folders in which nothing else was.
    expect(await readdir(join(root, 'generations'))).toEqual(['0123456789abcdef']);
    expect(log).toMatchObject([
      { level: 'INFO', message: 'abandoned uploads deleted', attributes: { n: 3 } },
    ]);
    log = [];
    await sweep(openFileStore({ type: 'file', path: root }));
    expect(log).toEqual([]);
  });
});

describe('of an s3 replica', () => {
  let server: S3Server;
  let store: ObjectStore;
  beforeEach(async () => {
    server = await S3Server.start();
    const { endpoint, credentials } = server;
    const place = { bucket: 'bucket', path: 'db', forcePathStyle: true, skipVerify: false };
    store = openS3Store({ type: 's3', ...place, endpoint, ...credentials });
  });
  afterEach(async () => {
    await store.close();
    await server.close();
  });

  const left = (): string[] => [...server.bucket().uploads.values()].map(({ key }) => key).sort();

  it('uploads in parts end that were begun a day ago, page by page', async () => {
    const bucket = server.bucket();
    for (let i = 10; i < 35; i++) bucket.begin(`db/generations/0123456789abcdef/wal/000000${i}`, old());
    bucket.begin('db/generations/0123456789abcdef/wal/00000010', old());
    const others = ['db/generations-of-others/x', 'db-other/generations/x', 'generations/x'];
    for (const key of others) bucket.begin(key, old());
    bucket.begin('db/generations/young', young());
    await sweep(store);
    expect(left()).toEqual([...others, 'db/generations/young'].sort());
    expect(log).toMatchObject([{ message: 'abandoned uploads deleted', attributes: { n: 26 } }]);
  });

  it('an upload of our own goes on, however long it takes', async () => {
    let go: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (go = resolve));
    async function* slowly(): AsyncGenerator<Uint8Array> {
      yield Buffer.alloc(11 << 20);
      await gate;
      yield Buffer.alloc(1);
    }
    const key = 'generations/0123456789abcdef/snapshots/00000000.snapshot.lz4';
    const upload = store.put(key, slowly());
    await until('it is under way', () => server.counts().UploadPart);
    expect(await store.removeAbandoned!('generations/', new Date(Date.now() + HOUR))).toBe(0);
    go();
    await upload;
    expect((await readAll(store.list('generations/'))).map((info) => info.key)).toEqual([key]);
  });

  it('that may not be listed or ended is said once', async () => {
    server.bucket().begin('db/generations/x', old());
    const uploads = new AbandonedUploads(await decorated(store), recordingLogger(log));
    for (const operation of ['ListMultipartUploads', 'AbortMultipartUpload']) {
      server.onRequest = (request) => (request.operation === operation ? { status: 403 } : 'pass');
      await uploads.remove(Date.now());
    }
    expect(log).toMatchObject([
      { level: 'WARN', message: 'abandoned uploads are left to the store: not permitted' },
    ]);
    server.onRequest = () => 'pass';
    await uploads.remove(Date.now());
    expect(left()).toEqual([]);
  });

  it('that the store does not know how to list is no failure', async () => {
    server.onRequest = ({ operation }) => (operation === 'ListMultipartUploads' ? { status: 400 } : 'pass');
    await sweep(store);
    expect(log).toMatchObject([{ level: 'WARN', message: 'abandoned uploads are not deleted' }]);
  });
});

it('is nothing where nothing is ever left', async () => {
  await sweep(openMemoryStore());
  expect(log).toEqual([]);
});
