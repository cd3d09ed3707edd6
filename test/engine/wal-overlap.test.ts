/** Segments that begin before the end of the one before them, as v0.3.13 writes them at times. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { restore } from '../../src/engine/restore.ts';
import { encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { openStore } from '../../src/storage/registry.ts';
import { oracle } from '../support/oracle.ts';
import { recordingLogger } from './replica-rig.ts';

const G = '00000000000000aa';
const FRAME_SIZE = 24 + 512;

let dir: string;
let wal: Buffer;
/** Ends of the commits in the WAL. */
let ends: number[];
let expected: Buffer;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'overlap-'));
  const path = join(dir, 'db');
  const database = new Database(path);
  for (const pragma of ['page_size=512', 'journal_mode=wal', 'wal_autocheckpoint=0']) database.pragma(pragma);
  database.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, b BLOB)');
  database.pragma('wal_checkpoint(TRUNCATE)');
  write(snapshotKey(G, 0), readFileSync(path));
  ends = [];
  for (let i = 0; i < 6; i++) {
    database.exec('INSERT INTO t (b) VALUES (randomblob(700))');
    ends.push(readFileSync(`${path}-wal`).byteLength);
  }
  wal = readFileSync(`${path}-wal`);
  database.close();
  expected = readFileSync(path);
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

function write(key: string, data: Uint8Array): void {
  const path = join(dir, 'replica', key);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, encodeLz4FrameBytes(data));
}

function put(start: number, end: number, change?: (data: Buffer) => void): string {
  const data = Buffer.from(wal.subarray(start, end));
  change?.(data);
  const key = segmentKey(G, 0, start);
  write(key, data);
  return key;
}

async function restored(): Promise<Buffer> {
  const store = await openStore({ type: 'file', path: join(dir, 'replica') });
  const replicas = [{ name: 'file', store }];
  const outputPath = join(dir, 'out');
  await restore({ replicas, outputPath, parallelism: 2, logger: recordingLogger([]) });
  return readFileSync(outputPath);
}

const overlaps = (key: string) => ({
  code: 'corrupt',
  message: expect.stringMatching(new RegExp(`${key}: segment overlaps the one before it`)) as string,
});

describe('a segment that repeats the end of the one before it', () => {
  it('is accepted where it is the same; v0.3.13 restores an earlier state in silence', async () => {
    put(0, ends[3]!);
    put(ends[1]!, ends[4]!);
    put(ends[4]!, ends[5]!);
    expect((await restored()).equals(expected)).toBe(true);
    const path = join(dir, 'oracle');
    execFileSync(oracle(), ['restore', '-o', path, `file://${join(dir, 'replica')}`], { stdio: 'pipe' });
    expect(readFileSync(path).equals(expected)).toBe(false);
  });

  it.each([
    ['and adds nothing', 1, 3],
    ['of one frame', 2, 5],
  ])('is accepted %s', async (_, from, to) => {
    put(0, ends[3]!);
    const start = from === 2 ? ends[3]! - FRAME_SIZE : ends[from]!;
    put(start, ends[to]!);
    if (to < 5) put(ends[to]!, ends[5]!);
    expect((await restored()).equals(expected)).toBe(true);
  });

  it('is refused with any bit of what it repeats changed', async () => {
    put(0, ends[3]!);
    put(ends[4]!, ends[5]!);
    const repeated = ends[3]! - ends[1]!;
    for (let at = 0; at < repeated; at += 37) {
      // What the first frame continues is not told: its own bytes are proven by nothing, and are not used.
      if (at < FRAME_SIZE && (at < 8 || at >= 24)) continue;
      const key = put(ends[1]!, ends[4]!, (data) => (data[at]! ^= 1 << (at % 8)));
      await expect(restored(), `byte ${at}`).rejects.toMatchObject(overlaps(key));
    }
  });

  it('is refused with a changed frame behind that', async () => {
    put(0, ends[3]!);
    const key = put(ends[1]!, ends[5]!, (data) => (data[ends[3]! - ends[1]! + 100]! ^= 1));
    await expect(restored()).rejects.toMatchObject({
      code: 'corrupt',
      message: expect.stringContaining(key) as string,
    });
  });

  it('is left out where others hold all of it, also when it begins inside a frame', async () => {
    const inside = put(ends[1]!, ends[2]!);
    put(0, ends[3]!);
    put(ends[3]!, ends[5]!);
    expect((await restored()).equals(expected)).toBe(true);
    rmSync(join(dir, 'replica', inside));
    rmSync(join(dir, 'out'));
    const crooked = put(ends[2]! + 8, ends[4]!);
    // Others were stored after it: it is not what comes last.
    utimesSync(join(dir, 'replica', crooked), 1, 1);
    expect((await restored()).equals(expected)).toBe(true);
  });

  it('is refused when it begins inside a frame and is needed', async () => {
    put(0, ends[3]!);
    const crooked = put(ends[2]! + 8, ends[5]!);
    await expect(restored()).rejects.toMatchObject(overlaps(crooked));
  });
});
