import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Semaphore } from '../../src/base/concurrency.ts';
import { withLimit } from '../../src/storage/limited-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openStore } from '../../src/storage/registry.ts';
import { S3Server } from '../support/s3-server.ts';
import { chunked, describeStore, getBytes, readAll } from './contract.ts';

const MIB = 1024 * 1024;

// Some of the contract's tests make a call while another is under way, none more than three.
describeStore('withLimit', () =>
  Promise.resolve({
    store: withLimit(openMemoryStore(), new Semaphore(3)),
    cleanup: () => Promise.resolve(),
  }),
);

describe('withLimit', () => {
  const free = (places: Semaphore): boolean => {
    const release = places.tryAcquire();
    release?.();
    return release !== undefined;
  };

  it('holds a place for a body until its end, however it comes', async () => {
    const places = new Semaphore(1);
    const store = withLimit(openMemoryStore(), places);
    await store.put('k', randomBytes(200_000));
    for (const end of ['read', 'left', 'not begun']) {
      const { stream } = await store.get('k');
      expect(free(places), end).toBe(false);
      if (end === 'not begun') await stream[Symbol.asyncIterator]().return?.();
      else for await (const chunk of stream) if (end === 'left' && chunk.length > 0) break;
      expect(free(places), end).toBe(true);
    }
    await expect(store.get('absent')).rejects.toMatchObject({ code: 'not-found' });
    expect(free(places)).toBe(true);
  });

  it('lets other calls through between two items of a listing', async () => {
    const store = withLimit(openMemoryStore(), new Semaphore(1));
    for (const key of ['a', 'b', 'c']) await store.put(key, Buffer.from(key));
    for await (const { key } of store.list('')) {
      expect((await getBytes(store, key)).toString()).toBe(key);
    }
  });

  it('ends the wait for a place when the signal fires', async () => {
    const places = new Semaphore(1);
    const store = withLimit(openMemoryStore(), places);
    const release = await places.acquire();
    const aborting = new AbortController();
    const { signal } = aborting;
    const calls = [
      () => store.put('k', Buffer.from('x'), { signal }),
      () => store.get('k', { signal }),
      () => store.delete(['k'], { signal }),
      () => readAll(store.list('', { signal })),
    ].map((call) => call());
    setImmediate(() => aborting.abort());
    for (const { status } of await Promise.allSettled(calls)) expect(status).toBe('rejected');
    release();
    expect(free(places)).toBe(true);
    expect(await readAll(store.list(''))).toEqual([]);
  });
});

describe('stores that share places', () => {
  let server: S3Server;
  let stores: ObjectStore[] = [];
  let running = 0;
  let most = 0;

  beforeEach(async () => {
    server = await S3Server.start();
    [running, most] = [0, 0];
    server.onRequest = () => {
      most = Math.max(most, ++running);
      return 'pass';
    };
    server.onAnswer = () => running--;
  });

  afterEach(async () => {
    for (const store of stores) await store.close();
    await server.close();
  });

  async function open(places: Semaphore, count: number): Promise<ObjectStore[]> {
    const { endpoint, credentials } = server;
    const config = {
      type: 's3',
      bucket: 'bucket',
      endpoint,
      forcePathStyle: true,
      skipVerify: false,
    } as const;
    const paths = Array.from({ length: count }, (_, i) => `db${i}`);
    stores = await Promise.all(
      paths.map((path) => openStore({ ...config, ...credentials, path }, { places })),
    );
    return stores;
  }

  const body = randomBytes(22 * MIB);
  const upload = (store: ObjectStore): Promise<unknown> => store.put('big', chunked(body, 500_000));

  it('have no more requests under way than there are places, parts of uploads included', async () => {
    // None is answered before three are there.
    server.beforeAnswer = async () => {
      while (most < 3) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const open3 = await open(new Semaphore(3), 3);
    await Promise.all(open3.map(upload));
    for (const store of open3) expect((await getBytes(store, 'big')).equals(body)).toBe(true);
    expect(server.counts().UploadPart).toBe(15);
    expect(most).toBe(3);
  });

  it('get on with a single place', async () => {
    const places = new Semaphore(1);
    await Promise.all((await open(places, 2)).map(upload));
    expect(most).toBe(1);
    expect(places.tryAcquire()).toBeDefined();
  });

  it('give all places back when uploads fail', async () => {
    const places = new Semaphore(4);
    const [first, second] = await open(places, 2);
    server.onRequest = ({ operation }) => (operation === 'UploadPart' ? { status: 403 } : 'pass');
    await expect(upload(first!)).rejects.toMatchObject({ code: 'permission' });
    const aborting = new AbortController();
    server.onRequest = ({ operation }) => {
      if (operation === 'UploadPart') setImmediate(() => aborting.abort());
      return operation === 'UploadPart' ? 'stall' : 'pass';
    };
    const aborted = second!.put('big', chunked(body, 500_000), { signal: aborting.signal });
    await expect(aborted).rejects.toMatchObject({ code: 'aborted' });
    const taken = Array.from({ length: 5 }, () => places.tryAcquire() !== undefined);
    expect(taken).toEqual([true, true, true, true, false]);
  });
});
