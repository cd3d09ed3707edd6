/**
 * Which generations one follows in a replica: as the meta directory tells, or, where it was empty, those that the
 * replica holds. Asking for them never holds an upload up for longer than a moment: what is stored later can say it too.
 */

import { backoffDelayMs, throwIfAborted } from '../base/concurrency.ts';
import { hasCode, messageOf } from '../base/errors.ts';
import type { Origin } from '../format/origin-frame.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import {
  type SegmentInfo,
  type SnapshotInfo,
  listGenerations,
  listSegments,
  listSnapshots,
} from './catalog.ts';
import { warnOfFuture } from './future-commits.ts';
import { type Following, GenerationOrder } from './generation-order.ts';
import { following, parseOrigin } from './origin-file.ts';
import { readOrigin } from './read-origin.ts';
import { RETRY, type ReplicaContext } from './replica-context.ts';
import { readReplicaRecord, writeReplicaRecord } from './replica-record.ts';
import { pause } from './replica-wait.ts';
import { CLOCK_STEP_MS } from './steady-clock.ts';
import { readSegmentTrailer } from './trailer-reader.ts';

/** So long the first snapshot waits for what the replica holds. */
const PATIENCE_MS = 2000;
/** A process that goes on so soon after the last upload asks for no other host. */
const MOMENT_MS = 10_000;
const VERSION = 1;

/** Of the objects that a replica holds of a generation, by the store's clock: epoch milliseconds. */
export interface StoredTimes {
  /** Of the oldest snapshot; undefined without one. */
  readonly oldestMs: number | undefined;
  /** Of the newest object; undefined: nothing is stored. */
  readonly newestMs: number | undefined;
}

/** Another generation of the replica. */
interface Other {
  readonly generation: string;
  readonly snapshots: readonly SnapshotInfo[];
  readonly segments: readonly SegmentInfo[];
  readonly follows: readonly string[];
  /** When the store got its newest object, in epoch milliseconds. */
  readonly storedMs: number;
}

export class ReplicaOrigin {
  readonly #context: ReplicaContext;
  readonly #generation: string;
  readonly #signal: AbortSignal;
  /** What was found in the replica. */
  #found: Origin | undefined;
  #finding: Promise<void> | undefined;
  /** No snapshot says it yet. */
  #isUnsaid = false;

  /** @param signal ends what is asked for in the background */
  constructor(context: ReplicaContext, generation: string, signal: AbortSignal) {
    this.#context = context;
    this.#generation = generation;
    this.#signal = signal;
  }

  /**
   * Finds out what there is to say, as far as that takes no time; what the replica holds is looked for in the background.
   * @param stored what the replica holds of the generation
   * @returns why the generation is not to be continued, if so. Rejects with 'aborted' only
   */
  async begin(store: ObjectStore, stored: StoredTimes): Promise<string | undefined> {
    const { source, schedule, now } = this.#context;
    const { oldestMs, newestMs } = stored;
    this.#isUnsaid = newestMs === undefined;
    const isKnown = await this.#recall();
    if (newestMs !== undefined) {
      // Nobody takes over within a moment.
      if (Math.abs(now() - newestMs) < MOMENT_MS) return undefined;
      const successor = await this.#successor(store, oldestMs ?? -Infinity);
      if (successor === undefined) return undefined;
      schedule.superseded = true;
      return `generation ${successor} follows it in the replica: another host went on from there`;
    }
    const isTold = isKnown || source.originOf(this.#generation) !== undefined;
    // One that is new and not the first would be told here.
    const isNew = source.isNewGeneration(this.#generation) && !source.isFirstGeneration();
    if ((isTold || isNew) && !schedule.superseded) return undefined;
    schedule.superseded = false;
    this.#finding = this.#find(store).catch(() => undefined);
    return undefined;
  }

  /** For an object that is encoded now. */
  get known(): Origin | undefined {
    const local = this.#context.source.originOf(this.#generation);
    if (!this.#found) return local;
    return following([...this.#found.generations, ...(local?.generations ?? [])], this.#found.end);
  }

  /** What a segment has to say: as long as no snapshot says it. @param isFirst of its generation */
  ofSegment(isFirst: boolean): Origin | undefined {
    return isFirst || this.#isUnsaid ? this.known : undefined;
  }

  /** To be called when a snapshot is stored. @param origin what it says */
  said(origin: Origin | undefined): void {
    if (origin) this.#isUnsaid = false;
  }

  /** Resolves when what was begun is found, or a moment is over. Never rejects. */
  async settled(): Promise<void> {
    if (!this.#finding) return;
    const moment = new AbortController();
    const patience = pause(PATIENCE_MS, this.#signal, moment.signal).catch(() => undefined);
    await Promise.race([this.#finding, patience]);
    moment.abort();
  }

  /** What was found by an earlier process. @returns whether that is known. Never rejects */
  async #recall(): Promise<boolean> {
    const { source, options, logger } = this.#context;
    try {
      const text = await readReplicaRecord(source.metaPath, 'origin', options.name);
      if (text === undefined) return false;
      const { generation } = JSON.parse(text) as { generation?: string };
      if (generation !== this.#generation) return false;
      this.#found = parseOrigin(text);
      this.#dated(this.#found);
      return true;
    } catch (error) {
      logger.debug('cannot tell which generation this one follows', { error: messageOf(error) });
      return false;
    }
  }

  async #find(store: ObjectStore): Promise<void> {
    const { stopping, logger, stats } = this.#context;
    // What is stored during a stop says what is known by then.
    for (let attempt = 0; !stopping.aborted; attempt++) {
      try {
        await this.#take(await listOthers(store, this.#generation, this.#signal), store);
        return;
      } catch (error) {
        throwIfAborted(this.#signal);
        logger.debug('cannot tell yet which generation this one follows', { error: messageOf(error) });
        if (!hasCode(error, 'unavailable', 'timeout') && stats.lastUploadAtMs !== undefined) return;
      }
      await pause(backoffDelayMs(attempt, RETRY), this.#signal, stopping);
    }
  }

  async #take(others: readonly Other[], store: ObjectStore): Promise<void> {
    const order = new GenerationOrder(others);
    const latest = order.latest(others).toSorted((a, b) => b.storedMs - a.storedMs);
    const names = latest.flatMap(({ generation }) => generation);
    const rest = latest.flatMap(({ follows }) => follows);
    const [last] = latest;
    this.#found = following([...names, ...rest], last && (await endOf(store, last, this.#signal)));
    this.#dated(this.#found);
    await this.#remember();
  }

  /** Keeps in mind how that was dated which the replica holds of another generation, and warns of it. */
  #dated(found: Origin | undefined): void {
    const [generation] = found?.generations ?? [];
    if (generation === undefined || found?.end === undefined) return;
    this.#context.stats.previousCommitMs = found.end.timeMs;
    warnOfFuture(this.#context, generation, found.end.timeMs);
  }

  /**
   * The generation that follows this one in the replica although it is ours to continue. A new generation, which follows
   * that one, makes ours the latest again.
   * @param sinceMs a snapshot of this generation is there since then, in epoch milliseconds: what is older does not follow it
   * @returns undefined when there is none, or it cannot be told
   */
  async #successor(store: ObjectStore, sinceMs: number): Promise<string | undefined> {
    const signal = this.#signal;
    const known = new Set([this.#generation, ...(this.known?.generations ?? [])]);
    const following: Following[] = [{ generation: this.#generation, follows: [...known] }];
    try {
      for (const generation of await listGenerations(store, { signal })) {
        if (known.has(generation)) continue;
        const snapshots = await listSnapshots(store, generation, { signal });
        const newestMs = snapshots.at(-1)?.createdAt.getTime() ?? -Infinity;
        if (newestMs < sinceMs - CLOCK_STEP_MS) continue;
        const segments = await listSegments(store, generation, { signal });
        const origin = await readOrigin(store, { snapshots, segments }, signal);
        following.push({ generation, follows: origin?.generations ?? [] });
      }
    } catch (error) {
      throwIfAborted(signal);
      this.#context.logger.debug('cannot tell whether a generation follows this one', {
        error: messageOf(error),
      });
      return undefined;
    }
    const order = new GenerationOrder(following);
    return following.find(({ generation }) => order.isAfter(generation, this.#generation))?.generation;
  }

  async #remember(): Promise<void> {
    const { source, options, logger } = this.#context;
    if (!this.#found) return;
    const record = { version: VERSION, generation: this.#generation, ...this.#found };
    try {
      await writeReplicaRecord(source.metaPath, 'origin', options.name, record);
    } catch (error) {
      // The next process asks the replica again.
      logger.debug('cannot remember which generation this one follows', { error: messageOf(error) });
    }
  }
}

async function listOthers(store: ObjectStore, generation: string, signal: AbortSignal): Promise<Other[]> {
  const others: Other[] = [];
  for (const name of await listGenerations(store, { signal })) {
    if (name === generation) continue;
    const snapshots = await listSnapshots(store, name, { signal });
    const segments = await listSegments(store, name, { signal });
    const origin = await readOrigin(store, { snapshots, segments }, signal);
    const storedMs = [...snapshots, ...segments].reduce(
      (ms, { createdAt }) => Math.max(ms, createdAt.getTime()),
      -Infinity,
    );
    others.push({ generation: name, snapshots, segments, follows: origin?.generations ?? [], storedMs });
  }
  return others;
}

/** Where a generation ends in the replica; undefined where its last segment does not tell. */
async function endOf(store: ObjectStore, { segments }: Other, signal: AbortSignal): Promise<Origin['end']> {
  const last = segments.at(-1);
  try {
    const trailer = last && (await readSegmentTrailer(store, last, { signal }));
    const timeMs = trailer?.commits.at(-1)?.timeMs;
    if (trailer === undefined || timeMs === undefined) return undefined;
    return { index: trailer.index, offset: trailer.end, checksum: trailer.checksum, timeMs };
  } catch (error) {
    if (hasCode(error, 'corrupt', 'unsupported', 'not-found', 'encrypted')) return undefined;
    throw error;
  }
}
