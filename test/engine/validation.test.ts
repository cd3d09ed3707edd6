import { readdirSync } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { Replica } from '../../src/engine/replica.ts';
import { encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { formatPosition } from '../../src/format/position.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import { FakeSource, FaultStore, type LogLine, OPTIONS, recordingLogger, until } from './replica-rig.ts';

let source: FakeSource;
let store: FaultStore;
let log: LogLine[];
let replica: Replica;

beforeEach(() => {
  source = new FakeSource();
  store = new FaultStore(openMemoryStore());
  log = [];
});

afterEach(async () => {
  await replica.stop(AbortSignal.abort());
  // The result is kept, the files that it took are not.
  expect(readdirSync(source.metaPath).filter((name) => name !== 'verification-test.json')).toEqual([]);
  expect(source.holds).toBe(0);
  source.close();
});

function start(): void {
  replica = new Replica({
    options: { ...OPTIONS, validationIntervalMs: 10 },
    source,
    openStore: () => Promise.resolve(store),
    logger: recordingLogger(log),
  });
  replica.start();
}

const ok = (count: number): Promise<boolean> =>
  until(
    () => `${count} validations: ${JSON.stringify(replica.stats)}`,
    () => replica.stats.validationOkCount >= count,
  );

describe('validation', () => {
  it('finds a replica equal at every position: in the middle of a WAL, grown, shrunk, across indexes', async () => {
    start();
    source.commit(30, 2000);
    await ok(1);
    source.commit(3);
    await ok(replica.stats.validationOkCount + 2);
    source.checkpoint();
    source.commit(400, 3000);
    await ok(replica.stats.validationOkCount + 2);
    source.db.exec('DELETE FROM t WHERE id > 5; VACUUM');
    source.sync();
    await ok(replica.stats.validationOkCount + 2);
    source.checkpoint();
    await ok(replica.stats.validationOkCount + 2);
    expect(replica.stats.validationErrorCount).toBe(0);
    expect(log.find(({ message }) => message === 'validator')?.attributes).toMatchObject({
      status: 'ok',
      db: source.path,
      replica: 'test',
    });
  });

  it('names the pages in which a restored database differs', async () => {
    source.commit(800, 3000);
    source.checkpoint();
    start();
    await ok(1);
    source.commit();
    await until('the commit is stored', () => replica.lagging() === undefined);
    // A snapshot of the index that the commit opened, with a wrong bit in a page that its WAL does not hold.
    const { generation } = source.position();
    const live = new Uint8Array(source.bytes());
    live[299 * 4096 + 77]! ^= 1;
    await store.put(snapshotKey(generation, 1), encodeLz4FrameBytes(live));
    await until('the failure shows', () => replica.stats.lastError);
    const at = formatPosition(source.position());
    expect(replica.stats.lastError).toBe(
      `page 300 differs from the database at ${at}: it is restored from ${snapshotKey(generation, 1)}`,
    );
    expect(replica.stats.validationErrorCount).toBeGreaterThan(0);
  });

  it('counts a replica that cannot be restored, and recovers with it', async () => {
    source.commit();
    start();
    await ok(1);
    const key = segmentKey(source.position().generation, 0, 0);
    const parts: Uint8Array[] = [];
    for await (const part of (await store.get(key)).stream) parts.push(part);
    await store.delete([key]);
    await until('the failure shows', () => replica.stats.lastError);
    expect(replica.stats.validationErrorCount).toBeGreaterThan(0);
    await store.put(key, Buffer.concat(parts));
    await ok(replica.stats.validationOkCount + 1);
    expect(replica.stats.lastError).toBeUndefined();
  });

  it('does not count a store that does not answer against the replica', async () => {
    source.commit();
    start();
    await ok(1);
    store.fault = ({ operation }) => {
      if (operation === 'get') throw new LitestreamError('permission', 'no longer allowed');
    };
    await until('the failure shows', () => replica.stats.lastError);
    store.fault = undefined;
    await ok(replica.stats.validationOkCount + 1);
    expect(replica.stats.validationErrorCount).toBe(0);
    expect(replica.stats.lastError).toBeUndefined();
  });
});
