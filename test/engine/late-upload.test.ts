/** A request that takes effect when the process that sent it is gone, and the next one has stored something else. */

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Replica } from '../../src/engine/replica.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { expectChain } from '../support/replica-chain.ts';
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
let inner: ObjectStore;
let log: LogLine[];

beforeEach(() => {
  [source, inner, log] = [new FakeSource(), openMemoryStore(), []];
});

afterEach(() => source.close());

async function running(store: FaultStore, body: (replica: Replica) => Promise<void>): Promise<void> {
  const openStore = (): Promise<ObjectStore> => Promise.resolve(store);
  const replica = new Replica({ options: OPTIONS, source, openStore, logger: recordingLogger(log) });
  replica.start();
  try {
    await body(replica);
  } finally {
    await replica.stop(AbortSignal.abort());
  }
}

const stored = (replica: Replica): Promise<boolean> =>
  until('everything is stored', () => replica.lagging() === undefined);

/** A process that dies while the store has all of a segment and has not answered. */
async function dieSending(): Promise<{ key: string; data: Uint8Array }> {
  const sent: { key: string; data: Uint8Array }[] = [];
  const store = new FaultStore(inner, false);
  const put = store.put.bind(store);
  store.put = (key, body, options) => {
    const isSegment = body instanceof Uint8Array && key.includes('/wal/');
    return isSegment && sent.push({ key, data: body }) > 1 ? hang(options?.signal) : put(key, body, options);
  };
  source.commit(3);
  await running(store, async (replica) => {
    await stored(replica);
    source.commit();
    await until('it is sent', () => sent.length === 2);
  });
  return sent[1]!;
}

it('cuts nothing off', async () => {
  const late = await dieSending();
  source.commit(2);
  source.checkpoint();
  source.commit(2);
  await running(new FaultStore(inner, false), async (replica) => {
    await stored(replica);
    const keys = [];
    for await (const { key } of inner.list('')) keys.push(key);
    expect(keys).toContain(late.key);
    await inner.put(late.key, late.data);
    await expectChain(inner);
    source.commit();
    await stored(replica);
  });
  await expectChain(inner);
  expect(log.filter(({ level }) => level === 'WARN' || level === 'ERROR')).toEqual([]);
});

it.each<[string, string]>([
  ['that was cut', ''],
  ['of another generation', '{"generation":"0000000000000000","index":0,"start":0,"end":33}'],
  ['that means nothing', '{"index":"0"}'],
])('a record %s changes nothing', async (_, record) => {
  writeFileSync(join(source.metaPath, 'upload-test.json'), record);
  source.commit(3);
  await running(new FaultStore(inner, false), async (replica) => {
    await stored(replica);
  });
  await expectChain(inner);
  expect(log.filter(({ level }) => level === 'WARN' || level === 'ERROR')).toEqual([]);
});

it('a record that cannot be read or written is a warning, no more', async () => {
  writeFileSync(join(source.metaPath, 'upload-test.json'), '{');
  source.commit(3);
  await running(new FaultStore(inner, false), async (replica) => {
    await stored(replica);
  });
  await expectChain(inner);
  expect(log.map(({ message }) => message)).toContain('cannot tell what was being stored');
});
