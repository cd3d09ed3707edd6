import { randomBytes } from 'node:crypto';
import { Decrypter, Encrypter, generateHybridIdentity, identityToRecipient } from 'age-encryption';
import fc from 'fast-check';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { withCounts } from '../../src/storage/counting-store.ts';
import { withEncryption } from '../../src/storage/encryption/encrypting-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectBody, ObjectInfo, ObjectStore } from '../../src/storage/object-store.ts';
import { withRetry } from '../../src/storage/retrying-store.ts';
import { newAgeKey, type AgeKey } from '../support/age.ts';
import { chunked, describeStore, getBytes, readAll } from './contract.ts';

const CHUNK = 64 << 10;
/** Around the borders of chunks, and of what is read to find the head. */
const SIZES = [0, 1, 4000, 4096, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK + 17];

let ours: AgeKey;
let other: AgeKey;
beforeAll(async () => {
  ours = await newAgeKey();
  other = await newAgeKey();
});

/** Tells sizes of contents where an encrypting store tells those of encrypted objects, for the contract's tests. */
function withContentSizes(store: ObjectStore): ObjectStore {
  const sized = async (info: ObjectInfo): Promise<ObjectInfo> => ({
    ...info,
    sizeBytes: await store.contentSize!(info),
  });
  return {
    type: store.type,
    location: store.location,
    capabilities: store.capabilities,
    async *list(...args) {
      for await (const info of store.list(...args)) yield sized(info);
    },
    listPrefixes: (...args) => store.listPrefixes(...args),
    get: (...args) => store.get(...args),
    put: async (...args) => sized(await store.put(...args)),
    delete: (...args) => store.delete(...args),
    close: () => store.close(),
  };
}

describeStore('an encrypting store', async () => {
  const { recipient, identity } = await newAgeKey();
  const store = await withEncryption(openMemoryStore(), { recipients: [recipient], identities: [identity] });
  return { store: withContentSizes(store), cleanup: () => Promise.resolve() };
});

describe('what is stored', () => {
  let plain: ObjectStore;
  let store: ObjectStore;
  beforeEach(async () => {
    plain = openMemoryStore();
    store = await withEncryption(plain, { recipients: [ours.recipient], identities: [ours.identity] });
  });

  it.each(SIZES)('is an age file, for other programs too: %i bytes', async (size) => {
    const data = randomBytes(size);
    await store.put('whole', data);
    await store.put('stream', chunked(data, 10_007), { sizeHintBytes: size });
    for (const key of ['whole', 'stream']) {
      const decrypter = new Decrypter();
      decrypter.addIdentity(ours.identity);
      const stored = await getBytes(plain, key);
      expect(Buffer.from(await decrypter.decrypt(stored)).equals(data)).toBe(true);
    }
  });

  it.each(SIZES)('by another program is read: %i bytes', async (size) => {
    const data = randomBytes(size);
    const encrypter = new Encrypter();
    for (const { recipient } of [other, ours]) encrypter.addRecipient(recipient);
    const { key, sizeBytes } = await plain.put('theirs', await encrypter.encrypt(data));
    expect((await getBytes(store, 'theirs')).equals(data)).toBe(true);
    expect(await store.contentSize!({ key, sizeBytes })).toBe(size);
  });

  it('is read in any ranges, also of heads that are larger than usual', async () => {
    const encrypter = new Encrypter();
    for (let i = 0; i < 60; i++) encrypter.addRecipient(other.recipient);
    encrypter.addRecipient(ours.recipient);
    const data = randomBytes(3 * CHUNK + 100);
    await plain.put('many', await encrypter.encrypt(data));
    await store.put('one', data);
    const place = fc.oneof(
      fc.nat(data.length + CHUNK),
      fc.constantFrom(0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 3 * CHUNK, data.length - 1, data.length),
    );
    await fc.assert(
      fc.asyncProperty(fc.constantFrom('many', 'one'), place, place, async (key, a, b) => {
        const [start, end] = [Math.min(a, b), Math.max(a, b) + 1];
        expect((await getBytes(store, key, { start, end })).equals(data.subarray(start, end))).toBe(true);
        expect((await getBytes(store, key, { start })).equals(data.subarray(start))).toBe(true);
      }),
      { numRuns: 60 },
    );
  });

  it('has another key in each object, and nothing of its content', async () => {
    const marker = Buffer.from('plaintext-marker');
    await store.put('a', marker);
    await store.put('b', marker);
    const [a, b] = [await getBytes(plain, 'a'), await getBytes(plain, 'b')];
    expect(a.equals(b)).toBe(false);
    for (const stored of [a, b]) expect(stored.includes(marker)).toBe(false);
  });

  it('and is not encrypted is refused, as v0.3.13 does, unless that is asked for', async () => {
    for (const data of [Buffer.from('age'), Buffer.alloc(0), randomBytes(5000)]) {
      const { key, sizeBytes } = await plain.put(`plain-${data.length}`, data);
      for (const read of [
        () => getBytes(store, key),
        () => getBytes(store, key, { start: 0, end: 3 }),
        () => store.contentSize!({ key, sizeBytes }),
      ]) {
        await expect(read()).rejects.toMatchObject({
          code: 'corrupt',
          message: expect.stringMatching(
            /not encrypted.*-generation.*-allow-plaintext, or age.allow-plaintext/,
          ) as string,
        });
      }
    }
  });

  it('is never mixed: objects of one folder are all encrypted, or none', async () => {
    const config = { recipients: [ours.recipient], identities: [ours.identity], allowPlaintext: true };
    const writer = await withEncryption(plain, config);
    await writer.put('generations/a/one', Buffer.from('ours'));
    await plain.put('generations/a/two', Buffer.from('theirs'));
    await plain.put('generations/b/one', Buffer.from('before'));
    for (const order of [
      ['one', 'two'],
      ['two', 'one'],
    ] as const) {
      const reader = await withEncryption(plain, config);
      expect((await getBytes(reader, 'generations/b/one')).toString()).toBe('before');
      await getBytes(reader, `generations/a/${order[0]}`);
      for (const range of [undefined, { start: 1 }]) {
        const reading = getBytes(reader, `generations/a/${order[1]}`, range);
        await expect(reading).rejects.toThrow(
          /some objects of generations\/a are encrypted and some are not/,
        );
      }
    }
    // What we have written ourselves is known before anything is read.
    await expect(getBytes(writer, 'generations/a/two')).rejects.toThrow(/some are not/);
  });

  it('from before encryption was turned on is read as it is, when that is asked for', async () => {
    store = await withEncryption(plain, {
      recipients: [ours.recipient],
      identities: [ours.identity],
      allowPlaintext: true,
    });
    for (const data of [Buffer.from('age'), Buffer.alloc(0), randomBytes(5000)]) {
      const { key, sizeBytes } = await plain.put(`plain-${data.length}`, data);
      expect((await getBytes(store, key)).equals(data)).toBe(true);
      expect((await getBytes(store, key, { start: 0, end: 3 })).equals(data.subarray(0, 3))).toBe(true);
      expect(await store.contentSize!({ key, sizeBytes })).toBe(data.length);
    }
  });

  it('is given as it is stored without an identity', async () => {
    const writer = await withEncryption(plain, { recipients: [ours.recipient], identities: [] });
    const info = await writer.put('x', Buffer.from('content'));
    expect((await getBytes(writer, 'x')).toString('latin1')).toMatch(/^age-encryption.org\/v1\n-> X25519 /);
    expect(await writer.contentSize!(info)).toBe(info.sizeBytes);
    expect((await getBytes(store, 'x')).toString()).toBe('content');
  });

  it('is not read with another identity: the error names its public key', async () => {
    await store.put('x', Buffer.from('content'));
    const stranger = await withEncryption(plain, { recipients: [], identities: [other.identity] });
    const error = await stranger.get('x').catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: 'corrupt',
      message: `none of age.identities opens it: they are the keys of ${other.recipient}, it was encrypted for others`,
    });
    expect(JSON.stringify([error, String(error)])).not.toContain('SECRET');
  });

  it('is read with one of several identities', async () => {
    await store.put('x', Buffer.from('content'));
    const identities = [other.identity, ours.identity];
    const both = await withEncryption(plain, { recipients: [], identities });
    expect((await getBytes(both, 'x')).toString()).toBe('content');
    await expect(both.put('y', Buffer.from('content'))).rejects.toMatchObject({ code: 'config' });
    await expect(plain.get('y')).rejects.toMatchObject({ code: 'not-found' });
  });

  it('is read again after it was overwritten, in ranges too', async () => {
    await store.put('x', Buffer.from('first'));
    expect((await getBytes(store, 'x', { start: 1 })).toString()).toBe('irst');
    await store.put('x', Buffer.from('second'));
    expect((await getBytes(store, 'x', { start: 1 })).toString()).toBe('econd');
    // By another one, of which nothing is known here: the second attempt is right.
    const somebody = await withEncryption(plain, { recipients: [ours.recipient], identities: [] });
    await somebody.put('x', Buffer.from('third'));
    await expect(getBytes(store, 'x', { start: 1 })).rejects.toMatchObject({ code: 'corrupt' });
    expect((await getBytes(store, 'x', { start: 1 })).toString()).toBe('hird');
    await store.delete(['x']);
    await expect(store.get('x', { range: { start: 1 } })).rejects.toMatchObject({ code: 'not-found' });
  });
});

describe('damage', () => {
  it('of any byte is found, whole and in ranges', async () => {
    const plain = openMemoryStore();
    const config = { recipients: [ours.recipient], identities: [ours.identity] };
    const store = await withEncryption(plain, config);
    const content = randomBytes(300);
    await store.put('x', content);
    const stored = await getBytes(plain, 'x');
    for (let at = 0; at < stored.length; at++) {
      const damaged = Buffer.from(stored);
      damaged[at]! ^= 1 << (at % 8);
      await plain.put('x', damaged);
      for (const range of [undefined, { start: 100, end: 200 }]) {
        const reader = await withEncryption(plain, config);
        // A damaged start makes it an object that is not encrypted.
        await expect(getBytes(reader, 'x', range), `byte ${at}`).rejects.toMatchObject({ code: 'corrupt' });
      }
    }
  });

  it('by cutting, swapping and dropping of chunks is found', async () => {
    const plain = openMemoryStore();
    const config = { recipients: [ours.recipient], identities: [ours.identity] };
    const store = await withEncryption(plain, config);
    await store.put('x', randomBytes(4 * CHUNK));
    const stored = await getBytes(plain, 'x');
    const head = stored.length - 4 * (CHUNK + 16);
    const chunk = (n: number): Buffer =>
      stored.subarray(head + n * (CHUNK + 16), head + (n + 1) * (CHUNK + 16));
    const start = stored.subarray(0, head);
    const wrong = [
      [start, chunk(0), chunk(1), chunk(2)],
      [start, chunk(0), chunk(1), chunk(3)],
      [start, chunk(1), chunk(0), chunk(2), chunk(3)],
      [start, chunk(0), chunk(1), chunk(2), chunk(3).subarray(0, 16)],
      [start, chunk(0), chunk(1), chunk(2), chunk(3).subarray(0, -1)],
      [stored, Buffer.from('x')],
      [stored, chunk(3)],
      [start],
      [start.subarray(0, -1)],
      [start.subarray(0, 100)],
    ];
    for (const [number, parts] of wrong.entries()) {
      await plain.put('x', Buffer.concat(parts));
      const reader = await withEncryption(plain, config);
      await expect(getBytes(reader, 'x'), `case ${number}`).rejects.toMatchObject({ code: 'corrupt' });
    }
  });
});

describe('beneath other decorators', () => {
  it('goes on where a body was cut, and tells sizes after a retry', async () => {
    const plain = openMemoryStore();
    let cuts = 0;
    let failures = 0;
    /** Cuts the first bodies after some bytes, and fails where it is told. */
    const cutting: ObjectStore = Object.assign(Object.create(plain) as ObjectStore, {
      get: async (...args: Parameters<ObjectStore['get']>): Promise<ObjectBody> => {
        if (failures-- > 0) throw new LitestreamError('unavailable', 'not now');
        const body = await plain.get(...args);
        if (body.sizeBytes < CHUNK || cuts++ >= 2) return body;
        return { sizeBytes: body.sizeBytes, stream: cut(body.stream, 100_000) };
      },
      put: (...args: Parameters<ObjectStore['put']>) => plain.put(...args),
    });
    async function* cut(stream: AsyncIterable<Uint8Array>, at: number): AsyncGenerator<Uint8Array> {
      const data = Buffer.concat(await readAll(stream));
      yield data.subarray(0, at);
      throw new LitestreamError('unavailable', 'cut');
    }
    const config = { recipients: [ours.recipient], identities: [ours.identity] };
    const retry = { attempts: 4, baseMs: 1, maxMs: 2 };
    const store = withRetry(withCounts(await withEncryption(cutting, config)), retry);
    const data = randomBytes(10 * CHUNK + 5);
    const info = await store.put('x', data);
    expect((await getBytes(store, 'x')).equals(data)).toBe(true);
    expect(cuts).toBeGreaterThan(2);
    failures = 2;
    expect(await store.contentSize!(info)).toBe(data.length);
    expect(withRetry(withCounts(plain), retry)).toMatchObject({ contentSize: undefined });
  });
});

describe('keys that are none', () => {
  it('are refused by their number, without showing secrets', async () => {
    const hybrid = await identityToRecipient(await generateHybridIdentity());
    const cases: [string[], string[], RegExp][] = [
      [[ours.recipient, 'age1nonsense'], [], /^age\.recipients: item 2 is not a recipient of age/],
      [[ours.recipient.slice(0, -1)], [], /item 1 is not a recipient/],
      [[ours.identity], [], /^age\.recipients: item 1 is a secret key: it belongs under identities/],
      [[hybrid], [], /not a native X25519 recipient/],
      [['ssh-ed25519 AAAA'], [], /not a native X25519 recipient/],
      [[], [ours.recipient], /^age\.identities: item 1 is a public key: it belongs under recipients/],
      [[], ['hunter2'], /^age\.identities: item 1 is not a secret key of age/],
      [[], [ours.identity.slice(0, -2)], /item 1 is not a valid secret key of age/],
      [[], [other.identity, await generateHybridIdentity()], /item 2 is not a secret key/],
    ];
    for (const [recipients, identities, message] of cases) {
      const opening = withEncryption(openMemoryStore(), { recipients, identities });
      const error = await opening.catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'config', message: expect.stringMatching(message) as string });
      const shown = `${String(error)} ${JSON.stringify(error)} ${String((error as Error).cause)}`;
      expect(shown).not.toMatch(/AGE-SECRET-KEY-\w{3}|hunter2/);
      expect(shown).not.toContain(ours.identity.slice(20, 40));
    }
  });
});
