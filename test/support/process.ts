/**
 * Runs `litestream` (ours or v0.3.13's) as a real process: line-wise log, waiting for a condition with a deadline,
 * signals. Only processes started here are ever signalled.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { oracle } from './oracle.ts';

export type Binary = 'ours' | 'oracle';

/** What a test drives. `LITESTREAM_SUBJECT=oracle` points the tests at v0.3.13 to see which of them it fails. */
export const SUBJECT: Binary = process.env['LITESTREAM_SUBJECT'] === 'oracle' ? 'oracle' : 'ours';

/** `LITESTREAM_BINARY` points the tests at another build. */
const OURS =
  process.env['LITESTREAM_BINARY'] ?? fileURLToPath(new URL('../../bin/litestream', import.meta.url));
/** `LITESTREAM_NODE` is the Node.js that it runs on, `LITESTREAM_CHILD_SQLITE` its LITESTREAM_SQLITE. Default: as the tests do. */
const NODE = process.env['LITESTREAM_NODE'] ?? process.execPath;
const SQLITE = process.env['LITESTREAM_CHILD_SQLITE'];
const DEFAULT_WAIT_MS = 20_000;

export interface LaunchOptions {
  readonly binary: Binary;
  readonly args: readonly string[];
  /** Added to an environment without credentials and litestream settings of the machine. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Runs as this user and group; needs root. */
  readonly userId?: number;
}

export interface Exit {
  /** Null when a signal ended it. */
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface RunResult extends Exit {
  readonly stdout: string;
  readonly stderr: string;
}

function environment(extra: Readonly<Record<string, string>> = {}): NodeJS.ProcessEnv {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(AWS_|LITESTREAM_|VITEST|NODE_)/.test(name),
  );
  const driver = SQLITE === undefined ? {} : { LITESTREAM_SQLITE: SQLITE };
  return { ...Object.fromEntries(inherited), TZ: 'UTC', ...driver, ...extra };
}

function launch({ binary, args, env, cwd, userId }: LaunchOptions): ChildProcess {
  const [file, head] = binary === 'ours' ? [NODE, [OURS]] : [oracle(), []];
  return spawn(file, [...head, ...args], {
    env: environment(env),
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(cwd === undefined ? {} : { cwd }),
    ...(userId === undefined ? {} : { uid: userId, gid: userId }),
  });
}

/** Runs a command to its end. Kills it and rejects after `timeoutMs`. */
export async function runLitestream(options: LaunchOptions & { timeoutMs?: number }): Promise<RunResult> {
  const child = launch(options);
  const output = { stdout: '', stderr: '' };
  child.stdout?.setEncoding('utf8').on('data', (text: string) => (output.stdout += text));
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (output.stderr += text));
  const timeoutMs = options.timeoutMs ?? 60_000;
  return await new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(
        new Error(`litestream ${options.args.join(' ')} did not end in ${timeoutMs} ms\n${output.stderr}`),
      );
    }, timeoutMs);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const warning = options.binary === 'ours' ? output.stderr.split('\n').find(isWarning) : undefined;
      if (warning === undefined) resolve({ code, signal, ...output });
      else reject(new Error(`Node.js warns the user of litestream ${options.args.join(' ')}: ${warning}`));
    });
  });
}

/** Environment of a program of ours that runs `change` first, which may replace functions of the module `fs`. */
export function preload(change: string): Record<string, string> {
  const program = [
    'import fs from "node:fs"; import { syncBuiltinESMExports } from "node:module";',
    `${change}; syncBuiltinESMExports();`,
  ].join('');
  return { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(program)}` };
}

/** A running `litestream`, mostly `replicate`. */
export interface LitestreamProcess {
  readonly pid: number;
  /** Lines of stdout and stderr so far, in order of arrival. */
  readonly lines: readonly string[];
  readonly exited: Promise<Exit>;
  readonly running: boolean;
  /** The first line, already seen or to come, that matches. Rejects with the log when none comes or it ends. */
  waitForLine(predicate: RegExp | ((line: string) => boolean), timeoutMs?: number): Promise<string>;
  /** SIGTERM; resolves with how it ended. */
  stop(): Promise<Exit>;
  /** SIGKILL; resolves when it is gone. */
  kill(): Promise<Exit>;
  signal(signal: NodeJS.Signals): void;
}

export function startLitestream(options: LaunchOptions): LitestreamProcess {
  const child = launch(options);
  const lines: string[] = [];
  let exit: Exit | undefined;
  for (const stream of [child.stdout, child.stderr]) {
    if (stream) createInterface({ input: stream }).on('line', (line) => lines.push(line));
  }
  const exited = new Promise<Exit>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => resolve((exit = { code, signal })));
  });
  const signal = (name: NodeJS.Signals) => {
    if (exit === undefined) child.kill(name);
  };
  const end = async (name: NodeJS.Signals): Promise<Exit> => {
    signal(name);
    const ended = await within(exited, 60_000, () => `litestream did not end on ${name}\n${tail(lines)}`);
    const warning = options.binary === 'ours' ? lines.find(isWarning) : undefined;
    if (warning !== undefined) throw new Error(`Node.js warns the user: ${warning}\n${tail(lines)}`);
    return ended;
  };
  return {
    pid: child.pid ?? 0,
    lines,
    exited,
    get running() {
      return exit === undefined;
    },
    async waitForLine(predicate, timeoutMs = DEFAULT_WAIT_MS) {
      const matches = predicate instanceof RegExp ? (line: string) => predicate.test(line) : predicate;
      return await until(
        () => {
          const found = lines.find(matches);
          if (found === undefined && exit !== undefined) throw new Error(`litestream ended\n${tail(lines)}`);
          return found;
        },
        { timeoutMs, describe: () => `no log line matched ${String(predicate)}\n${tail(lines)}` },
      );
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    signal,
  };
}

/** What Node.js itself says to the user about our code, like `(node:123) TimeoutNegativeWarning: …`. */
function isWarning(line: string): boolean {
  return /^\(node:\d+\) \w*Warning:/.test(line);
}

function tail(lines: readonly string[]): string {
  return lines.slice(-40).join('\n');
}

async function within<T>(promise: Promise<T>, timeoutMs: number, describe: () => string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(describe())), timeoutMs);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export interface UntilOptions {
  readonly timeoutMs?: number;
  readonly describe?: () => string;
}

/** Polls until `probe` gives something other than undefined and false. Rejects after the deadline. */
export async function until<T>(
  probe: () => T | Promise<T>,
  { timeoutMs = DEFAULT_WAIT_MS, describe = () => 'condition not met' }: UntilOptions = {},
): Promise<Exclude<T, undefined | false>> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== false) return value as Exclude<T, undefined | false>;
    if (Date.now() > deadline) throw new Error(`${describe()} (after ${timeoutMs} ms)`);
    await pause(5);
  }
}

/** Lets time pass: for durations of a workload and between polls, never in the place of a condition. */
export async function pause(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms));
}

/** Runs `body` with a fresh folder, removed afterwards. */
export async function withTempDir<T>(body: (dir: string) => Promise<T>): Promise<T> {
  const dir = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'litestream-e2e-')));
  try {
    return await body(dir);
  } finally {
    await fs.rm(dir, { recursive: true, force: true });
  }
}
