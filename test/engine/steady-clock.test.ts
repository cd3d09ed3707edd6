import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { CommitLog } from '../../src/engine/commit-log.ts';
import { SteadyClock } from '../../src/engine/steady-clock.ts';

const START_MS = 1_700_000_000_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** A machine whose clocks can be moved. */
const machine = { wall: START_MS, monotonic: 5000, uptime: 900_000 };
let clock: SteadyClock;

function pass(ms: number): void {
  machine.wall += ms;
  machine.monotonic += ms;
  machine.uptime += ms;
}

beforeEach(() => {
  Object.assign(machine, { wall: START_MS, monotonic: 5000, uptime: 900_000 });
  clock = new SteadyClock({
    wall: () => machine.wall,
    monotonic: () => machine.monotonic,
    uptime: () => machine.uptime,
  });
});

describe('the time', () => {
  it('is that of the wall clock, small corrections included', () => {
    for (const correction of [0, 250, -4 * MINUTE, 4 * MINUTE, -1]) {
      pass(1000);
      machine.wall += correction;
      expect(clock.now()).toBe(machine.wall);
    }
    expect(clock.stepCount).toBe(0);
  });

  it('goes on as before while the clock is ahead for a moment', () => {
    machine.wall += 1e11;
    pass(1000);
    expect(clock.now()).toBe(START_MS + 1000);
    pass(30_000);
    expect(clock.now()).toBe(START_MS + 31_000);
    machine.wall -= 1e11;
    pass(1000);
    expect(clock.now()).toBe(machine.wall);
    // Each moment has its own minute.
    machine.wall += 1e11;
    pass(59_000);
    expect(clock.now()).toBe(START_MS + 91_000);
    expect(clock.stepCount).toBe(0);
  });

  it('is set forward when it stays so, and back at once', () => {
    machine.wall += HOUR;
    clock.now();
    pass(MINUTE);
    expect(clock.now()).toBe(machine.wall);
    expect([clock.stepCount, clock.stepMs]).toEqual([1, HOUR]);
    machine.wall -= 2 * HOUR;
    expect(clock.now()).toBe(machine.wall);
    expect([clock.stepCount, clock.stepMs]).toEqual([2, -2 * HOUR]);
  });

  it('goes on after a sleep, which is no step', () => {
    for (let i = 0; i < 3; i++) {
      machine.wall += 8 * HOUR;
      machine.uptime += 8 * HOUR;
      pass(1000);
      expect(clock.now()).toBe(machine.wall);
    }
    expect(clock.stepCount).toBe(0);
    // A sleep does not hide a step.
    machine.wall += 8 * HOUR - HOUR;
    machine.uptime += 8 * HOUR;
    clock.now();
    pass(MINUTE);
    clock.now();
    expect(clock.stepCount).toBe(1);
  });

  it('is not mistaken for a step when this process stands still between two looks', () => {
    let stops = 1;
    clock = new SteadyClock({
      wall: () => {
        const { wall } = machine;
        if (stops-- > 0) pass(HOUR);
        return wall;
      },
      monotonic: () => machine.monotonic,
      uptime: () => machine.uptime,
    });
    stops = 1;
    expect(clock.now()).toBe(machine.wall);
    expect(clock.stepCount).toBe(0);
  });
});

describe('times of commits that are ahead of the clock', () => {
  it('are waited for, and then given up', () => {
    const directory = mkdtempSync(join(tmpdir(), 'steady-'));
    const monotonic = vi.spyOn(performance, 'now').mockImplementation(() => machine.monotonic);
    try {
      const log = new CommitLog(directory, () => machine.wall, START_MS + HOUR);
      log.note(0, 100);
      expect(log.latestMs).toBe(START_MS + HOUR);
      expect(log.clockDoubt()).toMatchObject({ isSettled: false });
      pass(59_000);
      expect(log.clockDoubt()).toMatchObject({ isSettled: false });
      pass(1000);
      expect(log.clockDoubt()).toMatchObject({ isSettled: true });
      // The network has told the time.
      machine.wall += HOUR;
      expect(log.clockDoubt()).toBeUndefined();
      machine.wall -= HOUR;
      expect(log.clockDoubt()).toMatchObject({ isSettled: false });
      // Small differences are held.
      machine.wall = START_MS + HOUR - 4 * MINUTE;
      expect(log.clockDoubt()).toBeUndefined();
      log.close();
    } finally {
      monotonic.mockRestore();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
