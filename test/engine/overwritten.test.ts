/** Another writer's object under one of our keys, of the same size: on stores whose times are exact, coarse, or another's. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { type SegmentInfo, listSegments, listSnapshots } from '../../src/engine/catalog.ts';
import type { ReplicaOptions } from '../../src/engine/options.ts';
import type { Replica, ReplicaDependencies } from '../../src/engine/replica.ts';
import { decodeTrailer, encodeTrailer, trailerSize } from '../../src/format/object-trailer.ts';
import { ForwardingStore } from '../../src/storage/forwarding-store.ts';
import { xxh32 } from '../../src/format/xxh32.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { CallOptions, ObjectInfo, ObjectStore, PutOptions } from '../../src/storage/object-store.ts';
import { type FakeSource, FaultStore, Replicas, allStored, until } from './replica-rig.ts';

interface Telling {
  /** What is shown of the exact time in milliseconds. */
  readonly shown: (ms: number) => number;
  /** What a put tells, if not what is shown. */
  readonly taken?: (ms: number) => number;
  readonly versions?: boolean;
  /** False: leaves what it is asked to leave. */
  readonly overwrites?: boolean;
}

/** Tells what it is told to tell, and overwrites what it is asked to leave. */
class TellingStore extends ForwardingStore {
  readonly #telling: Telling;

  constructor(inner: ObjectStore, telling: Telling) {
    super(inner);
    this.#telling = telling;
  }

  override async *list(...args: Parameters<ObjectStore['list']>): AsyncGenerator<ObjectInfo> {
    for await (const info of super.list(...args)) yield this.#tell(info, this.#telling.shown);
  }

  override async put(
    key: string,
    body: Uint8Array | AsyncIterable<Uint8Array>,
    options?: PutOptions,
  ): Promise<ObjectInfo> {
    const { shown, taken = shown, overwrites = true } = this.#telling;
    const how = overwrites ? { ...options, ifAbsent: false } : options;
    return this.#tell(await super.put(key, body, how), taken);
  }

  protected override async forwardStat(key: string, options?: CallOptions): Promise<ObjectInfo | undefined> {
    const info = await super.forwardStat(key, options);
    return info && this.#tell(info, this.#telling.shown);
  }

  async #tell(info: ObjectInfo, timeOf: (ms: number) => number): Promise<ObjectInfo> {
    const modifiedAt = new Date(timeOf(info.modifiedAt.getTime()));
    const version = this.#telling.versions === true ? String(xxh32(await bytesOf(info.key))) : undefined;
    return { ...info, modifiedAt, version };
  }
}

const exact = (ms: number): number => ms;
/** Of a time in whole seconds it cannot be known whether it is exact. */
const withoutWholeSeconds = (ms: number): number => (ms % 1000 === 0 ? ms + 1 : ms);
/** A store that tells seconds, all within the same ones. */
const coarse = (): number => 1_700_000_000_000;

let source: FakeSource;
let inner: ObjectStore;
let replicas: Replicas;

beforeEach(() => {
  replicas = new Replicas();
  ({ source } = replicas);
  inner = new TellingStore(openMemoryStore(), { shown: withoutWholeSeconds, overwrites: false });
});

afterEach(() => replicas.end());

const CHECKED = { retentionCheckIntervalMs: 20 };

/** A local store is looked at when a test says so. */
const start = (
  store: ObjectStore,
  options: Partial<ReplicaOptions> = {},
  more: Partial<ReplicaDependencies> = {},
): Replica => replicas.start(store, options, { lookIntervalMs: 3600_000, ...more });

/** Two segments of one index, and one of the next, which nobody has looked at yet. */
async function threeSegments(replica: Replica): Promise<SegmentInfo[]> {
  for (const ends of [false, true, false]) {
    source.commit();
    await allStored(replica);
    if (ends) source.checkpoint();
  }
  return listSegments(inner, source.position().generation);
}

async function bytesOf(key: string): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of (await inner.get(key)).stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

/** What another writer stores under that key: the same but for the checksum that its chain has there. */
async function othersObject(key: string): Promise<Buffer> {
  const ours = await bytesOf(key);
  const data = ours.subarray(0, -trailerSize(ours)!);
  const trailer = decodeTrailer(ours.subarray(data.byteLength));
  return Buffer.concat([data, encodeTrailer({ ...trailer, checksum: [1, 2] })]);
}

/** Puts an object in the place of another one of the same size, and not in the same moment. */
async function overwrite(key: string, body: Uint8Array): Promise<void> {
  const before = (await inner.stat!(key))!;
  await until('a later moment', () => Date.now() - before.modifiedAt.getTime() > 2);
  expect((await inner.put(key, body)).sizeBytes).toBe(before.sizeBytes);
}

async function expectReplaced(key: string): Promise<void> {
  await until('another generation begins', () => source.restarts.length > 0);
  expect(source.restarts).toEqual([`another process has written ${key} of the replica`]);
  const { generation } = source.position();
  await until('it has a snapshot', async () => (await listSnapshots(inner, generation)).length === 1);
}

/** Resolves after that many more looks at the store, and expects it to have been found well. */
async function expectWell(replica: Replica, looks = 3): Promise<void> {
  for (let times = 0; times < looks; times++) {
    const lookedAtMs = replica.stats.lastLookAtMs;
    await until('it was looked', () => replica.stats.lastLookAtMs !== lookedAtMs);
  }
  expect(source.restarts).toEqual([]);
  expect(replica.stats.otherWriter).toBeUndefined();
}

describe('an object of the same size and another time is told by its content', () => {
  it.each([
    ['in the middle', 1, true],
    ['in the middle, of an index that is here no longer', 1, false],
    ['at the end', 2, true],
  ])('in a list of a remote store, %s', async (_, which, isHere) => {
    const replica = start(new FaultStore(inner, false), CHECKED);
    const { key } = (await threeSegments(replica))[which]!;
    if (!isHere) source.shadow.delete(0);
    await overwrite(key, await othersObject(key));
    await expectReplaced(key);
  });

  it('by who asks whether all is stored', async () => {
    const replica = start(new FaultStore(inner, false));
    const { key } = (await threeSegments(replica)).at(-1)!;
    await overwrite(key, await othersObject(key));
    await replica.storedThrough(source.position(), AbortSignal.timeout(10_000));
    await expectReplaced(key);
  });

  it('at a poll of a local store', async () => {
    const replica = start(new FaultStore(inner), {}, { lookIntervalMs: 10 });
    const { key } = (await threeSegments(replica)).at(-1)!;
    await overwrite(key, await othersObject(key));
    await expectReplaced(key);
  });
});

describe('on a store that tells whole seconds and overwrites what it is asked to leave', () => {
  it.each(['a list', 'a question'])('the last segment is read once: by %s', async (by) => {
    const store = new FaultStore(new TellingStore(inner, { shown: coarse }), false);
    const replica = start(store, by === 'a list' ? CHECKED : {});
    let written = '';
    store.after = async ({ key }) => {
      // Right behind ours, before it is answered: the time is the same.
      if (!key.includes('/wal/') || written === '') return;
      written = key;
      store.after = undefined;
      await inner.put(key, await othersObject(key));
    };
    await threeSegments(replica);
    written = 'next';
    source.commit();
    if (by === 'a question') await replica.storedThrough(source.position(), AbortSignal.timeout(10_000));
    await until('it is written over', () => written !== 'next');
    await expectReplaced(written);
  });

  it('reads nothing more while nothing is stored, and takes nothing for foreign', async () => {
    const store = new FaultStore(new TellingStore(inner, { shown: coarse }), false);
    const replica = start(store, CHECKED);
    await threeSegments(replica);
    await expectWell(replica);
    const before = store.requests.length;
    await expectWell(replica);
    await replica.storedThrough(source.position(), AbortSignal.timeout(10_000));
    const since = store.requests.slice(before).map(({ operation }) => operation);
    expect(new Set(since)).toEqual(new Set(['list', 'stat']));
    const read = store.requests.flatMap(({ operation, key }) => (operation === 'get' ? [key] : []));
    expect(new Set(read).size).toBe(read.length);
  });
});

describe('on a store that tells versions', () => {
  it('each object that another one took the place of is found, whatever its time', async () => {
    const replica = start(
      new FaultStore(new TellingStore(inner, { shown: coarse, versions: true }), false),
      CHECKED,
    );
    const { key } = (await threeSegments(replica))[1]!;
    await overwrite(key, await othersObject(key));
    await expectReplaced(key);
  });

  it('nothing is read to know the last one, nor what was copied', async () => {
    const shown = (): number => Date.now();
    const store = new FaultStore(new TellingStore(inner, { shown, versions: true }), false);
    const replica = start(store, CHECKED);
    const segments = await threeSegments(replica);
    for (const { key } of segments) await overwrite(key, await bytesOf(key));
    await expectWell(replica);
    await replica.storedThrough(source.position(), AbortSignal.timeout(10_000));
    expect(store.requests.filter(({ operation }) => operation === 'get')).toEqual([]);
  });
});

describe('is not taken for foreign', () => {
  it.each<[string, (ms: number) => number, (ms: number) => number]>([
    ['a store that shows other times than it told', (ms) => ms + 5000, exact],
    ['a store that tells times that are cut to seconds', (ms) => Math.floor(ms / 1000) * 1000, exact],
    ['a store whose times go on', () => Date.now(), exact],
  ])('what is in %s', async (_, shown, taken) => {
    const replica = start(new FaultStore(new TellingStore(inner, { shown, taken }), false), CHECKED);
    await threeSegments(replica);
    await expectWell(replica);
    await replica.storedThrough(source.position(), AbortSignal.timeout(10_000));
    expect(source.restarts).toEqual([]);
  });

  it('what was copied, and gets its time anew, for one small request each', async () => {
    const store = new FaultStore(inner, false);
    const replica = start(store, CHECKED);
    const segments = await threeSegments(replica);
    for (const { key } of segments) await overwrite(key, await bytesOf(key));
    await until(
      'all are read',
      () => store.requests.filter(({ operation }) => operation === 'get').length >= 3,
    );
    const before = store.requests.length;
    await expectWell(replica);
    expect(store.requests.slice(before).every(({ operation }) => operation === 'list')).toBe(true);
  });

  it('what cannot be read here', async () => {
    const store = new FaultStore(new TellingStore(inner, { shown: coarse }), false);
    store.fault = ({ operation }) => {
      if (operation === 'get') throw new LitestreamError('encrypted', 'no key here');
    };
    const replica = start(store, CHECKED);
    const segments = await threeSegments(replica);
    for (const { key } of segments) await overwrite(key, await bytesOf(key));
    await expectWell(replica);
  });
});
