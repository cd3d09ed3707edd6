/** Which generation a restore takes, whatever clocks say: random histories, forks, gaps, circles, lying clocks. */

import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SegmentInfo, SnapshotInfo } from '../../src/engine/catalog.ts';
import { GenerationOrder } from '../../src/engine/generation-order.ts';
import {
  type GenerationListing,
  type Reach,
  type ReplicaListing,
  type RestorePlan,
  planRestore,
} from '../../src/engine/restore-plan.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';

const MINUTE = 60_000;
const name = (number: number): string => number.toString(16).padStart(16, '0');

interface Shape {
  readonly generation: string;
  readonly follows?: readonly string[];
  /** Where the one before was left. */
  readonly leftAt?: number;
  /** By the store's clock, in minutes. */
  readonly stored: number;
  /** Of the last commit, by the writer's clock, in minutes; undefined: one of v0.3.13's. */
  readonly committed?: number | undefined;
  readonly headless?: boolean;
  /** For a time: where the newest commit up to it is (-Infinity: all come later), and the range. */
  readonly at?: { readonly stop: number; readonly from: number; readonly to: number };
}

function listing(shape: Shape): GenerationListing {
  const { generation, follows = [], stored, committed, at } = shape;
  const createdAt = new Date(stored * MINUTE);
  const snapshots: SnapshotInfo[] = shape.headless
    ? []
    : [{ key: snapshotKey(generation, 0), generation, index: 0, sizeBytes: 1, createdAt }];
  const segments: SegmentInfo[] = [
    { key: segmentKey(generation, 0, 0), generation, index: 0, offset: 0, sizeBytes: 1, createdAt },
  ];
  const newest = at?.stop ?? committed;
  const reach: Reach | undefined =
    newest === undefined
      ? undefined
      : {
          newestMs: newest * MINUTE,
          segmentCount: newest === -Infinity ? 0 : 1,
          endOffset: undefined,
          snapshotCount: newest === -Infinity ? 0 : snapshots.length,
          uncertain: false,
          range: at && { earliestMs: at.from * MINUTE, latestMs: at.to * MINUTE },
          doubt: undefined,
        };
  const end =
    shape.leftAt === undefined
      ? undefined
      : { index: 0, offset: shape.leftAt, checksum: [0, 0] as const, timeMs: 0 };
  const origin = follows.length === 0 ? undefined : { generations: follows, end };
  return { generation, snapshots, segments, reach, origin };
}

function plan(replicas: readonly ReplicaListing[], timestamp?: Date): RestorePlan {
  const outcome = planRestore(replicas, { timestamp });
  if ('failure' in outcome) throw new Error(outcome.failure.message);
  return outcome.plans[0]!;
}

const planOf = (shapes: readonly Shape[], minutes?: number): RestorePlan =>
  plan(
    [{ name: 'r', generations: shapes.map(listing) }],
    minutes === undefined ? undefined : new Date(minutes * MINUTE),
  );

const [A, B, C, D] = [name(0xa), name(0xb), name(0xc), name(0xd)];

describe('the latest generation', () => {
  it('is the one that follows, though its clock and its store are behind', () => {
    const shapes = [
      { generation: A, stored: 99, committed: 1e6 },
      { generation: B, follows: [A], stored: 1, committed: 1 },
    ];
    expect(planOf(shapes)).toMatchObject({ generation: B });
    expect(planOf(shapes.toReversed()).generation).toBe(B);
  });

  it('is so through one that is gone, or was never stored', () => {
    const shapes = [
      { generation: A, stored: 99, committed: 99 },
      { generation: C, follows: [B, A], stored: 1, committed: 1 },
    ];
    expect(planOf(shapes).generation).toBe(C);
  });

  it('is the one that the store got last where no name tells, and says so when commits tell otherwise', () => {
    const ahead = { generation: A, stored: 10, committed: 1000 };
    const later = { generation: B, stored: 11, committed: 11 };
    const { generation, warnings } = planOf([ahead, later]);
    expect(generation).toBe(B);
    expect(warnings).toEqual([expect.stringMatching(new RegExp(`${B} was stored last.*${A} has commits`))]);
    expect(planOf([{ ...ahead, committed: 10 }, later]).warnings).toEqual([]);
  });

  it('of two that follow the same one is the one that the store got last', () => {
    const old = { generation: A, stored: 1, committed: 50 };
    const fork = [
      { generation: B, follows: [A], stored: 7, committed: 7 },
      { generation: C, follows: [A], stored: 8, committed: 8 },
    ];
    expect(planOf([old, ...fork])).toMatchObject({ generation: C, warnings: [] });
  });

  it('is not one that left the one before where that one did not end, but what the store got last', () => {
    const before = { generation: B, follows: [A], stored: 9, committed: 9 };
    const beside = { generation: C, follows: [B, A], stored: 7, committed: 7 };
    const old = { generation: A, stored: 1, committed: 1 };
    expect(planOf([old, before, { ...beside, leftAt: 1 }]).generation).toBe(C);
    expect(planOf([old, before, { ...beside, leftAt: 0 }]).generation).toBe(B);
    expect(planOf([old, before, { ...beside, leftAt: 0, stored: 10 }]).generation).toBe(C);
  });

  it('is not one without a snapshot, which is told', () => {
    const { generation, warnings } = planOf([
      { generation: A, stored: 9, committed: 9 },
      { generation: B, follows: [A], stored: 1, committed: 1, headless: true },
    ]);
    expect(generation).toBe(A);
    expect(warnings).toEqual([
      expect.stringContaining(`generation ${B} in replica r is newer but has no snapshot`),
    ]);
  });

  it('is told when the one before it was written to afterwards', () => {
    const { generation, warnings } = planOf([
      { generation: A, stored: 60, committed: 60 },
      { generation: B, follows: [A], stored: 5, committed: 5 },
    ]);
    expect(generation).toBe(B);
    expect(warnings).toEqual([
      expect.stringMatching(new RegExp(`generation ${A} was written to until .* ${B} follows it`)),
    ]);
  });

  it('is doubtful among generations of both programs whose objects were copied', () => {
    const old = { generation: A, stored: 500 };
    const ours = { generation: B, stored: 499, committed: 20 };
    expect(planOf([old, ours]).warnings).toEqual([
      expect.stringContaining('nothing tells which of two generations'),
    ]);
    expect(
      planOf([
        { ...old, stored: 19 },
        { ...ours, stored: 20 },
      ]),
    ).toMatchObject({ generation: B, warnings: [] });
    expect(planOf([old, { ...ours, follows: [A] }])).toMatchObject({ generation: B, warnings: [] });
  });

  it('is that of any replica: names of all count', () => {
    const first = listing({ generation: A, stored: 50, committed: 50 });
    const second = listing({ generation: B, follows: [A], stored: 1, committed: 1 });
    const found = plan([
      { name: 'behind', generations: [first] },
      { name: 'ahead', generations: [first, second] },
    ]);
    expect(found).toMatchObject({ generation: B, replica: 'ahead' });
  });

  it('never goes against the names', () => {
    const clock = fc.integer({ min: 0, max: 1000 });
    const histories = fc.array(
      fc.record({
        // Numbers of generations before it, some of which are not there.
        follows: fc.array(fc.nat(30), { maxLength: 3 }),
        stored: clock,
        committed: fc.option(clock, { nil: undefined }),
        headless: fc.integer({ min: 0, max: 5 }).map((n) => n === 0),
        gone: fc.boolean(),
      }),
      { minLength: 1, maxLength: 12 },
    );
    fc.assert(
      fc.property(histories, fc.boolean(), (history, circles) => {
        const shapes = history.map(({ follows, ...shape }, i) => {
          const before = circles
            ? follows
            : follows.map((number) => number % (i + 1)).filter((number) => number < i);
          return { ...shape, generation: name(i + 1), follows: before.map((number) => name(number + 1)) };
        });
        const there = shapes.filter(({ gone }) => !gone);
        if (there.every(({ headless }) => headless)) return;
        const { generation } = planOf(there);
        const order = new GenerationOrder(there);
        for (const other of there.filter(({ headless }) => !headless)) {
          expect(order.isAfter(other.generation, generation), `${other.generation} after ${generation}`).toBe(
            false,
          );
          expect(order.isAfter(other.generation, other.generation)).toBe(false);
        }
        // Among those that no name orders it is the one that the store got last.
        const rivals = order.latest(there.filter(({ headless }) => !headless));
        const lastMs = Math.max(...rivals.map(({ stored }) => stored));
        expect(rivals.find((rival) => rival.generation === generation)?.stored).toBe(lastMs);
      }),
      { numRuns: 500 },
    );
  });
});

describe('a moment', () => {
  // A's clock was ten days ahead; B follows with the right time.
  const wrong = { generation: A, stored: 1 };
  const right = { generation: B, follows: [A], stored: 2 };
  const day = 24 * 60;

  it('of the right clock is of the generation that follows', () => {
    const plan = planOf(
      [
        { ...wrong, at: { stop: -Infinity, from: 10 * day, to: 10 * day + 5 } },
        { ...right, at: { stop: 30, from: 10, to: 60 } },
      ],
      40,
    );
    expect(plan).toMatchObject({ generation: B, warnings: [] });
  });

  it('that came twice is of the one that follows, and is told', () => {
    const plan = planOf(
      [
        { ...wrong, at: { stop: 10 * day + 1, from: 10 * day, to: 10 * day + 5 } },
        { ...right, at: { stop: 60, from: 10, to: 60 } },
      ],
      10 * day + 2,
    );
    expect(plan.generation).toBe(B);
    expect(plan.warnings).toEqual([expect.stringMatching(new RegExp(`came twice.*${B}.*-generation ${A}`))]);
  });

  it('after both is the latest state', () => {
    const plan = planOf(
      [
        { ...wrong, at: { stop: 10 * day + 5, from: 10 * day, to: 10 * day + 5 } },
        { ...right, at: { stop: 60, from: 10, to: 60 } },
      ],
      20 * day,
    );
    expect(plan).toMatchObject({ generation: B, warnings: [] });
  });

  it('of the first one is so though the second began with a clock that was years behind', () => {
    const plan = planOf(
      [
        { generation: A, stored: 5, at: { stop: 30, from: 10, to: 60 } },
        { generation: C, follows: [A], stored: 6, at: { stop: -1e6, from: -1e6, to: -1e6 + 1 } },
        { generation: D, follows: [C, A], stored: 7, at: { stop: -Infinity, from: 65, to: 68 } },
        { generation: B, follows: [D, C, A], stored: 8, at: { stop: -Infinity, from: 70, to: 99 } },
      ],
      40,
    );
    // D and B have no state at that time; C was over by then, and another one follows it.
    expect(plan.generation).toBe(A);
  });
});
