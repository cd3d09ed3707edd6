/**
 * Restores a database from its replicas: list, plan, then carry the plan out into a temporary file that gets its final
 * name when everything in it is verified and durable. What turns out to be damaged, or gone since it was listed, is planned
 * around.
 */

import { throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError, assert, hasCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { formatPosition, type Position } from '../format/position.ts';
import { checkIntegrity } from '../sqlite/integrity-check.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { withRetry } from '../storage/retrying-store.ts';
import { describeFuture } from './future-commits.ts';
import type { Damage } from './restore-chain.ts';
import { PathChanged, PathFinder } from './path-finder.ts';
import { type Listings, type NamedStore, listReplicas } from './restore-listing.ts';
import { type OutputOptions, RestoreOutput } from './restore-output.ts';
import {
  GapError,
  type PlanOutcome,
  type RestorePlan,
  type RestoreTarget,
  planRestore,
} from './restore-plan.ts';
import type { DiskSpaceOf } from './restore-room.ts';
import { type Paths, type RestoreProgress, RestoreRun, type RunResult } from './restore-run.ts';

export type { RestoreProgress } from './restore-run.ts';

const ATTEMPTS = 6;
/** Plans that are tried: each one knows of one more object that is of no use. */
const MAX_PLANS = 1000;

/** At most one of index, timestamp and upTo; none: the latest state. */
export interface RestoreRequest extends RestoreTarget, Omit<OutputOptions, 'force'> {
  /** The replicas to choose from; they stay open. Among equally fresh ones the first is used. */
  readonly replicas: readonly NamedStore[];
  /** The database file to make. Missing folders are made with mode 0700. */
  readonly outputPath: string;
  /** Requests at once; >= 1. */
  readonly parallelism: number;
  /** Replace a database that is there, unless it is in use, and set left-over -wal, -shm and -journal files aside. */
  readonly force?: boolean;
  /** SQLite's check of the result. Default: none, but for results that may hold changes later than asked for. */
  readonly integrityCheck?: 'none' | 'quick' | 'full' | undefined;
  /** What the database file may have while it is made, in bytes; any by default. */
  readonly limitBytes?: number | undefined;
  /** How much room a disk has; the system's word by default. */
  readonly spaceOf?: DiskSpaceOf | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly logger: Logger;
  readonly onProgress?: (progress: RestoreProgress) => void;
}

export interface RestoreResult {
  readonly replica: string;
  /** What was restored: the end of the last applied commit, or offset 0 of the snapshot's index for a snapshot alone. */
  readonly position: Position;
  /** When that commit was made; undefined where the objects do not say. */
  readonly committedAt: Date | undefined;
  readonly snapshotIndex: number;
  /** Size of the restored database file. */
  readonly sizeBytes: number;
  /** Where the database is that was replaced; undefined when none was (yet). */
  readonly keptPath: string | undefined;
  /** What a best effort left out, in words; undefined when it is everything that was asked for. */
  readonly loss: string | undefined;
}

/**
 * Restores a database. On any failure and on abort nothing is left behind. What is damaged in a replica is taken from
 * another one, object by object.
 * @throws LitestreamError 'no-backup' when nothing matches the request, 'exists' when the output or files that belong to
 * an older database are in the way, 'busy' when what is to be replaced is in use, 'not-found' for an index that is not
 * there (yet), 'gap' and 'corrupt' when objects are missing or damaged, 'disk-full' when the database cannot have room, or may not have it, 'aborted', and what the stores and the file system give
 */
export async function restore(request: RestoreRequest): Promise<RestoreResult> {
  const staged = await stageRestore(request);
  try {
    await staged.prepare();
    throwIfAborted(request.signal);
    await staged.place();
    return staged.result;
  } catch (error) {
    await staged.discard();
    throw error;
  }
}

/** A restored database that has not its name yet. */
export class StagedRestore {
  readonly #result: Omit<RestoreResult, 'keptPath'>;
  readonly #output: RestoreOutput;
  readonly #leftoverRestored: boolean;
  readonly #request: RestoreRequest;

  constructor(
    request: RestoreRequest,
    output: RestoreOutput,
    result: Omit<RestoreResult, 'keptPath'>,
    leftoverRestored: boolean,
  ) {
    this.#request = request;
    this.#output = output;
    this.#result = result;
    this.#leftoverRestored = leftoverRestored;
  }

  get result(): RestoreResult {
    return { ...this.#result, keptPath: this.#output.keptPath };
  }

  /** Whether it has its name. */
  get placed(): boolean {
    return this.#output.placed;
  }

  /** Makes everything ready that can fail: what is in the way is locked from here on. @throws LitestreamError as restore() */
  async prepare(): Promise<void> {
    throwIfAborted(this.#request.signal);
    await this.#output.prepare(this.#leftoverRestored);
  }

  /** Gives it its name, whether or not the signal fires. After prepare(). @throws LitestreamError as restore() */
  async place(): Promise<void> {
    const logger = this.#request.logger.with({ replica: this.result.replica });
    logger.info('renaming database from temporary location');
    await this.#output.place();
    const { loss } = this.result;
    if (loss !== undefined) logger.error('restored what is before the damage', { loss });
  }

  /** Removes it. Idempotent; without effect after place(). */
  async discard(): Promise<void> {
    await this.#output.discard();
  }
}

/** The first half of restore(): everything but the last step. Needs place() or discard(). */
export async function stageRestore(request: RestoreRequest): Promise<StagedRestore> {
  const output = new RestoreOutput(request.outputPath, { ...request, force: request.force === true });
  await output.check();
  const attempt = new Attempts(request, output);
  try {
    const { plan, result } = await attempt.first();
    const { position, commitMs, sizeBytes, leftoverRestored } = result;
    const done: Omit<RestoreResult, 'keptPath'> = {
      replica: plan.replica,
      position,
      committedAt: commitMs === undefined ? undefined : new Date(commitMs),
      snapshotIndex: plan.snapshot.index,
      sizeBytes,
      loss: describeLoss(plan, position, commitMs),
    };
    warnOfFuture(request.logger, done);
    return new StagedRestore(request, output, done, leftoverRestored);
  } catch (error) {
    await output.discard();
    throw error;
  }
}

function warnOfFuture(logger: Logger, { position, committedAt }: Omit<RestoreResult, 'keptPath'>): void {
  const future = describeFuture(committedAt?.getTime(), Date.now());
  if (future !== undefined) logger.warn(future, { generation: position.generation });
}

function describeLoss(
  { loss }: RestorePlan,
  position: Position,
  commitMs: number | undefined,
): string | undefined {
  if (!loss) return undefined;
  const at = commitMs === undefined ? '' : ` of ${new Date(commitMs).toISOString()}`;
  const until = loss.untilMs === undefined ? '' : ` up to about ${new Date(loss.untilMs).toISOString()}`;
  return (
    `restored up to ${formatPosition(position)}${at}; lost is everything after it${until}, ` +
    `of which ${loss.segmentCount} segments are there in vain: ${loss.failure.message}`
  );
}

/** Stores that try again what may pass. */
export function retryingStores({
  replicas,
  signal,
}: Pick<RestoreRequest, 'replicas' | 'signal'>): NamedStore[] {
  return replicas.map(({ name, store }) => ({
    name,
    store: withRetry(store, { attempts: ATTEMPTS, signal }),
  }));
}

/** One restore: plans until one can be carried out. */
class Attempts {
  readonly #request: RestoreRequest;
  readonly #output: RestoreOutput;
  readonly #stores: ReadonlyMap<string, ObjectStore>;
  /** Without those that could not be used at all. */
  #replicas: NamedStore[];
  #listings: Listings | undefined;
  readonly #damages: Damage[] = [];
  /** By replica and key, or place. */
  readonly #damaged = new Set<string>();
  readonly #finder: PathFinder;
  /** Keys and holes that were met once: retention may have been at work. */
  readonly #met = new Set<string>();
  readonly #warned = new Set<string>();

  constructor(request: RestoreRequest, output: RestoreOutput) {
    this.#request = request;
    this.#output = output;
    this.#replicas = retryingStores(request);
    this.#stores = new Map(this.#replicas.map(({ name, store }) => [name, store]));
    this.#finder = new PathFinder(request);
  }

  async first(): Promise<{ plan: RestorePlan; result: RunResult }> {
    /** What is wrong with the best plan says more than why those after it will not do either. */
    let cause: unknown;
    for (let count = 0; count < MAX_PLANS; count++) {
      const plan = await this.#plan(cause);
      const run = await this.#begin(plan);
      try {
        const result = await run.run();
        await this.#checkIntegrity(plan);
        return { plan, result };
      } catch (error) {
        if (!this.#learn(error, plan, run)) throw error;
        cause ??= error;
      }
    }
    throw cause;
  }

  /** @param cause why the first plan failed */
  async #plan(cause: unknown): Promise<RestorePlan> {
    const { logger } = this.#request;
    const first = this.#listings === undefined;
    this.#listings ??= await listForRestore(this.#request, this.#replicas, this.#finder);
    const { failed } = this.#listings;
    const listed = this.#listings.listed.map(({ name, generations }) => ({
      name,
      generations: generations.map((listing) => this.#finder.follow(name, listing)),
    }));
    const outcome = planRestore(listed, this.#request, this.#damages);
    const [failure] = failed;
    if ('failure' in outcome) {
      // "No backup" would be a guess while a replica could not be asked.
      const error =
        cause ?? failure?.error ?? new LitestreamError(outcome.failure.code, outcome.failure.message);
      throw this.#withWayOut(error, listed);
    }
    for (const { name, error } of first ? failed : []) {
      logger.warn('cannot list replica, using the others', { replica: name, error });
    }
    const [plan] = outcome.plans;
    if (plan === undefined) throw new LitestreamError('no-backup', 'no matching backups found');
    for (const warning of plan.warnings) {
      if (!this.#warned.has(warning)) logger.warn(warning);
      this.#warned.add(warning);
    }
    return plan;
  }

  /** An error with what -best-effort would restore, if that is something. */
  #withWayOut(error: unknown, listed: Listings['listed']): unknown {
    if (!hasCode(error, 'gap', 'corrupt') || this.#request.bestEffort === true) return error;
    const outcome: PlanOutcome = planRestore(listed, { ...this.#request, bestEffort: true }, this.#damages);
    const plan = 'plans' in outcome ? outcome.plans[0] : undefined;
    if (!plan?.loss) return error;
    const { generation, loss } = plan;
    const end = formatPosition({ generation, index: loss.index, offset: loss.offset });
    return new LitestreamError(error.code, `${error.message}; -best-effort restores what is before ${end}`, {
      cause: error,
    });
  }

  async #begin(plan: RestorePlan): Promise<RestoreRun> {
    const { parallelism, spaceOf, limitBytes = Infinity, signal, logger, onProgress } = this.#request;
    const file = await this.#output.open();
    const { temporaryPath: path, leftover } = this.#output;
    const stores = this.#stores;
    return new RestoreRun({
      plan,
      paths: this.#pathsOf(plan),
      timed: this.#request.timestamp !== undefined,
      stores,
      file,
      path,
      leftover,
      parallelism,
      spaceOf,
      limitBytes,
      signal,
      logger,
      onProgress,
    });
  }

  #pathsOf({ replica: name, generation }: RestorePlan): Paths {
    const finder = this.#finder;
    const store = this.#stores.get(name);
    assert(store !== undefined, 'plans are made for the replicas that were given');
    return {
      knows: (index) => finder.knows(name, generation, index),
      find: (index, through) => finder.find({ name, store }, { generation, index }, through),
    };
  }

  /** Takes note of why a plan failed. @returns whether another one may do */
  #learn(error: unknown, plan: RestorePlan, { culprit, proven }: RestoreRun): boolean {
    if (error instanceof PathChanged) {
      this.#listings = undefined;
      return true;
    }
    if (!(error instanceof LitestreamError) || culprit === undefined) return false;
    const needsMore = error instanceof GapError && plan.loss !== undefined;
    const { logger } = this.#request;
    const { replica, index, offset, key } = culprit;
    if (hasCode(error, 'unavailable', 'timeout', 'permission')) {
      this.#replicas = this.#replicas.filter(({ name }) => name !== replica);
      if (this.#replicas.length === 0) return false;
      this.#listings = undefined;
      logger.warn('cannot restore from replica, trying the next', { replica, error });
      return true;
    }
    if (!hasCode(error, 'gap', 'corrupt', 'not-found')) return false;
    const id = `${replica} ${key ?? `${index}:${offset}`}`;
    if (!this.#met.has(id) && !hasCode(error, 'corrupt')) {
      this.#met.add(id);
      this.#listings = undefined;
      this.#finder.forgetListings();
      logger.warn('an object is gone, listing again', { replica, error });
      return true;
    }
    const known = this.#damaged.has(id);
    this.#damaged.add(id);
    if (!known && proven) {
      // What is proven of the index counts whatever object is to blame: from its end on something is missing.
      this.#finder.remember(replica, plan.generation, proven);
      this.#damages.push({ ...culprit, key: undefined, ...proven.end, error });
    } else if (!known) this.#damages.push({ ...culprit, error });
    // The snapshot itself needs more than there is: an earlier one may do.
    else if (needsMore) this.#damages.push(snapshotDamage(plan, error));
    else return false;
    return true;
  }

  async #checkIntegrity(plan: RestorePlan): Promise<void> {
    const { integrityCheck, signal } = this.#request;
    const wanted = plan.uncertain ? 'full' : (integrityCheck ?? 'none');
    if (wanted === 'none') return;
    const path = this.#output.temporaryPath;
    try {
      const [problem] = await checkIntegrity(path, signal ?? new AbortController().signal, wanted);
      if (problem === undefined) return;
      throw new LitestreamError(
        'corrupt',
        plan.uncertain
          ? `snapshot ${plan.snapshot.key} is later than the requested time and cannot be taken back to it: ` +
              `choose a later -timestamp, or -index (integrity check: ${problem})`
          : `the restored database fails its integrity check: ${problem} (-integrity-check none restores it as it is)`,
      );
    } finally {
      await this.#output.removeTemporarySidecars();
    }
  }
}

function snapshotDamage({ snapshot, sources, replica }: RestorePlan, error: LitestreamError): Damage {
  const { generation, key, index } = snapshot;
  return {
    replica: sources.get(snapshot) ?? replica,
    generation,
    key,
    kind: 'snapshot',
    index,
    offset: 0,
    error,
  };
}

/** Lists the replicas for the target. @throws LitestreamError 'aborted' only */
export async function listForRestore(
  request: RestoreTarget & Pick<RestoreRequest, 'parallelism' | 'signal'>,
  replicas: readonly NamedStore[],
  finder: PathFinder = new PathFinder(request),
): Promise<Listings> {
  const generation = request.upTo?.generation ?? request.generation;
  const { parallelism, signal } = request;
  return listReplicas(replicas, { generation, parallelism, signal, finder, target: request });
}
