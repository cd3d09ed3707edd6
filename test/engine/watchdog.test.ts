/** A pipeline that stands still without failing is found, said, restarted alone, and is well again. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DATABASE_DEFAULTS, REPLICA_DEFAULTS, type DatabaseOptions } from '../../src/engine/options.ts';
import { Replicator } from '../../src/engine/replicator.ts';
import { WalFollower } from '../../src/engine/wal-follower.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import { FaultStore, hang, recordingLogger, until, type LogLine } from './replica-rig.ts';

let directory: string;
let applications: BetterSqlite3.Database[];
let stores: Map<string, FaultStore>;
let replicator: Replicator;
let log: LogLine[];

function database(name: string, syncIntervalMs: number): DatabaseOptions {
  const path = join(directory, name);
  const application = new BetterSqlite3(path);
  application.pragma('journal_mode = WAL');
  application.exec('CREATE TABLE t (v)');
  applications.push(application);
  stores.set(name, new FaultStore(openMemoryStore()));
  const store = { type: 'file', path: name } as const;
  const replica = { ...REPLICA_DEFAULTS, name: 'file', store, syncIntervalMs };
  return { ...DATABASE_DEFAULTS, path, monitorIntervalMs: 10, replicas: [replica] };
}

async function start(names: readonly string[], replicaMs: number, syncIntervalMs = 10): Promise<void> {
  replicator = new Replicator({
    databases: names.map((name) => database(name, syncIntervalMs)),
    openStore: ({ path }) => Promise.resolve(stores.get(path)!),
    logger: recordingLogger(log),
    watchdog: { checkIntervalMs: 10, followerMs: 200, replicaMs },
  });
  await replicator.start();
  await replicator.sync(undefined, AbortSignal.timeout(10_000));
}

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'watchdog-'));
  applications = [];
  stores = new Map();
  log = [];
});

afterEach(async () => {
  vi.restoreAllMocks();
  await replicator.stop(AbortSignal.timeout(5000));
  for (const application of applications) application.close();
  rmSync(directory, { recursive: true });
});

const errors = (): string[] => log.filter(({ level }) => level === 'ERROR').map(({ message }) => message);
const write = (at: number): unknown => applications[at]?.exec('INSERT INTO t VALUES (randomblob(100))');

describe('the watchdog', () => {
  it('restarts the database whose follower hangs, alone, in the same generation', async () => {
    await start(['a', 'b'], 60_000);
    const [before, other] = replicator.status();
    // A copy that never ends and never fails.
    vi.spyOn(WalFollower.prototype, 'sync').mockImplementationOnce(() => new Promise(() => undefined));
    write(0);
    await until('it is stuck', () => replicator.status()[0]?.state === 'stuck');
    expect(replicator.status()[0]).toMatchObject({
      healthy: false,
      reason: 'the wal has commits that are not copied',
    });
    await until('it is well', () => replicator.status()[0]?.state === 'ok');
    await replicator.sync(undefined, AbortSignal.timeout(10_000));
    const [after] = replicator.status();
    expect(after?.position?.generation).toBe(before?.position?.generation);
    expect(after?.position?.offset).toBeGreaterThan(before?.position?.offset ?? Infinity);
    expect(errors()).toEqual(['replication stands still, restarting it']);
    expect(replicator.status()[1]?.position).toEqual(other?.position);
    expect(log.filter(({ message }) => message === 'replication moves again')).toHaveLength(1);
  });

  it('restarts a database whose replica hangs in a request that never fails', async () => {
    await start(['a'], 300);
    const store = stores.get('a')!;
    store.fault = ({ operation }, signal) => {
      if (operation !== 'put') return;
      store.fault = undefined;
      return hang(signal);
    };
    write(0);
    await until('it is stuck', () => errors().length > 0);
    await until('it is well', () => replicator.status()[0]?.state === 'ok');
    await replicator.sync(undefined, AbortSignal.timeout(10_000));
    expect(replicator.status()[0]?.replicas[0]?.lagMs).toBe(0);
  });

  it('leaves an idle database and one with a known failure alone', async () => {
    await start(['a'], 300);
    const store = stores.get('a')!;
    store.fault = ({ operation }) => {
      if (operation === 'put') throw new Error('no such store');
    };
    write(0);
    await until('it fails', () => replicator.status()[0]?.state === 'failing');
    // Many checks and a few tries later the failure is still what is told.
    const before = store.requests.length;
    await until('it is tried again', () => store.requests.length >= before + 2);
    expect(replicator.status()[0]).toMatchObject({
      state: 'failing',
      healthy: false,
      reason: expect.stringContaining('no such store') as string,
    });
    expect(errors()).toEqual(['monitor error']);
    store.fault = undefined;
    await until('it is well', () => replicator.status()[0]?.state === 'ok');
  });
});

describe('sync', () => {
  it('does not wait for the interval', async () => {
    await start(['a'], 60_000, 3600_000);
    for (let i = 0; i < 3; i++) {
      write(0);
      await replicator.sync(undefined, AbortSignal.timeout(10_000));
      expect(replicator.status()[0]?.replicas[0]).toMatchObject({ lagMs: 0, state: 'ok' });
    }
  });

  it('says what is not stored, and why, when the time is up', async () => {
    await start(['a'], 60_000);
    const store = stores.get('a')!;
    store.fault = ({ operation }) => {
      if (operation === 'put') throw new Error('no such store');
    };
    write(0);
    await expect(replicator.sync(undefined, AbortSignal.timeout(300))).rejects.toMatchObject({
      code: 'timeout',
      message: expect.stringMatching(/is not stored: .*no such store/) as string,
    });
    store.fault = undefined;
    await replicator.sync(join(directory, 'a'), AbortSignal.timeout(10_000));
    await expect(replicator.sync('/nowhere', AbortSignal.timeout(100))).rejects.toMatchObject({
      code: 'not-found',
    });
  });
});
