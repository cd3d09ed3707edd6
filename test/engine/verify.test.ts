/** Verification with the live database at hand: by the clock, on demand, and what it says when it comes to nothing. */

import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import type { ReplicaOptions } from '../../src/engine/options.ts';
import { Replica } from '../../src/engine/replica.ts';
import { readVerification, writeVerification } from '../../src/engine/verification-record.ts';
import type { VerificationResult } from '../../src/engine/verification-result.ts';
import { type VerificationRequest, verify } from '../../src/engine/verify.ts';
import { decodeLz4FrameBytes, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { formatPosition } from '../../src/format/position.ts';
import { encodeFrame, parseWalHeader, readFrameHeader, walFrameSize } from '../../src/sqlite/wal.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import {
  FakeSource,
  FaultStore,
  type LogLine,
  OPTIONS,
  hang,
  recordingLogger,
  until,
} from './replica-rig.ts';

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

function start(options: Partial<ReplicaOptions> = { validationIntervalMs: 10 }): void {
  replica = new Replica({
    options: { ...OPTIONS, ...options },
    source,
    openStore: () => Promise.resolve(store),
    logger: recordingLogger(log),
    // Damage is for the verification to find.
    lookIntervalMs: 3600_000,
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
    expect(replica.stats.validationErrorCount, replica.stats.lastError).toBeGreaterThan(0);
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

/** Everything is stored in a replica that verifies on demand. */
async function stored(): Promise<void> {
  start({});
  source.commit(30, 2000);
  await until('everything is stored', () => replica.lagging() === undefined);
}

const demand = (signal = new AbortController().signal): Promise<VerificationResult> =>
  replica.verify('all', signal);

async function read(key: string): Promise<Buffer> {
  const parts: Uint8Array[] = [];
  for await (const part of (await store.get(key)).stream) parts.push(Uint8Array.from(part));
  return Buffer.concat(parts);
}

describe('verification on demand', () => {
  it('waits for the first snapshot and for what is committed to be stored', async () => {
    source.commit(3);
    store.fault = ({ operation }) => {
      if (operation === 'put') throw new LitestreamError('unavailable', 'not yet');
    };
    start({});
    const verifying = demand();
    await until('the upload fails', () => replica.stats.lastError);
    store.fault = undefined;
    const result = await verifying;
    expect(result).toMatchObject({ result: 'ok', problems: [], position: source.position() });
    expect(result.pageCount).toBe(source.bytes().byteLength / source.pageSizeBytes);
    expect(await readVerification(source.metaPath, 'test')).toMatchObject({ result: 'ok', at: result.at });
    expect(replica.stats.validationOkCount).toBe(1);
  });

  it('compares with the position at which it began, whatever is committed meanwhile', async () => {
    await stored();
    const { position } = await Promise.all([
      demand(),
      (async () => {
        for (let i = 0; i < 50; i++) {
          source.commit(2, 500);
          if (i % 20 === 10) source.checkpoint();
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      })(),
    ]).then(([result]) => {
      expect(result, result.message).toMatchObject({ result: 'ok' });
      return result;
    });
    expect(position).not.toEqual(source.position());
  });

  it('is done again when a new generation begins meanwhile', async () => {
    await stored();
    let restarted = false;
    store.fault = ({ operation }) => {
      if (operation !== 'get' || restarted) return;
      restarted = true;
      source.restartGeneration('test');
    };
    expect(await demand()).toMatchObject({ result: 'ok', position: source.position() });
    expect(restarted).toBe(true);
  });

  it('names the segment from which a differing page is', async () => {
    await stored();
    const { generation, index, offset } = source.position();
    source.commit(1, 3000);
    await until('it is stored', () => replica.lagging() === undefined);
    // The same commit with other bytes in its last page, and right checksums: only the live database knows better.
    const key = segmentKey(generation, index, offset);
    const frames = decodeLz4FrameBytes(await read(key));
    const size = walFrameSize(source.pageSizeBytes);
    const wal = parseWalHeader(source.shadow.get(index)!);
    const seed = readFrameHeader(source.shadow.get(index)!, offset - size).checksum;
    const forged: Uint8Array[] = [];
    let checksum = seed;
    for (let at = 0; at < frames.byteLength; at += size) {
      const { pageNumber, commitPageCount } = readFrameHeader(frames, at);
      const page = Uint8Array.from(frames.subarray(at + 24, at + size));
      if (at + size === frames.byteLength) page[page.byteLength - 1]! ^= 1;
      const frame = encodeFrame(wal, { pageNumber, commitPageCount }, page, checksum);
      checksum = readFrameHeader(frame, 0).checksum;
      forged.push(frame);
    }
    await store.put(key, encodeLz4FrameBytes(Buffer.concat(forged)));
    const { result, problems } = await demand();
    expect(result).toBe('failed');
    const page = readFrameHeader(frames, frames.byteLength - size).pageNumber;
    expect(problems).toMatchObject([{ object: key, page }]);
  });

  it('fails for a database that is stored as it is, but is not sound', async () => {
    source.db.unsafeMode();
    source.db.exec('INSERT INTO t VALUES (1, NULL); PRAGMA writable_schema = ON;');
    source.db.exec(
      "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB NOT NULL)'",
    );
    source.sync();
    start({});
    const { result, message } = await demand();
    expect(result, message).toBe('failed');
    expect(message).toBe('integrity check of the restored database: NULL value in t.v');
  });

  it('names the newest snapshot when it is gone, though all can be restored without it', async () => {
    start({ snapshotIntervalMs: 1 });
    source.commit();
    await until('everything is stored', () => replica.lagging() === undefined);
    source.checkpoint();
    source.commit();
    const { generation } = source.position();
    const key = snapshotKey(generation, 1);
    await until('there is a second snapshot', () => replica.stats.snapshot?.index === 1);
    await store.delete([key]);
    expect(await demand()).toMatchObject({ result: 'failed', problems: [{ object: key }] });
  });
});

describe('an inconclusive verification', () => {
  it('says that the time was up, and for what it waited', async () => {
    await stored();
    store.fault = ({ operation }) => {
      if (operation === 'put') throw new LitestreamError('unavailable', 'the store is down');
    };
    source.commit();
    await until('the upload fails', () => replica.stats.lastError);
    const { result, message } = await demand(AbortSignal.timeout(50));
    expect(result).toBe('inconclusive');
    expect(message).toMatch(/^not done in time: waiting until .* is stored: .*the store is down/);
    expect(replica.stats.verification).toMatchObject({ result: 'inconclusive', message });
    expect(replica.stats.failures.map(({ activity }) => activity)).toEqual(['monitor']);
  });

  it('ends in time although the store hangs, and says nothing when it was given up', async () => {
    await stored();
    store.fault = ({ operation }, signal) => (operation === 'get' ? hang(signal) : undefined);
    expect(await demand(AbortSignal.timeout(50))).toMatchObject({
      result: 'inconclusive',
      message: expect.stringMatching(/^not done in time: restoring /) as string,
    });
    const recorded = replica.stats.verification;
    const asker = new AbortController();
    const asking = demand(asker.signal);
    await until('it restores', () => readdirSync(source.metaPath).some((name) => name.endsWith('.tmp')));
    asker.abort();
    expect(await asking).toMatchObject({ result: 'inconclusive' });
    expect(replica.stats.verification).toBe(recorded);
  });

  it('is so when the disk has no room, of which the message says how much', async () => {
    await stored();
    const progress = { storedThrough: () => Promise.resolve(), unstored: () => undefined };
    const request: VerificationRequest = {
      name: 'test',
      store,
      source,
      logger: recordingLogger([]),
      depth: 'all',
      retentionMs: 0,
      signal: new AbortController().signal,
      snapshotKey: () => undefined,
      freeBytes: () => Promise.resolve(1e6),
      ...progress,
    };
    const { result, message } = await verify(request);
    expect(result).toBe('inconclusive');
    expect(message).toMatch(/: restoring takes \d{5} bytes in .*meta, where 1000000 are free/);
  });

  it('does not take the place of a failure', async () => {
    await stored();
    const [key] = store.requests.filter(({ operation }) => operation === 'put').map((request) => request.key);
    const data = await read(key!);
    await store.delete([key!]);
    // The same generation goes on, so that it can be well again.
    source.restartGeneration = () => undefined;
    expect(await demand()).toMatchObject({ result: 'failed' });
    const failed = replica.stats.verification;
    store.fault = ({ operation }, signal) => (operation === 'get' ? hang(signal) : undefined);
    await demand(AbortSignal.timeout(20));
    expect(replica.stats.verification).toBe(failed);
    expect(await readVerification(source.metaPath, 'test')).toEqual(failed);
    expect(replica.stats.failures).toMatchObject([{ activity: 'validation', message: failed?.message }]);
    store.fault = undefined;
    await store.put(key!, data);
    expect(await demand()).toMatchObject({ result: 'ok' });
    expect(replica.stats.failures).toEqual([]);
  });
});

it('a failure of an earlier process stays until it is found to be well', async () => {
  const failed = { at: '2026-01-01T00:00:00.000Z', result: 'failed', message: 'page 3 differs' } as const;
  await writeVerification(source.metaPath, 'test', failed);
  await stored();
  await until('it is read', () => replica.stats.verification);
  expect(replica.stats.failures).toMatchObject([{ activity: 'validation', message: 'page 3 differs' }]);
  await demand();
  expect(replica.stats.failures).toEqual([]);
});

it('files of a process that was killed are removed, those of one that runs are not', async () => {
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  const gone = spawn(process.execPath, ['-e', '']);
  await new Promise((resolve) => gone.on('exit', resolve));
  const folders = [gone.pid, process.pid, other.pid].map((pid) =>
    join(source.metaPath, `verification-test-${pid}.tmp`),
  );
  try {
    for (const folder of folders) {
      mkdirSync(folder);
      writeFileSync(join(folder, 'restored.db.tmp'), 'x');
    }
    await stored();
    await until('they are gone', () => !existsSync(folders[0]!) && !existsSync(folders[1]!));
    expect(existsSync(folders[2]!)).toBe(true);
  } finally {
    other.kill('SIGKILL');
    await new Promise((resolve) => other.on('exit', resolve));
  }
  await demand();
});
