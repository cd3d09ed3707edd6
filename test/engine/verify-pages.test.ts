/** Digests of pages, in bounded memory: what they tell of two databases. */

import { describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { differingPages, digestPages, pagesPerDigest } from '../../src/engine/verify-pages.ts';

async function* cut(data: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  await Promise.resolve();
  for (let at = 0; at < data.byteLength; at += size) yield data.subarray(at, at + size);
}

describe('digests of pages', () => {
  it('find exactly the pages that differ, however the content is cut', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(512, 4096, 65536),
        fc.integer({ min: 1, max: 40 }),
        fc.constantFrom(1, 2, 8),
        fc.array(fc.nat(), { maxLength: 4 }),
        fc.integer({ min: 100, max: 3 << 20 }),
        async (pageSizeBytes, pageCount, pagesEach, changes, size) => {
          const data = new Uint8Array(pageSizeBytes * pageCount).fill(7);
          const other = Uint8Array.from(data);
          const changed = new Set<number>();
          for (const change of changes) {
            const at = change % data.byteLength;
            other[at] = 8;
            changed.add(Math.floor(at / pageSizeBytes / pagesEach));
          }
          const [a, b] = [
            await digestPages(cut(data, size), pageSizeBytes, pagesEach),
            await digestPages(cut(other, 4096), pageSizeBytes, pagesEach),
          ];
          expect(a.sizeBytes).toBe(data.byteLength);
          const expected = [...changed]
            .sort((x, y) => x - y)
            .map((unit) => ({
              first: unit * pagesEach + 1,
              last: Math.min((unit + 1) * pagesEach, pageCount),
            }));
          expect(differingPages(a, b, { pageSizeBytes, limit: 10 })).toEqual(expected);
          expect(differingPages(a, b, { pageSizeBytes, limit: 1 })).toEqual(expected.slice(0, 1));
        },
      ),
      { numRuns: 60 },
    );
  });

  it('stand for several pages each when there would be too many', () => {
    expect(pagesPerDigest(100, 4096, 100)).toBe(1);
    expect(pagesPerDigest(101, 4096, 100)).toBe(2);
    expect(pagesPerDigest(1000, 4096, 100)).toBe(16);
    // A block at most, which is what is read at once.
    expect(pagesPerDigest(1e9, 4096, 100)).toBe(256);
    expect(pagesPerDigest(1e9, 65536, 100)).toBe(16);
    expect(pagesPerDigest(4 << 20, 4096)).toBe(1);
    expect(pagesPerDigest((4 << 20) + 1, 4096)).toBe(2);
  });
});
