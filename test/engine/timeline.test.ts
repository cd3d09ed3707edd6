import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { SegmentInfo, SnapshotInfo } from '../../src/engine/catalog.ts';
import { readTimeline, splitAtHoles } from '../../src/engine/timeline.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { openStore } from '../../src/storage/registry.ts';

const G = '00000000000000aa';
const at = new Date(0);
const snapshots = (...indexes: number[]): SnapshotInfo[] =>
  indexes.map((index) => ({ key: snapshotKey(G, index), generation: G, index, sizeBytes: 1, createdAt: at }));
const segments = (...places: [number, number][]): SegmentInfo[] =>
  places.map(([index, offset]) => {
    return { key: segmentKey(G, index, offset), generation: G, index, offset, sizeBytes: 1, createdAt: at };
  });

describe('a generation is cut where its listing has a hole', () => {
  const missing = (index: number) => segmentKey(G, index, 0);
  it.each<[string, number[], [number, number][], unknown[]]>([
    ['a snapshot alone', [0], [], [[undefined, 1, 0]]],
    [
      'a whole chain',
      [0, 2],
      [
        [0, 0],
        [0, 9],
        [1, 0],
        [2, 0],
      ],
      [[undefined, 2, 4]],
    ],
    ['a snapshot whose index has no segment yet', [0, 1], [[0, 0]], [[undefined, 2, 1]]],
    [
      'an index that is missing, for good',
      [0],
      [
        [0, 0],
        [2, 0],
        [3, 0],
      ],
      [
        [undefined, 1, 1],
        [missing(1), 0, 2],
      ],
    ],
    [
      'an index that is missing, until the next snapshot',
      [0, 3],
      [
        [0, 0],
        [2, 0],
        [3, 0],
        [4, 0],
      ],
      [
        [undefined, 1, 1],
        [missing(1), 0, 1],
        [undefined, 1, 2],
      ],
    ],
    [
      'the start of an index',
      [0],
      [
        [0, 0],
        [1, 9],
        [2, 0],
      ],
      [
        [undefined, 1, 1],
        [missing(1), 0, 2],
      ],
    ],
    [
      "the start of the snapshot's own index",
      [1],
      [
        [1, 9],
        [2, 0],
      ],
      [
        [undefined, 1, 0],
        [missing(1), 0, 2],
      ],
    ],
    [
      'what is older than the first snapshot',
      [1],
      [
        [0, 0],
        [1, 0],
      ],
      [
        [snapshotKey(G, 0), 0, 1],
        [undefined, 1, 1],
      ],
    ],
    ['no snapshot at all', [], [[0, 0]], [[snapshotKey(G, 0), 0, 1]]],
  ])('%s', (_, own, places, expected) => {
    const pieces = splitAtHoles(G, snapshots(...own), segments(...places));
    expect(pieces.map((piece) => [piece.missingKey, piece.snapshots.length, piece.segments.length])).toEqual(
      expected,
    );
  });
});

it('takes the times of objects where they say nothing, and survives damaged ones', async () => {
  const dir = await fs.mkdtemp(join(tmpdir(), 'timeline-'));
  try {
    const keys = [snapshotKey(G, 0), segmentKey(G, 0, 0), segmentKey(G, 2, 0), snapshotKey(G, 3)];
    for (const [i, key] of keys.entries()) {
      await fs.mkdir(dirname(join(dir, key)), { recursive: true });
      await fs.writeFile(join(dir, key), 'neither ours nor theirs');
      await fs.utimes(join(dir, key), i, i);
    }
    const store = await openStore({ type: 'file', path: dir });
    const { ranges, gaps, snapshots } = await readTimeline(store, {});
    const times = (items: readonly { from: Date; to: Date | undefined }[]) =>
      items.map(({ from, to }) => [from.getTime(), to?.getTime()]);
    expect(times(ranges)).toEqual([
      [0, 1000],
      [3000, 3000],
    ]);
    expect(ranges.map(({ exact }) => exact)).toEqual([false, false]);
    expect(times(gaps)).toEqual([[1000, 3000]]);
    expect(gaps[0]?.missingKey).toBe(segmentKey(G, 1, 0));
    expect(snapshots.map(({ index }) => index)).toEqual([0, 3]);
  } finally {
    await fs.rm(dir, { recursive: true });
  }
});
