import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { listSegments, listSnapshots } from '../../src/engine/catalog.ts';
import type { ReplicaOptions } from '../../src/engine/options.ts';
import { nextSegment } from '../../src/engine/replica-segment.ts';
import type { Replica } from '../../src/engine/replica.ts';
import { decodeLz4FrameBytes, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { readFrameHeader, walFrameSize } from '../../src/sqlite/wal.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openStore } from '../../src/storage/registry.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import { oracle } from '../support/oracle.ts';
import {
  type FakeSource,
  FaultStore,
  type LogLine,
  Replicas,
  allStored,
  hang,
  until,
} from './replica-rig.ts';

let source: FakeSource;
let store: FaultStore;
let log: LogLine[];
let replicas: Replicas;

beforeEach(() => {
  replicas = new Replicas();
  ({ source, log } = replicas);
  store = new FaultStore(openMemoryStore());
});

afterEach(() => replicas.end());

const start = (options: Partial<ReplicaOptions> = {}, into: ObjectStore = store): Replica =>
  replicas.start(into, options);

const stop = (replica: Replica): Promise<{ unstored: string | undefined }> =>
  replica.stop(AbortSignal.timeout(10_000));
const puts = (): string[] =>
  store.requests.filter(({ operation }) => operation === 'put').map(({ key }) => key);
const segmentPuts = (): string[] => puts().filter((key) => key.endsWith('.wal.lz4'));
const errors = (): LogLine[] => log.filter(({ level }) => level === 'ERROR');

/** The concatenated segments of each index, and that they adjoin. */
async function storedWal(from: ObjectStore = store): Promise<Map<number, Buffer>> {
  const wals = new Map<number, Buffer>();
  for (const { key, index, offset } of await listSegments(from, source.position().generation)) {
    const parts: Uint8Array[] = [];
    for await (const part of (await from.get(key)).stream) parts.push(part);
    const before = wals.get(index) ?? Buffer.alloc(0);
    expect(offset, key).toBe(before.byteLength);
    wals.set(index, Buffer.concat([before, decodeLz4FrameBytes(Buffer.concat(parts))]));
  }
  return wals;
}

async function expectAllStored(): Promise<void> {
  for (const [index, wal] of await storedWal()) expect(wal.equals(source.shadow.get(index)!)).toBe(true);
}

describe('what it writes', () => {
  it.each([512, 4096, 65536])('is restored by v0.3.13, page size %i', async (pageSize) => {
    await replicas.end();
    replicas = new Replicas(pageSize);
    ({ source, log } = replicas);
    const path = join(source.dir, 'backup');
    const files = await openStore({ type: 'file', path });
    source.commit(3);
    const replica = start({}, files);
    for (let index = 0; index < 4; index++) {
      source.commit(20, 1000);
      await allStored(replica);
      source.commit(1);
      source.commit(1);
      source.checkpoint();
    }
    source.commit(5);
    expect(await stop(replica)).toEqual({ unstored: undefined });
    const output = join(source.dir, 'restored');
    execFileSync(oracle(), ['restore', '-o', output, `file://${path}`], { stdio: 'pipe' });
    expect(readFileSync(output).equals(source.bytes())).toBe(true);
  });

  it('is restored by v0.3.13 from a store that gets spooled snapshots', async () => {
    const path = join(source.dir, 'backup');
    const files = new FaultStore(await openStore({ type: 'file', path }), false);
    source.commit(500, 3000);
    const replica = start({}, files);
    await allStored(replica);
    await stop(replica);
    const output = join(source.dir, 'restored');
    execFileSync(oracle(), ['restore', '-o', output, `file://${path}`], { stdio: 'pipe' });
    expect(readFileSync(output).equals(source.bytes())).toBe(true);
  });

  it('starts with the segments that the first snapshot needs, then the snapshot', async () => {
    source.commit(10);
    const replica = start();
    await allStored(replica);
    const { generation } = source.position();
    expect(puts()).toEqual([segmentKey(generation, 0, 0), snapshotKey(generation, 0)]);
    expect(replica.stats).toMatchObject({ generation, walIndex: 0, walOffset: source.indexEnd(0) });
    expect(replica.stats.walBytes).toBe(source.indexEnd(0));
    expect(source.holds).toBe(0);
  });

  it('never is a WAL header by itself', async () => {
    const replica = start();
    await allStored(replica);
    source.shadow.set(0, Buffer.alloc(32));
    source.notify();
    await stop(replica);
    expect(segmentPuts()).toEqual([]);
  });

  it('keeps the index of its position and the one before', async () => {
    const replica = start();
    for (let index = 0; index < 4; index++) {
      source.commit();
      await allStored(replica);
      source.checkpoint();
    }
    expect(source.retained.at(-1)).toBe(2);
  });
});

describe('when it uploads', () => {
  it('sends the first commit after a quiet time at once, the next one an interval later, or at a stop', async () => {
    const replica = start({ syncIntervalMs: 3600_000 });
    await allStored(replica);
    source.commit();
    await allStored(replica);
    expect(segmentPuts()).toHaveLength(1);
    source.commit();
    expect(replica.lagging()?.bytes).toBe(walFrameSize(4096));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(segmentPuts()).toHaveLength(1);
    expect(await stop(replica)).toEqual({ unstored: undefined });
    expect(segmentPuts()).toHaveLength(2);
    await expectAllStored();
  });

  it('makes no request while the database is idle', async () => {
    store = new FaultStore(openMemoryStore(), false);
    const replica = start({ retentionMs: 3600_000, retentionCheckIntervalMs: 200 });
    source.commit();
    await allStored(replica);
    await until('the first check of retention', () =>
      store.requests.some(({ operation }) => operation === 'listPrefixes'),
    );
    // What the next checks ask for is told in the tests of what the store shows.
    replica.stats.lastLookAtMs = undefined;
    await until('the second check', () => replica.stats.lastLookAtMs);
    const [before] = [store.requests.length];
    expect(store.requests.at(-1)?.operation).toBe('list');
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(store.requests.length).toBe(before);
  });

  it('never asks a store without checks while the database is idle', async () => {
    store = new FaultStore(openMemoryStore(), false);
    const replica = start({ retentionMs: 3600_000 });
    source.commit();
    await allStored(replica);
    await until('the snapshot', () => puts().length === 2);
    const before = store.requests.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(store.requests.length).toBe(before);
  });

  it('catches up with many indexes without waiting between them', async () => {
    for (let index = 0; index < 20; index++) {
      source.commit();
      source.checkpoint();
    }
    const replica = start({ syncIntervalMs: 3600_000 });
    await allStored(replica);
    // A fresh replica begins at the index of its first snapshot.
    expect(segmentPuts()).toEqual([segmentKey(source.position().generation, 19, 0)]);
    store.fault = () => {
      throw new LitestreamError('unavailable', 'down');
    };
    await until('an error', () => {
      source.commit();
      source.checkpoint();
      return source.position().index >= 40;
    });
    store.fault = undefined;
    expect(await stop(replica)).toEqual({ unstored: undefined });
    await expectAllStored();
    expect((await storedWal()).size).toBe(source.position().index - 18);
  });
});

describe('when the store fails', () => {
  it.each(['unavailable', 'permission'] as const)('recovers from %s without a new write', async (code) => {
    const replica = start();
    await allStored(replica);
    let failures = 2;
    store.fault = () => {
      if (failures-- > 0) throw new LitestreamError(code, 'the store is away');
    };
    source.commit();
    await until('the failure shows', () => replica.stats.lastError);
    expect(replica.stats.lastError).toContain('the store is away');
    await allStored(replica);
    // What is stored counts a moment before the pass that stored it has ended well.
    await until('the failure is over', () => replica.stats.lastError === undefined);
    expect(errors()).toHaveLength(1);
    expect(errors()[0]).toMatchObject({
      message: 'monitor error',
      attributes: { db: source.path, replica: 'test' },
    });
    expect(log.filter(({ message }) => message === 'monitor recovered')).toHaveLength(1);
    await expectAllStored();
  });

  it('says what is not stored when it must stop', async () => {
    const replica = start();
    await allStored(replica);
    store.fault = ({ operation }, signal) => (operation === 'put' ? hang(signal) : undefined);
    source.commit();
    const { generation } = source.position();
    await until('the upload began', () => segmentPuts().length === 1);
    const { unstored } = await replica.stop(AbortSignal.timeout(50));
    expect(unstored).toBe(
      `wal from ${generation}/00000000:0 to ${generation}/00000000:${source.indexEnd(0)} ` +
        `(${source.indexEnd(0)} bytes) is not stored`,
    );
  });

  it('ends in time although the store ignores the abort', async () => {
    const replica = start();
    await allStored(replica);
    store.fault = () => new Promise<never>(() => undefined);
    source.commit();
    expect((await replica.stop(AbortSignal.timeout(20))).unstored).toContain('is not stored');
  });

  it('names the failure when nothing is known', async () => {
    store.fault = () => {
      throw new LitestreamError('permission', 'access denied to bucket b');
    };
    const replica = start();
    await until('the failure shows', () => replica.stats.lastError);
    const { unstored } = await replica.stop(AbortSignal.timeout(50));
    expect(unstored).toBe('it is not known what is stored: access denied to bucket b');
  });

  it('does not hold the database while segments cannot be stored', async () => {
    store.fault = ({ key }) => {
      if (key.endsWith('.wal.lz4')) throw new LitestreamError('unavailable', 'down');
    };
    source.commit();
    const replica = start();
    await until('the failure shows', () => errors().some(({ message }) => message === 'snapshotter error'));
    await until('the hold is released', () => source.holds === 0);
    store.fault = undefined;
    await allStored(replica);
    await until('the failure is over', () => replica.stats.lastError === undefined);
  });

  it('repeats an upload of unknown outcome with the same bytes', async () => {
    const replica = start();
    await allStored(replica);
    store.after = () => {
      store.after = undefined;
      source.commit(3);
      throw new LitestreamError('timeout', 'no answer');
    };
    source.commit();
    await until('a retry', () => segmentPuts().length === 3);
    await allStored(replica);
    const [first, second, third] = segmentPuts();
    expect(first).toBe(second);
    expect(third).not.toBe(second);
    await expectAllStored();
  });
});

describe('after a restart', () => {
  it('continues with one listing of each kind and one read', async () => {
    const first = start();
    source.commit();
    await allStored(first);
    source.checkpoint();
    source.commit(2);
    await stop(first);
    store.requests.length = 0;
    const second = start();
    await allStored(second);
    expect(store.requests.map(({ operation }) => operation)).toEqual(['list', 'list', 'get']);
    source.commit();
    await allStored(second);
    await expectAllStored();
    expect(source.restarts).toEqual([]);
    expect(await listSnapshots(store, source.position().generation)).toHaveLength(1);
  });

  async function lastSegment(): Promise<string> {
    return (await listSegments(store, source.position().generation)).at(-1)!.key;
  }

  it('takes no object of an index that is still to come for its newest snapshot', async () => {
    const first = start();
    source.commit();
    await allStored(first);
    await stop(first);
    const { generation } = source.position();
    await store.put(snapshotKey(generation, 0xffffffff), new Uint8Array());
    const second = start();
    await allStored(second);
    expect(second.stats.snapshot).toMatchObject({ index: 0 });
    await stop(second);
  });

  it('writes a last segment anew that cannot be decoded', async () => {
    const first = start();
    source.commit();
    await allStored(first);
    source.commit(2);
    await stop(first);
    await store.put(await lastSegment(), new Uint8Array(7));
    const second = start();
    await allStored(second);
    await expectAllStored();
    expect(source.restarts).toEqual([]);
  });

  it('writes a bare WAL header anew', async () => {
    const first = start();
    source.commit();
    await stop(first);
    source.checkpoint();
    source.commit();
    const { generation } = source.position();
    await store.put(segmentKey(generation, 1, 0), encodeLz4FrameBytes(source.shadow.get(1)!.subarray(0, 32)));
    await allStored(start());
    await expectAllStored();
    expect(source.restarts).toEqual([]);
  });

  it.each<[string, () => unknown]>([
    ['its end is not in the chain', () => source.shadow.get(0)!.fill(1, source.indexEnd(0) - 4096 - 8)],
    [
      'the source was cut back',
      () => void source.shadow.set(0, source.shadow.get(0)!.subarray(0, 32 + 4120)),
    ],
    [
      'two last segments cannot be decoded',
      async () => {
        const segments = await listSegments(store, source.position().generation);
        for (const { key } of segments) await store.put(key, new Uint8Array(7));
      },
    ],
    [
      'an index is missing in the middle',
      async () => {
        source.checkpoint();
        source.commit();
        source.checkpoint();
        source.commit();
        const middle = start();
        await allStored(middle);
        await stop(middle);
        await store.delete([segmentKey(source.position().generation, 1, 0)]);
      },
    ],
  ])('starts a new generation when %s', async (_, damage) => {
    const first = start();
    source.commit();
    await allStored(first);
    source.commit();
    await stop(first);
    const { generation } = source.position();
    await damage();
    await allStored(start());
    expect(source.restarts).toHaveLength(1);
    expect(source.position().generation).not.toBe(generation);
    expect(await listSnapshots(store, source.position().generation)).toHaveLength(1);
    await expectAllStored();
  });

  it('starts a new generation when the shadow WAL it needs is gone', async () => {
    const first = start();
    source.commit();
    await stop(first);
    source.commit();
    source.checkpoint();
    source.commit();
    source.checkpoint();
    source.commit();
    source.shadow.delete(1);
    await allStored(start());
    expect(source.restarts).toEqual(['shadow wal of index 1 is gone before it was replicated']);
  });
});

describe('generations', () => {
  const operations = (): string[] => store.requests.map(({ operation }) => operation);

  it('are not asked for when they are new', async () => {
    source.fresh = true;
    source.commit();
    await allStored(start());
    expect(operations()).toEqual(['put', 'put']);
    source.restartGeneration('another one');
    await until('the next generation is stored', () => store.requests.length === 4);
    expect(operations()).toEqual(['put', 'put', 'put', 'put']);
    await expectAllStored();
  });

  it('are asked for when their replication begins a second time', async () => {
    source.fresh = true;
    source.commit();
    const replica = start();
    await allStored(replica);
    source.notify();
    const position = source.position.bind(source);
    source.position = () => {
      source.position = position;
      throw new LitestreamError('io', 'made to fail');
    };
    await until('it has begun again', () => operations().includes('get'));
    source.commit();
    await allStored(replica);
    expect(operations().slice(0, 5)).toEqual(['put', 'put', 'list', 'list', 'get']);
    await expectAllStored();
  });

  it('follows the source into a new one', async () => {
    const replica = start();
    source.commit();
    await allStored(replica);
    source.restartGeneration('because');
    source.commit();
    await allStored(replica);
    const { generation } = source.position();
    expect(replica.stats.generation).toBe(generation);
    expect(puts().slice(-2).toSorted()).toEqual([snapshotKey(generation, 0), segmentKey(generation, 0, 0)]);
    await expectAllStored();
  });

  it('begin anew when the source falls back behind what is stored', async () => {
    const replica = start();
    source.commit();
    source.commit();
    await allStored(replica);
    const { generation } = source.position();
    source.shadow.set(0, source.shadow.get(0)!.subarray(0, 32 + walFrameSize(4096)));
    source.notify();
    await until('a new generation', () => source.position().generation !== generation);
    expect(source.restarts).toEqual(['replica is ahead of the shadow wal']);
    await allStored(replica);
  });

  it('never mixes bytes of two generations in one segment', async () => {
    const replica = start();
    await allStored(replica);
    const read = source.readShadow.bind(source);
    source.readShadow = async (...range) => {
      source.readShadow = read;
      const data = await read(...range);
      source.restartGeneration('in the middle of an upload');
      return data;
    };
    const { generation } = source.position();
    source.commit();
    await allStored(replica);
    expect(segmentPuts()).toEqual([segmentKey(source.position().generation, 0, 0)]);
    expect(await listSegments(store, generation)).toEqual([]);
  });

  it('stops visibly at an offset beyond the format until the next one begins', async () => {
    const { generation } = source.position();
    const size = walFrameSize(4096);
    const lastStart = 32 + Math.floor((0xffff_ffff - 32) / size) * size;
    source.commit();
    const frame = source.shadow.get(0)!.subarray(-size);
    await store.put(snapshotKey(generation, 0), encodeLz4FrameBytes(source.bytes()));
    await store.put(segmentKey(generation, 0, 0), encodeLz4FrameBytes(source.shadow.get(0)!));
    await store.put(segmentKey(generation, 0, lastStart), encodeLz4FrameBytes(frame));
    const end = lastStart + size;
    source.contains = (_, offset) => Promise.resolve(offset === end);
    source.indexEnd = () => end + size;
    source.readShadow = () => Promise.resolve(new Uint8Array(frame));
    const replica = start();
    await until('the failure shows', () => replica.stats.lastError?.includes('eight hex digits'));
    const before = store.requests.length;
    source.notify();
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(store.requests.length).toBe(before);
    expect(source.restarts).toEqual([]);
    for (const name of ['contains', 'indexEnd', 'readShadow']) Reflect.deleteProperty(source, name);
    // The WAL starts over: from here on another generation can hold everything.
    source.checkpoint();
    source.commit();
    await until('the generation is given up', () => source.restarts.length > 0);
    expect(source.restarts[0]).toContain('outgrown');
    await allStored(replica);
    await until('the failure is over', () => replica.stats.lastError === undefined);
  });
});

describe('nextSegment', () => {
  it('cuts at commit boundaries, loses nothing, and is as long as allowed', async () => {
    for (let i = 0; i < 60; i++) source.commit(1 + ((i * 7) % 5), 900 + 700 * (i % 3));
    const size = walFrameSize(4096);
    const end = source.indexEnd(0);
    const isCommit = (offset: number): boolean =>
      readFrameHeader(source.shadow.get(0)!, offset - size).commitPageCount > 0;
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: end + 10 }), async (maxBytes) => {
        let position = { ...source.position(), offset: 0 };
        while (position.offset < end) {
          const range = (await nextSegment(source, position, maxBytes))!;
          expect(range.start).toBe(position.offset);
          expect(isCommit(range.end)).toBe(true);
          const first = Math.max(range.start, 32) + size;
          const commits: number[] = [];
          for (let at = first; at <= end; at += size) if (isCommit(at)) commits.push(at);
          const fitting = commits.filter((at) => at - range.start <= maxBytes);
          expect(range.end).toBe(fitting.at(-1) ?? commits[0]);
          position = { ...position, offset: range.end };
        }
        expect(await nextSegment(source, position, maxBytes)).toBeUndefined();
      }),
      { numRuns: 40 },
    );
  });
});
