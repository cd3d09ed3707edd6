/** Runs a command of ours and watches over its time, its memory and what it says. */

import { readFileSync } from 'node:fs';
import { startLitestream, type LitestreamProcess } from '../support/process.ts';

/** Node.js itself takes some 100 MB; what is more than that is not told by a store. */
export const MEMORY_LIMIT_BYTES: number = 400 << 20;
const LOOK_MS = 100;

/** What only a program says that did not expect what it met. */
const BUG =
  /this is a bug|assertion failed|\b(Type|Range|Reference|Syntax)Error\b|Unhandled|^\s+at .+:\d+:\d+\)?$|heap out of memory|Invalid time value/;
/** What a terminal takes for a command. */
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u202a-\u202e]/;

/** Throws when a line of an output should never be printed. */
export function expectSober(what: string, lines: readonly string[]): void {
  const bug = lines.find((line) => BUG.test(line));
  if (bug !== undefined) throw new Error(`E2 ${what} prints: ${bug}\n${lines.slice(-30).join('\n')}`);
  const raw = lines.find((line) => CONTROL.test(line));
  if (raw !== undefined) throw new Error(`E2 ${what} prints control characters: ${JSON.stringify(raw)}`);
}

/** The most memory that a process ever had, as far as it has been looked at. */
export class MemoryWatch {
  mostBytes = 0;
  readonly #timer: NodeJS.Timeout;

  constructor(pid: number) {
    this.#timer = setInterval(() => this.#look(pid), LOOK_MS);
  }

  #look(pid: number): void {
    try {
      const kibibytes = /^VmHWM:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
      this.mostBytes = Math.max(this.mostBytes, Number(kibibytes ?? 0) * 1024);
    } catch {
      // It has ended, or this is no Linux.
    }
  }

  stop(what: string): void {
    clearInterval(this.#timer);
    if (this.mostBytes > MEMORY_LIMIT_BYTES)
      throw new Error(`E1 ${what} takes ${Math.round(this.mostBytes / (1 << 20))} MiB`);
  }
}

export interface Outcome {
  readonly code: number | null;
  readonly lines: readonly string[];
}

/** Runs a command to its end, or to the end of its time. */
export async function runWatched(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
  limitMs: number,
): Promise<Outcome> {
  const what = `litestream ${args[0] ?? ''}`;
  const litestream: LitestreamProcess = startLitestream({ binary: 'ours', args, env });
  const memory = new MemoryWatch(litestream.pid);
  const late = AbortSignal.timeout(limitMs);
  late.addEventListener('abort', () => litestream.signal('SIGKILL'));
  const { code, signal } = await litestream.exited;
  if (code === null && late.aborted)
    throw new Error(`E1 ${what} does not end in ${limitMs} ms\n${litestream.lines.slice(-30).join('\n')}`);
  memory.stop(what);
  expectSober(what, litestream.lines);
  if (code === null) throw new Error(`E2 ${what} ended by ${signal ?? 'nothing'}`);
  return { code, lines: litestream.lines };
}
