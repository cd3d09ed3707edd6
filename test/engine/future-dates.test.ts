/** What is dated later than now, by a store or a clock that was ahead, holds nothing up until that date. */

import { afterEach, beforeEach, expect, it } from 'vitest';
import { listSnapshots } from '../../src/engine/catalog.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { CallOptions, ObjectInfo, ObjectStore } from '../../src/storage/object-store.ts';
import { type FakeSource, FaultStore, Replicas, allStored, until } from './replica-rig.ts';

const TEN_DAYS_MS = 240 * 3600_000;

const later = (info: ObjectInfo): ObjectInfo => ({
  ...info,
  modifiedAt: new Date(info.modifiedAt.getTime() + TEN_DAYS_MS),
});

/** Dates everything ten days ahead. */
class AheadStore extends FaultStore {
  override async *list(...args: Parameters<ObjectStore['list']>): AsyncGenerator<ObjectInfo> {
    for await (const info of super.list(...args)) yield later(info);
  }

  override async stat(key: string, options?: CallOptions): Promise<ObjectInfo | undefined> {
    const info = await super.stat(key, options);
    return info && later(info);
  }

  override async put(...args: Parameters<ObjectStore['put']>): Promise<ObjectInfo> {
    return later(await super.put(...args));
  }
}

let source: FakeSource;
let replicas: Replicas;

beforeEach(() => {
  replicas = new Replicas();
  ({ source } = replicas);
});

afterEach(() => replicas.end());

it.each([
  { whose: 'this process', again: false },
  { whose: 'the one before', again: true },
])('another snapshot comes an interval after one of $whose that is dated ahead', async ({ again }) => {
  const store = new AheadStore(openMemoryStore());
  const options = { snapshotIntervalMs: 100 };
  let replica = replicas.start(store, options);
  source.commit();
  await allStored(replica);
  if (again) {
    await replica.stop(AbortSignal.timeout(5000));
    replica = replicas.start(store, options);
  }
  source.checkpoint();
  source.commit();
  const indexes = async (): Promise<number[]> =>
    (await listSnapshots(store, source.position().generation)).map(({ index }) => index);
  await until('the second snapshot', async () => (await indexes()).length === 2);
  expect(await indexes()).toEqual([0, 1]);
});

it('the replica is looked at again an interval after a look that a clock set back has put in the future', async () => {
  // A local one is looked at each second, too.
  const store = new FaultStore(openMemoryStore(), false);
  let aheadMs = 0;
  const options = { retentionMs: 3600_000, retentionCheckIntervalMs: 100 };
  const replica = replicas.start(store, options, { clock: () => Date.now() + aheadMs });
  source.commit();
  await allStored(replica);
  aheadMs = -TEN_DAYS_MS;
  const looks = new Set<number>();
  // One may be under way, and another one waits by the clock as it was.
  await until('it is looked at twice', () => {
    const { lastLookAtMs } = replica.stats;
    if (lastLookAtMs !== undefined && lastLookAtMs < Date.now() - TEN_DAYS_MS / 2) looks.add(lastLookAtMs);
    return looks.size === 2;
  });
});
