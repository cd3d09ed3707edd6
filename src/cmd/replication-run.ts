/**
 * The life of one `replicate`: start, the `-exec` child, waiting, and a shutdown that ends within its time whatever
 * hangs. The child is stopped before the last changes are stored, as it may still write.
 */

import { timeoutSignal, timerDelay } from '../base/concurrency.ts';
import type { Logger } from '../base/logger.ts';
import type { Replicator, UnstoredReplica } from '../engine/replicator.ts';
import type { WebServer } from '../web/serve.ts';
import type { CommandContext } from './context.ts';
import { ExecProcess, describeExecEnd, execExitCode } from './exec-process.ts';
import type { ExecEnd } from './exec-process.ts';
import { onStopSignal } from './signals.ts';
import type { StopSignal } from './signals.ts';

/** The part of the shutdown's time that is left for storing the last changes when the child does not stop. */
const STORE_SHARE = 0.4;
/** Time to report what is not stored, after storing was given up. */
const REPORT_SHARE = 0.05;
const KEEP_ALIVE_MS = 2 ** 30;

export interface ReplicationRun {
  readonly replicator: Pick<Replicator, 'start' | 'stop' | 'stats'>;
  /** For the child's end and the last changes together. */
  readonly shutdownTimeoutMs: number;
  /** Program and arguments. */
  readonly exec: readonly string[] | undefined;
  readonly context: CommandContext;
  /** Called when a signal would be heard, before anything is opened. */
  readonly onStarting: () => void;
  /** Called when replication runs, before the child is started. What it gives is closed at the end. */
  readonly onStarted: (replicator: ReplicationRun['replicator']) => Promise<WebServer | undefined>;
  /** Called when replication has ended, also when it could not be started, with what is not stored. */
  readonly onEnded: (unstored: readonly UnstoredReplica[]) => Promise<void>;
}

/** How the waiting ended. */
type Ending =
  | { readonly by: 'signal'; readonly signal: StopSignal }
  | { readonly by: 'child'; readonly end: ExecEnd }
  | { readonly by: 'failure'; readonly error: unknown };

/** Replicates until a signal comes, the child ends, or the start fails. Gives the exit code, or rejects with the failure. */
export async function runReplication(run: ReplicationRun): Promise<number> {
  const session = new ReplicationSession(run);
  return session.run();
}

class ReplicationSession {
  readonly #run: ReplicationRun;
  readonly #logger: Logger;
  /** How replicator.start() went: it is stopped only after it has started. */
  #started: Promise<'started' | 'failed'> | undefined;
  /** A signal has come: no child is started any more. */
  #stopping = false;
  #child: ExecProcess | undefined;
  #server: WebServer | undefined;

  constructor(run: ReplicationRun) {
    this.#run = run;
    this.#logger = run.context.logger;
  }

  async run(): Promise<number> {
    // Without databases nothing else would keep the process running.
    const keepAlive = setInterval(() => undefined, KEEP_ALIVE_MS);
    try {
      const ending = await Promise.race([this.#signal(), this.#serve()]);
      return await this.#shutDown(ending);
    } finally {
      clearInterval(keepAlive);
    }
  }

  /** Resolves with the first stop signal; the second one ends the process there and then. */
  #signal(): Promise<Ending> {
    return new Promise((resolve) => {
      onStopSignal((signal) => {
        if (this.#stopping) {
          this.#abandon('second signal received, exiting at once: the last changes may not be stored');
        }
        this.#stopping = true;
        resolve({ by: 'signal', signal });
      }, this.#run.context.supervision);
    });
  }

  /** Starts everything; resolves when the child ends or something cannot be started, else never. */
  async #serve(): Promise<Ending> {
    const { replicator, exec, onStarting, onStarted, context } = this.#run;
    try {
      onStarting();
      const starting = replicator.start();
      this.#started = starting.then(
        () => 'started',
        () => 'failed',
      );
      await starting;
      this.#server = await onStarted(replicator);
      if (exec === undefined || this.#stopping) return await new Promise<never>(() => undefined);
      this.#child = new ExecProcess(exec, context.env);
      await this.#child.started;
    } catch (error) {
      return { by: 'failure', error };
    }
    return { by: 'child', end: await this.#child.ended };
  }

  async #shutDown(ending: Ending): Promise<number> {
    const { shutdownTimeoutMs } = this.#run;
    const deadline = performance.now() + shutdownTimeoutMs;
    const hardStop = setTimeout(
      () => this.#abandon('shutdown took longer than shutdown-timeout: the last changes may not be stored'),
      timerDelay(shutdownTimeoutMs),
    );
    if (ending.by === 'signal') this.#logger.info('signal received, litestream shutting down');
    if (ending.by === 'child') this.#logger.info('subprocess exited, litestream shutting down');
    const childFailure =
      ending.by === 'signal'
        ? await this.#stopChild(ending.signal)
        : ending.by === 'child'
          ? ending.end
          : undefined;
    const unstored = await this.#storeRest(deadline - shutdownTimeoutMs * REPORT_SHARE);
    await this.#server?.close();
    await this.#run.onEnded(unstored);
    clearTimeout(hardStop);
    if (ending.by === 'failure') throw ending.error;
    this.#logger.info('litestream shut down');
    const code = childFailure === undefined ? 0 : execExitCode(childFailure);
    if (childFailure !== undefined && code !== 0) {
      this.#logger.error('failed to run', { error: describeExecEnd(childFailure) });
    }
    return code !== 0 || unstored.length === 0 ? code : 1;
  }

  /** Passes `signal` on and waits for the child. Gives how it ended, if not by that signal. */
  async #stopChild(signal: StopSignal): Promise<ExecEnd | undefined> {
    const child = this.#child;
    if (child === undefined) return undefined;
    this.#logger.info('sending signal to exec process');
    child.kill(signal);
    this.#logger.info('waiting for exec process to close');
    const patience = setTimeout(
      () => {
        this.#logger.error('exec process did not stop in time, killing it to store the last changes');
        child.kill('SIGKILL');
      },
      timerDelay(this.#run.shutdownTimeoutMs * (1 - STORE_SHARE)),
    );
    const end = await child.ended;
    clearTimeout(patience);
    return end.signal === signal ? undefined : end;
  }

  /** Stores what is not stored yet, until then at most (monotonic clock); logs and gives what remains. */
  async #storeRest(deadlineMs: number): Promise<readonly UnstoredReplica[]> {
    // A start that failed has let go of everything by itself.
    if ((await this.#started) !== 'started') return [];
    // Measured from here: the start may have taken its share.
    const signal = timeoutSignal(deadlineMs - performance.now());
    const unstored = await this.#run.replicator.stop(signal);
    for (const { database, replica, reason } of unstored) {
      this.#logger.error('last changes are not stored', { db: database, replica, error: reason });
    }
    return unstored;
  }

  #abandon(message: string): never {
    this.#logger.error(message);
    this.#child?.kill('SIGKILL');
    process.exit(1);
  }
}
