/** Restores from replicas of which each one alone may not do, and what a best effort leaves out. */

import { cpSync, promises as fs, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import { LitestreamError } from '../../src/base/errors.ts';
import type { NamedStore } from '../../src/engine/restore-listing.ts';
import { type RestoreRequest, type RestoreResult, restore } from '../../src/engine/restore.ts';
import { decodeLz4FrameBytes, encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openStore } from '../../src/storage/registry.ts';
import { GENERATION, RestoreSource, rowsOf } from './restore-source.ts';

let dir: string;
let lines: string[];

beforeEach(async () => {
  dir = await fs.mkdtemp(join(tmpdir(), 'restore-failover-'));
  lines = [];
});
afterEach(() => fs.rm(dir, { recursive: true, force: true }));

const folder = (replica: string): string => join(dir, replica, 'generations', GENERATION);
const segments = (replica = 'replica'): string[] => readdirSync(join(folder(replica), 'wal')).sort();
const segmentPath = (n: number, replica = 'replica'): string =>
  join(folder(replica), 'wal', segments(replica)[n]!);
const snapshotPath = (replica: string, index: number): string =>
  join(folder(replica), 'snapshots', `${String(index).padStart(8, '0')}.snapshot.lz4`);

async function named(name: string): Promise<NamedStore> {
  return { name, store: await openStore({ type: 'file', path: join(dir, name) }) };
}

async function run(
  names: readonly (string | NamedStore)[],
  options: Partial<RestoreRequest> = {},
): Promise<RestoreResult> {
  const replicas = await Promise.all(
    names.map(async (name) => (typeof name === 'string' ? await named(name) : name)),
  );
  const logger = createLogger({ format: 'default', level: 'INFO', write: (line) => lines.push(line) });
  return restore({ replicas, outputPath: join(dir, 'out', 'db'), parallelism: 4, logger, ...options });
}

const out = (): Buffer => readFileSync(join(dir, 'out', 'db'));

/**
 * Three indexes of six commits. `replica` has a segment for each commit, `other` one for each three, so that they are cut at
 * other places.
 */
function twoReplicas(): Buffer {
  const source = new RestoreSource(dir);
  mkdirSync(join(folder('other'), 'wal'), { recursive: true });
  cpSync(join(folder('replica'), 'snapshots'), join(folder('other'), 'snapshots'), { recursive: true });
  for (let index = 0; index < 3; index++) {
    for (let i = 0; i < 6; i++) source.commit();
    source.rotate();
  }
  const names = segments();
  for (let i = 0; i < names.length; i += 3) {
    const parts = [0, 1, 2].map((n) => decodeLz4FrameBytes(readFileSync(segmentPath(i + n))));
    writeFileSync(join(folder('other'), 'wal', names[i]!), encodeLz4FrameBytes(Buffer.concat(parts)));
  }
  return source.close();
}

describe('another replica stands in', () => {
  // Nothing in a replica of v0.3.13 tells that the last segment of an index is gone: 5 and 17.
  it.each([
    [0, true],
    [1, true],
    [2, true],
    [5, false],
    [6, true],
    [10, true],
    [17, false],
  ])('for segment %i, damaged, cut or gone', async (n, missed) => {
    const expected = twoReplicas();
    const path = segmentPath(n);
    const content = readFileSync(path);
    const damages = [
      () => writeFileSync(path, 'junk'),
      () => writeFileSync(path, content.subarray(0, -9)),
      () =>
        writeFileSync(
          path,
          content.map((byte, i) => (i === 60 ? byte ^ 1 : byte)),
        ),
      ...(missed ? [() => rmSync(path)] : []),
    ];
    for (const damage of damages) {
      damage();
      const { replica } = await run(['replica', 'other']);
      expect(replica).toBe('replica');
      expect(out().equals(expected)).toBe(true);
      await fs.rm(join(dir, 'out'), { recursive: true });
    }
    expect(lines.join('')).toContain('replica other stands in');
  });

  it('for whole indexes, each in the other direction', async () => {
    const expected = twoReplicas();
    for (let n = 6; n < 12; n++) rmSync(segmentPath(6));
    rmSync(segmentPath(0, 'other'));
    writeFileSync(segmentPath(4, 'other'), 'junk');
    const { replica } = await run(['other', 'replica']);
    expect(['other', 'replica']).toContain(replica);
    expect(out().equals(expected)).toBe(true);
  });

  it('but not where it has the same hole', async () => {
    twoReplicas();
    const missing = segmentPath(7);
    rmSync(missing);
    writeFileSync(segmentPath(2, 'other'), 'junk');
    const error: unknown = await run(['replica', 'other']).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'gap' });
    expect((error as Error).message).toContain(missing.split('/').at(-1)!);
    expect((error as Error).message).toMatch(/-best-effort restores what is before/);
  });

  it('for a damaged snapshot', async () => {
    const expected = twoReplicas();
    writeFileSync(snapshotPath('replica', 0), 'junk');
    expect((await run(['replica', 'other'])).replica).toBe('replica');
    expect(out().equals(expected)).toBe(true);
  });

  it('as a whole when the first cannot be read', async () => {
    const expected = twoReplicas();
    const { name, store } = await named('replica');
    const get = (key: string): Promise<never> =>
      Promise.reject(new LitestreamError('permission', `read ${key}: not permitted`));
    const unreadable = new Proxy(store, {
      get: (target, property): unknown => {
        const value: unknown = Reflect.get(target, property, target);
        if (property === 'get') return get;
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
    expect((await run([{ name, store: unreadable }, 'other'])).replica).toBe('other');
    expect(out().equals(expected)).toBe(true);
  });
});

it('an earlier snapshot stands in for a damaged one', async () => {
  const source = new RestoreSource(dir);
  for (let index = 0; index < 3; index++) {
    source.commit();
    source.rotate();
    source.snapshot();
  }
  source.commit();
  source.rotate();
  const expected = source.close();
  writeFileSync(snapshotPath('replica', 3), 'junk');
  expect((await run(['replica'])).snapshotIndex).toBe(2);
  expect(out().equals(expected)).toBe(true);
});

it('what retention deletes during a restore is planned anew', async () => {
  const source = new RestoreSource(dir);
  for (let index = 0; index < 4; index++) {
    for (let i = 0; i < 3; i++) source.commit();
    source.rotate();
  }
  const { name, store } = await named('replica');
  let raced = false;
  const racing: ObjectStore = new Proxy(store, {
    get: (target, property): unknown => {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== 'function') return value;
      if (property !== 'get' || raced) return value.bind(target) as unknown;
      return (...args: unknown[]): unknown => {
        if (!raced) {
          raced = true;
          // A snapshot was taken and everything before it deleted, after the listing.
          source.snapshot();
          rmSync(snapshotPath('replica', 0));
          for (const segment of segments()) rmSync(join(folder('replica'), 'wal', segment));
        }
        return (value as (...values: unknown[]) => unknown).apply(target, args);
      };
    },
  });
  const result = await run([{ name, store: racing }]);
  expect(raced).toBe(true);
  expect(result.snapshotIndex).toBe(4);
  expect(out().equals(source.close())).toBe(true);
  expect(lines.join('')).toContain('listing again');
});

describe('a best effort', () => {
  /** Three indexes of three commits each. */
  function chain(): void {
    const source = new RestoreSource(dir);
    for (let index = 0; index < 3; index++) {
      for (let i = 0; i < 3; i++) source.commit();
      source.rotate();
    }
    source.close();
  }

  // As above, nothing tells that the last segment of an index is gone.
  it.each([
    [0, true],
    [1, true],
    [2, false],
    [3, true],
    [4, true],
    [6, true],
    [8, false],
  ])('ends before segment %i, damaged or gone', async (n, missed) => {
    chain();
    const path = segmentPath(n);
    const damages: [string, () => void][] = [['corrupt', () => writeFileSync(path, 'junk')]];
    if (missed) damages.push(['gap', () => rmSync(path)]);
    for (const [code, damage] of damages) {
      damage();
      await expect(run(['replica'])).rejects.toMatchObject({
        code,
        message: expect.stringMatching(/; -best-effort restores what is before /) as string,
      });
      const { loss } = await run(['replica'], { bestEffort: true });
      expect(rowsOf(join(dir, 'out', 'db'))).toBe(n);
      expect(loss).toContain(path.split('/').at(-1)!);
      expect(loss).toMatch(/restored up to .*; lost is everything after it/);
      await fs.rm(join(dir, 'out'), { recursive: true });
    }
  });

  it('leaves nothing out of what is whole', async () => {
    chain();
    expect((await run(['replica'], { bestEffort: true })).loss).toBeUndefined();
    expect(rowsOf(join(dir, 'out', 'db'))).toBe(9);
  });

  it('cannot do without any snapshot', async () => {
    chain();
    writeFileSync(snapshotPath('replica', 0), 'junk');
    await expect(run(['replica'], { bestEffort: true })).rejects.toMatchObject({ code: 'corrupt' });
  });
});
