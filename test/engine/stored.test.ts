/** That "stored" is what the store shows: objects that are gone, lists that show less, writers that nobody knows of. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { listGenerations, listSegments, listSnapshots } from '../../src/engine/catalog.ts';
import type { ReplicaOptions } from '../../src/engine/options.ts';
import type { Replica } from '../../src/engine/replica.ts';
import { restore } from '../../src/engine/restore.ts';
import { encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey } from '../../src/format/names.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectInfo, ObjectStore } from '../../src/storage/object-store.ts';
import {
  type FakeSource,
  FaultStore,
  type LogLine,
  Replicas,
  allStored,
  recordingLogger,
  until,
} from './replica-rig.ts';

let source: FakeSource;
let inner: ObjectStore;
let log: LogLine[];
let replicas: Replicas;

beforeEach(() => {
  replicas = new Replicas();
  ({ source, log } = replicas);
  inner = openMemoryStore();
});

afterEach(() => replicas.end());

const start = (...args: Parameters<Replicas['start']>): Replica => replicas.start(...args);

const local = (): FaultStore => new FaultStore(inner);
const remote = (): FaultStore => new FaultStore(inner, false);
const stop = (replica: Replica): Promise<{ unstored: string | undefined }> =>
  replica.stop(AbortSignal.timeout(10_000));
const restarted = (): Promise<boolean> =>
  until('another generation begins', () => source.restarts.length > 0);
const LOOK = { lookIntervalMs: 10 };

async function keys(): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of inner.list('')) found.push(key);
  return found;
}

async function remove(match: RegExp): Promise<string[]> {
  const gone = (await keys()).filter((key) => match.test(key));
  expect(gone.length).toBeGreaterThan(0);
  await inner.delete(gone);
  return gone;
}

/** Restores the latest state, which must be the database's. */
async function expectRestores(generation = source.position().generation): Promise<void> {
  const outputPath = join(source.dir, `restored-${generation}`);
  const replicas = [{ name: 'test', store: inner }];
  await restore({ replicas, outputPath, generation, parallelism: 2, logger: recordingLogger([]) });
  expect(readFileSync(outputPath).equals(source.bytes())).toBe(true);
}

/** Two segments of some commits, and a snapshot before them. */
async function threeSegments(replica: Replica): Promise<void> {
  for (let commit = 0; commit < 3; commit++) {
    source.commit();
    await allStored(replica);
  }
}

/** Commits on the way to the store, seen by the time a generation has been replaced and stored. */
async function replaced(replica: Replica): Promise<void> {
  await restarted();
  await allStored(replica);
  const { generation } = source.position();
  await until('it has a snapshot', async () => (await listSnapshots(inner, generation)).length === 1);
}

describe('what is gone from a local store', () => {
  it.each<[string, RegExp]>([
    ['all of it', /./],
    ['the snapshot', /snapshot/],
  ])('is noticed while the database is idle: %s', async (_, match) => {
    const replica = start(local(), {}, LOOK);
    await threeSegments(replica);
    await remove(match);
    await replaced(replica);
    expect(source.restarts).toHaveLength(1);
    expect(source.restarts[0]).toMatch(/^replica no longer holds generations\/.*snapshot/);
  });

  it('is noticed: the last segment', async () => {
    const replica = start(local(), {}, LOOK);
    await threeSegments(replica);
    const last = (await listSegments(inner, source.position().generation)).at(-1)!.key;
    await inner.delete([last]);
    await replaced(replica);
    expect(source.restarts).toEqual([`replica no longer holds ${last}`]);
  });
});

describe('after a loss', () => {
  it.each<[string, () => FaultStore]>([
    ['local', local],
    ['remote', remote],
  ])(
    'all that is stored is looked at when it is claimed, as whoever deletes may not be done: %s',
    async (_, open) => {
      const replica = start(open(), {}, { lookIntervalMs: 3600_000 });
      await threeSegments(replica);
      await remove(/snapshot/);
      const claim = (): Promise<void> =>
        replica.storedThrough(source.position(), AbortSignal.timeout(10_000));
      await claim();
      expect(source.restarts).toHaveLength(1);
      await threeSegments(replica);
      const [first] = await listSegments(inner, source.position().generation);
      await inner.delete([first!.key]);
      await claim();
      expect(source.restarts.slice(1)).toEqual([`replica no longer holds ${first!.key}`]);
      await expectRestores();
    },
  );

  it('a remote store that does not answer then is not in trouble for good', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'], shouldAdvanceTime: true });
    try {
      const store = remote();
      const replica = start(store, { retentionMs: 0 });
      await threeSegments(replica);
      await remove(/snapshot/);
      await replica.storedThrough(source.position(), AbortSignal.timeout(10_000));
      await replaced(replica);
      store.fault = ({ operation }) => {
        if (operation === 'list') throw new LitestreamError('unavailable', 'down');
      };
      // What waits for files on the disk has to get there: not all at once.
      await until('a look fails', async () => {
        await vi.advanceTimersByTimeAsync(1000);
        return replica.stats.failures.length > 0;
      });
      expect(replica.stats.failures).toMatchObject([{ activity: 'presence', message: 'down' }]);
      store.fault = ({ operation }) => {
        if (operation !== 'put') throw new LitestreamError('unavailable', 'down');
      };
      await until('that is over', async () => {
        await vi.advanceTimersByTimeAsync(1000);
        return replica.stats.failures.length === 0;
      });
    } finally {
      vi.useRealTimers();
    }
  });
});

describe('what is gone from a remote store', () => {
  const CHECKED = { retentionCheckIntervalMs: 20 };

  it.each<[string, Partial<ReplicaOptions>]>([
    ['without retention', { ...CHECKED, retentionMs: 0 }],
    ['with retention that has nothing to do', { ...CHECKED, retentionMs: 3600_000 }],
  ])('is noticed at the next check, %s', async (_, options) => {
    const replica = start(remote(), options);
    await threeSegments(replica);
    await until('the first check', () => replica.stats.lastLookAtMs);
    await remove(/snapshot/);
    await replaced(replica);
    expect(source.restarts[0]).toMatch(/no longer holds .*snapshot/);
  });

  it('is noticed: a segment in the middle', async () => {
    const replica = start(remote(), { ...CHECKED, retentionMs: 0 });
    await threeSegments(replica);
    const middle = (await listSegments(inner, source.position().generation))[1]!.key;
    await inner.delete([middle]);
    await replaced(replica);
    expect(source.restarts).toEqual([`replica no longer holds ${middle}`]);
  });

  it('makes the replica unwell until it can be restored again', async () => {
    const store = remote();
    const replica = start(store, { ...CHECKED, retentionMs: 0 });
    await threeSegments(replica);
    const { generation } = source.position();
    store.fault = ({ operation, key }) => {
      if (operation === 'put' && !key.includes(generation)) throw new LitestreamError('unavailable', 'full');
    };
    await remove(/snapshot/);
    await restarted();
    expect(replica.stats.loss?.reason).toMatch(/no longer holds .*snapshot/);
    expect(replica.facts().replication?.restorable).toBe(false);
    store.fault = undefined;
    await replaced(replica);
    expect(replica.stats.loss).toBeUndefined();
  });

  it('costs one list for each check while the database is idle, and nothing else', async () => {
    const store = remote();
    let nowMs = Date.now();
    const replica = start(
      store,
      { retentionMs: 3600_000, retentionCheckIntervalMs: 1000 },
      { clock: () => nowMs },
    );
    await threeSegments(replica);
    const check = async (): Promise<string[]> => {
      const before = store.requests.length;
      const looked = replica.stats.lastLookAtMs;
      nowMs += 1001;
      await until('it was looked', () => replica.stats.lastLookAtMs !== looked);
      return store.requests.slice(before).map(({ operation }) => operation);
    };
    // The first one may have something to delete.
    await check();
    for (let times = 0; times < 3; times++) expect(await check()).toEqual(['list']);
    const before = store.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(store.requests.length).toBe(before);
  });

  it('is not believed to be gone because a list does not show it', async () => {
    const store = remote();
    const replica = start(store, { retentionCheckIntervalMs: 20, retentionMs: 0 });
    await threeSegments(replica);
    const hidden = (await listSegments(inner, source.position().generation))[1]!.key;
    const list = store.list.bind(store);
    let lists = 0;
    store.list = async function* (...args): AsyncGenerator<ObjectInfo> {
      for await (const object of list(...args)) if (object.key !== hidden) yield object;
      lists++;
    };
    await until('some checks', () => lists > 3);
    expect(source.restarts).toEqual([]);
    expect(log.some(({ message }) => message.startsWith('the store lists less than it holds'))).toBe(true);
  });

  it('deletes nothing by a list that shows less than there is', async () => {
    const store = remote();
    let nowMs = Date.now();
    const options = { retentionMs: 1000, retentionCheckIntervalMs: 1000, snapshotIntervalMs: 0 };
    const replica = start(store, options, { clock: () => nowMs });
    await threeSegments(replica);
    source.checkpoint();
    source.commit();
    nowMs += 500;
    void replica.snapshotSoon(AbortSignal.timeout(10_000)).catch(() => undefined);
    await until(
      'a second snapshot',
      async () => (await keys()).filter((key) => key.includes('snapshot')).length === 2,
    );
    // Of a later index: no other generation begins to renew the snapshot.
    source.checkpoint();
    source.commit();
    await allStored(replica);
    const before = await keys();
    const last = (await listSegments(inner, source.position().generation)).at(-1)!.key;
    const list = store.list.bind(store);
    store.list = async function* (...args): AsyncGenerator<ObjectInfo> {
      for await (const object of list(...args)) if (object.key !== last) yield object;
    };
    const looked = replica.stats.lastLookAtMs;
    nowMs += 60_000;
    await until('it was looked', () => replica.stats.lastLookAtMs !== looked);
    expect(source.restarts).toEqual([]);
    expect(await keys()).toEqual(expect.arrayContaining(before));
  });
});

describe('whoever asks whether all is stored', () => {
  it('is told so when the store has the newest objects, for two small requests', async () => {
    const store = remote();
    const replica = start(store);
    await threeSegments(replica);
    const before = store.requests.length;
    await replica.storedThrough(source.position(), AbortSignal.timeout(10_000));
    expect(store.requests.slice(before).map(({ operation }) => operation)).toEqual(['stat', 'stat']);
  });

  it.each([/snapshot/, /wal/, /./])('waits for another generation when %s is gone', async (match) => {
    const replica = start(remote());
    await threeSegments(replica);
    const { generation } = source.position();
    await remove(match);
    await replica.storedThrough(source.position(), AbortSignal.timeout(10_000));
    expect(source.position().generation).not.toBe(generation);
    expect(await listSnapshots(inner, source.position().generation)).toHaveLength(1);
  });

  it('is not told so by a store that does not answer', async () => {
    const store = remote();
    const replica = start(store);
    await threeSegments(replica);
    store.fault = ({ operation }) => {
      if (operation === 'stat') throw new LitestreamError('unavailable', 'away');
    };
    const asking = replica.storedThrough(source.position(), AbortSignal.timeout(10_000));
    await until('it has failed', () => replica.stats.lastError);
    expect(replica.unstored ?? replica.stats.lastError).toContain('away');
    store.fault = undefined;
    await asking;
  });
});

it('renews the snapshot of an idle database when it is older than the retention', async () => {
  let nowMs = Date.now();
  const [retentionMs, retentionCheckIntervalMs] = [2 * 3600_000, 24 * 3600_000];
  // What would be a snapshot of its own if anything had changed.
  const options = { retentionMs, retentionCheckIntervalMs, snapshotIntervalMs: 1 };
  const replica = start(remote(), options, { clock: () => nowMs });
  await threeSegments(replica);
  nowMs += 2 * 3600_000 + 1000;
  source.notify();
  await replaced(replica);
  expect(source.restarts).toEqual(['newest snapshot is older than the retention, and the database is idle']);
  expect(await listGenerations(inner)).toHaveLength(2);
});

describe('what a verification finds', () => {
  const never = { lookIntervalMs: 3600_000 };

  it('to be missing is mended by another generation, which is verified in its turn', async () => {
    const replica = start(local(), {}, never);
    await threeSegments(replica);
    const [, middle] = await listSegments(inner, source.position().generation);
    await inner.delete([middle!.key]);
    const result = await replica.verify('latest', AbortSignal.timeout(20_000));
    expect(result).toMatchObject({ result: 'failed', problems: [{ object: middle!.key }] });
    await replaced(replica);
    expect(source.restarts[0]).toMatch(/^verification failed: /);
    await until('it is well again', () => replica.stats.lastError === undefined);
    expect(replica.stats.verification?.result).toBe('ok');
    expect(source.restarts).toHaveLength(1);
  });

  it('again and again is not answered by generation after generation', async () => {
    const store = local();
    const replica = start(store, { validationIntervalMs: 10 }, never);
    store.after = async ({ operation, key }) => {
      // Nothing stays as it was stored.
      if (operation === 'put' && key.includes('/snapshots/')) await inner.put(key, Buffer.from('damaged'));
    };
    await threeSegments(replica);
    await until('it has failed often', () => replica.stats.validationErrorCount > 5);
    expect(source.restarts).toHaveLength(1);
  });
});

describe('another writer', () => {
  /** An object that holds other content than the next segment will. */
  async function takeNextKey(): Promise<string> {
    const { generation, index, offset } = source.position();
    const key = segmentKey(generation, index, offset);
    await inner.put(key, encodeLz4FrameBytes(source.shadow.get(index)!.subarray(0, 4120)));
    return key;
  }

  it.each([
    ['a local store', true],
    ['a remote store', false],
  ])('under the next key is left alone, told of, and avoided: %s', async (_, isLocal) => {
    const replica = start(new FaultStore(inner, isLocal), {}, LOOK);
    await threeSegments(replica);
    const { generation } = source.position();
    const key = await takeNextKey();
    const theirs = (await inner.stat!(key))!.sizeBytes;
    source.commit();
    await replaced(replica);
    expect(source.position().generation).not.toBe(generation);
    expect((await inner.stat!(key))!.sizeBytes).toBe(theirs);
    expect(source.restarts).toEqual([`another process has written ${key} of the replica`]);
    const [error] = log.filter(({ level }) => level === 'ERROR');
    expect(error?.attributes['object']).toBe(key);
    expect(replica.stats.otherWriter?.key).toBe(key);
    await expectRestores();
  });

  it('is noticed while the database is idle', async () => {
    const replica = start(remote(), { retentionCheckIntervalMs: 20 });
    await threeSegments(replica);
    const key = await takeNextKey();
    await replaced(replica);
    expect(source.restarts).toEqual([`another process has written ${key} of the replica`]);
  });

  it('that overwrites what was stored is noticed', async () => {
    const replica = start(remote(), { retentionCheckIntervalMs: 20 });
    await threeSegments(replica);
    const [first] = await listSegments(inner, source.position().generation);
    await inner.put(first!.key, encodeLz4FrameBytes(Buffer.alloc(32 + 4120)));
    await replaced(replica);
    expect(source.restarts).toEqual([`another process has written ${first!.key} of the replica`]);
  });

  it('is not seen in a request of our own whose answer was lost', async () => {
    const store = remote();
    const replica = start(store);
    await threeSegments(replica);
    let lost = 0;
    store.after = () => {
      if (lost++ === 0) throw new LitestreamError('unavailable', 'no answer');
    };
    source.commit();
    await until('it is tried again', () => lost > 0);
    source.commit(3);
    await allStored(replica);
    expect(source.restarts).toEqual([]);
    expect(replica.stats.otherWriter).toBeUndefined();
    await expectRestores();
  });

  it('costs no request more in the common case', async () => {
    const store = remote();
    const replica = start(store);
    await threeSegments(replica);
    const before = store.requests.length;
    source.commit();
    await allStored(replica);
    expect(store.requests.slice(before).map(({ operation }) => operation)).toEqual(['put']);
  });
});

describe('a list at the start', () => {
  type Show = (objects: ObjectInfo[]) => ObjectInfo[];
  const wal = ({ key }: ObjectInfo): boolean => key.includes('/wal/');

  async function restartWith(show: Show, lies: number): Promise<Replica> {
    const first = start(remote());
    await threeSegments(first);
    await stop(first);
    source.commit();
    const store = remote();
    const list = store.list.bind(store);
    let asked = 0;
    store.list = async function* (prefix, options): AsyncGenerator<ObjectInfo> {
      const objects: ObjectInfo[] = [];
      for await (const object of list(prefix, options)) objects.push(object);
      objects.sort((a, b) => (a.key < b.key ? -1 : 1));
      if (prefix.endsWith('/wal/')) asked++;
      yield* asked > lies ? objects : show(objects);
    };
    return start(store);
  }

  it.each<[string, Show]>([
    ['is old', (objects) => objects.slice(0, -1)],
    ['is empty', () => []],
    ['is cut in the middle', (objects) => objects.filter((object) => !wal(object) || object === objects[0])],
    ['lacks a page in the middle', (objects) => objects.filter((_, i) => i !== 1)],
    ['is in another order', (objects) => objects.toReversed()],
  ])('that %s makes nothing be stored twice', async (_, show) => {
    const replica = await restartWith(show, 1);
    await allStored(replica);
    expect(source.restarts).toEqual([]);
    const { generation } = source.position();
    const segments = await listSegments(inner, generation);
    const offsets = segments.map(({ offset }) => offset);
    expect(offsets).toHaveLength(4);
    expect(await listSnapshots(inner, generation)).toHaveLength(1);
    await expectRestores();
  });

  it.each<[string, (all: string[]) => string[]]>([
    ['the last but one segment', (all) => all.slice(-2, -1)],
    ['everything', (all) => all],
  ])('that shows truly that %s is gone begins a generation', async (_, choose) => {
    const first = start(remote());
    await threeSegments(first);
    await stop(first);
    await inner.delete(choose((await keys()).sort()));
    const replica = start(remote());
    await replaced(replica);
    expect(source.restarts).toHaveLength(1);
    await expectRestores();
  });

  it('that shows less for too long begins a generation', async () => {
    const first = start(remote());
    await threeSegments(first);
    await stop(first);
    const [hole] = await listSegments(inner, source.position().generation);
    await inner.delete([hole!.key]);
    const replica = start(remote());
    await until('it is unwell', () => replica.stats.lastError);
    expect(source.restarts).toEqual([]);
    const real = performance.now.bind(performance);
    vi.spyOn(performance, 'now').mockImplementation(() => real() + 61_000);
    await replaced(replica);
    vi.restoreAllMocks();
    expect(source.restarts).toEqual(['replica shows 1 of the 2 wal segments that were stored']);
    await expectRestores();
  });
});
