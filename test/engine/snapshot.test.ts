import { existsSync, openSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import type * as ownFile from '../../src/base/own-file.ts';
import { type SnapshotInfo, listSnapshots } from '../../src/engine/catalog.ts';
import type { Replica } from '../../src/engine/replica.ts';
import { snapshotAddsTo, snapshotDueAtMs } from '../../src/engine/snapshot.ts';
import { decodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { snapshotKey } from '../../src/format/names.ts';
import { collect } from '../../src/storage/body.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import {
  type FakeSource,
  FaultStore,
  type LogLine,
  Replicas,
  allStored,
  hang,
  until,
} from './replica-rig.ts';

/** The file that stands for the next spool: no file on a disk that is not full fails like a full one. */
const spoolFile: { path: string | undefined } = vi.hoisted(() => ({ path: undefined }));
vi.mock('../../src/base/own-file.ts', async (original) => {
  const module = await original<typeof ownFile>();
  const openOwnFile: typeof module.openOwnFile = (path, options) => {
    const full = spoolFile.path;
    spoolFile.path = undefined;
    return full === undefined ? module.openOwnFile(path, options) : openSync(full, 'r+');
  };
  return { ...module, openOwnFile };
});

let source: FakeSource;
let log: LogLine[];
let replicas: Replicas;

beforeEach(() => {
  replicas = new Replicas();
  ({ source, log } = replicas);
});

afterEach(() => replicas.end());

const start = (...args: Parameters<Replicas['start']>): Replica => replicas.start(...args);

const snapshots = (store: FaultStore): Promise<SnapshotInfo[]> =>
  listSnapshots(store, source.position().generation);
const spool = (): string => join(source.metaPath, 'snapshot-test.tmp');

describe('when a snapshot is due', () => {
  const newest: SnapshotInfo = {
    key: '',
    generation: 'g',
    index: 3,
    sizeBytes: 1,
    createdAt: new Date(1000),
  };
  const at = (index: number, offset: number) => ({ generation: 'g', index, offset });

  it.each([
    [0, 0, Infinity],
    [50, 0, 1050],
    [0, 70, 1070],
    [50, 70, 1050],
    [90, 70, 1070],
    [0, -1, Infinity],
  ])('interval %i, retention %i: %i', (snapshotIntervalMs, retentionMs, due) => {
    expect(snapshotDueAtMs(newest, { snapshotIntervalMs, retentionMs })).toBe(due);
  });

  it('needs commits of a later index', () => {
    expect(snapshotAddsTo(undefined, at(0, 0))).toBe(true);
    expect(snapshotAddsTo(newest, at(3, 99_999))).toBe(false);
    expect(snapshotAddsTo(newest, at(4, 0))).toBe(false);
    expect(snapshotAddsTo(newest, at(4, 4152))).toBe(true);
  });

  it('is taken then, and never twice at one index', async () => {
    const store = new FaultStore(openMemoryStore());
    let aheadMs = 0;
    const replica = start(store, { snapshotIntervalMs: 3600_000 }, { clock: () => Date.now() + aheadMs });
    source.commit();
    await allStored(replica);
    // The wait that is under way is an hour long: a new process looks at the clock anew.
    await replica.stop(AbortSignal.timeout(5000));
    aheadMs = 3600_001;
    const next = start(store, { snapshotIntervalMs: 3600_000 }, { clock: () => Date.now() + aheadMs });
    source.commit();
    await allStored(next);
    expect((await snapshots(store)).map(({ index }) => index)).toEqual([0]);
    source.checkpoint();
    source.commit();
    await until('the second snapshot', async () => (await snapshots(store)).length === 2);
    expect((await snapshots(store)).map(({ index }) => index)).toEqual([0, 1]);
    const lines = log.filter(({ message }) => /snapshot/.test(message));
    expect(lines.map(({ level, message }) => [level, message])).toEqual([
      ['INFO', 'write snapshot'],
      ['INFO', 'snapshot written'],
      ['INFO', 'write snapshot'],
      ['INFO', 'snapshot written'],
    ]);
    expect(lines[3]?.attributes).toMatchObject({
      replica: 'test',
      sz: (await snapshots(store))[1]?.sizeBytes,
    });
  });
});

describe('while a snapshot is written', () => {
  it('segments go on, and it is published after those that it needs', async () => {
    const store = new FaultStore(openMemoryStore());
    let release: (() => void) | undefined;
    store.fault = ({ key }) =>
      key.includes('/snapshots/') && !store.requests.at(-1)?.key.endsWith('/')
        ? new Promise((resolve) => (release = resolve))
        : undefined;
    source.commit();
    const replica = start(store);
    await until('the snapshot is put', () => release);
    expect(replica.stats.walOffset).toBe(source.indexEnd(0));
    source.commit();
    await until('a segment goes on', () => replica.stats.walOffset === source.indexEnd(0));
    expect(source.holds).toBe(1);
    release?.();
    await allStored(replica);
    expect(source.holds).toBe(0);
  });

  it('a remote store gets it from the spool, and does not keep the database', async () => {
    const store = new FaultStore(openMemoryStore(), false);
    const letGo: Promise<boolean>[] = [];
    store.fault = async ({ operation, key }) => {
      if (operation !== 'put' || !key.includes('/snapshots/')) return;
      expect(existsSync(spool())).toBe(true);
      letGo.push(until('the database is let go', () => source.holds === 0));
      await letGo[0];
    };
    writeFileSync(spool(), 'left by a process that died');
    source.commit();
    await allStored(start(store));
    expect(await Promise.all(letGo)).toEqual([true]);
    expect(existsSync(spool())).toBe(false);
    expect(source.holds).toBe(0);
  });

  it('a failed upload leaves no spool behind and is tried again', async () => {
    const store = new FaultStore(openMemoryStore(), false);
    const spooled: boolean[] = [];
    let failures = 1;
    store.fault = ({ operation, key }) => {
      if (operation === 'put' && key.includes('/snapshots/') && failures-- > 0) {
        throw new LitestreamError('unavailable', 'down');
      }
    };
    const replica = start(store);
    await until('the failure shows', () => replica.stats.lastError);
    spooled.push(existsSync(spool()));
    await allStored(replica);
    expect([...spooled, existsSync(spool())]).toEqual([false, false]);
    expect(await snapshots(store)).toHaveLength(1);
  });

  it('a full disk for the spool makes it go straight to the store', async () => {
    const store = new FaultStore(openMemoryStore(), false);
    source.commit();
    const hold = source.holdSnapshot.bind(source);
    source.holdSnapshot = () => {
      spoolFile.path = '/dev/full';
      return hold();
    };
    await allStored(start(store));
    expect(await snapshots(store)).toHaveLength(1);
    expect(existsSync(spool())).toBe(false);
    expect(log.filter(({ level }) => level === 'WARN')).toHaveLength(1);
    expect(source.holds).toBe(0);
  });

  it('a link in the place of the spool is not followed, and makes way', async () => {
    const store = new FaultStore(openMemoryStore(), false);
    source.commit();
    const victim = join(source.metaPath, 'victim');
    writeFileSync(victim, 'kept');
    const hold = source.holdSnapshot.bind(source);
    let links = 1;
    source.holdSnapshot = () => {
      if (links-- > 0) symlinkSync(victim, spool());
      return hold();
    };
    const replica = start(store);
    await until('the refusal shows', () => replica.stats.lastError);
    await allStored(replica);
    expect(readFileSync(victim, 'utf8')).toBe('kept');
    expect(log.map(({ attributes }) => attributes['error'])).toContainEqual(
      expect.stringContaining(`${spool()} is a link or no file`),
    );
    expect(await snapshots(store)).toHaveLength(1);
    expect(existsSync(spool())).toBe(false);
  });

  it('the file that was written is uploaded, whatever has its name meanwhile', async () => {
    const store = new FaultStore(openMemoryStore(), false);
    source.commit();
    store.fault = async ({ operation, key }) => {
      if (operation !== 'put' || !key.includes('/snapshots/')) return;
      await until('the database is let go', () => source.holds === 0);
      rmSync(spool());
      writeFileSync(spool(), Buffer.alloc(1 << 20, 'secret'));
    };
    await allStored(start(store));
    const [key] = await snapshots(store);
    const stored = await collect((await store.get(key!.key)).stream);
    expect(readFileSync(source.path).equals(decodeLz4FrameBytes(stored))).toBe(true);
  });

  it('a stop waits for the first one of a generation, and says so when it must not wait', async () => {
    const store = new FaultStore(openMemoryStore());
    store.fault = ({ operation, key }, signal) =>
      operation === 'put' && key === snapshotKey(source.position().generation, 0) ? hang(signal) : undefined;
    source.commit();
    const replica = start(store);
    await until('the snapshot is put', () => store.requests.some(({ key }) => key.endsWith('.snapshot.lz4')));
    const { unstored } = await replica.stop(AbortSignal.timeout(50));
    expect(unstored).toBe(`no snapshot of generation ${source.position().generation} is stored`);
    expect(source.holds).toBe(0);
  });
});
