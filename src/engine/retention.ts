/**
 * Retention of a replica: which objects no moment of the retention window needs, and their deletion. The planner is
 * pure; it would rather keep an object too long than delete one too early. What it counts on is proven by content, and
 * before anything is deleted the plan is checked anew (retention-invariant.ts).
 */

import { LitestreamError, wrapError } from '../base/errors.ts';
import { leastOf } from '../base/extremes.ts';
import type { Logger } from '../base/logger.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import {
  type SegmentInfo,
  type SnapshotInfo,
  listGenerations,
  listSegments,
  listSnapshots,
} from './catalog.ts';
import { findBreach } from './retention-invariant.ts';
import { PLAIN_EXAMINER, type SnapshotExaminer } from './snapshot-proof.ts';
import { storeClockDoubt } from './store-clock.ts';

/** Keys given to a store at once. */
const DELETE_BATCH = 1000;
/** A restore under way may still need what left the window a moment ago. */
const MAX_GRACE_MS = 5 * 60_000;
/** Each costs a request or two: a replica has one or two that count, unless somebody fills it with others. */
const MAX_EXAMINED = 100;

export interface RetentionRequest {
  /** Of all generations of the replica. */
  readonly snapshots: readonly SnapshotInfo[];
  readonly segments: readonly SegmentInfo[];
  /** Epoch milliseconds. */
  readonly now: number;
  /** <= 0: nothing is ever deleted. */
  readonly retentionMs: number;
  /** Never deleted whole, whatever its age. */
  readonly currentGeneration: string;
  /** Added to the window: for restores under way and clocks that differ. */
  readonly graceMs: number;
  /** Keys of snapshots that nothing may be deleted because of. */
  readonly ignored?: ReadonlyMap<string, string> | undefined;
}

/** What goes of one generation. */
export interface RetentionCut {
  readonly generation: string;
  /** The oldest index that stays; undefined when the whole generation goes. */
  readonly beforeIndex: number | undefined;
  /**
   * Why: the snapshot from which the oldest moment of the window is restored, of the same generation, or of a later
   * one when this one goes whole.
   */
  readonly because: SnapshotInfo;
  readonly snapshots: readonly SnapshotInfo[];
  readonly segments: readonly SegmentInfo[];
}

export interface RetentionPlan {
  readonly keptSnapshots: readonly SnapshotInfo[];
  readonly keptSegments: readonly SegmentInfo[];
  readonly cuts: readonly RetentionCut[];
  /**
   * Keys in the order in which to delete them: from the newest to the oldest, so that a run that is cut short leaves
   * a whole prefix of the history that goes.
   */
  readonly deletions: readonly string[];
}

interface Generation {
  readonly name: string;
  readonly snapshots: SnapshotInfo[];
  readonly segments: SegmentInfo[];
  /** When its newest object was written, in epoch milliseconds. */
  newestMs: number;
}

/** The first moment that stays restorable, in epoch milliseconds. */
function windowStartMs({
  now,
  retentionMs,
  graceMs,
}: Pick<RetentionRequest, 'now' | 'retentionMs' | 'graceMs'>): number {
  return now - retentionMs - graceMs;
}

/**
 * Plans what to delete so that every moment of the window `[now - retentionMs - graceMs, now]` stays restorable.
 *
 * Of each generation the newest snapshot that is not younger than the window's start stays, with all WAL from its
 * index on. A generation goes whole when all of it is older than the window and a later one has a snapshot at or
 * before the window's start, so that no moment of the window falls to it.
 */
export function planRetention(request: RetentionRequest): RetentionPlan {
  const { retentionMs, currentGeneration, ignored } = request;
  const generations = groupByGeneration(request);
  const startMs = windowStartMs(request);
  const mayReplace = ({ key, createdAt }: SnapshotInfo): boolean =>
    createdAt.getTime() <= startMs && ignored?.has(key) !== true;
  const latest = latestOf(generations, mayReplace);
  const cuts: RetentionCut[] = [];
  for (const generation of retentionMs > 0 ? generations : []) {
    const { name, snapshots, segments } = generation;
    const mayGo = name !== currentGeneration && generation.newestMs < startMs;
    const successor = mayGo ? successorOf(generation, latest) : undefined;
    const base = snapshots.findLast(mayReplace);
    const because = successor ?? base;
    if (!because) continue;
    const beforeIndex = successor ? undefined : because.index;
    const goes = ({ index }: { index: number }): boolean => beforeIndex === undefined || index < beforeIndex;
    const cut = {
      generation: name,
      beforeIndex,
      because,
      snapshots: snapshots.filter(goes),
      segments: segments.filter(goes),
    };
    if (cut.snapshots.length + cut.segments.length > 0) cuts.push(cut);
  }
  const deletions = cuts.flatMap(deletionOrder);
  const doomed = new Set(deletions);
  return {
    keptSnapshots: request.snapshots.filter(({ key }) => !doomed.has(key)),
    keptSegments: request.segments.filter(({ key }) => !doomed.has(key)),
    cuts,
    deletions,
  };
}

/** Generations from the newest to the oldest; their snapshots and segments by index and offset. */
function groupByGeneration({ snapshots, segments }: RetentionRequest): Generation[] {
  const groups = new Map<string, Generation>();
  const groupOf = ({ generation, createdAt }: SnapshotInfo | SegmentInfo): Generation => {
    let group = groups.get(generation);
    if (!group) {
      group = { name: generation, snapshots: [], segments: [], newestMs: -Infinity };
      groups.set(generation, group);
    }
    group.newestMs = Math.max(group.newestMs, createdAt.getTime());
    return group;
  };
  for (const snapshot of snapshots) groupOf(snapshot).snapshots.push(snapshot);
  for (const segment of segments) groupOf(segment).segments.push(segment);
  for (const group of groups.values()) {
    group.snapshots.sort((a, b) => a.index - b.index);
    group.segments.sort((a, b) => a.index - b.index || a.offset - b.offset);
  }
  return [...groups.values()].sort((a, b) => b.newestMs - a.newestMs);
}

/** The latest snapshot that may replace others, and the latest of the other generations. */
function latestOf(
  generations: readonly Generation[],
  mayReplace: (snapshot: SnapshotInfo) => boolean,
): readonly SnapshotInfo[] {
  let best: SnapshotInfo | undefined;
  let other: SnapshotInfo | undefined;
  // Looked for once: somebody may have put very many generations there.
  for (const { snapshots } of generations) {
    const own = newestOf(snapshots.filter(mayReplace));
    if (own === undefined) continue;
    if (best === undefined || own.createdAt > best.createdAt) [best, other] = [own, best];
    else if (other === undefined || own.createdAt > other.createdAt) other = own;
  }
  return [best, other].filter((snapshot) => snapshot !== undefined);
}

/** A snapshot of another generation, later than all of this one. */
function successorOf(
  { name, newestMs }: Generation,
  latest: readonly SnapshotInfo[],
): SnapshotInfo | undefined {
  const successor = latest.find(({ generation }) => generation !== name);
  return successor && successor.createdAt.getTime() >= newestMs ? successor : undefined;
}

/** From the newest to the oldest; a snapshot comes before the segments of its index in history, so it goes after them. */
function deletionOrder({ snapshots, segments }: RetentionCut): string[] {
  const places = [
    ...snapshots.map(({ key, index }) => ({ key, index, offset: -1 })),
    ...segments.map(({ key, index, offset }) => ({ key, index, offset })),
  ];
  return places.sort((a, b) => b.index - a.index || b.offset - a.offset).map(({ key }) => key);
}

export interface ProvenPlanRequest extends Omit<RetentionRequest, 'currentGeneration' | 'ignored'> {
  readonly store: ObjectStore;
  /** undefined: the generation of the newest segment or proven snapshot. */
  readonly currentGeneration: string | undefined;
  /** What looks at snapshots; by default each is read anew. */
  readonly examiner?: SnapshotExaminer | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface ProvenPlan {
  readonly plan: RetentionPlan;
  /** Keys of snapshots that are not counted on, with the reason. */
  readonly ignored: ReadonlyMap<string, string>;
  /** Why the plan must not be carried out, naming an object; undefined when it may. */
  readonly breach: string | undefined;
}

/**
 * As planRetention, because of such snapshots alone as are proven by their content. Where nothing is to be deleted
 * nothing is read.
 * @throws LitestreamError what the store throws
 */
export async function planProven(request: ProvenPlanRequest): Promise<ProvenPlan> {
  const { store, snapshots, segments, examiner = PLAIN_EXAMINER, signal } = request;
  const ignored = new Map<string, string>();
  const proven = new Set<string>();
  for (;;) {
    const newest = newestOf([...snapshots.filter(({ key }) => !ignored.has(key)), ...segments]);
    const currentGeneration = request.currentGeneration ?? newest?.generation ?? '';
    const plan = planRetention({ ...request, currentGeneration, ignored });
    const relied = new Map(plan.cuts.map(({ because }) => [because.key, because]));
    // That no later generation is there is told by an object that may be anybody's.
    const isWitness =
      request.currentGeneration === undefined && newest !== undefined && !('offset' in newest);
    if (isWitness && plan.cuts.length > 0) relied.set(newest.key, newest);
    const open = [...relied.values()].filter(({ key }) => !proven.has(key));
    if (open.length === 0) {
      const deletion = { snapshots, segments, startMs: windowStartMs(request), proven };
      return { plan, ignored, breach: findBreach({ ...deletion, doomed: new Set(plan.deletions) }) };
    }
    for (const snapshot of open) {
      if (proven.size + ignored.size >= MAX_EXAMINED) {
        const breach = `more than ${MAX_EXAMINED} objects have the names of snapshots and are none, such as ${snapshot.key}`;
        return { plan, ignored, breach };
      }
      const own = segments.filter(({ generation }) => generation === snapshot.generation);
      const reason = await examiner.examine(store, snapshot, own, { signal });
      if (reason === undefined) proven.add(snapshot.key);
      else ignored.set(snapshot.key, reason);
    }
  }
}

function newestOf<T extends SnapshotInfo | SegmentInfo>(objects: readonly T[]): T | undefined {
  let newest: T | undefined;
  for (const object of objects) {
    if (!newest || object.createdAt > newest.createdAt) newest = object;
  }
  return newest;
}

export interface SurveyRequest {
  readonly store: ObjectStore;
  readonly retentionMs: number;
  /** As in ProvenPlanRequest. */
  readonly currentGeneration: string | undefined;
  /** Epoch milliseconds. */
  readonly now: number;
  readonly examiner?: SnapshotExaminer | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Survey extends ProvenPlan {
  /** All of the replica. */
  readonly snapshots: readonly SnapshotInfo[];
  readonly segments: readonly SegmentInfo[];
}

/** Lists the replica and plans what may go, with the grace period that is kept for restores under way. */
export async function surveyRetention(request: SurveyRequest): Promise<Survey> {
  const { store, retentionMs, signal } = request;
  const snapshots: SnapshotInfo[] = [];
  const segments: SegmentInfo[] = [];
  for (const generation of await listGenerations(store, { signal })) {
    for (const snapshot of await listSnapshots(store, generation, { signal })) snapshots.push(snapshot);
    for (const segment of await listSegments(store, generation, { signal })) segments.push(segment);
  }
  const graceMs = Math.min(MAX_GRACE_MS, retentionMs / 10);
  return { snapshots, segments, ...(await planProven({ ...request, snapshots, segments, graceMs })) };
}

export interface EnforceRetentionRequest extends SurveyRequest {
  /** Gives the time in epoch milliseconds: it is compared with the store's before anything is deleted. Undefined: it is not. */
  readonly clock?: (() => number) | undefined;
  readonly currentGeneration: string;
  readonly logger: Logger;
  /** Asked before anything is deleted by these lists; false: nothing is. */
  readonly mayDelete?: ((survey: Survey) => Promise<boolean>) | undefined;
}

export interface RetentionResult {
  /** Nothing can leave the window before another snapshot is written. */
  readonly settled: boolean;
  /** The store does not permit to delete: everything is still there. */
  readonly refusal: LitestreamError | undefined;
  /** Why it cannot be told what has left the window, for their clocks disagree: everything is still there. */
  readonly doubt: string | undefined;
  /** Why what was planned would have been wrong, naming an object: everything is still there. */
  readonly breach: string | undefined;
  /** How many snapshots of the current generation the replica held before anything was deleted. */
  readonly currentSnapshots: number;
  /** Time of the oldest snapshot that is left, in epoch milliseconds; undefined when there is none. */
  readonly oldestSnapshotAtMs: number | undefined;
}

/**
 * Deletes what a plan says, in its order. Idempotent.
 * @throws LitestreamError 'gap' naming an object when the plan must not be carried out, and what the store throws
 */
export async function deleteExpired(
  store: ObjectStore,
  { plan: { deletions }, breach }: ProvenPlan,
  options?: CallOptions,
): Promise<void> {
  if (breach !== undefined) throw breachError(breach);
  for (let at = 0; at < deletions.length; at += DELETE_BATCH) {
    await store.delete(deletions.slice(at, at + DELETE_BATCH), options);
  }
}

/** What to say of a plan that must not be carried out. */
export function breachError(breach: string): LitestreamError {
  const remedy = 'run litestream verify, and see who else writes into the replica';
  return new LitestreamError(
    'gap',
    `retention deletes nothing, for it would delete too much: ${breach}; ${remedy}`,
  );
}

/** Lists the replica and deletes what has left the window. */
export async function enforceRetention(request: EnforceRetentionRequest): Promise<RetentionResult> {
  const { store, currentGeneration, logger, signal } = request;
  const survey = await surveyRetention(request);
  const { snapshots, segments, plan } = survey;
  const currentSnapshots = snapshots.filter(({ generation }) => generation === currentGeneration).length;
  const nothingSaid = { refusal: undefined, doubt: undefined, breach: undefined };
  const kept = { ...nothingSaid, settled: false, currentSnapshots, oldestSnapshotAtMs: oldestMs(snapshots) };
  if (request.mayDelete && !(await request.mayDelete(survey))) return kept;
  if (survey.breach !== undefined) return { ...kept, breach: survey.breach };
  if (request.clock && plan.deletions.length > 0) {
    const objects = [...snapshots, ...segments];
    const clocks = { now: request.clock, plannedAtMs: request.now };
    const doubt = await storeClockDoubt(store, objects, clocks, { signal });
    if (doubt !== undefined) return { ...kept, doubt };
  }
  try {
    await deleteExpired(store, survey, { signal });
  } catch (error) {
    const wrapped = wrapError(error, `delete from ${store.location} what left the retention window`);
    if (wrapped.code !== 'permission') throw wrapped;
    return { ...kept, refusal: wrapped };
  }
  for (const cut of plan.cuts) logCut(logger, cut);
  const left = new Set([...plan.keptSnapshots, ...plan.keptSegments].map(({ generation }) => generation));
  return {
    ...nothingSaid,
    settled: plan.keptSnapshots.length <= 1 && left.size <= 1,
    currentSnapshots,
    oldestSnapshotAtMs: oldestMs(plan.keptSnapshots),
  };
}

function oldestMs(snapshots: readonly SnapshotInfo[]): number | undefined {
  if (snapshots.length === 0) return undefined;
  return leastOf(snapshots.map(({ createdAt }) => createdAt.getTime()));
}

function logCut(logger: Logger, { generation, beforeIndex, snapshots, segments }: RetentionCut): void {
  for (const { index } of snapshots) logger.info('snapshot deleted', { generation, index });
  if (beforeIndex === undefined) logger.info('generation deleted', { generation, n: segments.length });
  else if (segments.length > 0) {
    // v0.3.13's own words: people search their logs for them.
    logger.info('wal segmented deleted before', { generation, index: beforeIndex, n: segments.length });
  }
}
