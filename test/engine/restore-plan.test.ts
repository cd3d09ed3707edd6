import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SegmentInfo, SnapshotInfo } from '../../src/engine/catalog.ts';
import {
  type GenerationListing,
  type RestorePlan,
  type RestoreTarget,
  planRestore,
} from '../../src/engine/restore-plan.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';

const G = '00000000000000aa';
const H = '00000000000000bb';
const at = (seconds: number): Date => new Date(Date.UTC(2026, 0, 1) + seconds * 1000);

function snapshot(index: number, seconds: number, generation = G): SnapshotInfo {
  return { key: snapshotKey(generation, index), generation, index, sizeBytes: 1, createdAt: at(seconds) };
}

function segment(index: number, offset: number, seconds: number, generation = G): SegmentInfo {
  const key = segmentKey(generation, index, offset);
  return { key, generation, index, offset, sizeBytes: 1, createdAt: at(seconds) };
}

/** Snapshot 0 at 0 s, segments of the indexes 0 to 3 at 10 s to 41 s, snapshot 2 at 25 s. */
const LISTING: GenerationListing = {
  generation: G,
  snapshots: [snapshot(0, 0), snapshot(2, 25)],
  segments: [0, 1, 2, 3].flatMap((index) => [
    segment(index, 0, 10 * index + 10),
    segment(index, 4152, 10 * index + 11),
  ]),
};

function plansOf(
  listings: Record<string, GenerationListing[]>,
  target: RestoreTarget = {},
): readonly RestorePlan[] {
  const replicas = Object.entries(listings).map(([name, generations]) => ({ name, generations }));
  const outcome = planRestore(replicas, target);
  if ('failure' in outcome) throw new Error(`${outcome.failure.code}: ${outcome.failure.message}`);
  return outcome.plans;
}

function planOf(listings: Record<string, GenerationListing[]>, target: RestoreTarget = {}): RestorePlan {
  return plansOf(listings, target)[0]!;
}

describe('the latest state', () => {
  it('starts from the newest snapshot', () => {
    const plan = planOf({ file: [LISTING] });
    expect(plan.snapshot.index).toBe(2);
    expect(plan.segments).toEqual(LISTING.segments.slice(4));
  });

  it('is that of the generation with the newest object', () => {
    const other = { generation: H, snapshots: [snapshot(0, 100, H)], segments: [] };
    expect(planOf({ file: [LISTING, other] }).generation).toBe(H);
    expect(planOf({ file: [other, LISTING] }).generation).toBe(H);
    expect(planOf({ file: [other, LISTING] }, { generation: G }).generation).toBe(G);
  });

  it('leaves a newer generation without a snapshot out and says so', () => {
    const plan = planOf({
      file: [LISTING, { generation: H, snapshots: [], segments: [segment(0, 0, 99, H)] }],
    });
    expect(plan.generation).toBe(G);
    expect(plan.warnings).toEqual([
      `generation ${H} in replica file is newer but has no snapshot (${snapshotKey(H, 0)}): restoring generation ${G}`,
    ]);
  });

  it('comes from the freshest replica, then the others', () => {
    const behind = { ...LISTING, segments: LISTING.segments.slice(0, -1) };
    expect(plansOf({ a: [behind], b: [LISTING] }).map(({ replica }) => replica)).toEqual(['b', 'a']);
    expect(plansOf({ a: [LISTING], b: [LISTING] }).map(({ replica }) => replica)).toEqual(['a', 'b']);
  });

  it('takes from another replica what the freshest has not', () => {
    const holed = { ...LISTING, segments: LISTING.segments.toSpliced(4, 2) };
    const behind = { ...LISTING, segments: LISTING.segments.slice(0, -1) };
    const [plan] = plansOf({ a: [holed], b: [behind] });
    expect(plan?.replica).toBe('a');
    expect(plan?.segments.map(({ index, offset }) => [index, offset])).toEqual(
      LISTING.segments.slice(4).map(({ index, offset }) => [index, offset]),
    );
    expect(plan?.segments.map((segment) => plan.sources.get(segment))).toEqual([
      'b',
      'b',
      undefined,
      undefined,
    ]);
    expect(plan?.warnings[0]).toMatch(/^replica a: missing WAL segment .*; replica b stands in$/);
  });
});

describe('a target', () => {
  it.each([
    [{ index: 1 }, 0, 4, false],
    [{ index: 2 }, 2, 2, false],
    [{ index: 3 }, 2, 4, false],
    [{ timestamp: at(9.5) }, 0, 0, true],
    [{ timestamp: at(10) }, 0, 1, true],
    [{ timestamp: at(21) }, 0, 4, false],
    [{ timestamp: at(40) }, 2, 3, false],
    [{ timestamp: at(1e6) }, 2, 4, false],
    [{ upTo: { generation: G, index: 2, offset: 4152 } }, 2, 1, false],
  ] satisfies [RestoreTarget, number, number, boolean][])(
    '%j takes the snapshot and segments it needs',
    (target, index, count, uncertain) => {
      const plan = planOf({ file: [LISTING] }, target);
      expect([plan.snapshot.index, plan.segments.length, plan.uncertain]).toEqual([index, count, uncertain]);
    },
  );

  it('inside the index of a snapshot starts from an earlier one', () => {
    const plan = planOf({ file: [LISTING] }, { timestamp: at(30) });
    expect([plan.snapshot.index, plan.segments.length, plan.uncertain]).toEqual([0, 5, false]);
  });

  it.each([
    [{ generation: H }, `no-backup: no matching backups found: there is no generation ${H}`],
    [
      { timestamp: at(-1) },
      'no-backup: no matching backups found for 2025-12-31T23:59:59.000Z: earliest 2026-01-01T00:00:00.000Z, latest 2026-01-01T00:00:41.000Z',
    ],
    [{ index: 16 }, `not-found: index 00000010 (16) is not in generation ${G}: the last is 00000003 (3)`],
  ])('%j that is not there is refused', (target, message) => {
    expect(() => planOf({ file: [LISTING] }, target)).toThrow(message);
  });

  it('before the first snapshot is refused', () => {
    const later = { ...LISTING, snapshots: LISTING.snapshots.slice(1) };
    expect(() => planOf({ file: [later] }, { index: 1 })).toThrow(
      `no-backup: no matching backups found: the first snapshot of generation ${G} has index 00000002 (2), after 00000001 (1)`,
    );
  });

  it('of an empty replica is no backup', () => {
    expect(() => planOf({ file: [] })).toThrow('no-backup: no matching backups found');
  });
});

describe('a hole', () => {
  it('between indexes is named', () => {
    const listing = { ...LISTING, snapshots: [snapshot(0, 0)], segments: LISTING.segments.toSpliced(4, 2) };
    expect(() => planOf({ file: [listing] })).toThrow(
      `gap: missing WAL segment ${segmentKey(G, 2, 0)}: the last consistent point before it is the end of index 00000001 (1)`,
    );
  });

  it('at the start of an index is named', () => {
    const listing = { ...LISTING, segments: LISTING.segments.toSpliced(4, 1) };
    expect(() => planOf({ file: [listing] })).toThrow(
      `gap: missing WAL segment ${segmentKey(G, 2, 0)}: the last consistent point before it is snapshot 00000002`,
    );
  });
});

it('agrees with a simple model on whole chains', () => {
  const history = fc.array(fc.record({ segments: fc.integer({ min: 1, max: 4 }), snapshot: fc.boolean() }), {
    minLength: 1,
    maxLength: 6,
  });
  fc.assert(
    fc.property(history, fc.integer({ min: -1, max: 40 }), (indexes, limit) => {
      let time = 0;
      const snapshots = [snapshot(0, time)];
      const segments: SegmentInfo[] = [];
      for (const [index, step] of indexes.entries()) {
        if (index > 0 && step.snapshot) snapshots.push(snapshot(index, ++time));
        for (let n = 0; n < step.segments; n++) segments.push(segment(index, n * 4152, ++time));
      }
      const outcome = planRestore([{ name: 'r', generations: [{ generation: G, snapshots, segments }] }], {
        timestamp: at(limit),
      });
      if (limit < 0) {
        expect(outcome).toMatchObject({ failure: { code: 'no-backup' } });
        return;
      }
      if ('failure' in outcome) throw new Error(outcome.failure.message);
      const plan = outcome.plans[0]!;
      // The commits up to the limit, each once: those inside the snapshot and those applied to it.
      const wanted = segments.filter(({ createdAt }) => createdAt <= at(limit));
      const inSnapshot = segments.filter(({ index }) => index < plan.snapshot.index);
      expect([...inSnapshot, ...plan.segments].slice(0, wanted.length)).toEqual(wanted);
      expect(inSnapshot.length + plan.segments.length).toBe(wanted.length);
      expect(plan.snapshot.createdAt <= at(limit)).toBe(true);
    }),
  );
});
