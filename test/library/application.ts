/** Starts test/library/application.mjs and talks to it. */

import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { until, type Exit } from '../support/process.ts';

const SCRIPT = fileURLToPath(new URL('./application.mjs', import.meta.url));

export interface Said {
  readonly worker: number;
  readonly port?: number;
  readonly event?: string;
  readonly pid?: number;
  readonly error?: string;
  readonly reason?: string;
  readonly expected?: boolean;
  readonly code?: number | string | null;
  readonly signal?: string | null;
  readonly level?: string;
  readonly message?: string;
  readonly attributes?: Readonly<Record<string, unknown>>;
  readonly missing?: readonly { readonly path: string; readonly restored: boolean }[];
}

export interface ApplicationOptions {
  readonly database: string;
  /** Of startReplication(). */
  readonly options: object;
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
}

export class Application {
  readonly said: Said[] = [];
  readonly exited: Promise<Exit>;
  readonly #child: ChildProcess;
  #standardError = '';
  #exit: Exit | undefined;

  constructor({ database, options, env = {}, cwd }: ApplicationOptions) {
    const inherited = Object.entries(process.env).filter(
      ([name]) => !/^(AWS_|LITESTREAM_|VITEST|NODE_)/.test(name),
    );
    this.#child = spawn(process.execPath, [SCRIPT], {
      env: {
        ...Object.fromEntries(inherited),
        APP_DATABASE: database,
        APP_OPTIONS: JSON.stringify(options),
        ...env,
      },
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(cwd === undefined ? {} : { cwd }),
    });
    createInterface({ input: this.#child.stdout! }).on('line', (line) =>
      this.said.push(JSON.parse(line) as Said),
    );
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => (this.#standardError += text));
    this.exited = new Promise((resolve) =>
      this.#child.on('close', (code, signal) => resolve((this.#exit = { code, signal }))),
    );
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get running(): boolean {
    return this.#exit === undefined;
  }

  /** The first thing said from number `from` on that matches. */
  async heard(matches: (said: Said) => boolean, from = 0): Promise<Said> {
    return await until(
      () => {
        const found = this.said.slice(from).find(matches);
        if (!found && this.#exit) throw new Error(`the application ended\n${this.log()}`);
        return found;
      },
      { timeoutMs: 40_000, describe: () => `not heard: ${String(matches)}\n${this.log()}` },
    );
  }

  async event(name: string, from = 0): Promise<Said> {
    return await this.heard(({ event }) => event === name, from);
  }

  /** What the web server answers; of the worker that said so first. */
  async get(path: string): Promise<Record<string, unknown>> {
    const { port } = await this.heard((said) => said.port !== undefined);
    const response = await fetch(`http://127.0.0.1:${port!}${path}`, { signal: AbortSignal.timeout(35_000) });
    const text = await response.text();
    if (!response.ok) throw new Error(`${path} answers ${response.status}: ${text}\n${this.log()}`);
    return JSON.parse(text) as Record<string, unknown>;
  }

  async end(signal: NodeJS.Signals): Promise<Exit> {
    if (this.#exit === undefined) this.#child.kill(signal);
    return await this.exited;
  }

  log(): string {
    return [...this.said.slice(-60).map((said) => JSON.stringify(said)), this.#standardError].join('\n');
  }
}

/** Whether a process is there and no zombie. */
export function lives(pid: number): boolean {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2)[0] !== 'Z';
  } catch {
    return false; // Gone.
  }
}
