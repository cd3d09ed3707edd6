/** When a mark is held on a database that we may only read: decisions, on a follower that only notes them. */

import { beforeEach, describe, expect, it, vi } from 'vitest';
import { ReadOnlyMarks, type MarkedFollower } from '../../src/engine/read-only-marks.ts';
import { emptyChain, type WalChain } from '../../src/engine/shadow-wal.ts';
import type { WalHeader } from '../../src/sqlite/wal.ts';
import type { CopyOutcome } from '../../src/engine/wal-follower.ts';

const LONG_FRAMES = 100;
const FRAME_SIZE = 4096 + 24;
const HEADER = { pageSizeBytes: 4096, salt1: 1, salt2: 2 } as WalHeader;

class Noted implements MarkedFollower {
  readonly calls: string[] = [];
  frames = 1;
  holding = true;
  resting = false;
  news = false;
  /** What the WAL is once it was looked at so many times without a mark. */
  overAfterLooks = Infinity;
  looks = 0;

  get chain(): WalChain {
    return { ...emptyChain(0), header: HEADER, offset: 32 + this.frames * FRAME_SIZE };
  }

  letGo(): void {
    this.calls.push('let go');
    this.holding = false;
    this.resting = false;
  }

  hasNews(): boolean {
    return this.news;
  }

  walIsOver(): boolean {
    return ++this.looks > this.overAfterLooks;
  }

  sync(): Promise<CopyOutcome> {
    this.calls.push('sync');
    this.holding = true;
    this.resting = this.looks > this.overAfterLooks;
    return Promise.resolve({ kind: 'ok', copiedBytes: 10 });
  }

  syncFreely(): Promise<CopyOutcome> {
    this.calls.push('sync freely');
    return Promise.resolve({ kind: 'ok', copiedBytes: 10 });
  }
}

let follower: Noted;
let marks: ReadOnlyMarks;
let nowMs: number;

beforeEach(() => {
  follower = new Noted();
  marks = new ReadOnlyMarks(LONG_FRAMES);
  nowMs = 1000;
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
  vi.spyOn(Atomics, 'wait').mockImplementation((_array, _index, _value, ms = 0) => {
    nowMs += ms;
    return 'timed-out';
  });
  return () => vi.restoreAllMocks();
});

describe('a short WAL', () => {
  it('has a mark while commits come, and none when none came for a moment', async () => {
    await marks.sync(follower);
    expect(marks.relax(follower)).toBeCloseTo(20, 0);
    expect(follower.calls).toEqual(['sync']);
    nowMs += 25;
    expect(marks.relax(follower)).toBe(undefined);
    expect(follower.calls).toEqual(['sync', 'let go']);
  });

  it('keeps its mark as long as there is something to copy', async () => {
    await marks.sync(follower);
    nowMs += 25;
    follower.news = true;
    expect(marks.relax(follower)).toBe(undefined);
    expect(follower.holding).toBe(true);
  });

  it("keeps a mark that is in nobody's way", () => {
    follower.resting = true;
    expect(marks.relax(follower)).toBe(undefined);
    expect(follower.calls).toEqual([]);
  });
});

describe('a long WAL', () => {
  beforeEach(async () => {
    await marks.sync(follower);
    follower.calls.length = 0;
    follower.frames = LONG_FRAMES;
  });

  it('is given a window after each copy, which ends with a mark', async () => {
    expect(await marks.sync(follower)).toEqual({ kind: 'ok', copiedBytes: 20 });
    expect(follower.calls).toEqual(['sync', 'let go', 'sync']);
    expect(follower.holding).toBe(true);
    expect(follower.looks).toBeGreaterThan(2);
    expect(marks.relax(follower)).toBeGreaterThan(0);
    expect(follower.holding).toBe(true);
  });

  it("ends the window as soon as the checkpoint is finished, with a mark that is in nobody's way", async () => {
    follower.overAfterLooks = 3;
    await marks.sync(follower);
    expect(follower.looks).toBe(4);
    expect(follower.resting).toBe(true);
    expect(marks.relax(follower)).toBe(undefined);
    expect(follower.holding).toBe(true);
  });

  it('has no mark, and is watched, when windows were in vain; the next WAL has windows again', async () => {
    for (let window = 0; window < 8; window++) await marks.sync(follower);
    expect(marks.relax(follower)).toBe(2);
    expect(follower.holding).toBe(false);
    follower.calls.length = 0;
    await marks.sync(follower);
    expect(follower.calls).toEqual(['sync freely']);
    follower.frames = 1;
    await marks.sync(follower);
    follower.frames = LONG_FRAMES;
    follower.calls.length = 0;
    await marks.sync(follower);
    expect(follower.calls).toEqual(['sync', 'let go', 'sync']);
  });

  it('has no mark in a pause, in which its application comes first', async () => {
    await marks.sync(follower);
    nowMs += 25;
    expect(marks.relax(follower)).toBe(2);
    expect(follower.holding).toBe(false);
    follower.calls.length = 0;
    nowMs += 100;
    await marks.sync(follower);
    expect(follower.calls).toEqual(['sync freely']);
    nowMs += 2000;
    expect(marks.relax(follower)).toBe(undefined);
  });
});
