import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { MAX_PARTS, MIN_PART_SIZE, basePartSize, partSize, partsOf } from '../../src/storage/parts.ts';
import type { Part } from '../../src/storage/parts.ts';
import { chunked, readAll } from './contract.ts';

const TIB = 1024 ** 4;

describe('partSize', () => {
  const total = (base: number): number => {
    let sum = 0;
    for (let number = 1; number <= MAX_PARTS; number++) sum += partSize(number, base);
    return sum;
  };

  it('holds the largest object even when nothing is known of its size', () => {
    expect(total(basePartSize(undefined))).toBeGreaterThan(TIB);
    expect(partSize(1, MIN_PART_SIZE)).toBe(MIN_PART_SIZE);
    expect(partSize(8000, MIN_PART_SIZE)).toBe(MIN_PART_SIZE);
    expect(partSize(8001, MIN_PART_SIZE)).toBe(2 * MIN_PART_SIZE);
  });

  it('grows earlier where fewer parts are taken', () => {
    const limits = { minSizeBytes: MIN_PART_SIZE, maxParts: 1000 };
    let sum = 0;
    for (let number = 1; number <= 1000; number++)
      sum += partSize(number, basePartSize(undefined, limits), 1000);
    expect(sum).toBeGreaterThan(100 * 1024 ** 3);
    const base = basePartSize(100 * 1024 ** 3, limits);
    expect(partSize(Math.ceil((100 * 1024 ** 3) / base), base, 1000)).toBe(base);
  });

  it('is the same for all parts of a body that is as large as its hint', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 5 * TIB }), (hint) => {
        const base = basePartSize(hint);
        expect(base).toBeGreaterThanOrEqual(MIN_PART_SIZE);
        expect(partSize(Math.max(1, Math.ceil(hint / base)), base)).toBe(base);
      }),
    );
  });
});

describe('partsOf', () => {
  it('cuts bytes and streams alike, and knows the last part', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ maxLength: 200 }),
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 60 }),
        async (data, size, chunkSize) => {
          for (const body of [data, chunked(data, chunkSize)]) {
            const parts = await readAll(partsOf(body, size));
            expect(Buffer.concat(parts.map((part) => part.data)).equals(data)).toBe(true);
            expect(parts.map((part) => part.number)).toEqual(parts.map((_, place) => place + 1));
            expect(parts.map((part) => part.last)).toEqual(
              parts.map((_, place) => place === parts.length - 1),
            );
            for (const part of parts.slice(0, -1)) expect(part.data).toHaveLength(size);
            if (data.length > 0) expect(parts.at(-1)!.data.length).toBeGreaterThan(0);
          }
        },
      ),
    );
  });

  it('keeps the bytes of a part until it is released, and uses its memory for a later one then', async () => {
    const size = 50;
    await fc.assert(
      fc.asyncProperty(
        fc.uint8Array({ minLength: 3 * size, maxLength: 1000 }),
        fc.integer({ min: 1, max: 70 }),
        fc.array(fc.nat(), { maxLength: 20 }),
        async (data, chunkSize, choices) => {
          const held: Part[] = [];
          const memory = new Set<ArrayBufferLike>();
          let most = 0;
          for await (const part of partsOf(chunked(data, chunkSize), size)) {
            memory.add(part.data.buffer);
            most = Math.max(most, held.push(part));
            const choice = choices[part.number];
            if (choice === undefined) continue;
            const [released] = held.splice(choice % held.length, 1);
            const start = (released!.number - 1) * size;
            expect(Buffer.from(released!.data).equals(data.subarray(start, start + size))).toBe(true);
            released!.release?.();
          }
          for (const { number, data: kept } of held) {
            const start = (number - 1) * size;
            expect(Buffer.from(kept).equals(data.subarray(start, start + size))).toBe(true);
          }
          // One more is being filled.
          expect(memory.size).toBeLessThanOrEqual(most + 1);
        },
      ),
    );
  });
});
