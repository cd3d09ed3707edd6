/**
 * For every object of a replica: removed, cut short anywhere, any of its bits flipped. A restore of the latest state, and
 * to times in between, gives exactly the right database or names the object; never another database.
 */

import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { restore } from '../../src/engine/restore.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import {
  type Damage,
  FLIPS_TIMEOUT_MS,
  contentsOf,
  cuts,
  damageEach,
  flips,
  removal,
  startReplica,
} from './damage.ts';
import { FakeSource, FaultStore, type LogLine, recordingLogger, until } from './replica-rig.ts';

let dir: string;
let source: FakeSource;
let store: ObjectStore;
let objects: Map<string, Buffer>;
/** Times of all commits, and the moments to which is restored; undefined: the latest state. */
let commitMs: number[];
let targets: (Date | undefined)[];
/** What each target restores to, and what the snapshot of the second generation starts with. */
let expected: Map<number | undefined, Buffer>;
let log: LogLine[];
let generations: string[];

beforeAll(async () => {
  dir = mkdtempSync(join(tmpdir(), 'damage-'));
  source = new FakeSource(512);
  // Times in the store are all the same, and long after the commits.
  let nowMs = 1_600_000_000_000;
  source.clock = () => nowMs;
  store = openMemoryStore();
  commitMs = [];
  generations = [];
  let replica = startReplica(source, store, 0);
  const stored = (): Promise<unknown> => until('everything is stored', () => replica.lagging() === undefined);
  const commits = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      nowMs += 1000;
      // Too large for a page: each has pages of its own, which nothing later writes again.
      source.commit(1, 700);
      commitMs.push(nowMs);
      await stored();
    }
  };
  await commits(2);
  source.checkpoint();
  // Two commits in one segment, then others of their own.
  await commits(3);
  source.checkpoint();
  await commits(1);
  await replica.stop(new AbortController().signal);
  replica = startReplica(source, store, 1);
  const keys = async (): Promise<string[]> => [...(await contentsOf(store)).keys()];
  const snapshotCount = async () => (await keys()).filter((key) => key.endsWith('.snapshot.lz4')).length;
  await until('there is a second snapshot', async () => (await snapshotCount()) === 2);
  await commits(2);
  generations.push(source.position().generation);
  nowMs += 1000;
  source.restartGeneration('test');
  await until('there is a third snapshot', async () => (await snapshotCount()) === 3);
  await stored();
  await commits(2);
  generations.push(source.position().generation);
  await replica.stop(new AbortController().signal);
  objects = await contentsOf(store);
  const moments = [
    commitMs[0]! + 500,
    commitMs[2]!,
    commitMs[4]! - 1,
    commitMs[6]!,
    commitMs[7]!,
    commitMs[8]!,
  ];
  targets = [undefined, ...moments.map((ms) => new Date(ms))];
  expected = new Map();
  log = [];
  for (const target of targets) expected.set(target?.getTime(), (await outcomeOf(target)) as Buffer);
});

afterEach(async () => {
  for (const [key, data] of objects) await store.put(key, data);
});

afterAll(() => {
  source.close();
  rmSync(dir, { recursive: true, force: true });
});

/** The restored database, or why there is none. */
async function outcomeOf(timestamp: Date | undefined): Promise<Buffer | LitestreamError> {
  const outputPath = join(dir, 'out');
  log = [];
  try {
    const replicas = [{ name: 'test', store }];
    await restore({ replicas, outputPath, timestamp, parallelism: 2, logger: recordingLogger(log) });
    return readFileSync(outputPath);
  } catch (error) {
    if (!(error instanceof LitestreamError)) throw error;
    return error;
  } finally {
    rmSync(outputPath, { force: true });
    expect(readdirSync(dir)).toEqual([]);
  }
}

/** Restores to all targets from what is in the store now; gives how many of them were refused. */
async function expectRightOrNamed(
  key: string,
  what: string,
  {
    among = targets,
    exception,
  }: {
    among?: (Date | undefined)[];
    exception?: (target: Date | undefined, result: Buffer) => boolean;
  } = {},
): Promise<number> {
  let refused = 0;
  for (const target of among) {
    const where = `${what} of ${key}, restored to ${target?.toISOString() ?? 'the latest state'}`;
    const outcome = await outcomeOf(target);
    if (outcome instanceof Error) {
      refused++;
      expect(outcome.message, where).toContain(key);
    } else if (!outcome.equals(expected.get(target?.getTime())!)) {
      expect(exception?.(target, outcome) === true, `wrong database: ${where}`).toBe(true);
    }
  }
  return refused;
}

/** The latest state, and times by turns. */
const some = (number: number): (Date | undefined)[] => [
  undefined,
  targets[1 + (number % (targets.length - 1))],
];

/** The second snapshot of a generation can be left alone. */
function expectSomeRefused(key: string, refused: readonly number[]): void {
  if (!key.endsWith('00000002.snapshot.lz4')) expect(Math.max(...refused), key).toBeGreaterThan(0);
}

const isSegment = (key: string): boolean => key.includes('/wal/');

describe('a replica of two generations', () => {
  it('has what the test needs', () => {
    const keys = [...objects.keys()];
    expect(keys.filter(isSegment).length).toBeGreaterThanOrEqual(9);
    expect(keys.filter((key) => key.startsWith(`generations/${generations[0]}/snapshots/`))).toHaveLength(2);
    expect(new Set([...expected.values()].map((data) => data.toString('base64'))).size).toBe(targets.length);
  });

  it('restores each commit at its time and one before it just before', async () => {
    const states: Buffer[] = [];
    for (const ms of commitMs) states.push((await outcomeOf(new Date(ms))) as Buffer);
    for (const [i, ms] of commitMs.entries()) {
      if (i === 0) continue;
      expect(states[i]!.equals(states[i - 1]!)).toBe(false);
      expect(
        ((await outcomeOf(new Date(ms - 1))) as Buffer).equals(states[i - 1]!),
        `before commit ${i}`,
      ).toBe(true);
    }
    expect(states.at(-1)!.equals(expected.get(undefined)!)).toBe(true);
    expect(((await outcomeOf(new Date(commitMs.at(-1)! + 1e9))) as Buffer).equals(states.at(-1)!)).toBe(true);
    expect(await outcomeOf(new Date(commitMs[0]! - 5000))).toMatchObject({
      code: 'no-backup',
      message: expect.stringMatching(/earliest .*Z, latest .*Z$/) as string,
    });
  });

  it('without any one of its objects', async () => {
    const newest = generations.map((name) =>
      [...objects.keys()].findLast((key) => isSegment(key) && key.includes(name)),
    );
    const [sixth, eighth] = [6, 8].map((i) => expected.get(commitMs[i])!);
    const examine = async (key: string, { what }: Damage): Promise<number> => {
      // Nothing can refer to the newest segment of a generation: an earlier state results. Nor to the snapshot of a generation before
      // its first segment is stored: then the generation before is restored, with a warning that names what is missing.
      const exception = (target: Date | undefined, result: Buffer): boolean => {
        if (key === newest[0]) return target?.getTime() === commitMs[7] && result.equals(sixth!);
        if (key === newest[1]) return target === undefined && result.equals(eighth!);
        const warned = log.some(({ level, message }) => level === 'WARN' && message.includes(key));
        return target === undefined && key.includes(`${generations[1]}/snapshots/`) && warned;
      };
      return expectRightOrNamed(key, what, { exception });
    };
    await damageEach(store, objects, removal, examine, (key, [refused]) => {
      if (isSegment(key) && !newest.includes(key)) expect(refused, key).toBeGreaterThan(0);
    });
  });

  it('with any one of its objects cut short', async () => {
    const examine = async (key: string, { what, number }: Damage): Promise<number> => {
      const refused = await expectRightOrNamed(key, what, { among: some(number) });
      // Also without its trailer alone: the latest state needs each object of its generation.
      if (key.includes(generations[1]!)) expect(refused, `${what} of ${key}`).toBeGreaterThan(0);
      return refused;
    };
    await damageEach(store, objects, cuts, examine, expectSomeRefused);
  });

  it('with any one bit of any one of its objects flipped', { timeout: FLIPS_TIMEOUT_MS }, async () => {
    const examine = (key: string, { what, number }: Damage): Promise<number> =>
      expectRightOrNamed(key, what, { among: some(number) });
    await damageEach(store, objects, flips({ each: 8, step: 16 }), examine, expectSomeRefused);
  });
});

it('asks a few objects only for the time of a commit', async () => {
  const counting = new FaultStore(store);
  const outputPath = join(dir, 'out');
  await restore({
    replicas: [{ name: 'test', store: counting }],
    outputPath,
    timestamp: new Date(commitMs[0]!),
    parallelism: 2,
    logger: recordingLogger([]),
  });
  rmSync(outputPath);
  const gets = counting.requests.filter(({ operation }) => operation === 'get');
  expect(new Set(gets.map(({ key }) => key)).size).toBeLessThan(objects.size);
});
