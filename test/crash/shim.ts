/** Builds shim.c and speaks with it, through a page of memory that both have mapped. */

import { execFile, spawnSync } from 'node:child_process';
import { closeSync, openSync, readSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { constants } from 'node:os';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

/** Classes of file calls; READS and OPENS are those of files that are there. */
export const WRITES = 1;
export const SYNCS = 2;
export const NAMES = 4;
export const READS = 8;
export const OPENS = 16;

const ACTIONS = { 'kill-before': 1, 'kill-middle': 2, 'kill-after': 3, fail: 4, short: 5, stop: 6 } as const;

/** What becomes of the calls `at`, `at` + 1, ... of some classes, counted from 1. */
export interface Fault {
  readonly action: keyof typeof ACTIONS;
  readonly classes: number;
  readonly at: number;
  /** Only calls whose path ends so are counted; default: all. */
  readonly path?: string;
  /** Of how many calls; default: 1. */
  readonly times?: number;
  /** For 'fail'. */
  readonly error?: 'EIO' | 'ENOSPC' | 'EMFILE' | 'EACCES';
}

const PAGE_BYTES = 4096;
const HITS_AT = 8;
const FAULT_AT = 16;
const CLOCK_AT = 56;
const COUNTS_AT = 64;
const PID_AT = 104;
const PATH_AT = 192;
const PATH_BYTES = 64;
const WHAT_AT = 256;
const WHAT_BYTES = 512;

/** Why the suite cannot run here; undefined: it can. */
export const UNSUPPORTED: string | undefined = unsupported();

function unsupported(): string | undefined {
  if (process.platform !== 'linux') return 'LD_PRELOAD and /proc are needed, as Linux has them';
  const compiler = process.env['CC'] ?? 'gcc';
  const { status } = spawnSync(compiler, ['--version'], { stdio: 'ignore' });
  return status === 0 ? undefined : `there is no C compiler: ${compiler}`;
}

/** Compiles the shim into `dir`; the library's path. Rejects when there is no compiler. */
export async function buildShim(dir: string): Promise<string> {
  const source = fileURLToPath(new URL('./shim.c', import.meta.url));
  const library = join(dir, 'crash-shim.so');
  const args = ['-shared', '-fPIC', '-O1', '-Wall', '-Werror', '-o', library, source, '-ldl'];
  await promisify(execFile)(process.env['CC'] ?? 'gcc', args);
  return library;
}

/** The page of one process. */
export class Control {
  readonly path: string;
  readonly #fd: number;

  constructor(path: string, fault?: Fault) {
    writeFileSync(path, new Uint8Array(PAGE_BYTES));
    this.path = path;
    this.#fd = openSync(path, 'r+');
    if (fault) {
      const error = fault.error === undefined ? 0 : constants.errno[fault.error];
      this.#write(FAULT_AT, [fault.at, fault.times ?? 1, ACTIONS[fault.action], error, fault.classes]);
      writeSync(
        this.#fd,
        Buffer.from(fault.path ?? ''),
        0,
        Math.min(PATH_BYTES - 1, fault.path?.length ?? 0),
        PATH_AT,
      );
    }
  }

  /** How many calls of some classes were made. */
  count(classes: number): number {
    let sum = 0;
    for (let bit = 0; bit < 5; bit++) if (classes & (1 << bit)) sum += this.#read(COUNTS_AT + bit * 8);
    return sum;
  }

  /** Of the process that has it; 0 before it has started. */
  get pid(): number {
    return this.#read(PID_AT);
  }

  /** How many of them met the fault. */
  get hits(): number {
    return this.#read(HITS_AT);
  }

  /** The first one that did, in words; empty: none. */
  get what(): string {
    const text = Buffer.alloc(WHAT_BYTES);
    readSync(this.#fd, text, 0, WHAT_BYTES, WHAT_AT);
    return text.toString('utf8', 0, text.indexOf(0));
  }

  /** Moves the process's time of day, whole seconds, from now on. */
  setClock(offsetSeconds: number): void {
    this.#write(CLOCK_AT, [offsetSeconds * 1000]);
  }

  /** Ends the fault. */
  disarm(): void {
    this.#write(FAULT_AT, [0]);
  }

  close(): void {
    closeSync(this.#fd);
  }

  #write(at: number, values: readonly number[]): void {
    const data = Buffer.alloc(values.length * 8);
    for (const [i, value] of values.entries()) data.writeBigInt64LE(BigInt(value), i * 8);
    writeSync(this.#fd, data, 0, data.byteLength, at);
  }

  #read(at: number): number {
    const data = Buffer.alloc(8);
    readSync(this.#fd, data, 0, 8, at);
    return Number(data.readBigInt64LE());
  }
}

export interface ShimOptions {
  readonly library: string;
  /** Calls on it and below are counted and written down. */
  readonly folder: string;
  readonly control?: Control | undefined;
  /** Where they are written down. */
  readonly log?: string | undefined;
  /** Files that stand in for /proc/uptime and the boot id. */
  readonly uptime?: string | undefined;
  readonly bootId?: string | undefined;
}

/** The environment of a process that is to meet the shim. */
export function shimEnvironment(options: ShimOptions): Record<string, string> {
  const { library, folder, control, log, uptime, bootId } = options;
  return {
    LD_PRELOAD: library,
    // Its calls would not be seen.
    UV_USE_IO_URING: '0',
    CRASH_FOLDER: folder,
    ...(control === undefined ? {} : { CRASH_CONTROL: control.path }),
    ...(log === undefined ? {} : { CRASH_LOG: log }),
    ...(uptime === undefined ? {} : { CRASH_UPTIME: uptime }),
    ...(bootId === undefined ? {} : { CRASH_BOOT_ID: bootId }),
  };
}
