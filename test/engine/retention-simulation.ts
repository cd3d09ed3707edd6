/** A replica over months as far as its listings show it, with what a restore to each moment must give. */

import { expect } from 'vitest';
import type { SegmentInfo, SnapshotInfo } from '../../src/engine/catalog.ts';
import { snapshotAddsTo, snapshotDueAtMs } from '../../src/engine/snapshot.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';

/** The generation of that number. */
export const name = (number: number): string => number.toString(16).padStart(16, '0');

export function snapshot(generation: number, index: number, ms: number): SnapshotInfo {
  const key = snapshotKey(name(generation), index);
  return { key, generation: name(generation), index, sizeBytes: 1, createdAt: new Date(ms) };
}

/** A segment of one byte at `offset`. */
export function segment(generation: number, index: number, offset: number, ms: number): SegmentInfo {
  const key = segmentKey(name(generation), index, offset);
  return { key, generation: name(generation), index, offset, sizeBytes: 1, createdAt: new Date(ms) };
}

export interface Objects {
  readonly snapshots: readonly SnapshotInfo[];
  readonly segments: readonly SegmentInfo[];
}

/** The state that a restore to `ms` gives, in words; a hole gives 'hole'. */
function restoreAt({ snapshots, segments }: Objects, ms: number): string | undefined {
  const then = <T extends SnapshotInfo | SegmentInfo>(objects: readonly T[]): T[] =>
    objects.filter(({ createdAt }) => createdAt.getTime() <= ms);
  const bases = then(snapshots);
  const restorable = new Set(bases.map(({ generation }) => generation));
  const newest = [...bases, ...then(segments)]
    .filter(({ generation }) => restorable.has(generation))
    .reduce<SnapshotInfo | undefined>((a, b) => (a && a.createdAt > b.createdAt ? a : b), undefined);
  if (!newest) return undefined;
  const { generation } = newest;
  const base = bases
    .filter((one) => one.generation === generation)
    .reduce((a, b) => (a.index > b.index ? a : b));
  let place = { index: base.index, offset: 0 };
  for (const one of then(segments).filter((s) => s.generation === generation && s.index >= base.index)) {
    if (one.index === place.index + 1 && one.offset === 0) place = { index: one.index, offset: 0 };
    if (one.index !== place.index || one.offset !== place.offset) return 'hole';
    place = { index: one.index, offset: one.offset + 1 };
  }
  return `${generation}/${place.index}:${place.offset}`;
}

/** A replica over months: commits, rotations, snapshots when due, new generations, retention. */
export class Simulation {
  now = 0;
  snapshots: SnapshotInfo[] = [];
  segments: SegmentInfo[] = [];
  /** What a restore to a moment must give, from that moment on, in order. */
  truth: { ms: number; state: string }[] = [];
  generation = 0;
  #index = 0;
  #offset = 0;
  #hasSnapshot = false;

  #record(): void {
    if (!this.#hasSnapshot) return;
    this.truth.push({ ms: this.now, state: `${name(this.generation)}/${this.#index}:${this.#offset}` });
  }

  commit(): void {
    this.segments.push(segment(this.generation, this.#index, this.#offset++, this.now));
    this.#record();
  }

  rotate(): void {
    if (this.#offset === 0) return;
    this.#index++;
    this.#offset = 0;
    // The empty index shows nowhere until its first commit.
    this.now++;
    this.commit();
  }

  restart(): void {
    this.generation++;
    this.#index = this.#offset = 0;
    this.#hasSnapshot = false;
  }

  snapshot(options: { snapshotIntervalMs: number; retentionMs: number }): void {
    const newest = this.#hasSnapshot ? this.snapshots.at(-1) : undefined;
    const position = { generation: name(this.generation), index: this.#index, offset: this.#offset };
    if (newest && (snapshotDueAtMs(newest, options) > this.now || !snapshotAddsTo(newest, position))) return;
    this.snapshots.push(snapshot(this.generation, this.#index, this.now));
    this.#hasSnapshot = true;
    this.#record();
  }

  delete(keys: readonly string[]): void {
    const gone = new Set(keys);
    this.snapshots = this.snapshots.filter(({ key }) => !gone.has(key));
    this.segments = this.segments.filter(({ key }) => !gone.has(key));
  }

  /** Drops what was before a moment: nobody restores to it any more. */
  forget(ms: number): void {
    const first = this.truth.findLastIndex((one) => one.ms <= ms);
    if (first > 0) this.truth = this.truth.slice(first);
  }

  expectRestorable(fromMs: number): void {
    const window = this.truth.filter(({ ms }) => ms > fromMs);
    const first = this.truth.findLast(({ ms }) => ms <= fromMs);
    for (const { ms, state } of first ? [{ ms: fromMs, state: first.state }, ...window] : window) {
      expect(restoreAt(this, ms), `restore to ${ms} at ${this.now}`).toBe(state);
    }
  }
}
