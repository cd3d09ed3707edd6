/**
 * A month of a busy database with each of the settings that the guides give Rails' four databases, on a fake clock,
 * minute by minute: every moment of the window can be restored at all times, and the replica does not grow for ever.
 *
 * What a moment restores to depends on objects that are not younger than it, so only a deletion can take it away: the
 * whole window is checked after each pass of retention, and the newest moment at every minute.
 */

import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { SegmentInfo, SnapshotInfo } from '../../src/engine/catalog.ts';
import { planRetention } from '../../src/engine/retention.ts';
import { Simulation, name } from './retention-simulation.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const GRACE = 5 * MINUTE;
const MONTH_MINUTES = 30 * 24 * 60;

const SETTINGS = [
  { database: 'primary', snapshotIntervalMs: 1 * HOUR, retentionMs: 720 * HOUR },
  { database: 'cache', snapshotIntervalMs: 6 * HOUR, retentionMs: 24 * HOUR },
  { database: 'queue', snapshotIntervalMs: 1 * HOUR, retentionMs: 72 * HOUR },
  { database: 'cable', snapshotIntervalMs: 6 * HOUR, retentionMs: 24 * HOUR },
] as const;

/** One generation while its objects come by in the order in which they were written. */
class Replay {
  /** By index: how far its segments reach without a hole, from offset 0. */
  readonly #ends: number[] = [];
  #base: number | undefined;
  #broken = false;

  readonly #generation: string;

  constructor(generation: string) {
    this.#generation = generation;
  }

  add(object: SnapshotInfo | SegmentInfo): void {
    const { index } = object;
    const end = this.#ends[index] ?? 0;
    if ('offset' in object) {
      if (object.offset === end) this.#ends[index] = end + 1;
      else if (this.#base !== undefined && index >= this.#base) this.#broken = true;
      // Not 0 nor a number that ever comes next: the beginning of this index is gone.
      else this.#ends[index] = NaN;
      if (this.#base !== undefined && index > this.#base && !(this.#ends[index - 1] ?? 0))
        this.#broken = true;
      return;
    }
    this.#base = index;
    this.#broken = Number.isNaN(end);
  }

  get state(): string | undefined {
    if (this.#base === undefined) return undefined;
    if (this.#broken) return 'hole';
    const last = Math.max(this.#base, this.#ends.length - 1);
    return `${this.#generation}/${last}:${this.#ends[last] ?? 0}`;
  }
}

/** What a restore gives at every moment at which the history changed, from the objects that are there. */
function expectWindow({ snapshots, segments, truth }: Simulation, startMs: number): void {
  const objects = [...segments, ...snapshots].sort((a, b) => a.createdAt.getTime() - b.createdAt.getTime());
  let at = 0;
  let newest: Replay | undefined;
  const replays = new Map<string, Replay>();
  for (const [i, { ms, state }] of truth.entries()) {
    for (; at < objects.length && (objects[at]?.createdAt.getTime() ?? 0) <= ms; at++) {
      const object = objects[at];
      if (!object) break;
      let replay = replays.get(object.generation);
      if (!replay) replays.set(object.generation, (replay = new Replay(object.generation)));
      replay.add(object);
      if (replay.state !== undefined) newest = replay;
    }
    // The moment lasts until the next one, which may lie inside the window when this one does not.
    const endsMs = truth[i + 1]?.ms ?? Infinity;
    if (endsMs > startMs && newest?.state !== state) expect(newest?.state, `restore to ${ms}`).toBe(state);
  }
}

it.each(SETTINGS)('keeps the window of $database over a month, and no more than that', (settings) => {
  const { retentionMs, snapshotIntervalMs } = settings;
  fc.assert(
    fc.property(fc.infiniteStream(fc.nat(999)), (random) => {
      const draw = (): number => random.next().value as number;
      const simulation = new Simulation();
      let mostSnapshots = 0;
      for (let minute = 0; minute < MONTH_MINUTES; minute++) {
        simulation.now = minute * MINUTE;
        const busy = Math.floor(minute / 60) % 24 >= 8;
        // New generations are rare: once in about ten days.
        if (minute > 0 && draw() === 0 && draw() < 70) simulation.restart();
        if (draw() < (busy ? 500 : 50)) simulation.commit();
        simulation.now++;
        if (draw() < 30) simulation.rotate();
        simulation.now++;
        if (minute === 0 || draw() < 950) simulation.snapshot(settings);
        if (minute % 60 !== 59) continue;
        const startMs = simulation.now - retentionMs - GRACE;
        const { deletions } = planRetention({
          snapshots: simulation.snapshots,
          segments: simulation.segments,
          now: simulation.now,
          retentionMs,
          currentGeneration: name(simulation.generation),
          graceMs: GRACE,
        });
        if (deletions.length > 0) simulation.delete(deletions);
        simulation.forget(startMs);
        if (deletions.length > 0 || minute % (24 * 60) === 59) expectWindow(simulation, startMs);
        mostSnapshots = Math.max(mostSnapshots, simulation.snapshots.length);
      }
      // One an interval; two more for the one before the window and the one that is being replaced, three a generation.
      const most = retentionMs / snapshotIntervalMs + 3 * (simulation.generation + 1);
      expect(mostSnapshots).toBeLessThanOrEqual(most);
      expect(mostSnapshots).toBeGreaterThan(2);
    }),
    { numRuns: 1 },
  );
});
