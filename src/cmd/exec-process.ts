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
  /** Resolves when the child has ended. Never rejects. */
  readonly ended: Promise<ExecEnd>;
  readonly #child: ChildProcess;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => resolve({ code, signal }));
    });
  }

  /** Starts `words` and resolves when it runs. Rejects when it cannot be started, with the reason. */
  static async start(words: readonly string[], env: NodeJS.ProcessEnv): Promise<ExecProcess> {
    const [program = '', ...args] = words;
    const child = spawn(program, args, { stdio: 'inherit', env });
    const running = new ExecProcess(child);
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve);
      child.on('error', (error) => reject(startError(program, error)));
    });
    return running;
  }

  /** Whether the child has not ended yet. */
  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
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
