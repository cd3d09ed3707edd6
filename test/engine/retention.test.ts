import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { Replica } from '../../src/engine/replica.ts';
import { findBreach } from '../../src/engine/retention-invariant.ts';
import { enforceRetention, planRetention } from '../../src/engine/retention.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { snapshotObject } from '../support/snapshot-object.ts';
import { FakeSource, FaultStore, type LogLine, OPTIONS, recordingLogger, until } from './replica-rig.ts';
import { Simulation, name, segment, snapshot } from './retention-simulation.ts';

const HOUR = 3600_000;

describe('planRetention', () => {
  it('keeps every moment of the window restorable over months, with a bounded number of snapshots', () => {
    const step = fc.record({
      hours: fc.integer({ min: 1, max: 9 }),
      commits: fc.integer({ min: 0, max: 3 }),
      rotates: fc.boolean(),
      restarts: fc.integer({ min: 0, max: 30 }).map((n) => n === 0),
      snapshots: fc.integer({ min: 0, max: 9 }).map((n) => n > 0),
      cut: fc.double({ min: 0, max: 1, noNaN: true }),
    });
    fc.assert(
      fc.property(
        fc.array(step, { minLength: 300, maxLength: 400 }),
        fc.constantFrom(12 * HOUR, 24 * HOUR, 72 * HOUR),
        fc.constantFrom(0, 6 * HOUR, 24 * HOUR),
        (steps, retentionMs, snapshotIntervalMs) => {
          const simulation = new Simulation();
          const graceMs = HOUR / 2;
          for (const { hours, commits, rotates, restarts, snapshots, cut } of steps) {
            simulation.now += hours * HOUR;
            if (restarts) simulation.restart();
            for (let i = 0; i < commits; i++, simulation.now++) simulation.commit();
            if (rotates) simulation.rotate();
            simulation.now++;
            if (snapshots) simulation.snapshot({ snapshotIntervalMs, retentionMs });
            const { now } = simulation;
            const startMs = now - retentionMs - graceMs;
            const currentGeneration = name(simulation.generation);
            const { deletions, keptSnapshots } = planRetention({
              snapshots: simulation.snapshots,
              segments: simulation.segments,
              now,
              retentionMs,
              currentGeneration,
              graceMs,
            });
            // Also when the deletion is cut short.
            simulation.delete(deletions.slice(0, Math.floor(cut * deletions.length)));
            simulation.expectRestorable(startMs);
            simulation.delete(deletions);
            simulation.expectRestorable(startMs);
            const older = keptSnapshots.filter(({ createdAt }) => createdAt.getTime() <= startMs);
            // At most one for each generation of the window, and one of the generation before them.
            const generations = new Set(
              [...simulation.snapshots, ...simulation.segments]
                .filter(({ createdAt }) => createdAt.getTime() > startMs)
                .map(({ generation }) => generation),
            );
            expect(older.length).toBeLessThanOrEqual(generations.size + 1);
          }
        },
      ),
      { numRuns: 12 },
    );
  });

  const base = { now: 100, retentionMs: 50, graceMs: 0, currentGeneration: name(2) };

  it('deletes from the newest to the oldest, a snapshot after the segments of its index', () => {
    const snapshots = [snapshot(2, 0, 1), snapshot(2, 2, 20), snapshot(2, 3, 40)];
    const segments = [
      segment(2, 3, 0, 38),
      segment(2, 0, 0, 1),
      segment(2, 2, 1, 25),
      segment(2, 1, 0, 12),
      segment(2, 2, 0, 20),
    ];
    const { deletions, cuts } = planRetention({ ...base, snapshots, segments });
    const gen = name(2);
    expect(deletions).toEqual([
      segmentKey(gen, 2, 1),
      segmentKey(gen, 2, 0),
      snapshotKey(gen, 2),
      segmentKey(gen, 1, 0),
      segmentKey(gen, 0, 0),
      snapshotKey(gen, 0),
    ]);
    expect(cuts).toMatchObject([{ generation: gen, beforeIndex: 3 }]);
  });

  it('deletes nothing without retention, and never the last snapshot', () => {
    const snapshots = [snapshot(2, 0, 1)];
    const segments = [segment(2, 0, 0, 1)];
    expect(planRetention({ ...base, snapshots, segments, retentionMs: 0 }).deletions).toEqual([]);
    expect(planRetention({ ...base, snapshots, segments, now: 1e9 }).deletions).toEqual([]);
  });

  it('lets segments go that never got a snapshot, once they are older than the window', () => {
    const dead = [segment(1, 0, 0, 5), segment(1, 0, 1, 6)];
    const at = (now: number): string[] => [
      ...planRetention({ ...base, now, snapshots: [snapshot(2, 0, 10)], segments: dead }).deletions,
    ];
    expect(at(59)).toEqual([]);
    expect(at(60)).toEqual([segmentKey(name(1), 0, 1), segmentKey(name(1), 0, 0)]);
  });

  it('keeps an old generation while a moment of the window falls to it', () => {
    const old = { snapshots: [snapshot(1, 0, 1)], segments: [segment(1, 0, 0, 10)] };
    const at = (ms: number): string[] => [
      ...planRetention({ ...base, snapshots: [...old.snapshots, snapshot(2, 0, ms)], segments: old.segments })
        .deletions,
    ];
    expect(at(51)).toEqual([]);
    expect(at(50)).toEqual([segmentKey(name(1), 0, 0), snapshotKey(name(1), 0)]);
    expect(planRetention({ ...base, ...old }).deletions).toEqual([]);
  });
});

describe('findBreach', () => {
  const snapshots = [snapshot(1, 0, 1), snapshot(2, 0, 10), snapshot(2, 2, 20), snapshot(2, 4, 60)];
  const segments = [1, 2].flatMap((generation) =>
    [0, 1, 2, 3, 4].map((index) =>
      segment(generation, index, 0, generation === 1 ? 1 + index : 2 + index * 10),
    ),
  );
  const proven = snapshots.map(({ key }) => key);
  const breach = (doomed: readonly string[], known = proven): string | undefined =>
    findBreach({ snapshots, segments, startMs: 50, proven: new Set(known), doomed: new Set(doomed) });
  const old = [snapshot(2, 0, 10), segment(2, 0, 0, 2), segment(2, 1, 0, 12)].map(({ key }) => key);
  const first = [...snapshots, ...segments]
    .filter(({ generation }) => generation === name(1))
    .map(({ key }) => key);

  it('lets go what a proven snapshot replaces', () => {
    expect(breach([...old, ...first])).toBeUndefined();
  });

  it.each<[string, readonly string[], RegExp]>([
    ['younger than the window', [...old, segment(2, 4, 0, 0).key], /00000004_00000000.*needed to restore/],
    ['a snapshot of the window', [snapshotKey(name(2), 4)], /00000004\.snapshot.*within the window/],
    ['the snapshot that the window begins with', [...old, snapshotKey(name(2), 2)], /no other snapshot/],
    ['WAL after it', [...old, segmentKey(name(2), 2, 0)], /00000002_00000000.*needed to restore/],
  ])('names what must stay: %s', (_, doomed, message) => {
    expect(breach(doomed)).toMatch(message);
  });

  it('counts on nothing that is not proven', () => {
    expect(breach(old, [])).toMatch(/no other snapshot is proven/);
    expect(breach(first, [])).toMatch(/no other snapshot is proven/);
    expect(breach(first, [snapshotKey(name(2), 4)])).toMatch(/no other snapshot is proven/);
  });
});

describe('enforceRetention', () => {
  async function run(fault?: FaultStore['fault']) {
    const store = new FaultStore(openMemoryStore());
    const log: LogLine[] = [];
    for (const index of [0, 1, 2]) {
      await store.put(segmentKey(name(1), index, 0), new Uint8Array(1));
      await store.put(snapshotKey(name(1), index), snapshotObject(name(1), index));
    }
    store.fault = fault;
    const result = await enforceRetention({
      store,
      retentionMs: HOUR,
      currentGeneration: name(1),
      now: Date.now() + 3 * HOUR,
      logger: recordingLogger(log),
      signal: new AbortController().signal,
    });
    return { store, log, result };
  }

  it('deletes and says what', async () => {
    const { store, log, result } = await run();
    const left: string[] = [];
    for await (const { key } of store.list('')) left.push(key);
    expect(left.sort()).toEqual([snapshotKey(name(1), 2), segmentKey(name(1), 2, 0)]);
    expect(result).toMatchObject({ settled: true, refusal: undefined, currentSnapshots: 3 });
    expect(log.map(({ message, attributes }) => [message, attributes])).toEqual([
      ['snapshot deleted', { generation: name(1), index: 0 }],
      ['snapshot deleted', { generation: name(1), index: 1 }],
      ['wal segmented deleted before', { generation: name(1), index: 2, n: 2 }],
    ]);
  });

  it('deletes nothing when something young would go, and says what, once and in the status', async () => {
    const source = new FakeSource();
    const store = new FaultStore(openMemoryStore());
    const log: LogLine[] = [];
    const replica = new Replica({
      options: { ...OPTIONS, retentionMs: 10, retentionCheckIntervalMs: 5 },
      source,
      openStore: () => Promise.resolve(store),
      logger: recordingLogger(log),
    });
    replica.start();
    await store.put(snapshotKey(source.position().generation, 0), new Uint8Array(1));
    const planted: string = snapshotKey(source.position().generation, 0);
    const future = { createdAt: new Date(Date.now() + 3600_000) };
    const list = store.list.bind(store);
    store.list = async function* (...args) {
      for await (const info of list(...args))
        yield info.key === planted ? { ...info, modifiedAt: future.createdAt } : info;
    };
    await until('a breach', async () => {
      source.commit();
      await until('it is stored', () => replica.lagging() === undefined);
      source.checkpoint();
      return replica.stats.retentionBreach;
    });
    expect(replica.stats.retentionBreach?.reason).toContain(planted);
    await until('more checks', async () => {
      const seen = store.requests.length;
      await until('a list', () => store.requests.slice(seen).some(({ operation }) => operation === 'list'));
      return true;
    });
    await replica.stop(AbortSignal.timeout(5000));
    expect(log.filter(({ level }) => level === 'ERROR')).toMatchObject([
      { message: 'retention would delete too much' },
    ]);
    expect(store.requests.filter(({ operation }) => operation === 'delete')).toEqual([]);
    source.close();
  });

  it('reports a store that does not permit to delete', async () => {
    const { result, log } = await run(({ operation }) => {
      if (operation === 'delete') throw new LitestreamError('permission', 'access denied');
    });
    expect(result.settled).toBe(false);
    expect(result.refusal?.message).toContain('access denied');
    expect(log).toEqual([]);
  });

  it('also removes what uploads have left that died a day ago', async () => {
    const source = new FakeSource();
    const asked: [string, number][] = [];
    const store: ObjectStore = Object.assign(new FaultStore(openMemoryStore()), {
      removeAbandoned: (prefix: string, before: Date) => {
        asked.push([prefix, Date.now() - before.getTime()]);
        return Promise.resolve(0);
      },
    });
    const replica = new Replica({
      options: { ...OPTIONS, retentionMs: 50, retentionCheckIntervalMs: 5 },
      source,
      openStore: () => Promise.resolve(store),
      logger: recordingLogger([]),
    });
    replica.start();
    source.commit();
    await until('it is asked for', () => asked.length > 0);
    expect(asked[0]![0]).toBe('generations/');
    expect(asked[0]![1]).toBeGreaterThanOrEqual(24 * HOUR);
    await replica.stop(AbortSignal.timeout(5000));
    source.close();
  });

  it('is a state, said once, when a replica must not delete', async () => {
    const source = new FakeSource();
    const store = new FaultStore(openMemoryStore());
    const log: LogLine[] = [];
    store.fault = ({ operation }) => {
      if (operation === 'delete') throw new LitestreamError('permission', 'access denied');
    };
    const replica = new Replica({
      options: { ...OPTIONS, retentionMs: 10, retentionCheckIntervalMs: 5 },
      source,
      openStore: () => Promise.resolve(store),
      logger: recordingLogger(log),
    });
    replica.start();
    const attempts = (): number => store.requests.filter(({ operation }) => operation === 'delete').length;
    await until('several attempts to delete', async () => {
      source.commit();
      await until('it is stored', () => replica.lagging() === undefined);
      source.checkpoint();
      return attempts() >= 4;
    });
    expect(log.filter(({ level }) => level === 'WARN' || level === 'ERROR')).toMatchObject([
      { level: 'WARN', message: 'retention is left to the store: deleting is not permitted' },
    ]);
    expect(replica.stats.lastError).toBeUndefined();
    await replica.stop(AbortSignal.timeout(5000));
    source.close();
  });
});
