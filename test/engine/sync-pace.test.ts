import { describe, expect, it } from 'vitest';
import { SyncPace } from '../../src/engine/sync-pace.ts';

const INTERVAL_MS = 1000;

describe('SyncPace', () => {
  it('copies at once after a quiet time', () => {
    const pace = new SyncPace(INTERVAL_MS);
    expect(pace.event(false, 0)).toBe(0);
    pace.copied(true, 1);
    expect(pace.event(false, 3001)).toBe(0);
  });

  it('moves copies apart under steady load, up to a limit', () => {
    const pace = new SyncPace(INTERVAL_MS);
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
    const pace = new SyncPace(INTERVAL_MS);
    for (let i = 0; i < 5; i++) pace.copied(true, 0);
    expect(pace.event(false, 1)).toBe(99);
    expect(pace.event(true, 1)).toBe(9);
  });

  it('looks again after an event until it has done so often enough, and then polls', () => {
    const pace = new SyncPace(INTERVAL_MS);
    expect(pace.isPoll(0)).toBe(true);
    expect(pace.isPoll(1)).toBe(false);
    expect(pace.nextLookMs(0)).toBe(INTERVAL_MS);
    pace.event(false, 0);
    const delays = Array.from({ length: 9 }, () => pace.nextLookMs(0));
    expect(delays).toEqual([1, 2, 4, 8, 16, 32, 64, 128, INTERVAL_MS]);
    pace.pollNext();
    expect(pace.isPoll(2)).toBe(true);
  });

  it('does not look again before it may copy', () => {
    const pace = new SyncPace(INTERVAL_MS);
    pace.isPoll(0);
    pace.event(false, 0);
    pace.copied(true, 0);
    expect(pace.nextLookMs(0)).toBe(20);
  });

  describe('under steady load', () => {
    function steady(): SyncPace {
      const pace = new SyncPace(INTERVAL_MS);
      expect(pace.isPoll(0)).toBe(true);
      for (const nowMs of [0, 20, 60]) {
        pace.copied(true, nowMs);
        expect(pace.isSteady(nowMs)).toBe(false);
      }
      pace.copied(true, 140);
      expect(pace.isSteady(140)).toBe(true);
      return pace;
    }

    it('looks after each gap without any event', () => {
      const pace = steady();
      expect(pace.nextLookMs(140)).toBe(100);
      pace.copied(true, 240);
      expect(pace.nextLookMs(240)).toBe(100);
    });

    it('needs events again after a look that found nothing, and looks for what came without one', () => {
      const pace = steady();
      expect(pace.isSteady(240)).toBe(false);
      expect(pace.nextLookMs(240)).toBe(1);
    });

    it('looks soon while a checkpoint goes on', () => {
      const pace = steady();
      pace.event(true, 150);
      expect(pace.nextLookMs(150)).toBe(10);
    });

    it('needs events while no read mark is held', () => {
      const pace = steady();
      pace.closely = true;
      expect(pace.isSteady(141)).toBe(false);
    });
  });
});
