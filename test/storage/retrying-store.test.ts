import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { randomBytes } from 'node:crypto';
import { LitestreamError } from '../../src/base/errors.ts';
import type { ErrorCode } from '../../src/base/errors.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { GetOptions, ObjectStore } from '../../src/storage/object-store.ts';
import { retryDelayMs } from '../../src/storage/retry.ts';
import { withRetry } from '../../src/storage/retrying-store.ts';
import { openS3Store } from '../../src/storage/s3/s3-store.ts';
import { S3Server } from '../support/s3-server.ts';
import { chunked, describeStore, getBytes, readAll } from './contract.ts';

const FAST = { attempts: 3, baseMs: 1, maxMs: 2 };

function failure(code: ErrorCode): LitestreamError {
  return new LitestreamError(code, `made to fail: ${code}`);
}

/** `store` with some of its methods replaced. */
function altered(store: ObjectStore, changes: Partial<ObjectStore>): ObjectStore {
  return {
    type: store.type,
    location: store.location,
    capabilities: store.capabilities,
    list: (prefix, options) => store.list(prefix, options),
    listPrefixes: (prefix, options) => store.listPrefixes(prefix, options),
    get: (key, options) => store.get(key, options),
    put: (key, body, options) => store.put(key, body, options),
    delete: (keys, options) => store.delete(keys, options),
    close: () => store.close(),
    ...changes,
  };
}

describeStore('RetryingStore', () =>
  Promise.resolve({ store: withRetry(openMemoryStore(), FAST), cleanup: () => Promise.resolve() }),
);

describe('withRetry', () => {
  let memory: ObjectStore;
  beforeEach(() => {
    memory = openMemoryStore();
  });

  /** A function that throws `code` the first `times` times, and counts its calls. */
  function failing(code: ErrorCode, times: number): { (): void; calls: number } {
    const fail = (): void => {
      if (++fail.calls <= times) throw failure(code);
    };
    fail.calls = 0;
    return fail;
  }

  it.each<[ErrorCode, number]>([
    ['unavailable', 3],
    ['timeout', 3],
    ['permission', 1],
    ['not-found', 1],
    ['aborted', 1],
  ])('tries %s %i times in all', async (code, calls) => {
    const fail = failing(code, Infinity);
    const store = withRetry(altered(memory, { delete: () => Promise.resolve().then(fail) }), FAST);
    await expect(store.delete(['k'])).rejects.toMatchObject({ code });
    expect(fail.calls).toBe(calls);
  });

  it('succeeds when the last attempt does', async () => {
    const fail = failing('unavailable', 2);
    const store = withRetry(
      altered(memory, {
        put: (...args) =>
          Promise.resolve()
            .then(fail)
            .then(() => memory.put(...args)),
      }),
      FAST,
    );
    await store.put('k', Buffer.from('x'));
    expect((await getBytes(store, 'k')).toString()).toBe('x');
  });

  it('repeats the put of a stream only while nothing was taken from it', async () => {
    const fail = failing('unavailable', 2);
    const untouched = withRetry(
      altered(memory, {
        put: (...args) =>
          Promise.resolve()
            .then(fail)
            .then(() => memory.put(...args)),
      }),
      FAST,
    );
    await untouched.put('k', chunked(Buffer.from('stream'), 2));
    expect((await getBytes(memory, 'k')).toString()).toBe('stream');

    let puts = 0;
    const taken = withRetry(
      altered(memory, {
        put: async (_key, body) => {
          puts++;
          for await (const chunk of body as AsyncIterable<Uint8Array>)
            expect(chunk.length).toBeGreaterThan(0);
          throw failure('unavailable');
        },
      }),
      FAST,
    );
    await expect(taken.put('other', chunked(Buffer.from('stream'), 2))).rejects.toMatchObject({
      code: 'unavailable',
    });
    expect(puts).toBe(1);
  });

  it('keeps a stream usable for a driver that opened and closed it without a byte', async () => {
    let puts = 0;
    const store = withRetry(
      altered(memory, {
        put: async (key, body) => {
          if (++puts > 1) return memory.put(key, body);
          await (body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]().return?.();
          throw failure('unavailable');
        },
      }),
      FAST,
    );
    await store.put('k', chunked(Buffer.from('stream'), 2));
    expect((await getBytes(memory, 'k')).toString()).toBe('stream');
  });

  /** A store whose bodies break after `limit` bytes each; keeps the ranges that were asked for. */
  function cutting(limit: number, ranges: GetOptions['range'][]): ObjectStore {
    return altered(memory, {
      get: async (key, options) => {
        ranges.push(options?.range);
        const body = await memory.get(key, options);
        const data = Buffer.concat(await readAll(body.stream));
        async function* cut(): AsyncGenerator<Uint8Array> {
          await Promise.resolve();
          if (limit > 0) yield data.subarray(0, limit);
          if (data.length > limit) throw failure('unavailable');
        }
        return { sizeBytes: body.sizeBytes, stream: cut() };
      },
    });
  }

  it('goes on from where a body was cut, however often, as long as it moves', async () => {
    const data = randomBytes(1000);
    await memory.put('k', data);
    const ranges: GetOptions['range'][] = [];
    const store = withRetry(cutting(150, ranges), FAST);
    expect((await getBytes(store, 'k')).equals(data)).toBe(true);
    expect(ranges.slice(0, 3)).toEqual([undefined, { start: 150, end: 1000 }, { start: 300, end: 1000 }]);
    expect(ranges).toHaveLength(7);
    ranges.length = 0;
    expect((await getBytes(store, 'k', { start: 500, end: 900 })).equals(data.subarray(500, 900))).toBe(true);
    expect(ranges).toEqual([
      { start: 500, end: 900 },
      { start: 650, end: 900 },
      { start: 800, end: 900 },
    ]);
  });

  it('gives up a body that does not move', async () => {
    await memory.put('k', Buffer.from('0123'));
    const ranges: GetOptions['range'][] = [];
    const body = await withRetry(cutting(0, ranges), FAST).get('k');
    await expect(readAll(body.stream)).rejects.toMatchObject({ code: 'unavailable' });
    expect(ranges).toHaveLength(3);
  });

  it('does not join the pieces of two objects', async () => {
    await memory.put('k', Buffer.alloc(1000));
    const store = withRetry(cutting(150, []), FAST);
    const body = await store.get('k');
    await memory.put('k', Buffer.alloc(500));
    await expect(readAll(body.stream)).rejects.toThrow(/object k changed its size while it was read/);
  });

  it('starts a listing over without yielding anything twice', async () => {
    for (const key of ['a/1', 'b/2', 'c/3', 'd/4']) await memory.put(key, Buffer.from('x'));
    let yieldable = 0;
    async function* cut<T>(items: AsyncIterable<T>): AsyncGenerator<T> {
      let left = ++yieldable;
      for await (const item of items) {
        if (left-- === 0) throw failure('unavailable');
        yield item;
      }
    }
    const store = withRetry(
      altered(memory, {
        list: (prefix, options) => cut(memory.list(prefix, options)),
        listPrefixes: (prefix, options) => cut(memory.listPrefixes(prefix, options)),
      }),
      { ...FAST, attempts: 10 },
    );
    expect((await readAll(store.list(''))).map((info) => info.key)).toEqual(['a/1', 'b/2', 'c/3', 'd/4']);
    yieldable = 0;
    expect(await readAll(store.listPrefixes(''))).toEqual(['a', 'b', 'c', 'd']);
  });

  it('leaves the wait between two attempts when the signal fires', async () => {
    const controller = new AbortController();
    const store = withRetry(
      altered(memory, {
        delete: () => {
          setImmediate(() => controller.abort());
          return Promise.reject(new LitestreamError('unavailable', 'busy', { retryAfterMs: 3_600_000 }));
        },
      }),
      { ...FAST, signal: controller.signal },
    );
    await expect(store.delete(['k'])).rejects.toMatchObject({ code: 'aborted' });
  });
});

describe('retryDelayMs', () => {
  it('is never less than what the server asked for, up to a minute', () => {
    const options = { attempts: 5, baseMs: 100, maxMs: 1000, random: () => 0.5 };
    const after = (retryAfterMs: number): LitestreamError =>
      new LitestreamError('unavailable', 'x', { retryAfterMs });
    expect(retryDelayMs(failure('unavailable'), 0, options)).toBe(50);
    expect(retryDelayMs(failure('unavailable'), 9, options)).toBe(500);
    expect(retryDelayMs(after(7000), 0, options)).toBe(7000);
    expect(retryDelayMs(after(1), 2, options)).toBe(200);
    expect(retryDelayMs(after(86_400_000), 0, options)).toBe(60_000);
  });
});

describe('withRetry over S3', () => {
  let server: S3Server;
  let store: ObjectStore;

  beforeEach(async () => {
    server = await S3Server.start();
    const config = {
      type: 's3',
      bucket: 'bucket',
      path: '',
      forcePathStyle: true,
      skipVerify: false,
    } as const;
    store = withRetry(openS3Store({ ...config, endpoint: server.endpoint, ...server.credentials }), {
      ...FAST,
      attempts: 6,
    });
  });
  afterEach(async () => {
    await store.close();
    await server.close();
  });

  it('does everything over a server of which every second request fails', async () => {
    const faults = [{ status: 503 }, 'reset', { status: 429, headers: { 'retry-after': '0' } }] as const;
    server.onRequest = ({ number }) =>
      number % 2 === 0 ? 'pass' : faults[((number - 1) / 2) % faults.length]!;
    const data = randomBytes(11 * 1024 * 1024);
    await store.put('a/large', chunked(data, 1_000_000));
    for (let number = 0; number < 20; number++) await store.put(`b/${number}`, Buffer.from('x'));
    expect((await getBytes(store, 'a/large')).equals(data)).toBe(true);
    expect(await readAll(store.list(''))).toHaveLength(21);
    await store.delete(['a/large']);
    expect(await readAll(store.listPrefixes(''))).toEqual(['b']);
  });

  it('reads a large object whose connection breaks again and again', async () => {
    const data = randomBytes(3_000_000);
    server.bucket().put('k', data);
    server.onRequest = () => ({ truncateAt: 700_000 });
    expect((await getBytes(store, 'k')).equals(data)).toBe(true);
    expect(server.counts()).toEqual({ GetObject: 5 });
  });
});
