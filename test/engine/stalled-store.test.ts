/** A store that takes requests and never answers has places under `max-concurrent-requests` all the time; others must get on. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Semaphore } from '../../src/base/concurrency.ts';
import { createLogger } from '../../src/base/logger.ts';
import { DATABASE_DEFAULTS, REPLICA_DEFAULTS } from '../../src/engine/options.ts';
import { Replicator } from '../../src/engine/replicator.ts';
import { withLimit } from '../../src/storage/limited-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { PARTS_AT_ONCE } from '../../src/storage/part-sender.ts';
import { openS3Store } from '../../src/storage/s3/s3-store.ts';
import type { S3StoreConfig, StoreConfig } from '../../src/storage/store-config.ts';
import { until, withTempDir } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { openSqlite, withSqlite } from '../support/sqlite.ts';

/** As by default. */
const PLACES = 256;
const DATABASES = 10;
/** No request to the silent store ends in the time of a test. */
const TIMEOUTS = { connectMs: 10_000, idleMs: 3600_000 };
const SILENT = createLogger({ level: 'ERROR', format: 'text', write: () => undefined });

let stalled: S3Server;
let healthy: S3Server;
let places: Semaphore;

beforeEach(async () => {
  [stalled, healthy, places] = [await S3Server.start(), await S3Server.start(), new Semaphore(PLACES)];
});

afterEach(async () => {
  await stalled.close();
  await healthy.close();
});

function config({ endpoint, credentials }: S3Server, path: string): S3StoreConfig {
  const place = { type: 's3', bucket: 'bucket', path, endpoint } as const;
  return { ...place, forcePathStyle: true, skipVerify: false, ...credentials };
}

function open(store: StoreConfig): ObjectStore {
  return withLimit(openS3Store(store as S3StoreConfig, TIMEOUTS), places);
}

it(`replicates while the store of ${DATABASES} other databases is silent`, async () => {
  stalled.onRequest = () => 'stall';
  await withTempDir(async (dir) => {
    const database = (server: S3Server, name: string) => {
      const replica = { ...REPLICA_DEFAULTS, name: 's3', store: config(server, name), syncIntervalMs: 20 };
      return { ...DATABASE_DEFAULTS, path: join(dir, name), replicas: [replica] };
    };
    const path = join(dir, 'healthy');
    await withSqlite({ path, pragmas: ['journal_mode=WAL'] }, async (sqlite) => {
      await sqlite.exec('CREATE TABLE t (v)');
      await sqlite.checkpoint('TRUNCATE');
    });
    const others = Array.from({ length: DATABASES }, (_, i) => database(stalled, `stalled-${i}`));
    for (const other of others) await fs.copyFile(path, other.path);
    const replicator = new Replicator({
      databases: [...others, database(healthy, 'healthy')],
      openStore: (store) => Promise.resolve(open(store)),
      logger: SILENT,
    });
    const app = await openSqlite({ path });
    try {
      await replicator.start();
      await until(() => stalled.requests.length >= DATABASES);
      for (let commits = 1; commits <= 3; commits++) {
        const before = healthy.counts().PutObject ?? 0;
        await app.exec(`INSERT INTO t VALUES (${commits})`);
        await until(() => (healthy.counts().PutObject ?? 0) > before);
      }
    } finally {
      await app.kill();
      await replicator.stop(AbortSignal.abort());
    }
  });
});

it(`uploads while ${DATABASES} uploads to another store stand still in the middle`, async () => {
  stalled.onRequest = ({ operation }) => (operation === 'UploadPart' ? 'stall' : 'pass');
  const body = Buffer.alloc((PARTS_AT_ONCE + 2) << 20);
  const small = { partSizeBytes: 1 << 20 };
  const aborting = new AbortController();
  const { signal } = aborting;
  const stores = Array.from({ length: DATABASES }, (_, i) => open({ ...config(stalled, `${i}`), ...small }));
  const uploads = stores.map((store) => store.put('k', body, { signal }));
  const ends = Promise.allSettled(uploads);
  const begun = (): number => new Set(underWay().map(({ key }) => key)).size;
  const underWay = () => stalled.requests.filter(({ operation }) => operation === 'UploadPart');
  await until(() => begun() === DATABASES && underWay().length > PARTS_AT_ONCE);
  const other = open({ ...config(healthy, 'db'), partSizeBytes: 5 << 20 });
  await other.put('k', Buffer.alloc(11 << 20));
  expect(healthy.bucket().keys()).toEqual(['db/k']);
  aborting.abort();
  await ends;
  for (const store of [...stores, other]) await store.close();
});
