/**
 * Replicas into which more than one process has written: whatever stands in between, a chain that is complete is
 * restored, exactly, and what does not continue it is left out and named.
 */

import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { type RestoreRequest, type RestoreResult, restore } from '../../src/engine/restore.ts';
import type { VerificationResult } from '../../src/engine/verification-result.ts';
import { verifyReplica } from '../../src/engine/verify-alone.ts';
import { openStore } from '../../src/storage/registry.ts';
import { Branch, FRAME_SIZE, ReplicaFolder, emptyImage } from '../support/branches.ts';
import { chooseSeed, generator } from '../support/workload.ts';
import { FaultStore, type LogLine, recordingLogger } from './replica-rig.ts';

const T0 = 1_700_000_000_000;
const SECOND = 1000;

let dir: string;
let replica: ReplicaFolder;
let log: LogLine[];
const seed = chooseSeed();
/** More of them: LITESTREAM_SOAK=1. */
const RUNS = process.env['LITESTREAM_SOAK'] === undefined ? 50 : 2000;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'paths-'));
  replica = new ReplicaFolder(join(dir, 'replica'));
  log = [];
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function newBranch(): Branch {
  const branch = new Branch(emptyImage(12), generator(seed));
  replica.putSnapshot(branch.snapshot, T0, T0);
  return branch;
}

/** Commits at T0 + 1 s and each second after that. */
function commits(branch: Branch, count: number, from = 1, frameCount = 1): void {
  for (let i = 0; i < count; i++) branch.commit(frameCount, T0 + (from + i) * SECOND);
}

interface Restored extends RestoreResult {
  readonly image: Buffer;
}

async function restored(options: Partial<RestoreRequest> = {}): Promise<Restored> {
  const store = await openStore({ type: 'file', path: replica.path });
  const outputPath = join(dir, 'out');
  log = [];
  try {
    const result = await restore({
      replicas: [{ name: 'file', store }],
      outputPath,
      parallelism: 2,
      logger: recordingLogger(log),
      ...options,
    });
    return { ...result, image: readFileSync(outputPath) };
  } finally {
    rmSync(outputPath, { force: true });
    expect(readdirSync(dir)).toEqual(['replica']);
  }
}

async function expectRestored(expected: Buffer, options: Partial<RestoreRequest> = {}): Promise<void> {
  const { image } = await restored(options);
  expect(image.equals(expected), `seed ${seed}: another database`).toBe(true);
}

async function verified(): Promise<VerificationResult> {
  const store = await openStore({ type: 'file', path: replica.path });
  const { signal } = new AbortController();
  return verifyReplica({ name: 'file', store, parallelism: 2, signal, logger: recordingLogger([]) });
}

/** That the log warns of exactly these objects. */
function expectNamed(...keys: string[]): void {
  const warnings = log.filter(({ level }) => level === 'WARN').map(({ message }) => message);
  const named = new Set(warnings.flatMap((message) => message.match(/generations\/\S+?\.lz4/g) ?? []));
  expect([...named].sort(), warnings.join('\n')).toEqual([...keys].sort());
  expect(warnings.some((message) => message.includes('left out'))).toBe(keys.length > 0);
}

describe.each([
  ['ours', false],
  ['v0.3.13', true],
])('segments of %s', (_, bare) => {
  it('that lie wholly within others are left out', async () => {
    const branch = newBranch();
    commits(branch, 8);
    const ends = branch.ends;
    replica.put(branch.segment(0, ends[3]!), { bare });
    const inside = replica.put(branch.segment(ends[1]!, ends[2]!), { bare });
    const atEnd = replica.put(branch.segment(ends[2]!, ends[3]!), { bare });
    replica.put(branch.segment(ends[3]!, ends[6]!), { bare });
    const another = replica.put(branch.segment(ends[4]!, ends[5]!), { bare });
    replica.put(branch.segment(ends[6]!, ends[7]!), { bare });
    await expectRestored(branch.imageAt());
    expect(await verified()).toMatchObject({
      result: 'ok',
      message: expect.stringContaining('note: WAL segments generations/') as string,
    });
    // One that ends where the chain does is met as an overlap, and does no harm.
    expectNamed(inside, ...(log.some(({ message }) => message.includes(atEnd)) ? [atEnd] : []), another);
  });

  it('that lie within others at the end of the replica, and in an index that is closed', async () => {
    const branch = newBranch();
    const inside: string[] = [];
    for (let index = 0; index < 3; index++) {
      if (index > 0) branch.rotate();
      commits(branch, 5, 1 + 5 * index);
      replica.put(branch.segment(0, branch.end), { bare });
      inside.push(replica.put(branch.segment(branch.ends[1]!, branch.ends[3]!), { bare }));
    }
    await expectRestored(branch.imageAt());
    expectNamed(...inside);
  });

  it('of a branch whose beginning was written over are left out, shorter or longer', async () => {
    for (const frameCount of [1, 3]) {
      replica.clear();
      const production = newBranch();
      commits(production, 3);
      replica.put(production.segment(0, production.end), { bare });
      const at = production.end;
      const clone = production.fork();
      commits(clone, 3, 4, frameCount);
      const foreign: string[] = [];
      for (const [i, end] of clone.ends.slice(3).entries()) {
        foreign.push(replica.put(clone.segment(clone.ends[2 + i]!, end), { bare }));
      }
      // In the places of the clone's, as far as they are the same.
      commits(production, 4, 4, 2);
      const own = production.ends
        .slice(3)
        .map((end, i) => replica.put(production.segment(production.ends[2 + i]!, end), { bare }));
      expect(own).toContain(foreign[0]);
      expect(at).toBeLessThan(production.end);
      await expectRestored(production.imageAt());
      expectNamed(...foreign.filter((key) => !own.includes(key)));
    }
  });

  it('of two branches that are both there: the newer one in the store wins, and the other one is named', async () => {
    for (const newer of ['production', 'clone']) {
      replica.clear();
      const production = newBranch();
      commits(production, 4);
      const clone = production.fork();
      const [, from, parts] = production.ends as [number, number, number, number];
      commits(production, 3, 5);
      commits(clone, 2, 5, 3);
      const storedMs = { production: T0 + 60_000, clone: T0 + (newer === 'clone' ? 90_000 : 30_000) };
      const put = (branch: Branch, start: number, end: number, ms: number): string =>
        replica.put(branch.segment(start, end), { bare, storedMs: ms });
      put(production, 0, from, T0);
      // The clone goes on from a place inside of it.
      const whole = put(production, from, production.end, storedMs.production);
      const branch = put(clone, production.ends[3]!, clone.end, storedMs.clone);
      expect(parts).toBeLessThan(production.ends[3]!);
      const [winner, left] = newer === 'clone' ? [clone, []] : [production, [branch]];
      await expectRestored(winner.imageAt());
      expectNamed(...left);
      expect(whole).not.toBe(branch);
    }
  });

  it('that are damaged are left out when others hold the same, and not when they may be the last', async () => {
    const branch = newBranch();
    commits(branch, 6);
    const ends = branch.ends;
    const cut = (stored: Buffer): Buffer => stored.subarray(0, stored.byteLength - 30);
    replica.put(branch.segment(0, ends[2]!), { bare, storedMs: T0 + 1 });
    const damaged = replica.put(branch.segment(ends[1]!, ends[3]!), { bare, storedMs: T0 + 2, change: cut });
    replica.put(branch.segment(ends[2]!, ends[5]!), { bare, storedMs: T0 + 3 });
    await expectRestored(branch.imageAt());
    expectNamed(damaged);
    replica.put(branch.segment(ends[1]!, ends[3]!), { bare, storedMs: T0 + 4, change: cut });
    await expect(restored()).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining(damaged) as string,
    });
  });

  it('that are missing are missed all the same', async () => {
    const branch = newBranch();
    commits(branch, 6);
    const ends = branch.ends;
    replica.put(branch.segment(0, ends[2]!), { bare, storedMs: T0 + 1 });
    replica.put(branch.segment(ends[0]!, ends[1]!), { bare, storedMs: T0 + 2 });
    replica.put(branch.segment(ends[3]!, ends[5]!), { bare, storedMs: T0 + 3 });
    await expect(restored()).rejects.toMatchObject({
      code: 'gap',
      message: expect.stringMatching(/missing WAL segment \S+_00000668/) as string,
    });
    const { image, loss } = await restored({ bestEffort: true });
    expect(image.equals(branch.imageAt(ends[2]))).toBe(true);
    expect(loss).toMatch(/of which 1 segments are there in vain/);
  });
});

describe('a generation in which two processes went on', () => {
  it('continues with the index that follows the newer branch', async () => {
    const production = newBranch();
    commits(production, 4);
    const clone = production.fork();
    commits(clone, 5, 5, 2);
    replica.put(production.segment(0, production.ends[2]!), { storedMs: T0 });
    replica.put(production.segment(production.ends[2]!, production.end), { storedMs: T0 + 1 });
    const left = replica.put(clone.segment(production.end, clone.end), { storedMs: T0 + 2 });
    production.rotate();
    commits(production, 2, 5);
    replica.put(production.segment(0, production.end), { storedMs: T0 + 3 });
    await expectRestored(production.imageAt());
    expectNamed(left);
    expect((await restored()).position.index).toBe(1);
    expect(await verified()).toMatchObject({
      result: 'ok',
      message: expect.stringContaining(`note: WAL segment ${left}`) as string,
    });
  });

  it('ends in its index when the one behind is of an older branch', async () => {
    const production = newBranch();
    commits(production, 4);
    const clone = production.fork();
    replica.put(production.segment(0, production.end), { storedMs: T0 });
    clone.rotate();
    commits(clone, 2, 5);
    replica.put(clone.segment(0, clone.ends[0]!), { storedMs: T0 + 1 });
    replica.put(clone.segment(clone.ends[0]!, clone.end), { storedMs: T0 + 1 });
    const place = production.end;
    commits(production, 2, 5);
    replica.put(production.segment(place, production.end), { storedMs: T0 + 2 });
    await expectRestored(production.imageAt());
    expect(log.map(({ message }) => message).join('\n')).toMatch(/2 of later indexes left out/);
  });

  it('is restored from a snapshot of the branch that is there, not from one of the other', async () => {
    const production = newBranch();
    commits(production, 2);
    replica.put(production.segment(0, production.end), { storedMs: T0 });
    production.rotate();
    const clone = production.fork();
    commits(clone, 2, 3);
    commits(production, 4, 3);
    const foreign = replica.putSnapshot(clone.snapshot, T0 + 5, T0 + 5);
    replica.put(production.segment(0, production.ends[1]!), { storedMs: T0 + 1 });
    replica.put(production.segment(production.ends[1]!, production.end), { storedMs: T0 + 2 });
    await expectRestored(production.imageAt());
    expect(foreign).toContain('00000001.snapshot');
  });

  it('holds every commit at its time', async () => {
    const branch = newBranch();
    commits(branch, 9);
    const ends = branch.ends;
    // What another process saw later: times are its own.
    const late = branch.fork();
    const again = (start: number, end: number): ReturnType<Branch['segment']> => {
      const segment = late.segment(start, end);
      const commits = segment.trailer.commits.map(({ offset, timeMs }) => ({ offset, timeMs: timeMs + 400 }));
      return { ...segment, trailer: { ...segment.trailer, commits } };
    };
    replica.put(branch.segment(0, ends[3]!));
    replica.put(again(ends[1]!, ends[2]!));
    replica.put(branch.segment(ends[3]!, ends[6]!));
    replica.put(again(ends[4]!, ends[5]!));
    replica.put(branch.segment(ends[6]!, ends[8]!));
    replica.put(again(ends[7]!, ends[8]!));
    for (const [i, end] of ends.entries()) {
      const timestamp = new Date(T0 + (i + 1) * SECOND + 500);
      const { image } = await restored({ timestamp });
      expect(image.equals(branch.imageAt(end)), `seed ${seed}: commit ${i}`).toBe(true);
    }
  });

  it('is restored to a position and an index of the chain', async () => {
    const branch = newBranch();
    commits(branch, 6);
    const ends = branch.ends;
    replica.put(branch.segment(0, ends[4]!));
    replica.put(branch.segment(ends[1]!, ends[2]!));
    replica.put(branch.segment(ends[4]!, ends[5]!));
    await expectRestored(branch.imageAt(), { index: 0 });
    for (const [i, offset] of ends.entries()) {
      const upTo = { generation: replica.generation, index: 0, offset };
      const { image } = await restored({ upTo });
      expect(image.equals(branch.imageAt(offset)), `commit ${i}`).toBe(true);
    }
  });

  it('gives a best effort all that is proven', async () => {
    const branch = newBranch();
    commits(branch, 8);
    const ends = branch.ends;
    replica.put(branch.segment(0, ends[4]!));
    replica.put(branch.segment(ends[1]!, ends[2]!));
    replica.put(branch.segment(ends[4]!, ends[5]!));
    replica.put(branch.segment(ends[6]!, ends[7]!), { storedMs: Date.now() + 5000 });
    const { image, loss } = await restored({ bestEffort: true });
    expect(image.equals(branch.imageAt(ends[5]))).toBe(true);
    expect(loss).toMatch(/missing WAL segment/);
    await expect(restored()).rejects.toMatchObject({
      message: expect.stringMatching(`best-effort restores what is before \\S+:${ends[5]}`) as string,
    });
  });
});

it('is whole beside a generation that was given up before its snapshot was stored', async () => {
  const given = new Branch(emptyImage(12), generator(seed + 1));
  given.commit(1, T0 - 2 * SECOND);
  const older = new ReplicaFolder(replica.path, '00000000000000bb');
  const key = older.put(given.segment(0, given.end));
  expect(await verified()).toMatchObject({ result: 'failed' });
  const branch = newBranch();
  commits(branch, 2);
  replica.put(branch.segment(0, branch.end));
  expect(await verified()).toMatchObject({
    result: 'ok',
    message: expect.stringMatching(/note: a generation was given up .*00000000000000bb/) as string,
  });
  // One that goes on after the snapshot of the other one is not given up.
  given.commit(1, T0 + SECOND);
  older.put(given.segment(0, given.end));
  expect(await verified()).toMatchObject({ result: 'failed' });
  older.remove(key);
  expect(await verified()).toMatchObject({ result: 'ok' });
});

it('asks nothing more of a replica in which all follows', async () => {
  const branch = newBranch();
  commits(branch, 6);
  const ends = [0, ...branch.ends];
  for (let i = 0; i < 6; i++) replica.put(branch.segment(ends[i]!, ends[i + 1]!));
  const store = new FaultStore(await openStore({ type: 'file', path: replica.path }));
  await expectRestored(branch.imageAt(), { replicas: [{ name: 'file', store }] });
  const operations = store.requests.map(({ operation }) => operation).sort();
  expect(operations).toEqual([...Array<string>(7).fill('get'), 'list', 'list', 'listPrefixes']);
  expectNamed();
});

/** Cuts [0, end] of a WAL into segments. */
function cutInto(branch: Branch, from: number, sizes: readonly number[]): [number, number][] {
  const places = [0, ...branch.ends];
  const pieces: [number, number][] = [];
  let at = places.indexOf(from);
  for (let i = 0; at < places.length - 1; i++) {
    const next = Math.min(places.length - 1, at + (sizes[i % sizes.length] ?? 1));
    pieces.push([places[at]!, places[next]!]);
    at = next;
  }
  return pieces;
}

const sizes = fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 6 });
const extra = fc.record({
  kind: fc.constantFrom('contained', 'overlapping', 'foreign', 'truncated'),
  first: fc.nat(30),
  length: fc.integer({ min: 1, max: 4 }),
  bare: fc.boolean(),
});

it('restores a complete chain, whatever other segments stand beside it', { timeout: 120_000 }, async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        commitCount: fc.integer({ min: 2, max: 12 }),
        frameCount: fc.integer({ min: 1, max: 3 }),
        parts: fc.nat(11),
        otherFrames: fc.integer({ min: 1, max: 4 }),
        otherCount: fc.integer({ min: 1, max: 8 }),
        sizes,
        bare: fc.boolean(),
        extras: fc.array(extra, { maxLength: 6 }),
      }),
      async ({ commitCount, frameCount, parts, otherFrames, otherCount, sizes: cut, bare, extras }) => {
        replica.clear();
        const chain = newBranch();
        const shared = parts % commitCount;
        commits(chain, shared, 1, frameCount);
        const other = chain.fork();
        commits(chain, commitCount - shared, shared + 1, frameCount);
        commits(other, otherCount, shared + 1, otherFrames);
        const taken = new Set<number>();
        for (const [start, end] of cutInto(chain, 0, cut)) {
          replica.put(chain.segment(start, end), { bare, storedMs: T0 + 60_000 });
          taken.add(start);
        }
        for (const { kind, first, length, bare: plain } of extras) {
          // Of an older process: whatever it wrote last was stored before the chain was complete.
          const options = { bare: plain, storedMs: T0 + 30_000 };
          const branch = kind === 'foreign' || kind === 'truncated' ? other : chain;
          const places = [0, ...branch.ends];
          const at = first % (places.length - 1);
          const [start, end] = [places[at]!, places[Math.min(places.length - 1, at + length)]!];
          // What begins behind the end cannot be told from a chain with a hole: that is refused, and named.
          if (taken.has(start) || start >= chain.end) continue;
          taken.add(start);
          const change = (stored: Buffer): Buffer =>
            kind === 'truncated' ? stored.subarray(0, stored.byteLength >> 1) : stored;
          replica.put(branch.segment(start, end), { ...options, change });
        }
        await expectRestored(chain.imageAt());
        expect(await verified()).toMatchObject({ result: 'ok' });
      },
    ),
    { seed, numRuns: RUNS },
  );
});

it(
  'never mixes two branches, whichever is the newer and whatever is missing',
  { timeout: 120_000 },
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({
            ours: fc.boolean(),
            first: fc.nat(30),
            length: fc.integer({ min: 1, max: 5 }),
            storedMs: fc.nat(5).map((n) => T0 + n * SECOND),
            bare: fc.boolean(),
          }),
          { minLength: 3, maxLength: 14 },
        ),
        fc.nat(6),
        fc.integer({ min: 1, max: 3 }),
        fc.option(fc.nat(14)),
        async (segments, shared, otherFrames, second) => {
          replica.clear();
          const a = newBranch();
          commits(a, shared);
          const b = a.fork();
          commits(a, 8, shared + 1);
          commits(b, 8, shared + 1, otherFrames);
          const images = new Set(
            [a, b].flatMap((branch) =>
              [0, ...branch.ends].map((end) => branch.imageAt(end).toString('base64')),
            ),
          );
          for (const { ours, first, length, storedMs, bare } of segments) {
            const branch = ours ? a : b;
            const places = [0, ...branch.ends];
            const at = first % (places.length - 1);
            const end = places[Math.min(places.length - 1, at + length)]!;
            replica.put(branch.segment(places[at]!, end), { bare, storedMs });
          }
          const timestamp = second === null ? undefined : new Date(T0 + second * SECOND + 500);
          for (const bestEffort of [false, true]) {
            let isWhole = true;
            try {
              const { image } = await restored({ bestEffort, timestamp });
              expect(images.has(image.toString('base64')), 'the state of no branch').toBe(true);
            } catch (error) {
              if (!(error instanceof LitestreamError)) throw error;
              expect(['gap', 'corrupt', 'no-backup', 'not-found']).toContain(error.code);
              isWhole = false;
            }
            if (bestEffort || timestamp) continue;
            const { result, message } = await verified();
            expect(result, message).toBe(isWhole ? 'ok' : 'failed');
          }
        },
      ),
      { seed, numRuns: RUNS },
    );
  },
);

it('has frames of the size that the offsets are made for', () => expect(FRAME_SIZE).toBe(536));
