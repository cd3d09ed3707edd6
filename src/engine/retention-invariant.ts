/**
 * What must be true of any deletion from a replica, whoever planned it: nothing goes that is younger than the window's
 * start, and nothing that a moment of the window is restored from. Pure, and written without the planner's rules.
 */

import { greatestOf } from '../base/extremes.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';

export interface Deletion {
  /** Of all generations of the replica. */
  readonly snapshots: readonly SnapshotInfo[];
  readonly segments: readonly SegmentInfo[];
  /** The first moment of the window, in epoch milliseconds. */
  readonly startMs: number;
  /** Keys of the snapshots that are known to be what they say. */
  readonly proven: ReadonlySet<string>;
  /** Keys of what is to be deleted. */
  readonly doomed: ReadonlySet<string>;
}

type StoredObject = SnapshotInfo | SegmentInfo;

/** Why the deletion must not be done, naming the object that it would be wrong of; undefined when it may. */
export function findBreach(deletion: Deletion): string | undefined {
  const { snapshots, segments, startMs, doomed } = deletion;
  const pillars = snapshots.filter(
    ({ key, createdAt }) => deletion.proven.has(key) && !doomed.has(key) && createdAt.getTime() <= startMs,
  );
  const newestMs = new Map<string, number>();
  for (const { generation, createdAt } of eachOf(snapshots, segments)) {
    newestMs.set(generation, Math.max(newestMs.get(generation) ?? -Infinity, createdAt.getTime()));
  }
  const newestPillarMs = greatestOf(pillars.map(({ createdAt }) => createdAt.getTime()));
  const ownPillars = new Map<string, SnapshotInfo>();
  for (const pillar of pillars) {
    const other = ownPillars.get(pillar.generation);
    if (!other || other.index < pillar.index) ownPillars.set(pillar.generation, pillar);
  }
  for (const { key, generation, index, createdAt } of eachOf(snapshots, segments)) {
    if (!doomed.has(key)) continue;
    if (createdAt.getTime() > startMs) return `${key} is of ${createdAt.toISOString()}, within the window`;
    const own = ownPillars.get(generation);
    if (own && index < own.index) continue;
    if (own) return `${key} is needed to restore from ${own.key}`;
    const endMs = newestMs.get(generation) ?? Infinity;
    if (endMs > startMs || endMs > newestPillarMs)
      return `no other snapshot is proven to hold what ${key} is needed for`;
  }
  return undefined;
}

function* eachOf(
  snapshots: readonly StoredObject[],
  segments: readonly StoredObject[],
): Generator<StoredObject> {
  yield* snapshots;
  yield* segments;
}
