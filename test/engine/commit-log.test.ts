import {
  existsSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CommitLog } from '../../src/engine/commit-log.ts';

let dir: string;
let now: number;
let log: CommitLog;
const open = (): CommitLog => new CommitLog(dir, () => now);
const file = (index: number): string => join(dir, 'times', index.toString(16).padStart(8, '0'));
/** Commits of index 0 that end at 100, 200, …, each 10 ms after the one before. */
const note = (count: number): void => {
  for (let i = 1; i <= count; i++) {
    now += 10;
    log.note(0, i * 100);
  }
};

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'commit-log-'));
  now = 1_700_000_000_000;
  log = open();
});
afterEach(() => {
  log.close();
  rmSync(dir, { recursive: true, force: true });
});

describe('times of commits', () => {
  it('are those of a range, the last of them at its end', async () => {
    note(5);
    const start = now - 50;
    expect(await log.read(0, 0, 500)).toEqual(
      [1, 2, 3, 4, 5].map((i) => ({ offset: i * 100, timeMs: start + i * 10 })),
    );
    expect(await log.read(0, 200, 400)).toEqual([
      { offset: 300, timeMs: start + 30 },
      { offset: 400, timeMs: start + 40 },
    ]);
    // Cut within what was copied at once.
    expect(await log.read(0, 200, 350)).toEqual([
      { offset: 300, timeMs: start + 30 },
      { offset: 350, timeMs: start + 40 },
    ]);
  });

  it('are found in a long log', async () => {
    note(10_000);
    const start = now - 100_000;
    expect(await log.read(0, 100, 150)).toEqual([{ offset: 150, timeMs: start + 20 }]);
    const many = await log.read(0, 123_400, 987_600);
    expect(many).toHaveLength(8642);
    expect(many[0]).toEqual({ offset: 123_500, timeMs: start + 12_350 });
    expect(many.at(-1)).toEqual({ offset: 987_600, timeMs: start + 98_760 });
  });

  it('never decrease, also when the clock is set back, and equal ones are one entry', async () => {
    note(1);
    const first = now;
    now -= 3_600_000;
    log.note(0, 200);
    log.note(0, 300);
    now = first + 7;
    log.note(0, 400);
    log.note(1, 50);
    expect(await log.read(0, 0, 400)).toEqual([
      { offset: 300, timeMs: first },
      { offset: 400, timeMs: first + 7 },
    ]);
    expect(await log.read(1, 0, 50)).toEqual([{ offset: 50, timeMs: first + 7 }]);
  });

  it('are the present time where nothing is known', async () => {
    note(2);
    rmSync(join(dir, 'times'), { recursive: true });
    now += 500;
    expect(await log.read(0, 0, 200)).toEqual([{ offset: 200, timeMs: now }]);
    expect(await log.read(7, 0, 200)).toEqual([{ offset: 200, timeMs: now }]);
  });

  it('are not worth an error', async () => {
    writeFileSync(join(dir, 'times'), 'a file where the folder should be');
    note(2);
    expect(await log.read(0, 0, 200)).toEqual([{ offset: 200, timeMs: now }]);
  });
});

describe('a new process', () => {
  it('goes on where the last one ended, clock set back or not', async () => {
    note(3);
    const last = now;
    log.close();
    now -= 5000;
    log = open();
    await log.recover(0, 300, last);
    log.note(0, 400);
    expect(await log.read(0, 0, 400)).toEqual([
      { offset: 100, timeMs: last - 20 },
      { offset: 200, timeMs: last - 10 },
      { offset: 400, timeMs: last },
    ]);
  });

  it('takes the time of copying for what was not noted', async () => {
    note(2);
    const last = now;
    log.close();
    now += 9000;
    log = open();
    await log.recover(0, 500, last + 1234);
    await log.recover(1, 900, last + 3000);
    expect(await log.read(0, 100, 500)).toEqual([
      { offset: 200, timeMs: last },
      { offset: 500, timeMs: last + 1234 },
    ]);
    expect(await log.read(1, 0, 900)).toEqual([{ offset: 900, timeMs: last + 3000 }]);
    expect(log.now()).toBe(now);
  });

  it('forgets what the shadow WAL lost, and what was torn', async () => {
    note(10_000);
    const start = now - 100_000;
    log.close();
    truncateSync(file(0), 9000 * 16 + 7);
    const data = readFileSync(file(0));
    data[8000 * 16 + 3]! ^= 1;
    writeFileSync(file(0), data);
    log = open();
    await log.recover(0, 850_000, now);
    expect(await log.read(0, 799_900, 850_000)).toEqual([
      { offset: 800_000, timeMs: start + 80_000 },
      { offset: 850_000, timeMs: now },
    ]);
    log.close();
    log = open();
    await log.recover(0, 300, now);
    expect(await log.read(0, 0, 300)).toHaveLength(3);
    expect(readFileSync(file(0)).byteLength).toBeGreaterThanOrEqual(3 * 16);
    log.note(0, 400);
    expect((await log.read(0, 300, 400))[0]?.offset).toBe(400);
  });
});

it('is removed with the shadow WAL', async () => {
  for (const index of [0, 1, 2, 255, 256]) log.note(index, 100);
  await log.prune(255);
  expect(readdirSync(join(dir, 'times')).sort()).toEqual(['000000ff', '00000100']);
  rmSync(join(dir, 'times'), { recursive: true });
  await log.prune(300);
  expect(existsSync(join(dir, 'times'))).toBe(false);
});
