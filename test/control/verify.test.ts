/** Verification as it is asked for from outside: over the socket, and where there is nobody to ask. */

import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { replicationRoutes } from '../../src/control/routes.ts';
import { describeThisProcess, writeRecord } from '../../src/control/record.ts';
import { type ControlServer, startControlServer } from '../../src/control/server.ts';
import { type VerifyAnswer, type VerifyOptions, verify, verifyReplicas } from '../../src/control/verify.ts';
import { DATABASE_DEFAULTS, type DatabaseOptions, REPLICA_DEFAULTS } from '../../src/engine/options.ts';
import { Replica } from '../../src/engine/replica.ts';
import { readVerification, writeVerification } from '../../src/engine/verification-record.ts';
import { type VerificationResult, inconclusive } from '../../src/engine/verification-result.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { FakeSource, FaultStore, OPTIONS, hang, recordingLogger, until } from '../engine/replica-rig.ts';

const ok: VerificationResult = { ...inconclusive('a', 'all is well'), result: 'ok' };
const failed: VerificationResult = { ...inconclusive('b', 'page 3 differs'), result: 'failed' };

let directory: string;
let metaPath: string;
let database: DatabaseOptions;
let store: ObjectStore;
let server: ControlServer | undefined;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'verify-'));
  metaPath = join(directory, '.db-litestream');
  mkdirSync(metaPath);
  const replicas = ['a', 'b'].map((name) => ({ ...OPTIONS, ...REPLICA_DEFAULTS, name }));
  database = { ...DATABASE_DEFAULTS, path: join(directory, 'db'), metaPath, replicas };
  store = openMemoryStore();
});

afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(directory, { recursive: true });
});

const ask = (options: Partial<VerifyOptions> = {}): Promise<VerifyAnswer> =>
  verify({
    database,
    openStore: () => Promise.resolve(new FaultStore(store)),
    logger: recordingLogger([]),
    ...options,
  });

/** A process that replicates, as far as others can see. */
async function serve(
  answer: (path: string, options: object, signal: AbortSignal) => Promise<readonly VerificationResult[]>,
): Promise<void> {
  const routes = replicationRoutes(
    { status: () => [], sync: () => Promise.resolve(), release: () => Promise.resolve(), verify: answer },
    { version: 'v1', pid: 1, startedAt: '2026-01-01T00:00:00.000Z' },
  );
  const path = join(directory, 'socket');
  server = await startControlServer({ path, permissions: 0o600, routes, logger: recordingLogger([]) });
  await writeRecord(metaPath, describeThisProcess('2026-01-01T00:00:00.000Z', path));
}

/** Stores a database in `store`. */
async function fill(): Promise<void> {
  const source = new FakeSource();
  const replica = new Replica({
    options: { ...OPTIONS, syncIntervalMs: 1 },
    source,
    openStore: () => Promise.resolve(store),
    logger: recordingLogger([]),
  });
  replica.start();
  source.commit(10, 300);
  await until('everything is stored', () => replica.lagging() === undefined);
  await replica.stop(new AbortController().signal);
  source.close();
}

describe('a running replicate', () => {
  it('is asked, and the worst of its replicas is the answer', async () => {
    const calls: unknown[] = [];
    await serve((...args) => {
      calls.push(args.slice(0, 2));
      return Promise.resolve([ok, failed]);
    });
    expect(await ask()).toEqual({
      database: database.path,
      result: 'failed',
      message: 'replica b: page 3 differs',
      replicas: [ok, failed],
    });
    await ask({ replica: 'a', depth: 'latest' });
    expect(calls).toEqual([
      [database.path, { name: undefined, depth: 'all' }],
      [database.path, { name: 'a', depth: 'latest' }],
    ]);
    expect(readdirSync(metaPath)).toEqual(['replicate.json']);
  });

  it('gives up when the asker goes, and in time', async () => {
    const signals: AbortSignal[] = [];
    await serve((_path, _options, signal) => {
      signals.push(signal);
      return new Promise((resolve) =>
        signal.addEventListener('abort', () => resolve([inconclusive('a', 'not done in time: x')])),
      );
    });
    expect(await ask({ timeoutMs: 50 })).toMatchObject({
      result: 'inconclusive',
      message: 'not done in time: x',
    });
    const stopping = new AbortController();
    const asking = ask({ signal: stopping.signal });
    await until('it is asked', () => signals.length === 2);
    stopping.abort();
    await expect(asking).rejects.toMatchObject({ code: 'aborted' });
    await until('the other side is told', () => signals[1]?.aborted);
  });

  it('that does not answer at all is not waited for', async () => {
    await fill();
    const path = join(directory, 'socket');
    const mute = createServer();
    await new Promise<void>((resolve) => mute.listen(path, resolve));
    await writeRecord(metaPath, describeThisProcess('2026-01-01T00:00:00.000Z', path));
    try {
      const { result, message } = await ask({ replica: 'a', timeoutMs: 500 });
      expect(result).toBe('inconclusive');
      expect(message).toMatch(/^no answer in time on .*: not compared with the database; /);
      // It may run: its own record stays.
      expect(readdirSync(metaPath)).toEqual(['replicate.json']);
    } finally {
      mute.close();
    }
  });

  it('that does not replicate this database leaves it inconclusive', async () => {
    await fill();
    await serve(() =>
      Promise.reject(new LitestreamError('not-found', 'database x is not replicated by this process')),
    );
    const { result, message } = await ask({ replica: 'a' });
    expect(result).toBe('inconclusive');
    expect(message).toMatch(/^database x is not replicated.*; 2 objects of 1 generation are whole/);
  });
});

describe('without a running replicate', () => {
  it('what is stored is checked, but is no proof', async () => {
    await fill();
    const answer = await ask();
    expect(answer).toMatchObject({ result: 'inconclusive', replicas: [{ replica: 'a' }, { replica: 'b' }] });
    expect(answer.message).toMatch(/no replicate is running.*not compared with the database; 2 objects/);
    expect(await readVerification(metaPath, 'b')).toMatchObject({ result: 'inconclusive' });
    expect(readdirSync(metaPath).sort()).toEqual(['verification-a.json', 'verification-b.json']);
  });

  it('damage is a failure, which no inconclusive result takes back', async () => {
    await fill();
    const [key] = await keys();
    const { stream } = await store.get(key!);
    const parts: Uint8Array[] = [];
    for await (const part of stream) parts.push(Uint8Array.from(part));
    await store.delete([key!]);
    expect(await ask()).toMatchObject({ result: 'failed', replicas: [{ problems: [{ object: key }] }, {}] });
    expect(await readVerification(metaPath, 'a')).toMatchObject({ result: 'failed' });
    await store.put(key!, Buffer.concat(parts));
    expect(await ask()).toMatchObject({ result: 'inconclusive' });
    expect(await readVerification(metaPath, 'a')).toMatchObject({ result: 'failed' });
  });

  it('a store that holds nothing has failed; one that cannot be asked tells nothing', async () => {
    expect(await ask()).toMatchObject({ result: 'failed' });
    await writeVerification(metaPath, 'a', { at: new Date().toISOString(), result: 'ok', message: 'x' });
    const refuse = (): Promise<ObjectStore> => Promise.reject(new LitestreamError('permission', 'no key'));
    const answer = await ask({ openStore: refuse });
    expect(answer.result).toBe('inconclusive');
    expect(answer.message).toContain('no key');
    const faulty = new FaultStore(store);
    faulty.fault = () => {
      throw new LitestreamError('permission', 'forbidden by the store');
    };
    expect((await ask({ openStore: () => Promise.resolve(faulty) })).message).toContain(
      'forbidden by the store',
    );
  });

  it('it ends in time although the store hangs, and at once when it is given up', async () => {
    const faulty = new FaultStore(store);
    faulty.fault = (_request, signal) => hang(signal);
    const openStore = (): Promise<ObjectStore> => Promise.resolve(faulty);
    const { result, message } = await ask({ openStore, timeoutMs: 50 });
    expect(result).toBe('inconclusive');
    expect(message).toContain('not done in time: reading the objects of the replica');
    await expect(ask({ openStore, signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'aborted' });
  });
});

describe('bad use', () => {
  it('is an error and no result', async () => {
    await expect(ask({ replica: 'c' })).rejects.toMatchObject({ code: 'not-found' });
    await expect(ask({ timeoutMs: 0 })).rejects.toMatchObject({ code: 'usage' });
    await expect(ask({ database: { ...database, replicas: [] } })).rejects.toMatchObject({ code: 'config' });
    const routes = replicationRoutes(
      {
        status: () => [],
        sync: () => Promise.resolve(),
        release: () => Promise.resolve(),
        verify: () => Promise.resolve([]),
      },
      { version: 'v1', pid: 1, startedAt: '2026-01-01T00:00:00.000Z' },
    );
    const handle = async (body: Record<string, unknown>): Promise<unknown> =>
      routes.find(({ path }) => path === '/verify')?.handle({ body, signal: new AbortController().signal });
    await expect(handle({})).rejects.toMatchObject({ code: 'usage' });
    await expect(handle({ database: '/a', depth: 'deep' })).rejects.toMatchObject({ code: 'usage' });
    await expect(handle({ database: '/a', timeoutMs: 1e12 })).rejects.toMatchObject({ code: 'usage' });
  });
});

it('replicas are verified with no database at hand', async () => {
  await fill();
  const openStore = (): Promise<ObjectStore> => Promise.resolve(new FaultStore(store));
  const { replicas } = database;
  const results = await verifyReplicas({ replicas, openStore, logger: recordingLogger([]) });
  expect(results).toMatchObject([
    { replica: 'a', result: 'ok' },
    { replica: 'b', result: 'ok' },
  ]);
});

async function keys(): Promise<string[]> {
  const found: string[] = [];
  for await (const { key } of store.list('')) found.push(key);
  return found.sort();
}
