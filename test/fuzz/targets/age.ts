/** Encrypted objects: whatever is done to one, no byte is read from it that was not put into it. */

import assert from 'node:assert/strict';
import { withEncryption } from '../../../src/storage/encryption/encrypting-store.ts';
import { MAX_HEAD_SIZE, parseHead } from '../../../src/storage/encryption/head.ts';
import {
  CHUNK_SIZE,
  NONCE_SIZE,
  OVERHEAD,
  contentSizeOf,
  payloadKey,
  sealBytes,
  unsealStream,
} from '../../../src/storage/encryption/stream.ts';
import { openMemoryStore } from '../../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../../src/storage/object-store.ts';
import { type FuzzTarget, collected, inPieces, refusable, refusableLater } from '../target.ts';

/** Made for this test, of no other use. */
const KEYS = {
  recipients: ['age1zngehsz7yptwgrh7f234q6uumxpxxlesgyh7kkrqrga0syyw9anqquxe3y'],
  identities: ['AGE-SECRET-KEY-1A7RSZP837MPXX4M5FKLSSZ07NX5RDP86LGCKU8VHS8Y0WFFNRVDQA6MT7R'],
};
const CODES = ['corrupt'] as const;
/** A chunk and a part of another. */
const CONTENT = Buffer.alloc(66_000, 'what nobody else can have written ');
const KEY = payloadKey(Buffer.alloc(16, 7), Buffer.alloc(NONCE_SIZE, 8));

const inner = openMemoryStore();
let opened: Promise<ObjectStore> | undefined;
const store = (): Promise<ObjectStore> => (opened ??= withEncryption(inner, KEYS));

/** The short one of two contents: headers are what is changed there. */
const SHORT = CONTENT.subarray(0, 50);

async function encrypted(content: Uint8Array): Promise<Uint8Array> {
  await (await store()).put('k', content);
  return collected((await inner.get('k')).stream);
}

/** The object as a whole and in ranges, through the store. */
async function checkObject(data: Uint8Array): Promise<void> {
  await inner.put('k', data);
  const sealed = await store();
  // Another store knows nothing of the object from before.
  const read = async (range?: { start: number; end: number }): Promise<Buffer> => {
    const { stream, sizeBytes } = await sealed.get('k', range && { range });
    const content = await collected(stream);
    assert.equal(content.byteLength, sizeBytes);
    return content;
  };
  const whole = await refusableLater(CODES, () => read());
  if (whole) assert(whole.equals(SHORT) || whole.equals(CONTENT), 'the content is another one');
  const part = await refusableLater(CODES, () => read({ start: 10, end: 40 }));
  if (part && part.byteLength > 0)
    assert(part.equals(CONTENT.subarray(10, 40)), 'a range is of another content');
  // The memory of the heads of objects is not to be what is tested.
  await sealed.delete(['k']);
}

/** The payload alone, whose key is known: what comes out of it before it is refused is of the content, too. */
async function checkPayload(data: Uint8Array): Promise<void> {
  for (const toEnd of [true, false]) {
    let size = 0;
    const done = await refusableLater(CODES, async () => {
      for await (const chunk of unsealStream(inPieces(data), KEY, { first: 0, toEnd })) {
        assert(CONTENT.subarray(size, size + chunk.byteLength).equals(chunk), 'the content is another one');
        size += chunk.byteLength;
      }
      return true;
    });
    if (done && toEnd) assert(size === CONTENT.byteLength || size === SHORT.byteLength, 'it was cut');
    if (done)
      assert.equal(
        refusable(CODES, () => contentSizeOf(data.byteLength)),
        size,
      );
  }
}

export const target: FuzzTarget = {
  name: 'age',
  seeds: async () => [
    await encrypted(SHORT),
    Buffer.concat(sealBytes(SHORT, KEY)),
    Buffer.concat(sealBytes(CONTENT, KEY)),
    Buffer.from('age-encryption.org/v1\n-> X25519 abc\n--- '),
  ],
  dictionary: ['age-encryption.org/v1\n', '\n--- ', '-> X25519 ', '-> scrypt 10 18\n', '\n', '=='],
  maxBytes: 70_000,
  /** What is cut between two chunks is whole in each of them. */
  repair: (data, random) => (random.oneIn(8) ? data.subarray(0, CHUNK_SIZE + OVERHEAD) : data),
  async run(data) {
    const bytes = Buffer.from(data);
    for (const complete of [true, false]) {
      const head = refusable(CODES, () => parseHead(bytes.subarray(0, MAX_HEAD_SIZE), complete));
      if (head === undefined || head === 'plain') continue;
      assert.equal(head.nonce.byteLength, NONCE_SIZE);
      assert.equal(head.header[head.header.byteLength - 1], 10);
    }
    await checkPayload(data);
    await checkObject(data);
  },
};
