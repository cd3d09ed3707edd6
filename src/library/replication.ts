/**
 * `startReplication()`: a `litestream replicate` in a process of its own beside the application's, because SQLite's locks
 * belong to a process: following a database within the one that writes to it would drop them.
 */

import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { LitestreamError, messageOf, wrapError } from '../base/errors.ts';
import type { StatusReport } from '../control/status-report.ts';
import { beforeEnd } from './application-end.ts';
import { electionFolder, findReplicator } from './election.ts';
import { type EnabledOptions, whyOff } from './enabled.ts';
import { type LogEntry, type LogSink, type LogTarget, logSink } from './log.ts';
import { nodeProgram } from './node-program.ts';
import { type ProcessEnd, ReplicatorProcess } from './replicator-process.ts';
import { type ConfigOptions, resolveConfig } from './source.ts';
import { status } from './status.ts';
import { type SyncOptions, waitForSync } from './sync.ts';

/** How soon another process takes over when the replicator of the host has died. */
const STANDBY_POLL_MS = 1000;
const DEFAULT_MIN_DELAY_MS = 200;
const DEFAULT_MAX_DELAY_MS = 30_000;
/** A child that replicated for so long was well: the next restart is quick again. */
const STABLE_MS = 10_000;
/** What a child may take beyond its own shutdown-timeout. */
const STOP_GRACE_MS = 3000;

export interface ReplicationOptions extends ConfigOptions, EnabledOptions {
  /** Where the log of the child and of its supervision goes. Default: standard error. */
  readonly logger?: LogTarget | undefined;
  /**
   * Whether SIGINT and SIGTERM, where the application does not listen to them itself, and the natural end of the process wait
   * until the last changes are stored. Default: true.
   */
  readonly signals?: boolean | undefined;
  /** How long to wait before a child that has ended is started again: doubled each time, with some chance. */
  readonly restart?: { readonly minDelayMs?: number; readonly maxDelayMs?: number } | undefined;
}

/** What happens, for those who want more than the log. Listeners that throw are logged, they end nothing. */
export interface ReplicationEvents {
  /** A child was started. */
  start: [{ readonly pid: number }];
  /** It replicates. */
  ready: [{ readonly pid: number }];
  /** A new generation has begun: continuity could not be proven, or it is the first one. */
  generation: [{ readonly database: string; readonly generation: string; readonly reason: string }];
  /** Another process replicates these databases: this one waits to take over. */
  standby: [{ readonly pid: number | undefined }];
  /** The child has ended; `expected` when that was asked for. */
  exit: [ProcessEnd & { readonly pid: number; readonly expected: boolean }];
  /** Something keeps replication from running. It is tried again, unless the code is 'unsupported'. */
  failure: [LitestreamError];
  /** A child is going to be started after this long. */
  restart: [{ readonly delayMs: number; readonly attempt: number }];
  /** All is over: stop() has ended. */
  stop: [];
}

export type ReplicationState =
  'off' | 'starting' | 'running' | 'standby' | 'waiting' | 'failed' | 'stopping' | 'stopped';

/** See startReplication(). */
export class Replication extends EventEmitter<ReplicationEvents> {
  readonly #options: ReplicationOptions;
  readonly #log: LogSink;
  readonly #cwd: string = process.cwd();
  readonly #ending = new AbortController();
  /** Its reason is why replication cannot run here: it is not tried again. */
  readonly #givenUp = new AbortController();
  #state: ReplicationState = 'starting';
  #process: ReplicatorProcess | undefined;
  /** What the config gives the child to end. */
  #stopTimeoutMs = DEFAULT_MAX_DELAY_MS;
  #running: Promise<void> | undefined;
  #stopped: Promise<void> | undefined;
  #forget: (() => void) | undefined;
  #attempt = 0;
  #readyAtMs: number | undefined;

  /** Use startReplication(). */
  constructor(options: ReplicationOptions) {
    super();
    this.#options = options;
    this.#log = logSink(options.logger);
    const off = whyOff(options, { ...process.env, ...options.env });
    if (off !== undefined) {
      this.#state = 'off';
      this.#note(off.level, 'litestream replicates nothing', { reason: off.reason });
      return;
    }
    if (options.signals !== false) this.#forget = beforeEnd(() => this.stop());
    this.#running = this.#run();
  }

  get state(): ReplicationState {
    return this.#state;
  }

  /** Of the child of this process, while there is one. */
  get pid(): number | undefined {
    return this.#process?.pid;
  }

  /**
   * Resolves when everything that is committed now can be restored from every replica, whichever process replicates it:
   * to true, or to false at once where replication is off.
   * @throws LitestreamError 'timeout' with what is missing, 'aborted', 'unsupported' when it cannot run here
   */
  async waitForSync(options: Pick<SyncOptions, 'database' | 'timeoutMs' | 'signal'> = {}): Promise<boolean> {
    if (this.#state === 'off') return false;
    const signals = [this.#givenUp.signal, options.signal].filter((signal) => signal !== undefined);
    try {
      await waitForSync({ ...this.#options, ...options, signal: AbortSignal.any(signals) });
    } catch (error) {
      throw this.#failure ?? error;
    }
    return true;
  }

  /** How all databases are: see status(). Where replication cannot run, its `reason` says why. */
  async status(): Promise<StatusReport> {
    const report = await status(this.#options);
    const failure = this.#failure;
    return failure === undefined || report.running ? report : { ...report, reason: failure.message };
  }

  /** Why replication cannot run here. */
  get #failure(): LitestreamError | undefined {
    return this.#givenUp.signal.reason as LitestreamError | undefined;
  }

  /** Stores the last changes and ends the child. Idempotent; never rejects: what is not stored is in the log. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<void> {
    this.#ending.abort();
    if (this.#state !== 'off') this.#state = 'stopping';
    await this.#process?.stop(this.#stopTimeoutMs);
    await this.#running;
    this.#forget?.();
    this.#state = 'stopped';
    this.#tell('stop');
  }

  /** Until stop(), or until it is known that it cannot run here. Never rejects. */
  async #run(): Promise<void> {
    while (!this.#ending.signal.aborted) {
      const delayMs = await this.#try().catch((error: unknown) => this.#fail(wrapError(error, 'replicate')));
      if (delayMs === undefined) return;
      // An aborted sleep is the order to end.
      await sleep(delayMs, undefined, { ref: false, signal: this.#ending.signal }).catch(() => undefined);
    }
  }

  /** One child from its start to its end, unless another process replicates. @returns how long to wait then, in ms; undefined: for ever */
  async #try(): Promise<number | undefined> {
    const resolved = await resolveConfig(this.#options);
    const { databases, shutdownTimeoutMs } = resolved.config;
    this.#stopTimeoutMs = shutdownTimeoutMs + STOP_GRACE_MS;
    const folder = electionFolder(databases);
    const other = await findReplicator(folder, databases);
    if (other !== undefined) return this.#ending.signal.aborted ? 0 : this.#standBy(other);
    const execPath = await nodeProgram(resolved.env);
    if (this.#ending.signal.aborted) return 0;
    this.#state = 'starting';
    this.#readyAtMs = undefined;
    const process = new ReplicatorProcess({
      resolved,
      execPath,
      folder,
      cwd: this.#cwd,
      onLog: (entry) => this.#forward(entry),
      onReady: () => this.#onReady(),
    });
    this.#process = process;
    this.#tell('start', { pid: process.pid });
    const end = await process.ended;
    this.#process = undefined;
    return this.#afterEnd(process.pid, end);
  }

  #onReady(): void {
    const pid = this.#process?.pid;
    if (pid === undefined) return;
    this.#readyAtMs = performance.now();
    if (!this.#ending.signal.aborted) this.#state = 'running';
    this.#tell('ready', { pid });
  }

  /** @returns how long to wait before the next try, in ms; undefined: there is none */
  #afterEnd(pid: number, end: ProcessEnd): number | undefined {
    const expected = this.#ending.signal.aborted;
    this.#tell('exit', { ...end, pid, expected });
    if (expected) return 0;
    if (end.failure?.code === 'busy') return this.#standBy(undefined);
    const how = end.signal === null ? `exit code ${String(end.code)}` : end.signal;
    const code = end.failure === undefined || end.failure.code === 'internal' ? 'io' : end.failure.code;
    if (performance.now() - (this.#readyAtMs ?? Infinity) > STABLE_MS) this.#attempt = 0;
    return this.#fail(
      new LitestreamError(code, end.failure?.message ?? `litestream has ended with ${how}`),
      pid,
    );
  }

  #standBy(pid: number | undefined): number {
    if (this.#state !== 'standby') {
      this.#note('info', 'another process replicates these databases, waiting to take over', { pid });
      this.#tell('standby', { pid });
    }
    this.#state = 'standby';
    // Not all at once.
    return STANDBY_POLL_MS * (0.5 + Math.random());
  }

  /** @returns how long to wait before the next try, in ms; undefined when that would fail in the same way */
  #fail(error: LitestreamError, pid?: number): number | undefined {
    const final = error.code === 'unsupported';
    if (final) {
      this.#state = 'failed';
      this.#givenUp.abort(error);
      this.#forget?.();
    }
    const message = final
      ? 'litestream cannot run here, databases are not replicated'
      : 'litestream does not run';
    this.#note('error', message, { error: error.message, pid });
    this.#tell('failure', error);
    return final ? undefined : this.#backOff();
  }

  #backOff(): number {
    const { minDelayMs = DEFAULT_MIN_DELAY_MS, maxDelayMs = DEFAULT_MAX_DELAY_MS } =
      this.#options.restart ?? {};
    const delayMs = Math.min(maxDelayMs, minDelayMs * 2 ** this.#attempt) * (0.75 + Math.random() / 4);
    this.#attempt++;
    this.#state = 'waiting';
    this.#note('info', 'litestream is started again', {
      delayMs: Math.round(delayMs),
      attempt: this.#attempt,
    });
    this.#tell('restart', { delayMs, attempt: this.#attempt });
    return delayMs;
  }

  #forward(entry: LogEntry): void {
    this.#log(entry);
    const { db, generation, reason } = entry.attributes;
    if (entry.message !== 'sync: new generation') return;
    this.#tell('generation', {
      database: String(db),
      generation: String(generation),
      reason: String(reason),
    });
  }

  #note(level: LogEntry['level'], message: string, attributes: Record<string, unknown>): void {
    const given = Object.entries(attributes).filter(([, value]) => value !== undefined);
    this.#log({ level, message, attributes: Object.fromEntries(given) });
  }

  #tell<Name extends keyof ReplicationEvents>(name: Name, ...details: ReplicationEvents[Name]): void {
    try {
      (this as EventEmitter).emit(name, ...details);
    } catch (error) {
      this.#note('error', 'a listener has failed', { event: name, error: messageOf(error) });
    }
  }
}

/**
 * Replicates databases in a child process for as long as this process lives: restarts it when it ends, hands its log on, and
 * has it store the last changes at the end, also when this process is killed. Of all processes of this host that ask for the
 * same databases (cluster, PM2) one does it, and another takes over when that one dies. Never throws: what is wrong is logged,
 * told as an event, and tried again, unless this Node.js, platform or bundle can never run it. Where replication is off (see
 * `enabled`) this logs one line and starts nothing.
 */
export function startReplication(options: ReplicationOptions = {}): Replication {
  return new Replication(options);
}
