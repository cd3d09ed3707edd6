/**
 * For every object of a replica: removed, cut short anywhere, any of its bits flipped. Verification of the replica alone
 * names it, and verification with the live database names what nothing in the replica refers to.
 */

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { Replica } from '../../src/engine/replica.ts';
import type { VerificationResult } from '../../src/engine/verification-result.ts';
import { verifyReplica } from '../../src/engine/verify-alone.ts';
import { decodeLz4FrameBytes, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { formatIndex } from '../../src/format/names.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import {
  type Damage,
  FLIPS_TIMEOUT_MS,
  contentsOf,
  cuts,
  damageEach,
  flips,
  removal,
  startReplica,
  trailerSizeOf,
} from './damage.ts';
import { FakeSource, FaultStore, OPTIONS, recordingLogger, until } from './replica-rig.ts';

const dir = mkdtempSync(join(tmpdir(), 'verify-damage-'));
const signal = new AbortController().signal;
let source: FakeSource;
let store: ObjectStore;
/** Of the second generation; goes on running. */
let replica: Replica;
/** What is stored, by key in order. */
let objects: Map<string, Buffer>;
/** The last segment of each generation. */
let newest: string[];

beforeAll(async () => {
  source = new FakeSource(512);
  store = openMemoryStore();
  const commits = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      source.commit(1, 700);
      await until('everything is stored', () => replica.lagging() === undefined);
    }
  };
  const snapshots = async (count: number): Promise<void> => {
    const stored = async () =>
      [...(await contentsOf(store)).keys()].filter((key) => key.includes('/snapshots/'));
    await until(`there are ${count} snapshots`, async () => (await stored()).length >= count);
  };
  replica = startReplica(source, store, 0);
  await commits(2);
  source.checkpoint();
  await commits(3);
  source.checkpoint();
  await commits(1);
  await replica.stop(signal);
  replica = startReplica(source, store, 1);
  await snapshots(2);
  await replica.stop(signal);
  replica = startReplica(source, store, 0);
  await commits(2);
  source.restartGeneration('test');
  await snapshots(3);
  source.checkpoint();
  await commits(3);
  // What is found to be damaged stays the present generation: there is more of it to come.
  source.restartGeneration = () => undefined;
  objects = await contentsOf(store);
  const generations = new Set([...objects.keys()].map((key) => key.split('/')[1]!));
  newest = [...generations].map((name) => segments().findLast((key) => key.includes(name))!);
});

afterEach(async () => {
  for (const [key, data] of objects) await store.put(key, data);
});

afterAll(async () => {
  await replica.stop(AbortSignal.abort());
  source.close();
  rmSync(dir, { recursive: true, force: true });
});

const segments = (): string[] => [...objects.keys()].filter((key) => key.includes('/wal/'));

/** A snapshot of a generation that has an earlier one: nothing refers to it, and everything can be restored without it. */
const isSpare = (key: string): boolean => {
  const before = [...objects.keys()].filter((other) => other.startsWith(key.slice(0, -21)) && other < key);
  return key.includes('/snapshots/') && before.length > 0;
};

function alone(restoreIn?: string): Promise<VerificationResult> {
  return verifyReplica({
    name: 'test',
    store,
    parallelism: 2,
    restoreIn,
    signal,
    logger: recordingLogger([]),
  });
}

function expectNamed({ result, message, problems }: VerificationResult, key: string, what: string): void {
  const where = `${what} of ${key}: ${result} ${message}`;
  expect(result, where).toBe('failed');
  expect(
    problems.map(({ object }) => object),
    where,
  ).toContain(key);
}

/** Some bits of compressed data can be one or the other: a match of zeros may stand for any zeros before it. */
function decodesAlike(damaged: Buffer, data: Buffer): boolean {
  return Buffer.compare(decodeLz4FrameBytes(damaged), decodeLz4FrameBytes(data)) === 0;
}

describe('a replica of two generations', () => {
  it('is whole, and tells what can be restored', async () => {
    expect(segments().length).toBeGreaterThanOrEqual(9);
    expect([...objects.keys()].filter(isSpare)).toHaveLength(1);
    const result = await alone(dir);
    expect(result, result.message).toMatchObject({ result: 'ok', problems: [] });
    expect(result.message).toContain(`${objects.size} objects of 2 generations are whole; restorable from 2`);
    expect(result.generations.map(({ objectCount }) => objectCount).reduce((a, b) => a + b)).toBe(
      objects.size,
    );
    expect(readdirSync(dir)).toEqual([]);
    expect(await replica.verify('all', signal)).toMatchObject({ result: 'ok', problems: [] });
  });

  it('without any one of its objects', async () => {
    await damageEach(store, objects, removal, async (key, { what }) => {
      const result = await alone();
      // Nothing in the replica refers to these, and each state of before can still be restored.
      if (newest.includes(key) || isSpare(key)) expect(result.result, key).toBe('ok');
      else expectNamed(result, key, what);
    });
  });

  it('without any one of its objects, with the live database at hand', async () => {
    await damageEach(store, objects, removal, async (key, { what }) => {
      const result = await replica.verify('all', signal);
      if (key === newest.find((name) => !name.includes(source.position().generation)) || isSpare(key)) {
        expect(result.result, key).toBe('ok');
      } else expectNamed(result, key, what);
      const recorded = replica.stats.verification;
      expect(recorded).toMatchObject({ result: result.result, message: result.message });
    });
  });

  it('says so when the newest segment is gone that the database has', async () => {
    const key = newest.find((name) => name.includes(source.position().generation))!;
    await store.delete([key]);
    expect(await alone()).toMatchObject({ result: 'ok' });
    for (const depth of ['latest', 'all'] as const) {
      const result = await replica.verify(depth, signal);
      expectNamed(result, key, 'removal');
      expect(result.problems).toHaveLength(1);
      expect(result.message).toMatch(/^missing WAL segment .*; the database is at /);
    }
  });

  it('with any one of its objects cut short', async () => {
    await damageEach(store, objects, cuts, async (key, { what }) => expectNamed(await alone(), key, what));
  });

  it('with any one bit of any one of its objects flipped', { timeout: FLIPS_TIMEOUT_MS }, async () => {
    const examine = async (key: string, { what, number, data }: Damage, whole: Buffer): Promise<void> => {
      const result = await alone();
      const inFrame = number < (whole.byteLength - trailerSizeOf(whole)) * 8;
      if (result.result === 'ok' && inFrame && decodesAlike(data!, whole)) return;
      expectNamed(result, key, what);
    };
    await damageEach(store, objects, flips({ each: 40, step: 4 }), examine);
  });

  it('names all that is damaged, and what is sound behind it is not', async () => {
    const [first, second] = segments().filter((_, i) => i === 1 || i === 4) as [string, string];
    await store.delete([first]);
    await store.put(second, objects.get(second)!.subarray(0, 50));
    const { problems } = await alone();
    expect(problems.map(({ object }) => object)).toEqual([first, second]);
  });
});

describe('a chain that no trailers tell of', () => {
  it('misses a segment, an index and what is before a snapshot', async () => {
    const chain = [...objects].filter(([key]) => !key.includes(source.position().generation));
    const plain = openMemoryStore();
    const check = (): Promise<VerificationResult> =>
      verifyReplica({ name: 'test', store: plain, parallelism: 2, signal, logger: recordingLogger([]) });
    for (const [key, data] of chain) await plain.put(key, encodeLz4FrameBytes(decodeLz4FrameBytes(data)));
    expect(await check()).toMatchObject({ result: 'ok' });
    const snapshot = chain.map(([key]) => key).findLast((key) => key.includes('/snapshots/'))!;
    const index = parseInt(snapshot.slice(-21), 16);
    const ofIndex = (number: number): string[] =>
      chain.map(([key]) => key).filter((key) => key.includes(`/wal/${formatIndex(number)}_`));
    expect(ofIndex(index - 1).length).toBeGreaterThan(1);
    for (const gone of [[ofIndex(index - 1)[0]!], [ofIndex(index)[0]!], ofIndex(index - 1), ofIndex(0)]) {
      await plain.delete(gone);
      expectNamed(await check(), gone[0]!, 'removal');
      for (const key of gone) await plain.put(key, objects.get(key)!);
    }
  });
});

describe('a snapshot', () => {
  it('needs the WAL that it was taken behind, also when none follows', async () => {
    const own = new FakeSource(512);
    const inner = openMemoryStore();
    const replicate = (snapshotIntervalMs: number): Replica => {
      const started = new Replica({
        options: { ...OPTIONS, snapshotIntervalMs, syncIntervalMs: 1 },
        source: own,
        openStore: () => Promise.resolve(inner),
        logger: recordingLogger([]),
      });
      started.start();
      return started;
    };
    let running = replicate(0);
    for (const last of [false, true, true]) {
      own.commit(1, 700);
      await until('it is stored', () => running.lagging() === undefined);
      if (!last) own.checkpoint();
    }
    const newest = own.position();
    await running.stop(signal);
    running = replicate(1);
    await until('there is a second snapshot', () => running.stats.snapshot?.index === 1);
    await running.stop(signal);
    const keys: string[] = [];
    for await (const { key } of inner.list('')) keys.push(key);
    const last = keys
      .filter((key) => key.includes('/wal/'))
      .sort()
      .at(-1)!;
    expect(last).toContain(`/${formatIndex(newest.index)}_`);
    await inner.delete([last]);
    const request = { name: 'test', store: inner, parallelism: 2, signal, logger: recordingLogger([]) };
    expectNamed(await verifyReplica(request), last, 'removal');
    own.close();
  });
});

describe('retention', () => {
  it('takes away what has left the window, and that is no damage', async () => {
    const { generation } = source.position();
    const aged = openMemoryStore();
    const all = [...objects];
    for (const part of [
      all.filter(([key]) => !key.includes(generation)),
      all.filter(([key]) => key.includes(generation)),
    ]) {
      for (const [key, data] of part) await aged.put(key, data);
      const nowMs = Date.now();
      await until('the clock goes on', () => Date.now() > nowMs + 1);
    }
    const old = segments().find((key) => !key.includes(generation))!;
    await aged.delete([old]);
    const request = { name: 'test', store: aged, parallelism: 2, signal, logger: recordingLogger([]) };
    expectNamed(await verifyReplica({ ...request, retentionMs: 3600_000 }), old, 'removal');
    const { result, generations } = await verifyReplica({ ...request, retentionMs: 1 });
    expect(result).toBe('ok');
    expect(generations.map((range) => range.generation)).toEqual([generation]);
  });

  it('may delete while the objects are read', async () => {
    const faulty = new FaultStore(store);
    const ofFirst = [...objects.keys()].filter((key) => !key.includes(source.position().generation));
    let deleted = false;
    faulty.fault = async ({ operation, key }) => {
      if (deleted || operation !== 'get' || key !== ofFirst.at(-2)) return;
      deleted = true;
      await store.delete(ofFirst);
    };
    const request = { name: 'test', store: faulty, parallelism: 1, signal, logger: recordingLogger([]) };
    expect(await verifyReplica(request)).toMatchObject({ result: 'ok', generations: [{}] });
    expect(deleted).toBe(true);
  });
});
