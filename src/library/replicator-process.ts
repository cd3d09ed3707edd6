/** One `litestream replicate` as a child of the application's process. */

import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Socket } from 'node:net';
import { fileURLToPath } from 'node:url';
import { timerDelay } from '../base/concurrency.ts';
import { commandFile } from '../base/entry-point.ts';
import type { ErrorCode } from '../base/errors.ts';
import {
  type SupervisionMessage,
  type SupervisionSettings,
  supervisionVariables,
} from '../control/supervision.ts';
import type { LogEntry } from './log.ts';
import { parseLogLine } from './log.ts';
import type { ResolvedConfig } from './source.ts';

/** What would change or debug the child although it was meant for the application. */
const APPLICATION_VARIABLES: readonly string[] = ['NODE_OPTIONS', 'NODE_V8_COVERAGE', 'NODE_UNIQUE_ID'];

/** How a child ended. */
export interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** Why it ended, in its own words; undefined when it did not say. */
  readonly failure: { readonly code: ErrorCode | 'internal'; readonly message: string } | undefined;
}

export interface ReplicatorProcessOptions {
  readonly resolved: ResolvedConfig;
  /** See nodeProgram(). */
  readonly execPath: string;
  /** The folder of the lock that elects one replicator; see electionFolder(). */
  readonly folder: string | undefined;
  readonly cwd: string;
  /** Called with each line that it writes. */
  readonly onLog: (entry: LogEntry) => void;
  /** Called once, when it replicates. */
  readonly onReady: () => void;
}

export class ReplicatorProcess {
  readonly pid: number;
  /** Resolves when it is gone and its last line was handed on. Never rejects. */
  readonly ended: Promise<ProcessEnd>;
  readonly #child: ChildProcess;
  #failure: ProcessEnd['failure'];

  /** Does not keep the application's process alive. @throws LitestreamError 'io', 'unsupported' when it cannot be started */
  constructor(options: ReplicatorProcessOptions) {
    const { resolved, execPath, folder, cwd, onReady } = options;
    const { visible, told } = splitEnvironment(resolved.env);
    const env = { ...visible, ...supervisionVariables(folder) };
    const source = resolved.path === undefined ? ['-no-expand-env'] : ['-config', resolved.path];
    // Not by fork(): Deno gives its own arguments to what it starts so.
    const child = spawn(execPath, [fileURLToPath(commandFile()), 'replicate', ...source], {
      cwd,
      env,
      // What a terminal sends to the application must not end the child while the application still writes.
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    this.#child = child;
    this.pid = child.pid ?? 0;
    const settings: SupervisionSettings = { configText: resolved.text, env: told };
    // What fails is known by its end.
    if (child.connected) child.send(settings, () => undefined);
    child.on('message', (message) => {
      const said = message as SupervisionMessage;
      if (said.type === 'ready') onReady();
      else this.#failure = said;
    });
    this.ended = this.#end(this.#readLines(options.onLog));
    this.#hold('unref');
  }

  /**
   * Has it store what is committed and end. Keeps the application's process alive for that long.
   * @param timeoutMs after which it is killed
   */
  async stop(timeoutMs: number): Promise<ProcessEnd> {
    this.#hold('ref');
    if (this.#child.connected) this.#child.disconnect();
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), timerDelay(timeoutMs));
    const end = await this.ended;
    clearTimeout(timer);
    return end;
  }

  /** Resolves when both streams have ended. */
  async #readLines(onLog: (entry: LogEntry) => void): Promise<void> {
    const streams = [this.#child.stdout, this.#child.stderr].filter((stream) => stream !== null);
    await Promise.all(
      streams.map(
        (input) =>
          new Promise<void>((resolve) => {
            // A stream that breaks has no more lines; why the process ends is told elsewhere.
            input.on('error', () => resolve());
            const lines = createInterface({ input });
            lines.on('line', (line) => onLog(parseLogLine(line)));
            lines.on('close', resolve);
          }),
      ),
    );
  }

  #end(read: Promise<void>): Promise<ProcessEnd> {
    return new Promise((resolve) => {
      let over = false;
      const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
        if (over) return;
        over = true;
        void read.then(() => resolve({ code, signal, failure: this.#failure }));
      };
      this.#child.on('exit', finish);
      this.#child.on('error', (error) => {
        // Also what goes wrong with a message or a signal: only what was never started will not exit.
        if (this.#child.pid !== undefined) return;
        this.#failure = { code: 'io', message: `cannot start litestream: ${error.message}` };
        finish(null, null);
      });
    });
  }

  #hold(action: 'ref' | 'unref'): void {
    this.#child[action]();
    // That of Bun has no such methods.
    (this.#child.channel as Partial<Pick<ChildProcess, 'ref' | 'unref'>> | null | undefined)?.[action]?.();
    for (const stream of [this.#child.stdout, this.#child.stderr]) (stream as Socket | null)?.[action]();
  }
}

/**
 * The environment of a child, and what it is told when it runs: everything that options add to the application's own, as keys must not
 * stand in a place that other programs collect. Node.js reads its variables before.
 */
function splitEnvironment(wanted: ResolvedConfig['env']): {
  visible: Record<string, string>;
  told: Record<string, string>;
} {
  const visible: Record<string, string> = {};
  const told: Record<string, string> = {};
  for (const [name, value] of Object.entries(wanted)) {
    if (value === undefined || APPLICATION_VARIABLES.includes(name)) continue;
    const own = process.env[name] === value || name.startsWith('NODE_');
    (own ? visible : told)[name] = value;
  }
  return { visible, told };
}
