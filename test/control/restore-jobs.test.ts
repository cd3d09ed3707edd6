/** Restores in the background, on a replica that a real `replicate` has made: never over anything, never half a file. */

import { promises as fs } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { abortedError } from '../../src/base/concurrency.ts';
import { DirectReader } from '../../src/control/replica-reader.ts';
import { RestoreJobs } from '../../src/control/restore-jobs.ts';
import { Timelines } from '../../src/control/timeline-report.ts';
import { DATABASE_DEFAULTS, type DatabaseOptions, REPLICA_DEFAULTS } from '../../src/engine/options.ts';
import type { GetOptions, ObjectStore } from '../../src/storage/object-store.ts';
import { openStore } from '../../src/storage/registry.ts';
import type { StoreConfig } from '../../src/storage/store-config.ts';
import { recordingLogger } from '../engine/replica-rig.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { until } from '../support/process.ts';
import { withSqlite } from '../support/sqlite.ts';

interface Scene {
  readonly rig: Rig;
  readonly jobs: RestoreJobs;
  readonly database: DatabaseOptions;
  /** Held requests go on when it is called. */
  readonly letGo: () => void;
}

/** A replica with a row; `held`: what is read from it waits. */
async function withReplica(held: boolean, body: (scene: Scene) => Promise<void>): Promise<void> {
  await withRig(async (rig) => {
    const application = await rig.application();
    await application.exec('CREATE TABLE t (x)');
    await application.exec('INSERT INTO t VALUES (1)');
    const litestream = await rig.replicate();
    await rig.snapshotStored();
    await litestream.stop();
    const store = { type: 'file', path: rig.replica } as StoreConfig;
    const database = {
      ...DATABASE_DEFAULTS,
      path: rig.database,
      replicas: [{ ...REPLICA_DEFAULTS, name: 'file', store }],
    };
    let letGo: () => void = () => undefined;
    const gate = held ? new Promise<void>((resolve) => (letGo = resolve)) : Promise.resolve();
    const open = async (config: StoreConfig): Promise<ObjectStore> => {
      const opened = await openStore(config);
      return new Proxy(opened, {
        get(target, name) {
          const value: unknown = Reflect.get(target, name, target);
          if (name === 'get') {
            return async (key: string, options?: GetOptions) => {
              await Promise.race([gate, aborted(options?.signal)]);
              return target.get(key, options);
            };
          }
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
    };
    const jobs = new RestoreJobs({
      databases: [database],
      reader: new DirectReader(open),
      logger: recordingLogger([]),
    });
    try {
      await body({ rig, jobs, database, letGo });
    } finally {
      letGo();
      await jobs.close();
    }
  });
}

function aborted(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(abortedError(signal)), { once: true });
  });
}

async function ended(jobs: RestoreJobs, id: string): Promise<ReturnType<RestoreJobs['get']>> {
  await until(() => jobs.get(id).state !== 'running');
  return jobs.get(id);
}

describe('a restore in the background', () => {
  test('makes a new file with the time in its name, and says what it did', async () => {
    await withReplica(false, async ({ jobs, database }) => {
      const plan = await jobs.plan({ database: database.path }, AbortSignal.timeout(20_000));
      const { id, outputPath, state } = jobs.start({ database: database.path });
      expect(state).toBe('running');
      expect(basename(outputPath)).toMatch(/^db\.restored-\d{8}T\d{6}Z$/);
      const job = await ended(jobs, id);
      expect(job).toMatchObject({
        state: 'done',
        error: null,
        bytesDone: plan.bytesTotal,
        bytesTotal: plan.bytesTotal,
      });
      expect(job.segmentsDone).toBe(plan.segmentCount);
      expect((await fs.stat(outputPath)).size).toBe(job.sizeBytes);
      await withSqlite({ path: outputPath, readonly: true }, async (sqlite) => {
        expect(await sqlite.all('SELECT x FROM t')).toEqual([{ x: 1 }]);
      });
    });
  });

  test('is cancelled without a trace', async () => {
    await withReplica(true, async ({ rig, jobs, database }) => {
      const { id } = jobs.start({ database: database.path, fileName: 'db-copy.db' });
      await until(async () => (await fs.readdir(rig.dir)).some((name) => name.startsWith('db-copy.db')));
      expect(await jobs.cancel(id)).toMatchObject({ state: 'cancelled', error: null });
      expect((await fs.readdir(rig.dir)).filter((name) => name.startsWith('db-copy.db'))).toEqual([]);
      expect(await jobs.cancel(id)).toMatchObject({ state: 'cancelled' });
    });
  });

  test('fails before it touches what is there', async () => {
    await withReplica(false, async ({ rig, jobs, database }) => {
      const path = join(rig.dir, 'db-precious.db');
      await fs.writeFile(path, 'mine');
      const job = await ended(jobs, jobs.start({ database: database.path, fileName: 'db-precious.db' }).id);
      expect(job.state).toBe('failed');
      expect(job.error).toContain(path);
      expect(await fs.readFile(path, 'utf8')).toBe('mine');
    });
  });

  test('two at a time, and one to a name', async () => {
    await withReplica(true, ({ jobs, database }) => {
      const request = { database: database.path };
      jobs.start({ ...request, fileName: 'db-a.db' });
      expect(() => jobs.start({ ...request, fileName: 'db-a.db' })).toThrow(/runs already/);
      jobs.start({ ...request, fileName: 'db-b.db' });
      expect(() => jobs.start({ ...request, fileName: 'db-c.db' })).toThrow('2 restores run already');
      return Promise.resolve();
    });
  });

  test.each([
    [{ fileName: '../db' }, 'plain name'],
    [{ fileName: '/etc/passwd' }, 'plain name'],
    [{ fileName: '.db-litestream' }, 'plain name'],
    [{ fileName: 'a\u0000b' }, 'plain name'],
    [{ fileName: 'db-\ud800.db' }, 'plain name'],
    [{ fileName: 'db-\u202e.db' }, 'plain name'],
    [{ timestamp: 'yesterday' }, 'ISO 8601'],
    [{ timestamp: '2026-01-01 10:00' }, 'ISO 8601'],
    [{ replica: 'other' }, 'has no replica other'],
    [{ database: '/other.db' }, 'not configured here'],
  ])('%j is refused', async (changes, message) => {
    await withReplica(false, ({ jobs, database }) => {
      expect(() => jobs.start({ database: database.path, ...changes })).toThrow(message);
      expect(jobs.list()).toEqual([]);
      return Promise.resolve();
    });
  });

  test('the new file is called like the database and more, and like nothing that another file or program goes by', async () => {
    await withReplica(false, async ({ jobs, database }) => {
      const refused = [
        ...[
          'db',
          'db-wal',
          'db-shm',
          'db-journal',
          'db.tmp',
          'db.db-wal',
          'db-x.db-journal',
          'db.restored-1-wal',
        ],
        ...[
          'db.restored-1.tmp',
          'other.db',
          'other.db-wal',
          'x.php',
          'db.php',
          'db-x.php.db',
          'db.restored-1.php',
        ],
        ...['dbx.db', 'dB-x.db', 'db.restored-', 'db-important'],
      ];
      for (const fileName of refused) {
        expect(() => jobs.start({ database: database.path, fileName }), fileName).toThrow(
          'the new file must be called db and more, with .db or .sqlite at its end',
        );
      }
      expect(jobs.list()).toEqual([]);
      const taken = [
        'db-x.db',
        'db_x.sqlite3',
        'db-gestern früh.SQLITE',
        'db.restored-1',
        'db-x.restored-2026',
      ];
      for (const fileName of taken) {
        const job = await ended(jobs, jobs.start({ database: database.path, fileName }).id);
        expect([fileName, job.state]).toEqual([fileName, 'done']);
      }
    });
  });

  test('a moment before everything has no plan', async () => {
    await withReplica(false, async ({ jobs, database }) => {
      const request = { database: database.path, timestamp: '2001-01-01T00:00:00Z' };
      await expect(jobs.plan(request, AbortSignal.timeout(20_000))).rejects.toMatchObject({
        code: 'no-backup',
      });
    });
  });
});

test('a timeline is listed once in a while, and a replica that cannot be listed hides no other', async () => {
  await withReplica(false, async ({ database }) => {
    let opened = 0;
    const broken = {
      ...REPLICA_DEFAULTS,
      name: 'broken',
      store: { type: 'file', path: '/dev/null/x' } as StoreConfig,
    };
    const reader = new DirectReader((config) => {
      opened++;
      if (config === broken.store) return Promise.reject(new Error('no such store'));
      return openStore(config);
    });
    const timelines = new Timelines([{ ...database, replicas: [...database.replicas, broken] }], reader);
    const [report] = await Promise.all([timelines.of(database.path), timelines.of(database.path)]);
    expect(opened).toBe(2);
    const [file, other] = report.replicas;
    expect(file).toMatchObject({ name: 'file', error: null, gaps: [] });
    expect(file?.spans).toHaveLength(1);
    expect(file?.snapshots).toHaveLength(1);
    expect(other).toMatchObject({ name: 'broken', error: 'no such store', spans: [] });
    await timelines.of(database.path);
    expect(opened).toBe(2);
    timelines.forget(database.path);
    await timelines.of(database.path);
    expect(opened).toBe(4);
    await expect(timelines.of('/other.db')).rejects.toMatchObject({ code: 'not-found' });
  });
});
