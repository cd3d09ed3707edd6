import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  MAX_INDEX,
  MAX_OFFSET,
  formatIndex,
  isGeneration,
  newGeneration,
  parseSegmentName,
  parseShadowName,
  parseSnapshotName,
  segmentKey,
  segmentsPrefix,
  shadowName,
  snapshotKey,
  snapshotsPrefix,
} from '../../src/format/names.ts';
import { comparePositions, formatPosition } from '../../src/format/position.ts';

const GENERATION = '0123456789abcdef';
const indexes = fc.integer({ min: 0, max: MAX_INDEX });
const offsets = fc.integer({ min: 0, max: MAX_OFFSET });

describe('names', () => {
  it('are those of v0.3.13', () => {
    expect(snapshotKey(GENERATION, 10)).toBe(`generations/${GENERATION}/snapshots/0000000a.snapshot.lz4`);
    expect(segmentKey(GENERATION, 10, 4152)).toBe(`generations/${GENERATION}/wal/0000000a_00001038.wal.lz4`);
    expect(shadowName(10)).toBe('0000000a.wal');
  });

  it('parse gives back what was formatted', () => {
    fc.assert(
      fc.property(indexes, offsets, (index, offset) => {
        expect(
          parseSnapshotName(snapshotKey(GENERATION, index).slice(snapshotsPrefix(GENERATION).length)),
        ).toBe(index);
        const segment = segmentKey(GENERATION, index, offset).slice(segmentsPrefix(GENERATION).length);
        expect(parseSegmentName(segment)).toEqual({ index, offset });
        expect(parseShadowName(shadowName(index))).toBe(index);
        expect(parseInt(formatIndex(index), 16)).toBe(index);
      }),
    );
  });

  it('sort as their positions do', () => {
    fc.assert(
      fc.property(indexes, offsets, indexes, offsets, (index, offset, otherIndex, otherOffset) => {
        const a = { generation: GENERATION, index, offset };
        const b = { generation: GENERATION, index: otherIndex, offset: otherOffset };
        const [first, second] = [a, b].map((place) => segmentKey(GENERATION, place.index, place.offset));
        expect(Math.sign(comparePositions(a, b))).toBe(first! < second! ? -1 : first! > second! ? 1 : 0);
      }),
    );
  });

  it('parse refuses everything else', () => {
    fc.assert(
      fc.property(fc.string(), (name) => {
        if (!/^[0-9a-f]{8}/.test(name)) {
          expect([parseSnapshotName(name), parseSegmentName(name), parseShadowName(name)]).toEqual([
            undefined,
            undefined,
            undefined,
          ]);
        }
      }),
    );
    for (const name of [
      '0000000A_00000000.wal.lz4',
      '00000000_000000000.wal.lz4',
      '00000000.wal.lz4',
      '0_0.wal.lz4',
    ]) {
      expect(parseSegmentName(name)).toBeUndefined();
    }
    for (const name of ['00000000.snapshot.lz4.tmp', '000000000.snapshot.lz4']) {
      expect(parseSnapshotName(name)).toBeUndefined();
    }
  });

  it('refuse an offset or an index of nine digits, which v0.3.13 would not see', () => {
    expect(() => segmentKey(GENERATION, 0, MAX_OFFSET + 1)).toThrow(/eight hex digits/);
    expect(() => snapshotKey(GENERATION, MAX_INDEX + 1)).toThrow(/eight hex digits/);
    expect(() => formatIndex(-1)).toThrow(/not a natural number/);
  });

  it('generations are 16 hex digits and random', () => {
    const names = new Set(Array.from({ length: 100 }, newGeneration));
    expect(names.size).toBe(100);
    for (const name of names) expect(isGeneration(name)).toBe(true);
    for (const name of ['', 'xyz', `${GENERATION}0`, GENERATION.toUpperCase()])
      expect(isGeneration(name)).toBe(false);
  });

  it('a position is printed as v0.3.13 prints it: index in hex, offset in decimal', () => {
    expect(formatPosition({ generation: GENERATION, index: 26, offset: 4152 })).toBe(
      `${GENERATION}/0000001a:4152`,
    );
  });
});
