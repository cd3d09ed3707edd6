/** A database that nothing is known of meets a replica that holds another one's history. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { listGenerations } from '../../src/engine/catalog.ts';
import { Replica } from '../../src/engine/replica.ts';
import { enforceRetention } from '../../src/engine/retention.ts';
import { restore } from '../../src/engine/restore.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import { FakeSource, FaultStore, type LogLine, OPTIONS, recordingLogger, until } from './replica-rig.ts';

const HOUR = 3600_000;

let store: FaultStore;
let log: LogLine[];
let sources: FakeSource[];
let running: Replica[];
beforeEach(() => {
  store = new FaultStore(openMemoryStore());
  log = [];
  sources = [];
  running = [];
});
afterEach(async () => {
  for (const replica of running) await replica.stop(AbortSignal.abort());
  for (const source of sources) source.close();
});

function newSource(first: boolean): FakeSource {
  const source = new FakeSource();
  source.first = first;
  sources.push(source);
  return source;
}

/** Replicates what is committed, and stops. */
async function run(source: FakeSource): Promise<void> {
  const replica = new Replica({
    options: { ...OPTIONS, retentionMs: HOUR },
    source,
    openStore: () => Promise.resolve(store),
    logger: recordingLogger(log),
  });
  running.push(replica);
  replica.start();
  await until('everything is stored', () => replica.lagging() === undefined);
  await replica.stop(AbortSignal.timeout(10_000));
}

const alarms = (): LogLine[] => log.filter(({ level }) => level === 'WARN' || level === 'ERROR');

/** What is logged in the background, once it is. */
async function said(): Promise<LogLine[]> {
  await until('it is said', () => alarms().length > 0);
  return alarms();
}

async function oldHistory(): Promise<FakeSource> {
  const old = newSource(true);
  old.commit(5);
  old.checkpoint();
  old.commit(5);
  await run(old);
  expect(alarms()).toEqual([]);
  return old;
}

describe('the warning', () => {
  it('names the range of the older history and the command that restores it', async () => {
    const startMs = Date.now();
    const old = await oldHistory();
    const source = newSource(true);
    source.commit(1);
    await run(source);
    const [line, ...more] = await said();
    const { level, message, attributes } = line!;
    expect(more).toEqual([]);
    expect([level, message]).toEqual([
      'WARN',
      expect.stringMatching(/^replica holds the history of an older database/),
    ]);
    const { generation } = old.position();
    expect(attributes).toMatchObject({
      generation,
      restore: `litestream restore -o ${source.path}.restored -replica test -generation ${generation} ${source.path}`,
    });
    const [from, to, keptUntil] = ['from', 'to', 'kept-until'].map((name) =>
      Date.parse(attributes[name] as string),
    );
    expect(from).toBeGreaterThanOrEqual(startMs);
    expect(to).toBeGreaterThanOrEqual(from!);
    expect(to).toBeLessThanOrEqual(Date.now());
    expect(keptUntil! - HOUR).toBeGreaterThanOrEqual(to!);
  });

  it('is an error when the database is empty', async () => {
    await oldHistory();
    const source = newSource(true);
    source.db.exec('DROP TABLE t; VACUUM');
    source.sync();
    await run(source);
    const [line] = await said();
    expect(line).toMatchObject({
      level: 'ERROR',
      message: expect.stringMatching(/^database is empty, but the replica holds an older one/) as string,
    });
  });

  it('is not given for a generation that follows another one, nor for a new replica, nor twice', async () => {
    const source = newSource(true);
    source.commit(1);
    await run(source);
    await run(source);
    source.first = false;
    source.restartGeneration('wal truncated by another process');
    source.commit(1);
    await run(source);
    expect(await listGenerations(store)).toHaveLength(2);
    expect(alarms()).toEqual([]);
  });

  it.each(['unavailable', 'permission'] as const)(
    'comes when a store that was %s takes uploads',
    async (code) => {
      await oldHistory();
      const source = newSource(true);
      source.fresh = true;
      source.commit(1);
      let failures = 0;
      store.fault = () => {
        if (failures++ < 3) throw new LitestreamError(code, 'not now');
      };
      const replica = new Replica({
        options: OPTIONS,
        source,
        openStore: () => Promise.resolve(store),
        logger: recordingLogger(log),
      });
      running.push(replica);
      replica.start();
      const about = ({ message }: LogLine): boolean => /history of an older database/.test(message);
      await until('it is said', () => alarms().some(about));
      expect(alarms().filter(about)).toEqual([
        expect.objectContaining({ message: expect.stringMatching(/^replica holds/) as string }),
      ]);
    },
  );

  it('does not keep from replicating what cannot be read', async () => {
    await oldHistory();
    const source = newSource(true);
    source.commit(1);
    store.fault = ({ operation }) => {
      if (operation === 'listPrefixes') throw new LitestreamError('permission', 'access denied');
    };
    await run(source);
    const [line] = await said();
    expect(line).toMatchObject({
      message: 'cannot tell whether the replica holds the history of an older database',
      attributes: { error: expect.stringContaining('access denied') as string },
    });
  });
});

it('commits that are dated in the future are warned of by who finds them, once for each start', async () => {
  const future = (): unknown[] =>
    alarms()
      .filter(({ message }) => message.includes('wrong clock'))
      .map(({ attributes }) => [attributes['generation'], attributes['reason']]);
  const old = newSource(false);
  old.clock = () => Date.now() + 24 * HOUR;
  old.commit();
  await run(old);
  expect(future()).toEqual([]);
  const { generation } = old.position();
  const told = [generation, expect.stringMatching(/^the last commit is dated in the future/)];
  await run(old);
  expect(future()).toEqual([told]);
  const source = newSource(false);
  source.clock = old.clock;
  source.commit();
  await run(source);
  expect(future()).toEqual([told, told]);
  // Now its own are as well.
  await run(source);
  expect(future()).toEqual([told, told, told]);
});

it('leaves the older history whole until its window ends', async () => {
  const old = await oldHistory();
  const expected = old.bytes();
  const { generation } = old.position();
  const source = newSource(true);
  source.commit(1);
  await run(source);
  const restored = join(source.dir, 'restored');
  for (const minutes of [0, 30, 59, 64]) {
    await enforceRetention({
      store,
      retentionMs: HOUR,
      currentGeneration: source.position().generation,
      now: Date.now() + minutes * 60_000,
      logger: recordingLogger(log),
    });
    const outputPath = `${restored}-${minutes}`;
    const logger = recordingLogger([]);
    await restore({ replicas: [{ name: 'r', store }], outputPath, generation, parallelism: 1, logger });
    expect(readFileSync(outputPath).equals(expected), `after ${minutes} minutes`).toBe(true);
  }
  await enforceRetention({
    store,
    retentionMs: HOUR,
    currentGeneration: source.position().generation,
    now: Date.now() + 66 * 60_000,
    logger: recordingLogger(log),
  });
  expect(await listGenerations(store)).toEqual([source.position().generation]);
});
