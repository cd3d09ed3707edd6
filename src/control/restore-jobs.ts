/**
 * Restores that somebody has asked for from afar, in the background: always to a new file beside the database, with progress,
 * never over something that is there.
 */

import { randomUUID } from 'node:crypto';
import { basename, dirname, join } from 'node:path';
import { LitestreamError, hasCode, messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { formatPosition } from '../format/position.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import type { CopyRequest, ReplicaReader, RestorePlanReport } from './replica-reader.ts';

const MAX_RUNNING = 2;
/** Somebody waits for it. */
const PLAN_TIMEOUT_MS = 60_000;
/** Jobs that are remembered after their end. */
const MAX_KEPT = 20;

export interface RestoreJobRequest {
  /** As configured. */
  readonly database: string;
  /** Undefined: the one with the newest data. */
  readonly replica?: string | undefined;
  /** ISO 8601; undefined: the latest state. */
  readonly timestamp?: string | undefined;
  /** Name of the new file in the database's folder; undefined: one with the time in it. */
  readonly fileName?: string | undefined;
}

export interface RestoreJob {
  readonly id: string;
  readonly database: string;
  readonly outputPath: string;
  /** What was asked for, in ISO 8601; null: the latest state. */
  readonly timestamp: string | null;
  readonly state: 'running' | 'done' | 'failed' | 'cancelled';
  readonly startedAt: string;
  readonly endedAt: string | null;
  readonly bytesDone: number;
  /** Compressed bytes to fetch; 0 before that is known. */
  readonly bytesTotal: number;
  readonly segmentsDone: number;
  readonly segmentsTotal: number;
  /** Of the restored file; null before it is there. */
  readonly sizeBytes: number | null;
  readonly position: string | null;
  readonly error: string | null;
}

export interface RestoreJobsOptions {
  readonly databases: readonly DatabaseOptions[];
  readonly reader: ReplicaReader;
  readonly logger: Logger;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

export class RestoreJobs {
  readonly #options: RestoreJobsOptions;
  readonly #jobs: Mutable<RestoreJob>[] = [];
  readonly #running = new Map<
    string,
    { readonly controller: AbortController; readonly ended: Promise<void> }
  >();

  constructor(options: RestoreJobsOptions) {
    this.#options = options;
  }

  /** The newest first. */
  list(): readonly RestoreJob[] {
    return this.#jobs.map((job) => ({ ...job }));
  }

  /** @throws LitestreamError 'not-found' */
  get(id: string): RestoreJob {
    const job = this.#jobs.find((candidate) => candidate.id === id);
    if (!job) throw new LitestreamError('not-found', `there is no restore ${id} here (any more)`);
    return { ...job };
  }

  /**
   * Begins; what fails later is in the job.
   * @throws LitestreamError 'not-found' without such a database or replica, 'usage' for a name or a time that cannot be, 'busy'
   *   while others run
   */
  start(request: RestoreJobRequest): RestoreJob {
    const database = this.#find(request);
    const timestamp = timeOf(request.timestamp);
    if (this.#running.size >= MAX_RUNNING) {
      throw new LitestreamError(
        'busy',
        `${MAX_RUNNING} restores run already: wait for one of them, or cancel it`,
      );
    }
    const startedAt = new Date();
    const job: Mutable<RestoreJob> = {
      id: randomUUID(),
      database: database.path,
      outputPath: join(
        dirname(database.path),
        fileNameOf(request.fileName, database.path, timestamp ?? startedAt),
      ),
      timestamp: timestamp?.toISOString() ?? null,
      state: 'running',
      startedAt: startedAt.toISOString(),
      endedAt: null,
      bytesDone: 0,
      bytesTotal: 0,
      segmentsDone: 0,
      segmentsTotal: 0,
      sizeBytes: null,
      position: null,
      error: null,
    };
    if (this.#jobs.some(({ state, outputPath }) => state === 'running' && outputPath === job.outputPath)) {
      throw new LitestreamError('busy', `a restore to ${job.outputPath} runs already`);
    }
    this.#jobs.unshift(job);
    this.#jobs.splice(MAX_KEPT);
    const controller = new AbortController();
    const ended = this.#run(job, { ...request, timestamp }, database, controller.signal);
    this.#running.set(job.id, { controller, ended });
    return { ...job };
  }

  /** Ends a restore; nothing of it is left behind. Of one that has ended it changes nothing. @throws LitestreamError 'not-found' */
  async cancel(id: string): Promise<RestoreJob> {
    this.get(id);
    const running = this.#running.get(id);
    running?.controller.abort();
    await running?.ended;
    return this.get(id);
  }

  /**
   * What a restore would fetch.
   * @throws LitestreamError as restore() does when nothing matches, 'timeout' when the replicas take too long
   */
  async plan(request: RestoreJobRequest, signal: AbortSignal): Promise<RestorePlanReport> {
    const database = this.#find(request);
    const copy = copyOf(database, request.replica, timeOf(request.timestamp));
    const limit = AbortSignal.timeout(PLAN_TIMEOUT_MS);
    try {
      return await this.#options.reader.plan(copy, AbortSignal.any([signal, limit]));
    } catch (error) {
      if (!limit.aborted || signal.aborted) throw error;
      const message = `the replicas of ${database.path} gave no plan within ${PLAN_TIMEOUT_MS / 1000} seconds: ask again later`;
      throw new LitestreamError('timeout', message, { cause: error });
    }
  }

  /** Ends all restores. Never rejects. */
  async close(): Promise<void> {
    const running = [...this.#running.values()];
    for (const { controller } of running) controller.abort();
    await Promise.all(running.map(({ ended }) => ended));
  }

  #find({ database, replica }: RestoreJobRequest): DatabaseOptions {
    const found = this.#options.databases.find(({ path }) => path === database);
    if (!found) throw new LitestreamError('not-found', `database ${database} is not configured here`);
    if (replica !== undefined && !found.replicas.some(({ name }) => name === replica)) {
      throw new LitestreamError('not-found', `database ${database} has no replica ${replica}`);
    }
    return found;
  }

  /** Never rejects. */
  async #run(
    job: Mutable<RestoreJob>,
    { replica, timestamp }: { readonly replica?: string | undefined; readonly timestamp: Date | undefined },
    database: DatabaseOptions,
    signal: AbortSignal,
  ): Promise<void> {
    const logger = this.#options.logger.with({ db: database.path });
    logger.info('restore asked for', { path: job.outputPath, timestamp: job.timestamp ?? 'latest' });
    try {
      const copy = { ...copyOf(database, replica, timestamp), outputPath: job.outputPath };
      const result = await this.#options.reader.restore(copy, {
        signal,
        logger,
        onProgress: (progress) => Object.assign(job, progress),
      });
      job.sizeBytes = result.sizeBytes;
      job.position = formatPosition(result.position);
      job.state = 'done';
    } catch (error) {
      job.state = signal.aborted && hasCode(error, 'aborted') ? 'cancelled' : 'failed';
      job.error = job.state === 'cancelled' ? null : messageOf(error);
      if (job.error !== null) logger.error('restore failed', { path: job.outputPath, error: job.error });
    } finally {
      job.endedAt = new Date().toISOString();
      this.#running.delete(job.id);
    }
  }
}

function copyOf(
  { replicas }: DatabaseOptions,
  chosen: string | undefined,
  timestamp: Date | undefined,
): CopyRequest {
  const all = replicas.filter(({ name }) => chosen === undefined || name === chosen);
  return { replicas: all.map(({ name, store }) => ({ name, store })), timestamp };
}

function timeOf(text: string | undefined): Date | undefined {
  if (text === undefined) return undefined;
  const time = new Date(text);
  if (/^\d{4}-\d\d-\d\dT.*(Z|[+-]\d\d:\d\d)$/.test(text) && !Number.isNaN(time.getTime())) return time;
  throw new LitestreamError(
    'usage',
    'timestamp must be in ISO 8601 with a zone, such as 2000-01-01T00:00:00Z',
  );
}

/** Of the files that SQLite and restores make beside a database: they are read as part of another one. */
const OF_ANOTHER_FILE = /(-wal|-shm|-journal|\.tmp)$/i;

/**
 * A name that nothing but a copy of this database has. What is in the file is what users have stored: under a name of their choice it could be a
 * program to some other one that reads the folder.
 * @throws LitestreamError 'usage'
 */
function fileNameOf(name: string | undefined, databasePath: string, time: Date): string {
  const own = basename(databasePath);
  if (name === undefined || name === '') {
    return `${own}.restored-${time.toISOString().replace(/[-:]|\.\d+/g, '')}`;
  }
  // \p{C}: control characters, and halves of surrogate pairs, which are no text.
  const plain = /^[^/\\\p{C}]{1,200}$/u.test(name) && !name.startsWith('.');
  if (!plain)
    throw new LitestreamError('usage', 'the new file needs a plain name: it is made beside the database');
  const rest = name.startsWith(own) ? name.slice(own.length) : '';
  // One more ending at most: some web servers go by any of them.
  const isCopy = /^[-._ ]([^.]+\.(db|sqlite\d?)|([^.]+\.)?restored-[^.]+)$/i.test(rest);
  if (!isCopy || OF_ANOTHER_FILE.test(name)) {
    throw new LitestreamError(
      'usage',
      `the new file must be called ${own} and more, with .db or .sqlite at its end: ${own}-copy.db, ${own}.restored-1`,
    );
  }
  return name;
}
