/** What a restore reads, of stores that said something else of it before. */

import { describe, expect, it } from 'vitest';
import { fetchInOrder } from '../../src/engine/restore-fetch.ts';
import type { Fetchable } from '../../src/engine/restore-fetch.ts';
import type { GetOptions, ObjectBody, ObjectStore } from '../../src/storage/object-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';

const MIB = 1 << 20;

/** A store whose objects have as many bytes as it is asked for, and more when it lies. */
function endless(lies: { readonly yields?: number } = {}): {
  store: ObjectStore;
  reads: string[];
  sent: { bytes: number };
} {
  const reads: string[] = [];
  const sent = { bytes: 0 };
  const get = (key: string, { range }: GetOptions = {}): Promise<ObjectBody> => {
    const { start = 0, end = start + 10 } = range ?? {};
    reads.push(`${key} ${start}-${end}`);
    const sizeBytes = lies.yields ?? end - start;
    // eslint-disable-next-line @typescript-eslint/require-await -- an AsyncIterable is what bodies are
    async function* stream(): AsyncGenerator<Uint8Array> {
      for (let left = sizeBytes; left > 0; left -= MIB) {
        const chunk = Buffer.alloc(Math.min(left, MIB));
        sent.bytes += chunk.byteLength;
        yield chunk;
      }
    }
    return Promise.resolve({ sizeBytes, stream: stream() });
  };
  const store = { ...openMemoryStore(), get, capabilities: { local: false, concurrency: 8 } } as ObjectStore;
  return { store, reads, sent };
}

async function read(
  store: ObjectStore,
  objects: readonly Fetchable[],
  mostBytes = Infinity,
): Promise<number> {
  let bytes = 0;
  for (const { body } of fetchInOrder(store, objects, { parallelism: 4 })) {
    for await (const chunk of body) {
      bytes += chunk.byteLength;
      if (bytes >= mostBytes) return bytes;
    }
  }
  return bytes;
}

describe('fetchInOrder', () => {
  it.each([
    ['small', 10],
    ['in ranges', 20 * MIB],
  ])('stops at the size that was listed, of an object that is %s', async (_, sizeBytes) => {
    const { store, sent } = endless({ yields: 300 * MIB });
    const reading = read(store, [{ key: 'grown', sizeBytes }]);
    await expect(reading).rejects.toMatchObject({ code: 'io' });
    await expect(reading).rejects.toThrow(/object grown is larger than the store said when it listed it/);
    expect(sent.bytes).toBeLessThan(60 * MIB);
  });

  it('makes no more pieces of an object of 5 TiB than it reads ahead', async () => {
    const { store, reads } = endless();
    expect(await read(store, [{ key: 'huge', sizeBytes: 5 * 2 ** 40 }], 9 * MIB)).toBe(12 * MIB);
    expect(reads.slice(0, 2)).toEqual(['huge 0-4194304', 'huge 4194304-8388608']);
    expect(reads.length).toBeLessThan(20);
  });

  it.each([5 * 2 ** 40 + 1, Number.MAX_SAFE_INTEGER, Infinity, NaN, -1])(
    'asks for nothing of an object that is said to have %d bytes',
    async (sizeBytes) => {
      const { store, reads } = endless();
      const reading = read(store, [{ key: 'absurd', sizeBytes }]);
      await expect(reading).rejects.toMatchObject({ code: 'io' });
      await expect(reading).rejects.toThrow(
        /absurd has .* bytes, more than an object can have: check the store/,
      );
      expect(reads).toEqual([]);
    },
  );

  it('gives many objects in their order, small and large', async () => {
    const { store, reads } = endless();
    const objects = Array.from({ length: 40 }, (_, i) => ({
      key: `o${i}`,
      sizeBytes: i % 5 === 0 ? 9 * MIB : 10,
    }));
    expect(await read(store, objects)).toBe(8 * 9 * MIB + 32 * 10);
    expect(new Set(reads).size).toBe(reads.length);
    expect(reads).toHaveLength(8 * 3 + 32);
  });
});
