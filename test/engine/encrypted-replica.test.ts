/** A replica that is encrypted by a host that may not be able to read it. */

import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { listGenerations, listSegments, listSnapshots } from '../../src/engine/catalog.ts';
import { Replica } from '../../src/engine/replica.ts';
import { type RestoreProgress, restore } from '../../src/engine/restore.ts';
import { withEncryption } from '../../src/storage/encryption/encrypting-store.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import type { EncryptionConfig } from '../../src/storage/store-config.ts';
import { newAgeKey, type AgeKey } from '../support/age.ts';
import { FakeSource, FaultStore, type LogLine, OPTIONS, recordingLogger, until } from './replica-rig.ts';

let key: AgeKey;
let other: AgeKey;
beforeAll(async () => {
  key = await newAgeKey();
  other = await newAgeKey();
});

let source: FakeSource;
let plain: ObjectStore;
let raw: FaultStore;
let log: LogLine[];
let running: Replica[];
beforeEach(() => {
  source = new FakeSource();
  plain = openMemoryStore();
  raw = new FaultStore(plain);
  log = [];
  running = [];
});
afterEach(async () => {
  for (const replica of running) await replica.stop(AbortSignal.abort());
  source.close();
});

const writing = (...keys: AgeKey[]): EncryptionConfig => ({
  recipients: keys.map(({ recipient }) => recipient),
  identities: [],
});
const record = (): string => join(source.metaPath, 'encryption-test.json');

/** Replicates what is committed, and stops. */
async function run(encryption: EncryptionConfig | undefined): Promise<void> {
  const store = encryption === undefined ? raw : await withEncryption(raw, encryption);
  const replica = new Replica({
    options: { ...OPTIONS, store: { ...OPTIONS.store, encryption } },
    source,
    openStore: () => Promise.resolve(store),
    logger: recordingLogger(log),
  });
  running.push(replica);
  replica.start();
  await until('everything is stored', () => replica.lagging() === undefined);
  expect(await replica.stop(AbortSignal.timeout(10_000))).toEqual({ unstored: undefined });
}

it('tells the progress of a restore in stored bytes, up to all of them', async () => {
  for (let i = 0; i < 3; i++) {
    source.commit(3);
    await run(writing(key));
  }
  const store = await withEncryption(plain, { recipients: [], identities: [key.identity] });
  const outputPath = join(source.dir, 'restored');
  const steps: RestoreProgress[] = [];
  const replicas = [{ name: 'r', store }];
  const onProgress = (step: RestoreProgress): unknown => steps.push(step);
  await restore({ replicas, outputPath, parallelism: 2, logger: recordingLogger([]), onProgress });
  rmSync(outputPath);
  let storedBytes = 0;
  for await (const { sizeBytes } of plain.list('generations/')) storedBytes += sizeBytes;
  expect(steps.at(-1)).toMatchObject({ bytesDone: storedBytes, bytesTotal: storedBytes });
  for (const { bytesDone } of steps) expect(bytesDone).toBeLessThanOrEqual(storedBytes);
});

async function expectRestores(
  identity: AgeKey,
  generation: string = source.position().generation,
  from: ObjectStore = plain,
  allowPlaintext = false,
): Promise<void> {
  const store = await withEncryption(from, {
    recipients: [],
    identities: [identity.identity],
    allowPlaintext,
  });
  const outputPath = join(source.dir, 'restored');
  const logger = recordingLogger([]);
  await restore({ replicas: [{ name: 'r', store }], outputPath, generation, parallelism: 2, logger });
  expect(readFileSync(outputPath).equals(source.bytes())).toBe(true);
  rmSync(outputPath);
}

describe('with recipients only', () => {
  it('continues its generation after each restart, in the same index and in later ones', async () => {
    for (let life = 0; life < 6; life++) {
      source.commit(3);
      if (life % 2 === 1) source.checkpoint();
      source.commit(2, 500);
      await run(writing(key, other));
    }
    expect(source.restarts).toEqual([]);
    const { generation } = source.position();
    expect(await listSnapshots(plain, generation)).toHaveLength(1);
    expect((await listSegments(plain, generation)).length).toBeGreaterThan(6);
    // Each object was stored once.
    const puts = raw.requests.filter(({ operation }) => operation === 'put').map((request) => request.key);
    expect(new Set(puts).size).toBe(puts.length);
    await expectRestores(key, generation);
    await expectRestores(other, generation);
  });

  it('continues when it died between storing a segment and remembering it', async () => {
    source.commit(3);
    await run(writing(key));
    const remembered = readFileSync(record());
    for (const checkpoint of [false, true]) {
      if (checkpoint) source.checkpoint();
      source.commit(3);
      const before = checkpoint ? readFileSync(record()) : remembered;
      await run(writing(key));
      writeFileSync(record(), before);
      await run(writing(key));
    }
    expect(source.restarts).toEqual([]);
    await expectRestores(key);
  });

  it('begins a new generation when it cannot know where the old one ends', async () => {
    for (const lose of [
      () => rmSync(record()),
      () => writeFileSync(record(), ''),
      () => writeFileSync(record(), '{"generation":"x","recipients":null}'),
    ]) {
      source.commit(3);
      await run(writing(key));
      lose();
      const { length } = source.restarts;
      await run(writing(key));
      expect(source.restarts.slice(length)).toEqual(['replica is not known to be encrypted']);
      await expectRestores(key);
    }
    // Two segments behind what is stored: nothing proves the one in between.
    source.commit(3);
    await run(writing(key));
    const remembered = readFileSync(record());
    for (let i = 0; i < 2; i++) {
      source.commit(3);
      await run(writing(key));
    }
    writeFileSync(record(), remembered);
    await run(writing(key));
    expect(source.restarts.at(-1)).toMatch(/^replica's last wal segments cannot be read: /);
    await expectRestores(key);
  });

  it('notices that the chain is another one', async () => {
    source.commit(3);
    await run(writing(key));
    const { last, ...rest } = JSON.parse(readFileSync(record(), 'utf8')) as {
      last: { end: { checksum: number[] } };
    };
    last.end.checksum[0]! ^= 1;
    writeFileSync(record(), JSON.stringify({ ...rest, last }));
    await run(writing(key));
    expect(source.restarts).toEqual([expect.stringContaining('is not in the shadow wal')]);
    await expectRestores(key);
  });
});

describe('a generation is encrypted as a whole', () => {
  it.each([
    ['turned on', undefined, () => writing(key), 'replica is not known to be encrypted'],
    ['turned off', () => writing(key), () => undefined, 'replica is encrypted, and is to be so no longer'],
    [
      'for others',
      () => writing(key, other),
      () => writing(key),
      'replica is encrypted for other recipients',
    ],
    ['for more', () => writing(key), () => writing(other, key), 'replica is encrypted for other recipients'],
  ])('when encryption is %s', async (_, before, after, reason) => {
    source.commit(3);
    await run(before?.());
    const first = source.position().generation;
    source.commit(3);
    await run(after());
    expect(source.restarts).toEqual([reason]);
    const second = source.position().generation;
    expect((await listGenerations(plain)).sort()).toEqual([first, second].sort());
    await expectRestores(key, second, plain, after() === undefined);
    // Once is enough.
    source.commit(1);
    await run(after());
    expect(source.restarts).toHaveLength(1);
    await expectRestores(key, second, plain, after() === undefined);
  });

  it('the order of the recipients is of no importance', async () => {
    source.commit(3);
    await run(writing(key, other));
    source.commit(3);
    await run(writing(other, key));
    expect(source.restarts).toEqual([]);
  });

  it('also when it was encrypted by a program that remembers nothing', async () => {
    source.commit(3);
    await run(writing(key));
    rmSync(record());
    await run(undefined);
    expect(source.restarts).toEqual([expect.stringContaining("replica's last wal segment cannot be read")]);
    await expectRestores(key, undefined, plain, true);
  });
});

it('is restored in ranges, several at once, where it is large and the store is not local', async () => {
  source.commit(24, 1_000_000);
  source.checkpoint();
  source.commit(1);
  await run(writing(key));
  const remote = new FaultStore(plain, false);
  await expectRestores(key, source.position().generation, remote);
  const [snapshot] = await listSnapshots(plain, source.position().generation);
  const gets = remote.requests.filter((request) => request.key === snapshot!.key);
  expect(gets.length).toBeGreaterThan(3);
});

it('reads its own objects with an identity, and needs to remember little', async () => {
  source.commit(3);
  const config = { recipients: [key.recipient], identities: [other.identity, key.identity] };
  await run(config);
  const { generation, recipients } = JSON.parse(readFileSync(record(), 'utf8')) as Record<string, unknown>;
  writeFileSync(record(), JSON.stringify({ generation, recipients }));
  source.commit(3);
  await run(config);
  expect(source.restarts).toEqual([]);
  await expectRestores(key);
});
