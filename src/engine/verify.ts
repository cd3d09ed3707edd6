/**
 * Verification of a replica: it is restored to a temporary file from the real objects, checked by SQLite, and compared
 * page by page with the live database at the same position.
 *
 * This happens in the process that replicates, which alone knows that position and has the database file open: it takes
 * digests of the pages under a snapshot hold, which keeps no writer waiting, and lets go before it restores. Another
 * process could read the file under a read mark of its own, but not prove which position that is. The long work of
 * SQLite is done by a process of its own.
 */

import { join } from 'node:path';
import { createReadStream } from 'node:fs';
import { sleep, throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError, hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { segmentKey } from '../format/names.ts';
import { type Position, comparePositions, formatPosition } from '../format/position.ts';
import { checkIntegrity } from '../sqlite/integrity-check.ts';
import { WAL_HEADER_SIZE } from '../sqlite/wal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { nextStart } from './replica-segment.ts';
import { listReplicas } from './restore-listing.ts';
import { missingSegmentError, planRestore } from './restore-plan.ts';
import { restore } from './restore.ts';
import type { SegmentSource, SnapshotHold } from './segment-source.ts';
import {
  type GenerationRange,
  type Problem,
  type VerificationDepth,
  type VerificationResult,
  describeProblems,
  describeStop,
} from './verification-result.ts';
import { objectOfPage } from './verify-blame.ts';
import { isDamage } from './verify-chain.ts';
import { requireSpace, withVerificationFolder } from './verify-folder.ts';
import {
  BLOCK_SIZE,
  type PageDigests,
  differingPages,
  digestLivePages,
  digestPages,
} from './verify-pages.ts';
import { type ReplicaCheck, checkReplica, describeExtent, describeNotes } from './verify-replica.ts';

const PARALLELISM = 2;
const BUSY_RETRY_MS = 200;
/** Of what differs, so much is told. */
const PROBLEM_LIMIT = 20;

export interface VerificationRequest {
  /** The replica's name. */
  readonly name: string;
  readonly store: ObjectStore;
  readonly source: SegmentSource;
  readonly logger: Logger;
  readonly depth: VerificationDepth;
  /** Objects that have left this window are not looked at. */
  readonly retentionMs: number;
  /** When it fires, the result is inconclusive. */
  readonly signal: AbortSignal;
  /** Resolves when the replica holds everything up to a position. */
  readonly storedThrough: (position: Position) => Promise<void>;
  /** In words what the replica does not hold. */
  readonly unstored: () => string | undefined;
  /** The newest snapshot of the generation, as far as is known without asking the store. */
  readonly snapshotKey: () => string | undefined;
  /** Free bytes on the disk of a folder; the system's by default. */
  readonly freeBytes?: ((folder: string) => Promise<number>) | undefined;
}

/** Verifies once. Never rejects, and leaves no file behind. */
export async function verify(request: VerificationRequest): Promise<VerificationResult> {
  return new Verification(request).run();
}

/** Of the live database. */
interface LiveDigests extends PageDigests {
  readonly position: Position;
}

/** What is known when the work is done, or given up. */
type Findings = Pick<VerificationResult, 'result' | 'message' | 'problems' | 'generations'>;

class Verification {
  readonly #request: VerificationRequest;
  /** For a message when it is given up. */
  #stage = 'waiting for the database';
  #position: Position | undefined;
  #pageCount: number | undefined;
  /** What the restore has shown to be wrong: known, whatever becomes of the rest. */
  readonly #found: Problem[] = [];

  constructor(request: VerificationRequest) {
    this.#request = request;
  }

  async run(): Promise<VerificationResult> {
    const startedAtMs = performance.now();
    let findings: Findings;
    try {
      findings = await this.#verify();
    } catch (error) {
      findings = this.#failure(this.#found) ?? this.#inconclusive(error);
    }
    return {
      replica: this.#request.name,
      ...findings,
      at: new Date().toISOString(),
      elapsedMs: Math.round(performance.now() - startedAtMs),
      position: this.#position ?? null,
      pageCount: this.#pageCount ?? null,
    };
  }

  async #verify(): Promise<Findings> {
    const { source, signal, name, depth, snapshotKey } = this.#request;
    const known = snapshotKey();
    const live = await this.#digestLive();
    const { position } = live;
    this.#position = position;
    this.#stage = `waiting until ${formatPosition(position)} is stored`;
    await this.#request.storedThrough(position);
    const limitBytes = await requireSpace(source.metaPath, live.sizeBytes, this.#request.freeBytes);
    await withVerificationFolder(source.metaPath, name, (folder) =>
      this.#restoreAndCompare(join(folder, 'restored.db'), live, limitBytes),
    );
    if (this.#found.length === 0) await this.#checkLatest(position);
    if (depth === 'latest' && this.#found.length === 0) return this.#sound();
    this.#stage = 'reading the objects of the replica';
    const check = await this.#check();
    throwIfAborted(signal);
    if (source.position().generation !== position.generation) {
      throw new LitestreamError('aborted', 'a new generation has begun');
    }
    const problems = [...check.problems, ...this.#missingEnd(check)];
    // Deleted by somebody else than retention, which keeps the newest: nothing in the replica refers to it.
    if (depth === 'all' && known !== undefined && known === snapshotKey() && !check.keys.has(known)) {
      problems.push({ object: known, page: null, message: `missing snapshot ${known}` });
    }
    // Named by its object, what a restore has stumbled over need not be told again.
    const others = this.#found.filter(({ page }) => page !== null || problems.length === 0);
    const generations = depth === 'all' ? check.generations : [];
    return this.#failure([...problems, ...others], generations) ?? { ...this.#sound(check), generations };
  }

  /** Undefined without problems. */
  #failure(problems: readonly Problem[], generations: readonly GenerationRange[] = []): Findings | undefined {
    if (problems.length === 0) return undefined;
    return { result: 'failed', message: describeProblems(problems), problems, generations };
  }

  async #check(): Promise<ReplicaCheck> {
    const { store, depth, retentionMs, signal } = this.#request;
    const latestOf = depth === 'all' ? undefined : this.#position?.generation;
    return checkReplica(store, { parallelism: PARALLELISM, retentionMs, latestOf, signal });
  }

  #sound(check?: ReplicaCheck): Findings {
    const position = this.#position && formatPosition(this.#position);
    const also = check ? `; ${describeExtent(check)} are whole${describeNotes(check)}` : '';
    const message = `restores to the database at ${position ?? ''}: ${this.#pageCount ?? 0} pages are equal, integrity ok${also}`;
    return { result: 'ok', message, problems: [], generations: [] };
  }

  async #digestLive(): Promise<LiveDigests> {
    const { source, signal } = this.#request;
    const hold = await this.#hold();
    this.#stage = 'reading the database';
    try {
      return { ...(await digestLivePages(source, hold, signal)), position: hold.position };
    } finally {
      await hold.release();
    }
  }

  /** Tried again for as long as there is time: a restart of the WAL may be in the way for a moment. */
  async #hold(): Promise<SnapshotHold> {
    const { source, signal } = this.#request;
    for (;;) {
      try {
        return await source.holdSnapshot({ signal });
      } catch (error) {
        if (!hasCode(error, 'busy')) throw error;
        this.#stage = `waiting for the database: ${error.message}`;
        await sleep(BUSY_RETRY_MS, { signal });
      }
    }
  }

  /** Notes what is wrong with what the restore makes at `path`. */
  async #restoreAndCompare(path: string, live: LiveDigests, limitBytes: number): Promise<void> {
    const { signal } = this.#request;
    if (!(await this.#restore(path, live.position, limitBytes))) return;
    this.#stage = 'comparing the restored database';
    await this.#compare(path, live);
    this.#stage = 'checking the integrity of the restored database';
    for (const problem of (await checkIntegrity(path, signal)).slice(0, PROBLEM_LIMIT)) {
      this.#note(`integrity check of the restored database: ${problem}`);
    }
  }

  #note(message: string, page: number | null = null, object: string | null = null): void {
    this.#found.push({ object, page, message });
  }

  /** Whether it could be restored. */
  async #restore(path: string, position: Position, limitBytes: number): Promise<boolean> {
    const { name, store, logger, signal } = this.#request;
    this.#stage = `restoring ${formatPosition(position)}`;
    logger.debug('restoring to verify', { position: formatPosition(position), path });
    try {
      await restore({
        replicas: [{ name, store }],
        outputPath: path,
        generation: position.generation,
        upTo: position,
        parallelism: PARALLELISM,
        limitBytes,
        logger: quietLogger(logger),
        signal,
      });
      return true;
    } catch (error) {
      if (!isDamage(error) && !hasCode(error, 'no-backup')) throw error;
      this.#note(error.message);
      return false;
    }
  }

  async #compare(path: string, live: LiveDigests): Promise<void> {
    const { source, signal } = this.#request;
    const { pageSizeBytes } = source;
    const content = createReadStream(path, { highWaterMark: BLOCK_SIZE, signal });
    const restored = await digestPages(content, pageSizeBytes, live.pagesEach);
    this.#pageCount = live.sizeBytes / pageSizeBytes;
    const at = formatPosition(live.position);
    if (restored.sizeBytes !== live.sizeBytes) {
      this.#note(
        `restored database has ${restored.sizeBytes} bytes, the live one ${live.sizeBytes} at ${at}`,
      );
      return;
    }
    for (const { first, last } of differingPages(live, restored, { pageSizeBytes, limit: PROBLEM_LIMIT })) {
      const pages = first === last ? `page ${first} differs` : `pages ${first} to ${last} differ`;
      this.#note(`${pages} from the database at ${at}`, first);
    }
    if (live.pagesEach === 1) await this.#blame(live.position);
  }

  /** Whether a restore of the latest state takes this generation: what equals the database is of no use otherwise. */
  async #checkLatest(position: Position): Promise<void> {
    const { name, store, source, signal } = this.#request;
    this.#stage = 'finding out which generation is the latest';
    const options = { generation: undefined, parallelism: PARALLELISM, target: {}, signal };
    const { listed } = await listReplicas([{ name, store }], options);
    const outcome = planRestore(listed, {});
    const taken = 'plans' in outcome ? outcome.plans[0]?.generation : undefined;
    if (taken === undefined || taken === position.generation) return;
    if (source.position().generation !== position.generation) return;
    this.#note(
      `a restore takes generation ${taken}, not ${position.generation}, which is this database's: ` +
        `another host may write to this replica; restore -generation ${position.generation}, and give each its own path`,
    );
  }

  /** Adds the object to the first page that differs: each takes a pass over the WAL, and one shows where to look. */
  async #blame(position: Position): Promise<void> {
    const { source, signal, logger } = this.#request;
    const { pageSizeBytes } = source;
    const [first] = this.#found;
    if (first?.page == null) return;
    const at = { position, pageSizeBytes, parallelism: PARALLELISM, signal };
    try {
      const object = await objectOfPage(this.#request, first.page, at);
      if (object === undefined) return;
      this.#found[0] = { ...first, object, message: `${first.message}: it is restored from ${object}` };
    } catch (error) {
      logger.debug('cannot tell from which object a page is', { error: messageOf(error) });
    }
  }

  /** What the database has stored and the replica does not have any more, though its chain is whole. */
  #missingEnd({ ends }: ReplicaCheck): Problem[] {
    const position = this.#position;
    const end = position && ends.get(position.generation);
    if (!end) return [];
    const { generation, index, offset } = position;
    // A WAL header by itself is never stored.
    const wanted = { generation, index, offset: offset <= WAL_HEADER_SIZE ? 0 : offset };
    const { source } = this.#request;
    const start = source.hasIndex(end.index) ? nextStart(source, end) : end;
    if (comparePositions(start, wanted) >= 0) return [];
    const object = segmentKey(generation, start.index, start.offset);
    const message = `${missingSegmentError(end, start).message}; the database is at ${formatPosition(position)}`;
    return [{ object, page: null, message }];
  }

  #inconclusive(error: unknown): Findings {
    const { signal, unstored } = this.#request;
    const lacking = this.#stage.startsWith('waiting until') ? unstored() : undefined;
    const stage = lacking === undefined ? this.#stage : `${this.#stage}: ${lacking}`;
    const message = describeStop(stage, error, signal);
    return { result: 'inconclusive', message, problems: [], generations: [] };
  }
}

/** A logger for the restore: its steps are of no interest, and what it finds is told by the result. */
export function quietLogger(logger: Logger): Logger {
  return {
    debug: (message, attributes) => logger.debug(message, attributes),
    info: (message, attributes) => logger.debug(message, attributes),
    warn: (message, attributes) => logger.debug(message, attributes),
    error: (message, attributes) => logger.debug(message, attributes),
    with: (attributes) => quietLogger(logger.with(attributes)),
  };
}
