/**
 * For every object of a replica: removed, cut short anywhere, any of its bits flipped. A restore of the latest state, and
 * to times in between, gives exactly the right database or names the object; never another database.
 */

import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { Replica } from '../../src/engine/replica.ts';
import { restore } from '../../src/engine/restore.ts';
import { openMemoryStore } from '../../src/storage/memory/memory-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { FakeSource, FaultStore, type LogLine, OPTIONS, recordingLogger, until } from './replica-rig.ts';

/** All bits of all objects take minutes: LITESTREAM_SOAK=1. */
const ALL_BITS = process.env['LITESTREAM_SOAK'] !== undefined;
const BITS_EACH = 8;

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
  const start = (snapshotIntervalMs: number): Replica => {
    const started = new Replica({
      options: { ...OPTIONS, snapshotIntervalMs, syncIntervalMs: 1 },
      source,
      openStore: () => Promise.resolve(store),
      logger: recordingLogger([]),
    });
    started.start();
    return started;
  };
  let replica = start(0);
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
  replica = start(1);
  const keys = async (): Promise<string[]> => [...(await contents()).keys()];
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
  objects = await contents();
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

async function contents(): Promise<Map<string, Buffer>> {
  const found = new Map<string, Buffer>();
  for await (const { key } of store.list('')) {
    const parts: Uint8Array[] = [];
    for await (const part of (await store.get(key)).stream) parts.push(Uint8Array.from(part));
    found.set(key, Buffer.concat(parts));
  }
  return new Map([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
}

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
    for (const [key, data] of objects) {
      await store.delete([key]);
      // Nothing can refer to the newest segment of a generation: an earlier state results. Nor to the snapshot of a generation before
      // its first segment is stored: then the generation before is restored, with a warning that names what is missing.
      const exception = (target: Date | undefined, result: Buffer): boolean => {
        if (key === newest[0]) return target?.getTime() === commitMs[7] && result.equals(sixth!);
        if (key === newest[1]) return target === undefined && result.equals(eighth!);
        const warned = log.some(({ level, message }) => level === 'WARN' && message.includes(key));
        return target === undefined && key.includes(`${generations[1]}/snapshots/`) && warned;
      };
      const refused = await expectRightOrNamed(key, 'removal', { exception });
      if (isSegment(key) && !newest.includes(key)) expect(refused, key).toBeGreaterThan(0);
      await store.put(key, data);
    }
  });

  it('with any one of its objects cut short', async () => {
    for (const [key, data] of objects) {
      const trailer = data.readUInt32LE(data.byteLength - 12);
      const cuts = [0, 1, 7, 14, 15, 40, data.byteLength >> 1, data.byteLength - 1];
      for (const inTrailer of [-1, 0, 1, 8, 30, 90]) cuts.push(data.byteLength - trailer + inTrailer);
      let refused = 0;
      for (const length of cuts.filter((count) => count < data.byteLength)) {
        await store.put(key, data.subarray(0, length));
        const now = await expectRightOrNamed(key, `cut at ${length}`, { among: some(length) });
        // Also without its trailer alone: the latest state needs each object of its generation.
        if (key.includes(generations[1]!)) expect(now, `cut at ${length} of ${key}`).toBeGreaterThan(0);
        refused += now;
      }
      await store.put(key, data);
      // The second snapshot of a generation can be left alone.
      if (!key.endsWith('00000002.snapshot.lz4')) expect(refused, key).toBeGreaterThan(0);
    }
  });

  it(
    'with any one bit of any one of its objects flipped',
    { timeout: ALL_BITS ? 3600_000 : 120_000 },
    async () => {
      const seed = Math.floor(Math.random() * 1e6);
      for (const [key, data] of objects) {
        const count = data.byteLength * 8;
        const trailerBits = data.readUInt32LE(data.byteLength - 12) * 8;
        const chosen = new Set<number>();
        // The frame's header, the trailer's head and footer, and some anywhere; in the trailer as many again.
        for (let i = 0; i < BITS_EACH; i++) {
          chosen.add(((seed + i) * 2_654_435_761) % count);
          chosen.add(count - trailerBits + (((seed + i) * 40_503) % trailerBits));
        }
        for (let bit = seed % 8; bit < 120; bit += 16) chosen.add(bit);
        for (let bit = seed % 8; bit < 128; bit += 16)
          chosen.add(count - 1 - bit).add(count - trailerBits + bit);
        const bits = ALL_BITS ? Array.from({ length: count }, (_, bit) => bit) : [...chosen];
        let refused = 0;
        for (const bit of bits) {
          const damaged = Buffer.from(data);
          damaged[bit >> 3]! ^= 1 << (bit & 7);
          await store.put(key, damaged);
          const what = `bit ${bit} of ${count} (seed ${seed})`;
          refused += await expectRightOrNamed(key, what, { among: some(bit) });
        }
        await store.put(key, data);
        if (!key.endsWith('00000002.snapshot.lz4')) expect(refused, key).toBeGreaterThan(0);
      }
    },
  );
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
