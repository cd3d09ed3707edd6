/** The contract of object-store.ts as tests, run for every driver. Faults of the network are in contract-network.ts. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { randomBytes } from 'node:crypto';
import { isKey } from '../../src/storage/key.ts';
import type { ObjectInfo, ObjectStore } from '../../src/storage/object-store.ts';
import type { Address } from '../support/fault-proxy.ts';
import { describeNetwork } from './contract-network.ts';

export interface StoreUnderTest {
  readonly store: ObjectStore;
  /** Ends what `make` began, apart from the store itself. */
  readonly cleanup: () => Promise<void>;
  /** True where the server knows no condition, or ignores it: what is there may be overwritten all the same. */
  readonly ignoresConditions?: boolean;
}

/** How a test wants its store; all of it means nothing to a store without a network. */
export interface MakeOptions {
  /** Gives the address to connect to in the place of the server's own: a proxy that the test can make fail. */
  readonly through: (server: Address) => Promise<Address>;
  /** Makes the credentials wrong: this in the place of the secret (it is base64). */
  readonly wrongSecret?: string;
  /** What the driver takes for its limits; undefined: its defaults. */
  readonly timeouts?: { readonly connectMs: number; readonly idleMs: number };
}

/** Opens an empty store, where nobody else is. */
export type MakeStore = (options: MakeOptions) => Promise<StoreUnderTest>;

/** What the suite must know of a driver that talks to a server. */
export interface Network {
  /** Whether faults can be HTTP statuses. */
  readonly protocol: 'http' | 'tcp';
  /** True where the server takes any credentials, or none. */
  readonly anyCredentials?: boolean;
}

const MIB = 1024 * 1024;

/** Objects in the longest list: on three pages, as no driver asks for more than 1,000 at once. */
const MANY = 2100;
/** For all of them, where each takes its time. */
const MANY_TIMEOUT_MS = 600_000;

/** A place for a store in its bucket or folder, with characters that want care in URLs, signatures and shells. */
export const ODD_PATH = "my db/50% + Zoë's";

/** Everything that a stream yields. */
export async function readAll<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

/** The bytes of an object, after checking that its announced size is right. */
export async function getBytes(
  store: ObjectStore,
  key: string,
  range?: { start: number; end?: number },
): Promise<Buffer> {
  const body = await store.get(key, { range });
  const bytes = Buffer.concat(await readAll(body.stream));
  expect(bytes.length).toBe(body.sizeBytes);
  return bytes;
}

/** `data` as a stream that reuses one buffer for all its chunks, as producers may. */
export async function* chunked(data: Uint8Array, size: number): AsyncGenerator<Uint8Array, void, undefined> {
  const buffer = Buffer.alloc(size);
  for (let offset = 0; offset < data.length; offset += size) {
    const chunk = data.subarray(offset, offset + size);
    buffer.set(chunk);
    yield buffer.subarray(0, chunk.length);
    buffer.fill(0xee);
    await Promise.resolve();
  }
}

async function keysUnder(store: ObjectStore, prefix: string): Promise<string[]> {
  return (await readAll(store.list(prefix))).map((info) => info.key).sort();
}

const bytes = (text: string): Uint8Array => Buffer.from(text);

/**
 * Defines the suite `name` for the empty store that `make` opens before each test.
 * @param network - for a driver that talks to a server: adds the tests of what a network does to it.
 */
export function describeStore(name: string, make: MakeStore, network?: Network): void {
  describe(name, () => {
    let store: ObjectStore;
    let cleanup: () => Promise<void>;
    let ignoresConditions: boolean;

    beforeEach(async () => {
      const made = await make({ through: (server) => Promise.resolve(server) });
      ({ store, cleanup, ignoresConditions = false } = made);
    });
    afterEach(async () => {
      await store.close();
      await store.close();
      await cleanup();
    });

    describe('put and get', () => {
      it.each([0, 1, 4096, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 12 * MIB])(
        'round trips %i bytes, from memory and from a stream',
        async (size) => {
          const data = randomBytes(size);
          const info = await store.put('a/whole', data);
          expect(info).toMatchObject({ key: 'a/whole', sizeBytes: size });
          expect(Math.abs(info.modifiedAt.getTime() - Date.now())).toBeLessThan(60_000);
          expect((await getBytes(store, 'a/whole')).equals(data)).toBe(true);
          const streamed = await store.put('a/streamed', chunked(data, 300_001));
          expect(streamed.sizeBytes).toBe(size);
          expect((await getBytes(store, 'a/streamed')).equals(data)).toBe(true);
        },
      );

      it.each([1, 100 * MIB])('takes a wrong size hint of %i bytes', async (sizeHintBytes) => {
        const data = randomBytes(6 * MIB);
        await store.put('hinted', chunked(data, 65536), { sizeHintBytes });
        expect((await getBytes(store, 'hinted')).equals(data)).toBe(true);
      });

      it('takes empty chunks and an empty stream', async () => {
        async function* chunks(): AsyncGenerator<Uint8Array> {
          yield bytes('');
          yield bytes('x');
          yield bytes('');
          await Promise.resolve();
        }
        await store.put('x', chunks());
        expect((await getBytes(store, 'x')).toString()).toBe('x');
        await store.put('empty', chunked(bytes(''), 1));
        expect(await getBytes(store, 'empty')).toHaveLength(0);
      });

      it('gives ranges, clipped to the object', async () => {
        await store.put('digits', bytes('0123456789'));
        const range = async (start: number, end?: number): Promise<string> =>
          (await getBytes(store, 'digits', end === undefined ? { start } : { start, end })).toString();
        expect(await range(0, 1)).toBe('0');
        expect(await range(3, 7)).toBe('3456');
        expect(await range(7)).toBe('789');
        expect(await range(0)).toBe('0123456789');
        expect(await range(8, 100)).toBe('89');
        expect(await range(10)).toBe('');
        expect(await range(50, 60)).toBe('');
        await expect(store.get('absent', { range: { start: 5 } })).rejects.toMatchObject({
          code: 'not-found',
        });
      });

      it('shows nothing of an object before its put is done', async () => {
        const data = randomBytes(11 * MIB);
        await store.put('old', bytes('before'));
        for (const key of ['old', 'new/key']) {
          async function* watched(): AsyncGenerator<Uint8Array> {
            yield* chunked(data, 256 * 1024);
            expect(await keysUnder(store, '')).not.toContain('new/key');
            expect(await readAll(store.listPrefixes(''))).not.toContain('new');
            expect((await getBytes(store, 'old')).toString()).toBe('before');
          }
          if (key === 'new/key') await store.put('old', bytes('before'));
          await store.put(key, watched());
          expect((await getBytes(store, key)).equals(data)).toBe(true);
        }
        expect(await keysUnder(store, '')).toEqual(['new/key', 'old']);
      });

      it('overwrites', async () => {
        await store.put('k', bytes('longer than the next'));
        await store.put('k', bytes('next'));
        expect((await getBytes(store, 'k')).toString()).toBe('next');
        expect(await readAll(store.list(''))).toMatchObject([{ key: 'k', sizeBytes: 4 }]);
      });

      it('rejects with not-found for a missing object, also where it is a prefix', async () => {
        await store.put('folder/object', bytes('x'));
        for (const key of ['absent', 'folder', 'folder/absent', 'other/deep/absent']) {
          await expect(store.get(key)).rejects.toMatchObject({ code: 'not-found' });
        }
      });

      it('puts what is not there yet and leaves what is, where the storage knows how', async () => {
        const putIfAbsent = async (text: string): Promise<boolean | undefined> => {
          try {
            return await store.putIfAbsent?.('new', bytes(text));
          } catch (error) {
            expect(error).toMatchObject({ code: 'unsupported' });
            return undefined;
          }
        };
        const written = [await putIfAbsent('first'), await putIfAbsent('second')];
        const [first, second] = written;
        if (first === undefined) {
          expect(written).toEqual([undefined, undefined]);
          expect(store.putIfAbsent === undefined || ignoresConditions).toBe(true);
          expect(await keysUnder(store, '')).toEqual([]);
          return;
        }
        expect(first).toBe(true);
        if (!ignoresConditions) expect(second).toBe(false);
        // A server that ignores the condition says that it wrote, and did.
        expect((await getBytes(store, 'new')).toString()).toBe(second === true ? 'second' : 'first');
      });

      // The larger ones in parts.
      it.each([5, 12 * MIB])('overwrites nothing when asked not to, with %i bytes', async (size) => {
        const [mine, others] = [randomBytes(size), randomBytes(size)];
        const ifAbsent = true;
        for (const inMemory of [true, false]) {
          const bodyOf = (data: Buffer) => (inMemory ? data : chunked(data, 300_001));
          await store.delete(['new']);
          const { sizeBytes } = await store.put('new', bodyOf(mine), { ifAbsent });
          expect(sizeBytes).toBe(size);
          expect((await getBytes(store, 'new')).equals(mine)).toBe(true);
          const code = await store.put('new', bodyOf(others), { ifAbsent }).then(
            () => undefined,
            (error: unknown) => (error as { code?: unknown }).code,
          );
          if (!ignoresConditions || code !== undefined) expect(code).toBe('exists');
          // A server that ignores the condition says that it wrote, and did.
          expect((await getBytes(store, 'new')).equals(code === undefined ? others : mine)).toBe(true);
        }
        await store.put('new', others);
        expect((await getBytes(store, 'new')).equals(others)).toBe(true);
        expect(await keysUnder(store, '')).toEqual(['new']);
      });

      it('tells of one object what a listing tells', async () => {
        if (store.stat === undefined) return;
        expect(await store.stat('a/b')).toBeUndefined();
        const put = await store.put('a/b', bytes('content'));
        const stat = await store.stat('a/b');
        const [listed] = await readAll(store.list('a/b'));
        expect(stat).toMatchObject({ key: 'a/b', sizeBytes: listed!.sizeBytes });
        expect([stat!.version, listed!.version]).toEqual([put.version, put.version]);
        // To the second: some tell it more exactly in a listing than elsewhere.
        expect(Math.floor(stat!.modifiedAt.getTime() / 1000)).toBe(
          Math.floor(listed!.modifiedAt.getTime() / 1000),
        );
        expect(await store.stat('a')).toBeUndefined();
        expect(await store.stat('a/b/c')).toBeUndefined();
        await store.delete(['a/b']);
        expect(await store.stat('a/b')).toBeUndefined();
      });

      it('can be left in the middle of a body', async () => {
        await store.put('big', randomBytes(3 * MIB));
        for (let times = 0; times < 5; times++) {
          for await (const chunk of (await store.get('big')).stream) {
            expect(chunk.length).toBeGreaterThan(0);
            break;
          }
        }
        expect(await getBytes(store, 'big')).toHaveLength(3 * MIB);
      });

      it('allows several writers at once, of different objects and of one', async () => {
        const names = Array.from({ length: 12 }, (_, number) => `folder-${number % 3}/${number}`);
        await Promise.all(names.map((key) => store.put(key, chunked(bytes(key.repeat(1000)), 100))));
        for (const key of names) expect((await getBytes(store, key)).toString()).toBe(key.repeat(1000));
        const values = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(100_000));
        await Promise.all(values.map((value) => store.put('same', chunked(bytes(value), 1000))));
        expect(values).toContain((await getBytes(store, 'same')).toString());
        expect(await keysUnder(store, '')).toHaveLength(13);
      });
    });

    describe('names', () => {
      it('keeps every character', async () => {
        const keys = [
          'with space/a b',
          'percent/100%25',
          'plus/a+b',
          'unicode/Zoë-日本-😀',
          'quotes/\'single\' "double"',
          'xml/<a>&amp;</a>',
          'url/?a=b&c=d#e;f:g@h,i!j*k(l)$',
          'tilde~/_-./...',
          'escaped%2Fslash/%',
          ' leading/trailing ',
          'decomposed/Zoe\u0308',
          `${'long'.repeat(50)}/${'name'.repeat(50)}`,
        ];
        for (const key of keys) await store.put(key, bytes(key));
        expect(await keysUnder(store, '')).toEqual([...keys].sort());
        for (const key of keys) {
          expect((await getBytes(store, key)).toString()).toBe(key);
          expect(await keysUnder(store, key)).toEqual([key]);
        }
        const folders = keys.map((key) => key.slice(0, key.indexOf('/'))).sort();
        expect((await readAll(store.listPrefixes(''))).sort()).toEqual(folders);
        await store.delete(keys);
        expect(await keysUnder(store, '')).toEqual([]);
      });

      it.each(['', '/', '/etc/passwd', '../up', 'a/../../up', 'a//b', 'a/', './a', 'a/.', 'a/..', 'a\0b'])(
        'refuses the key %j',
        async (key) => {
          expect(isKey(key)).toBe(false);
          const refused = { code: 'unsupported' };
          await expect(store.put(key, bytes('x'))).rejects.toMatchObject(refused);
          await expect(store.get(key)).rejects.toMatchObject(refused);
          await expect(store.delete(['fine', key])).rejects.toMatchObject(refused);
          expect(await readAll(store.list(''))).toEqual([]);
        },
      );

      it.each(['../', '/', 'a/../', '..'])('refuses the prefix %j', async (prefix) => {
        await expect(readAll(store.list(prefix))).rejects.toMatchObject({ code: 'unsupported' });
        await expect(readAll(store.listPrefixes(prefix))).rejects.toMatchObject({ code: 'unsupported' });
      });
    });

    describe('list', () => {
      it('yields nothing where nothing is', async () => {
        expect(await readAll(store.list(''))).toEqual([]);
        expect(await readAll(store.list('a/b/'))).toEqual([]);
        expect(await readAll(store.listPrefixes(''))).toEqual([]);
        expect(await readAll(store.listPrefixes('a/b/'))).toEqual([]);
      });

      it('yields what starts with the prefix, at any depth, with size and time', async () => {
        for (const key of ['a', 'ab/c', 'ab/cd', 'ab/cc/d/e', 'b/a']) await store.put(key, bytes(key));
        expect(await keysUnder(store, '')).toEqual(['a', 'ab/c', 'ab/cc/d/e', 'ab/cd', 'b/a']);
        expect(await keysUnder(store, 'a')).toEqual(['a', 'ab/c', 'ab/cc/d/e', 'ab/cd']);
        expect(await keysUnder(store, 'ab/c')).toEqual(['ab/c', 'ab/cc/d/e', 'ab/cd']);
        expect(await keysUnder(store, 'ab/cc/')).toEqual(['ab/cc/d/e']);
        const [info] = (await readAll(store.list('b/'))) as [ObjectInfo];
        expect(info).toMatchObject({ key: 'b/a', sizeBytes: 3 });
        expect(Math.abs(info.modifiedAt.getTime() - Date.now())).toBeLessThan(60_000);
      });

      it('lists the next parts below a prefix, also where they hold only sub-prefixes', async () => {
        await store.put('generations/0001/snapshots/00000000', bytes('s'));
        await store.put('generations/0001/wal/00000000', bytes('w'));
        await store.put('generations/0002/wal/00000000', bytes('w'));
        await store.put('generations/object', bytes('not a prefix'));
        expect(await readAll(store.listPrefixes(''))).toEqual(['generations']);
        expect((await readAll(store.listPrefixes('generations/'))).sort()).toEqual(['0001', '0002']);
        expect((await readAll(store.listPrefixes('generations/0001/'))).sort()).toEqual(['snapshots', 'wal']);
        expect(await readAll(store.listPrefixes('generations/0001/wal/'))).toEqual([]);
        await store.delete(['generations/0002/wal/00000000']);
        expect(await readAll(store.listPrefixes('generations/'))).toEqual(['0001']);
      });

      it(
        `holds ${MANY} objects and prefixes, and deletes them in one call`,
        async () => {
          const keys = Array.from(
            { length: MANY },
            (_, number) => `many/${String(number).padStart(8, '0')}/x`,
          );
          for (let start = 0; start < keys.length; start += 64) {
            await Promise.all(keys.slice(start, start + 64).map((key) => store.put(key, bytes('x'))));
          }
          await store.put('other', bytes('x'));
          expect(await keysUnder(store, 'many/')).toEqual(keys);
          expect((await readAll(store.listPrefixes('many/'))).sort()).toEqual(
            keys.map((key) => key.slice(5, 13)),
          );
          expect(await keysUnder(store, 'many/0000001')).toHaveLength(10);
          const controller = new AbortController();
          let listed = 0;
          const listing = (async () => {
            for await (const info of store.list('many/', { signal: controller.signal })) {
              expect(info.sizeBytes).toBe(1);
              // In the middle, behind the first page.
              if (++listed === 1500) controller.abort();
            }
          })();
          await expect(listing).rejects.toMatchObject({ code: 'aborted' });
          expect(listed).toBe(1500);
          // Left in the middle, the next list is not the rest of this one.
          for await (const name of store.listPrefixes('many/')) {
            expect(name).toHaveLength(8);
            break;
          }
          await store.delete(['absent', ...keys, 'many/absent/x']);
          expect(await keysUnder(store, '')).toEqual(['other']);
          expect(await readAll(store.listPrefixes(''))).toEqual([]);
        },
        MANY_TIMEOUT_MS,
      );
    });

    describe('delete', () => {
      it('takes missing objects and none at all', async () => {
        await store.put('a/b', bytes('x'));
        await store.delete([]);
        await store.delete(['absent', 'a/absent', 'a/b', 'a/b', 'no/such/folder']);
        await expect(store.get('a/b')).rejects.toMatchObject({ code: 'not-found' });
        await store.put('a/b', bytes('again'));
        expect((await getBytes(store, 'a/b')).toString()).toBe('again');
      });

      it('may empty a folder while objects are put into it', async () => {
        for (let round = 0; round < 20; round++) {
          await store.put(`folder/${round}`, bytes('x'));
          await Promise.all([
            store.delete([`folder/${round}`]),
            store.put('folder/stays', bytes('y')).then(() => store.delete(['folder/stays'])),
            store.put(`folder/next-${round}`, chunked(bytes('z'), 1)),
          ]);
        }
        expect(await keysUnder(store, 'folder/next')).toHaveLength(20);
      });
    });

    describe('abort', () => {
      const aborted = { code: 'aborted' };

      it('does nothing when the signal has fired', async () => {
        await store.put('k', bytes('x'));
        const signal = AbortSignal.abort();
        await expect(store.put('new', bytes('x'), { signal })).rejects.toMatchObject(aborted);
        await expect(store.put('new', chunked(bytes('x'), 1), { signal })).rejects.toMatchObject(aborted);
        await expect(store.get('k', { signal })).rejects.toMatchObject(aborted);
        await expect(store.delete(['k'], { signal })).rejects.toMatchObject(aborted);
        await expect(readAll(store.list('', { signal }))).rejects.toMatchObject(aborted);
        await expect(readAll(store.listPrefixes('', { signal }))).rejects.toMatchObject(aborted);
        expect(await keysUnder(store, '')).toEqual(['k']);
      });

      it('ends a list, and a body, that is under way', async () => {
        for (const key of ['a', 'b', 'c']) await store.put(key, randomBytes(3 * MIB));
        const listing = new AbortController();
        await expect(
          (async () => {
            for await (const info of store.list('', { signal: listing.signal })) {
              expect(info.sizeBytes).toBe(3 * MIB);
              listing.abort();
            }
          })(),
        ).rejects.toMatchObject(aborted);
        const getting = new AbortController();
        const body = await store.get('a', { signal: getting.signal });
        await expect(
          (async () => {
            for await (const chunk of body.stream) {
              expect(chunk.length).toBeLessThan(3 * MIB);
              getting.abort();
            }
          })(),
        ).rejects.toMatchObject(aborted);
      });

      it.each([1, 11 * MIB])(
        'ends a put whose source stalls after %i bytes, and shows nothing',
        async (size) => {
          await store.put('k', bytes('before'));
          const controller = new AbortController();
          async function* stalling(): AsyncGenerator<Uint8Array> {
            yield* chunked(randomBytes(size), 256 * 1024);
            // Aborts once the store waits for more, which never comes.
            setImmediate(() => controller.abort());
            await new Promise(() => undefined);
          }
          const { signal } = controller;
          await expect(store.put('k', stalling(), { signal })).rejects.toMatchObject(aborted);
          expect((await getBytes(store, 'k')).toString()).toBe('before');
          expect(await keysUnder(store, '')).toEqual(['k']);
        },
      );
    });

    it.each([1, 11 * MIB])(
      'put passes on the failure of its source after %i bytes, and shows nothing',
      async (size) => {
        async function* failing(): AsyncGenerator<Uint8Array> {
          yield* chunked(randomBytes(size), 256 * 1024);
          throw new Error('the source broke');
        }
        await expect(store.put('k', failing())).rejects.toThrow('the source broke');
        expect(await keysUnder(store, '')).toEqual([]);
      },
    );
  });
  if (network !== undefined) describeNetwork(`${name}, through a network that fails`, make, network);
}
