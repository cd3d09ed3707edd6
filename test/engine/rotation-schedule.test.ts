import { describe, expect, it } from 'vitest';
import { RotationSchedule } from '../../src/engine/rotation-schedule.ts';

const thresholds = {
  monitorIntervalMs: 1000,
  checkpointIntervalMs: 60_000,
  minCheckpointPageCount: 1000,
  maxCheckpointPageCount: 10_000,
};
const wal = (frames: number, salt1 = 1) => ({ salt1, salt2: 2, frames });

describe('RotationSchedule', () => {
  it('is due from min-checkpoint-page-count on', () => {
    const schedule = new RotationSchedule(thresholds, 0);
    expect(schedule.isDue(wal(999), 10)).toBe(false);
    expect(schedule.isDue(wal(1000), 10)).toBe(true);
  });

  it('is due after checkpoint-interval, counted from the start of the WAL', () => {
    const schedule = new RotationSchedule(thresholds, 0);
    expect(schedule.isDue(wal(1), 50_000)).toBe(false);
    expect(schedule.isDue(wal(1), 109_999)).toBe(false);
    expect(schedule.isDue(wal(1), 110_000)).toBe(true);
    expect(schedule.isDue(wal(1, 9), 110_001)).toBe(false);
  });

  it('never rotates twice for the same WAL and length', () => {
    const schedule = new RotationSchedule(thresholds, 0);
    expect(schedule.isDue(wal(2000), 10)).toBe(true);
    schedule.rotated(wal(2000), 10);
    expect(schedule.isDue(wal(2000), 1_000_000)).toBe(false);
    expect(schedule.isDue(wal(2001), 1_000_000)).toBe(true);
    expect(schedule.isDue(wal(2000, 9), 1_000_000)).toBe(true);
  });

  it('never is due for an empty WAL', () => {
    expect(new RotationSchedule(thresholds, 0).isDue(wal(0), 1e9)).toBe(false);
  });

  it('waits for monitor-interval after a rotation, less above max-checkpoint-page-count', () => {
    const schedule = new RotationSchedule(thresholds, 0);
    schedule.rotated(wal(2000), 0);
    expect(schedule.isDue(wal(3000, 9), 999)).toBe(false);
    expect(schedule.isDue(wal(3000, 9), 1000)).toBe(true);
    schedule.rotated(wal(20_000), 2000);
    expect(schedule.isDue(wal(3000, 8), 2100)).toBe(true);
  });

  it('backs off after failures up to a limit that is lower above max-checkpoint-page-count', () => {
    const latest = (frames: number) => {
      const schedule = new RotationSchedule(thresholds, 0, () => 0.999);
      for (let i = 0; i < 20; i++) schedule.failed(wal(frames), 0);
      let nowMs = 0;
      while (!schedule.isDue(wal(frames), nowMs)) nowMs += 10;
      return nowMs;
    };
    expect(latest(5000)).toBe(9990);
    expect(latest(20_000)).toBe(1000);
  });
});
