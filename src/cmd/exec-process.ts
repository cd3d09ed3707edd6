/** The child of `replicate -exec`: a program without a shell between, with our streams and environment. */

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { LitestreamError, messageOf, systemCode } from '../base/errors.ts';
import { quoteGo } from '../base/logger.ts';

/** How a child ended: one of both is set. */
export interface ExecEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Signals in the words that v0.3.13 logs, with the numbers that make the exit code. */
const SIGNALS: Partial<Record<NodeJS.Signals, { readonly number: number; readonly words: string }>> = {
  SIGHUP: { number: 1, words: 'hangup' },
  SIGINT: { number: 2, words: 'interrupt' },
  SIGQUIT: { number: 3, words: 'quit' },
  SIGABRT: { number: 6, words: 'aborted' },
  SIGKILL: { number: 9, words: 'killed' },
  SIGSEGV: { number: 11, words: 'segmentation fault' },
  SIGPIPE: { number: 13, words: 'broken pipe' },
  SIGTERM: { number: 15, words: 'terminated' },
};

/** A shell's exit code for a child that ended so: its own, or 128 + the signal's number. */
export function execExitCode({ code, signal }: ExecEnd): number {
  return code ?? 128 + (signal === null ? 0 : (SIGNALS[signal]?.number ?? 0));
}

/** `exit status 7` or `signal: killed`. */
export function describeExecEnd({ code, signal }: ExecEnd): string {
  if (signal === null) return `exit status ${String(code)}`;
  return `signal: ${SIGNALS[signal]?.words ?? signal}`;
}

export class ExecProcess {
  /** Resolves when the child runs. Rejects when it cannot be started, with the reason. */
  readonly started: Promise<void>;
  /** Resolves when the child has ended, or could not be started. Never rejects. */
  readonly ended: Promise<ExecEnd>;
  readonly #child: ChildProcess;

  constructor(words: readonly string[], env: NodeJS.ProcessEnv) {
    const [program = '', ...args] = words;
    const child = spawn(program, args, { stdio: 'inherit', env });
    this.#child = child;
    this.started = new Promise((resolve, reject) => {
      child.once('spawn', resolve);
      child.once('error', (error) => reject(startError(program, error)));
    });
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
      this.started.catch(() => resolve({ code: 1, signal: null }));
    });
  }

  /** Sends `signal`; a child that has ended is left alone. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }
}

function startError(program: string, error: Error): LitestreamError {
  const reasons: Partial<Record<string, string>> = {
    ENOENT: 'no such file or directory',
    EACCES: 'permission denied',
    ENOEXEC: 'exec format error',
  };
  const code = systemCode(error);
  const bare = !program.includes('/');
  const text =
    bare && code === 'ENOENT'
      ? `exec: ${quoteGo(program)}: executable file not found in $PATH`
      : `fork/exec ${program}: ${reasons[code ?? ''] ?? messageOf(error)}`;
  return new LitestreamError('not-found', `cannot start exec command: ${text}`, { cause: error });
}
