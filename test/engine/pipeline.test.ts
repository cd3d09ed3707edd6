/** What is asked of a database before it is followed. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Checkpointer } from '../../src/engine/checkpointer.ts';
import { DirectoryWatch } from '../../src/engine/directory-watch.ts';
import { DATABASE_DEFAULTS, REPLICA_DEFAULTS } from '../../src/engine/options.ts';
import { Pipeline } from '../../src/engine/pipeline.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { recordingLogger, until } from './replica-rig.ts';

let directory: string;
let application: BetterSqlite3.Database;
let store: ObjectStore;
let pipeline: Pipeline;
/** Lets the database be opened. */
let open: () => void;
let opening: boolean;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'pipeline-'));
  const path = join(directory, 'db');
  application = new BetterSqlite3(path);
  application.pragma('journal_mode = WAL');
  application.exec('CREATE TABLE t (v)');
  store = openMemoryStore();
  const logger = recordingLogger([]);
  const mayOpen = new Promise<void>((resolve) => (open = resolve));
  opening = false;
  const replica = { ...REPLICA_DEFAULTS, name: 'file', store: { type: 'file', path: 'replica' } } as const;
  pipeline = new Pipeline({
    options: { ...DATABASE_DEFAULTS, path, replicas: [replica] },
    openStore: () => Promise.resolve(store),
    logger,
    checkpointer: new Checkpointer(),
    watch: new DirectoryWatch(logger),
    onLocked: () => {
      opening = true;
      return mayOpen;
    },
  });
});

afterEach(async () => {
  open();
  await pipeline.stop(AbortSignal.timeout(5000));
  application.close();
  rmSync(directory, { recursive: true });
});

/** Whether it is settled when everything that can happen without the database has happened. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const settle = (): void => {
    settled = true;
  };
  promise.then(settle, settle);
  for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
  return settled;
}

async function storedKeys(): Promise<string[]> {
  const keys: string[] = [];
  for await (const { key } of store.list('')) keys.push(key);
  return keys;
}

describe('sync', () => {
  it('waits for a database that is being opened for the first time', async () => {
    const beforeStart = pipeline.sync(AbortSignal.timeout(20_000));
    expect(await isSettled(beforeStart)).toBe(false);
    const started = pipeline.start();
    await until('it is being opened', () => opening);
    const whileOpening = pipeline.sync(AbortSignal.timeout(20_000));
    expect(await isSettled(Promise.race([beforeStart, whileOpening]))).toBe(false);
    open();
    await Promise.all([started, beforeStart, whileOpening]);
    expect((await storedKeys()).some((key) => key.endsWith('.snapshot.lz4'))).toBe(true);
  });

  it('waits no longer than it may, and then says so', async () => {
    const started = pipeline.start();
    await until('it is being opened', () => opening);
    await expect(pipeline.sync(AbortSignal.timeout(20))).rejects.toMatchObject({ code: 'timeout' });
    open();
    await started;
  });
});
