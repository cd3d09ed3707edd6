import { describe, expect, it } from 'vitest';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { requestCounts, withCounts } from '../../src/storage/counting-store.ts';
import type { StoreOperation } from '../../src/storage/counting-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import { openStore } from '../../src/storage/registry.ts';
import { S3Server } from '../support/s3-server.ts';
import { chunked, describeStore, getBytes, readAll } from './contract.ts';

describeStore('CountingStore', () =>
  Promise.resolve({ store: withCounts(openMemoryStore()), cleanup: () => Promise.resolve() }),
);

describe('openStore', () => {
  it('opens a folder', async () => {
    const path = await mkdtemp(join(tmpdir(), 'registry-'));
    try {
      const store = await openStore({ type: 'file', path });
      expect(store).toMatchObject({ type: 'file', location: path, capabilities: { local: true } });
      await store.put('a/b', Buffer.from('x'));
      expect(await readFile(join(path, 'a/b'), 'utf8')).toBe('x');
    } finally {
      await rm(path, { recursive: true });
    }
  });
});

describe('requestCounts', () => {
  const counted = (type: string, operation: StoreOperation): [count: number, bytes: number] => {
    const found = requestCounts().find((tally) => tally.type === type && tally.operation === operation);
    return found === undefined ? [0, 0] : [found.count, found.bytes];
  };

  it('counts operations and bytes, failures included, over all stores of a type', async () => {
    const server = await S3Server.start();
    const config = {
      type: 's3',
      bucket: 'bucket',
      path: '',
      forcePathStyle: true,
      skipVerify: false,
    } as const;
    const settings = { ...config, endpoint: server.endpoint, ...server.credentials };
    const [first, second] = [await openStore(settings), await openStore(settings)];
    try {
      expect(server.requests).toEqual([]);
      await first.put('a', Buffer.from('12345'));
      await second.put('b', chunked(Buffer.alloc(6_000_000), 100_000));
      expect(counted('s3', 'PUT')).toEqual([2, 6_000_005]);
      await getBytes(first, 'a', { start: 1, end: 3 });
      await expect(first.get('absent')).rejects.toMatchObject({ code: 'not-found' });
      expect(counted('s3', 'GET')).toEqual([2, 2]);
      await readAll(first.list(''));
      await readAll(first.listPrefixes(''));
      expect(counted('s3', 'LIST')).toEqual([2, 0]);
      await second.delete(['a', 'b']);
      expect(counted('s3', 'DELETE')).toEqual([1, 0]);
    } finally {
      await first.close();
      await second.close();
      await server.close();
    }
  });
});
