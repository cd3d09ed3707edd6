/** Retention deletes nothing while the clocks of store and machine disagree, and says so once. */

import { describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { enforceRetention } from '../../src/engine/retention.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectInfo, ObjectStore } from '../../src/storage/object-store.ts';
import { Replica } from '../../src/engine/replica.ts';
import { snapshotObject } from '../support/snapshot-object.ts';
import { FakeSource, FaultStore, type LogLine, OPTIONS, recordingLogger, until } from './replica-rig.ts';
import { name } from './retention-simulation.ts';

const HOUR = 3600_000;

/** A store whose clock is off, and whose objects are older than they are. */
class SkewedStore extends FaultStore {
  skewMs = 0;
  readonly ages = new Map<string, number>();

  #dated(info: ObjectInfo): ObjectInfo {
    const ageMs = this.ages.get(info.key) ?? 0;
    return { ...info, modifiedAt: new Date(info.modifiedAt.getTime() + this.skewMs - ageMs) };
  }

  override async *list(...args: Parameters<ObjectStore['list']>): AsyncGenerator<ObjectInfo> {
    for await (const info of super.list(...args)) yield this.#dated(info);
  }

  override async put(...args: Parameters<ObjectStore['put']>): Promise<ObjectInfo> {
    return this.#dated(await super.put(...args));
  }
}

/** Snapshots and segments of three indexes, so many hours old. */
async function fill(store: SkewedStore, hours: readonly [number, number, number]): Promise<void> {
  for (const [index, age] of hours.entries()) {
    for (const [key, content] of [
      [segmentKey(name(1), index, 0), new Uint8Array(1)],
      [snapshotKey(name(1), index), snapshotObject(name(1), index)],
    ] as const) {
      await store.put(key, content);
      store.ages.set(key, age * HOUR);
    }
  }
}

async function count(store: ObjectStore): Promise<number> {
  let sum = 0;
  for await (const { key } of store.list('')) sum += Number(key !== '');
  return sum;
}

const enforce = (store: ObjectStore, clock: () => number) =>
  enforceRetention({
    store,
    clock,
    now: clock(),
    retentionMs: 24 * HOUR,
    currentGeneration: name(1),
    logger: recordingLogger([]),
  });

describe('retention', () => {
  it('deletes what has left the window when the clocks agree, and leaves nothing of its own', async () => {
    const store = new SkewedStore(openMemoryStore());
    await fill(store, [60, 30, 1]);
    expect(await enforce(store, Date.now)).toMatchObject({ doubt: undefined });
    expect(await count(store)).toBe(4);
  });

  it.each([
    ['this machine is two days ahead for a moment', 48 * HOUR, 0],
    ['the store is three hours behind', 0, -3 * HOUR],
    ['the store is three hours ahead', 0, 3 * HOUR],
  ])('deletes nothing when %s', async (_, aheadMs, skewMs) => {
    const store = new SkewedStore(openMemoryStore());
    await fill(store, [60, 30, 1]);
    store.skewMs = skewMs;
    const result = await enforce(store, () => Date.now() + aheadMs);
    expect(result).toMatchObject({
      settled: false,
      doubt: expect.stringMatching(/clock.*apart.*NTP/) as string,
    });
    expect(await count(store)).toBe(6);
  });

  it('compares the time for which it planned, though the clock is right again', async () => {
    const store = new SkewedStore(openMemoryStore());
    await fill(store, [60, 30, 1]);
    const readings = [Date.now() + 48 * HOUR];
    await enforce(store, () => readings.pop() ?? Date.now());
    expect(await count(store)).toBe(6);
  });

  it.each([
    ['nothing has been stored for long', 25, 6],
    ['something was stored today', 1, 4],
  ])("trusts no clock that it may not compare with the store's when %s", async (_, ageHours, left) => {
    const store = new SkewedStore(openMemoryStore());
    await fill(store, [90, 60, ageHours]);
    store.fault = ({ operation }) => {
      if (operation === 'put') throw new LitestreamError('permission', 'access denied');
    };
    const { doubt } = await enforce(store, Date.now);
    expect(doubt === undefined).toBe(left === 4);
    expect(await count(store)).toBe(left);
  });

  it('says so once while it replicates', async () => {
    const source = new FakeSource();
    const store = new SkewedStore(openMemoryStore());
    const log: LogLine[] = [];
    await fill(store, [60, 30, 26]);
    store.skewMs = -3 * HOUR;
    const replica = new Replica({
      options: { ...OPTIONS, retentionMs: 24 * HOUR, retentionCheckIntervalMs: 5 },
      source,
      openStore: () => Promise.resolve(store),
      logger: recordingLogger(log),
    });
    replica.start();
    source.commit();
    const probes = (): number => store.requests.filter(({ key }) => key === 'litestream-clock').length;
    await until('some checks', () => probes() > 4);
    await replica.stop(AbortSignal.timeout(5000));
    source.close();
    const said = log.filter(({ message }) => message === 'retention deletes nothing');
    expect(said).toMatchObject([{ level: 'WARN' }]);
    expect(replica.stats.clockDoubt).toMatch(/apart/);
    expect(
      store.requests.filter(({ operation, key }) => operation === 'delete' && key !== 'litestream-clock'),
    ).toEqual([]);
  });
});
