/**
 * Objects that only have names of a generation: beyond a gap they are empty, or far from all others and none of them says
 * that it belongs there. A restore of what is connected must not fail because somebody put them there. What belongs to the
 * generation is never among them: then something is missing before it, and that has to be told.
 */

import { hasCode, messageOf } from '../base/errors.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import { examineSnapshot } from './snapshot-proof.ts';
import { readSegmentTrailer } from './trailer-reader.ts';

/** Each costs a request or two. */
const MAX_RUNS = 16;
/** What is damaged may belong to the generation all the same, unless more than this is missing before it. */
const MAX_LOST_INDEXES = 1000;

/** What is left out, and why. */
export interface Stray {
  readonly generation: string;
  /** The first object. */
  readonly key: string;
  readonly reason: string;
}

interface Listing {
  readonly generation: string;
  /** By index. */
  readonly snapshots: readonly SnapshotInfo[];
  /** By index and offset. */
  readonly segments: readonly SegmentInfo[];
}

/**
 * What of a generation may belong to it. Nothing is read where no index is missing.
 * @throws LitestreamError what the store throws
 */
export async function withoutStrays<T extends Listing>(
  store: ObjectStore,
  listing: T,
  options: CallOptions,
): Promise<T & { readonly strays: readonly Stray[] }> {
  const { generation } = listing;
  let { snapshots, segments } = listing;
  const strays: Stray[] = [];
  for (let runs = 0; runs < MAX_RUNS; runs++) {
    const last = lastRunOf(snapshots, segments);
    if (last === undefined) break;
    const isOfRun = ({ index }: SnapshotInfo | SegmentInfo): boolean => index >= last.from;
    const run = { snapshots: snapshots.filter(isOfRun), segments: segments.filter(isOfRun) };
    const reason = isEmpty(run)
      ? 'it is empty'
      : last.missing > MAX_LOST_INDEXES
        ? await whyStray(store, run, segments, options)
        : undefined;
    if (reason === undefined) break;
    const [first] = [...run.snapshots, ...run.segments];
    const place = `it stands alone, ${last.missing} indexes behind the others`;
    if (first) strays.push({ generation, key: first.key, reason: `${place}: ${reason}` });
    snapshots = snapshots.filter((snapshot) => !isOfRun(snapshot));
    segments = segments.filter((segment) => !isOfRun(segment));
  }
  return { ...listing, snapshots, segments, strays };
}

type Run = Pick<Listing, 'snapshots' | 'segments'>;

/** The last indexes in a row, and how many are missing before them; undefined when none is. */
function lastRunOf(
  snapshots: readonly SnapshotInfo[],
  segments: readonly SegmentInfo[],
): { readonly from: number; readonly missing: number } | undefined {
  const present = [...new Set([...snapshots, ...segments].map(({ index }) => index))].sort((a, b) => b - a);
  for (const [i, from] of present.entries()) {
    const before = present[i + 1];
    if (before !== undefined && before < from - 1) return { from, missing: from - before - 1 };
  }
  return undefined;
}

function isEmpty({ snapshots, segments }: Run): boolean {
  return [...snapshots, ...segments].every(({ sizeBytes }) => sizeBytes === 0);
}

/** Why none of them belongs to the generation; undefined when one may. */
async function whyStray(
  store: ObjectStore,
  run: Run,
  segments: readonly SegmentInfo[],
  options: CallOptions,
): Promise<string | undefined> {
  const [segment] = run.segments;
  const snapshot = run.snapshots.at(-1);
  if (!segment) return snapshot && (await examineSnapshot(store, snapshot, segments, options)).reason;
  try {
    await readSegmentTrailer(store, segment, options);
    return undefined;
  } catch (error) {
    if (hasCode(error, 'corrupt')) return messageOf(error);
    if (hasCode(error, 'unsupported', 'encrypted', 'not-found')) return undefined;
    throw error;
  }
}

/** In words. */
export function describeStray({ key, reason }: Stray): string {
  return `${key} is left out: ${reason}`;
}
