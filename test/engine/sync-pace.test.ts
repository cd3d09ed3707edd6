import { describe, expect, it } from 'vitest';
import { SyncPace } from '../../src/engine/sync-pace.ts';

describe('SyncPace', () => {
  it('copies at once after a quiet time', () => {
    const pace = new SyncPace();
    expect(pace.event(false, 0)).toBe(0);
    pace.copied(true, 1);
    expect(pace.event(false, 3001)).toBe(0);
  });

  it('moves copies apart under steady load, up to a limit', () => {
    const pace = new SyncPace();
    let nowMs = 0;
    const gaps = Array.from({ length: 6 }, () => {
      pace.copied(true, nowMs);
      const waitMs = pace.event(false, nowMs);
      nowMs += waitMs;
      return waitMs;
    });
    expect(gaps).toEqual([20, 40, 80, 100, 100, 100]);
  });

  it('is quick again when a checkpoint touches the database file', () => {
    const pace = new SyncPace();
    for (let i = 0; i < 5; i++) pace.copied(true, 0);
    expect(pace.event(false, 1)).toBe(99);
    expect(pace.event(true, 1)).toBe(9);
  });

  it('looks again after an event until it has done so often enough', () => {
    const pace = new SyncPace();
    expect(pace.nextLookMs(0)).toBeUndefined();
    pace.event(false, 0);
    const delays = Array.from({ length: 9 }, () => pace.nextLookMs(0));
    expect(delays).toEqual([1, 2, 4, 8, 16, 32, 64, 128, undefined]);
  });

  it('does not look again before it may copy', () => {
    const pace = new SyncPace();
    pace.event(false, 0);
    pace.copied(true, 0);
    expect(pace.nextLookMs(0)).toBe(20);
  });
});
