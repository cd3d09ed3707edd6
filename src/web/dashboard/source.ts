/**
 * Where the dashboard has everything from: the control socket of the running `replicate`, or, when nothing runs, the replicas. It
 * never opens a database, nor any file beside one: in a web server that would drop SQLite's locks.
 */

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { LitestreamError, hasCode, wrapError } from '../../base/errors.ts';
import type { Logger } from '../../base/logger.ts';
import { callControl, fetchFile } from '../../control/client.ts';
import { type MetricsAnswer, restoreRoutes } from '../../control/dashboard-routes.ts';
import { findSocket } from '../../control/find-socket.ts';
import type { HistoryReport } from '../../control/history.ts';
import { DirectReader } from '../../control/replica-reader.ts';
import type { OpenStore } from '../../control/replica-report.ts';
import { type RestoreJob, RestoreJobs } from '../../control/restore-jobs.ts';
import { FileAnswer, type Route, findRoute } from '../../control/router.ts';
import { type StatusReport, statusReport } from '../../control/status-report.ts';
import { type Survey, survey } from '../../control/survey.ts';
import { Timelines } from '../../control/timeline-report.ts';
import type { DatabaseOptions } from '../../engine/options.ts';
import type { ProcessStatus } from '../../engine/status.ts';

const SOCKET_TIMEOUT_MS = 3000;
const REPLICA_TIMEOUT_MS = 10_000;
/** Replicas are asked for a status no more often than this: it costs listings. */
const REPLICA_STATUS_MS = 30_000;
const MAX_ACTION_MS = 6 * 3600_000;

export interface FileToSend {
  readonly name: string;
  readonly sizeBytes: number;
  readonly stream: Readable;
}

export interface DashboardSource {
  status(): Promise<StatusReport>;
  /** Null when nobody remembers. */
  history(): Promise<HistoryReport | null>;
  jobs(): Promise<readonly RestoreJob[]>;
  /** Null when nothing runs. */
  metrics(): Promise<MetricsAnswer | null>;
  /** One of the routes of docs/status.md, for one database. @throws LitestreamError as it answers */
  call(path: string, body: { readonly database: string }, signal?: AbortSignal): Promise<object>;
  /** A restored copy. @throws LitestreamError */
  download(database: string, id: string): Promise<FileToSend>;
  close(): Promise<void>;
}

/** Of the process itself: what it would answer on its socket. */
export class OwnSource implements DashboardSource {
  readonly #routes: readonly Route[];

  constructor(routes: readonly Route[]) {
    this.#routes = routes;
  }

  async status(): Promise<StatusReport> {
    const process = (await this.#ask('GET', '/status')) as ProcessStatus;
    const databases = process.databases.map((status) => ({ status, source: 'socket' as const }));
    return statusReport({ running: true, blank: false, process, databases });
  }

  async history(): Promise<HistoryReport> {
    return (await this.#ask('GET', '/history')) as HistoryReport;
  }

  async jobs(): Promise<readonly RestoreJob[]> {
    return ((await this.#ask('GET', '/jobs')) as { jobs: RestoreJob[] }).jobs;
  }

  async metrics(): Promise<MetricsAnswer> {
    return (await this.#ask('GET', '/metrics')) as MetricsAnswer;
  }

  call(path: string, body: { readonly database: string }, signal?: AbortSignal): Promise<object> {
    return this.#ask('POST', path, body, signal);
  }

  async download(database: string, id: string): Promise<FileToSend> {
    const answer = await this.#ask('POST', '/download', { database, id });
    if (!(answer instanceof FileAnswer)) throw new LitestreamError('io', `restore ${id} gives no file`);
    return openFile(answer);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #ask(
    method: Route['method'],
    path: string,
    body: object = {},
    signal?: AbortSignal,
  ): Promise<object> {
    const request = { body: body as Record<string, unknown>, signal: signal ?? new AbortController().signal };
    return findRoute(this.#routes, method, path).handle(request);
  }
}

export interface ReplicatedSourceOptions {
  readonly databases: readonly DatabaseOptions[];
  readonly openStore: OpenStore;
  readonly logger: Logger;
}

/** Of a process beside this one, while it runs. */
export class ReplicatedSource implements DashboardSource {
  readonly #options: ReplicatedSourceOptions;
  readonly #jobs: RestoreJobs;
  readonly #own: OwnSource;
  #estimate: { readonly report: StatusReport; readonly atMs: number } | undefined;

  constructor(options: ReplicatedSourceOptions) {
    this.#options = options;
    const reader = new DirectReader(options.openStore);
    this.#jobs = new RestoreJobs({ ...options, reader });
    const timelines = new Timelines(options.databases, reader);
    this.#own = new OwnSource([
      ...restoreRoutes(this.#jobs),
      { method: 'POST', path: '/timeline', handle: ({ body }) => timelines.of(String(body['database'])) },
    ]);
  }

  async status(): Promise<StatusReport> {
    const known = this.#estimate;
    if (known && performance.now() - known.atMs < REPLICA_STATUS_MS) return known.report;
    const { databases, openStore } = this.#options;
    const found: Survey = await survey({
      databases,
      openStore,
      socketTimeoutMs: SOCKET_TIMEOUT_MS,
      replicaTimeoutMs: REPLICA_TIMEOUT_MS,
    });
    const report = statusReport(found);
    const asked = report.databases.some(({ source }) => source === 'replica');
    this.#estimate = asked ? { report, atMs: performance.now() } : undefined;
    return report;
  }

  async history(): Promise<HistoryReport | null> {
    const reports = (await this.#askAll('/history')) as HistoryReport[];
    const [first] = reports;
    if (!first) return null;
    const events = reports.flatMap((report) => report.events).toSorted((a, b) => b.at.localeCompare(a.at));
    return { ...first, databases: reports.flatMap(({ databases }) => databases), events };
  }

  async jobs(): Promise<readonly RestoreJob[]> {
    const answers = (await this.#askAll('/jobs')) as { jobs: RestoreJob[] }[];
    const all = [...answers.flatMap(({ jobs }) => jobs), ...this.#jobs.list()];
    return all.toSorted((a, b) => b.startedAt.localeCompare(a.startedAt));
  }

  async metrics(): Promise<MetricsAnswer | null> {
    const [first] = (await this.#askAll('/metrics')) as MetricsAnswer[];
    return first ?? null;
  }

  async call(path: string, body: { readonly database: string }, signal?: AbortSignal): Promise<object> {
    const socket = await this.#socketOf(body.database, path, body);
    if (socket === undefined) return this.#own.call(path, body, signal);
    const limit = AbortSignal.timeout(MAX_ACTION_MS);
    const bound = signal ? AbortSignal.any([signal, limit]) : limit;
    return (await callControl(socket, { method: 'POST', path, body, signal: bound })) as object;
  }

  async download(database: string, id: string): Promise<FileToSend> {
    const body = { database, id };
    const socket = await this.#socketOf(database, '/download', body);
    if (socket === undefined) return this.#own.download(database, id);
    const signal = AbortSignal.timeout(MAX_ACTION_MS);
    const name =
      (await this.jobs())
        .find((job) => job.id === id)
        ?.outputPath.split('/')
        .at(-1) ?? 'restored';
    return { name, ...(await fetchFile(socket, { method: 'POST', path: '/download', body, signal })) };
  }

  close(): Promise<void> {
    return this.#jobs.close();
  }

  /** Who answers for a database; undefined: this process does, as nothing runs or the restore was begun here. */
  async #socketOf(path: string, action: string, body: object): Promise<string | undefined> {
    const database = this.#options.databases.find((candidate) => candidate.path === path);
    if (!database) throw new LitestreamError('not-found', `database ${path} is not configured here`);
    if ('id' in body && this.#jobs.list().some(({ id }) => id === body.id)) return undefined;
    try {
      return await findSocket(database);
    } catch (error) {
      if (['/timeline', '/plan', '/restore', '/cancel', '/download'].includes(action)) return undefined;
      throw error;
    }
  }

  /** What each running process answers. One that does not is left out: its status tells. */
  async #askAll(path: string): Promise<object[]> {
    const sockets = await Promise.all(
      this.#options.databases.map((database) => findSocket(database).catch(() => undefined)),
    );
    const signal = AbortSignal.timeout(SOCKET_TIMEOUT_MS);
    const answers = await Promise.allSettled(
      [...new Set(sockets)].flatMap((socket) =>
        socket === undefined ? [] : [callControl(socket, { method: 'GET', path, signal })],
      ),
    );
    return answers.flatMap((answer) => (answer.status === 'fulfilled' ? [answer.value as object] : []));
  }
}

async function openFile({ path, name }: FileAnswer): Promise<FileToSend> {
  try {
    const { size } = await stat(path);
    return { name, sizeBytes: size, stream: createReadStream(path) };
  } catch (error) {
    if (hasCode(error, 'not-found')) throw error;
    throw wrapError(error, `read ${path}`);
  }
}
