/** Drives driver-process.mjs: a SQLite driver on a Node.js. */

import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import type { Access } from '../../src/sqlite/driver.ts';

const PROGRAM = fileURLToPath(new URL('./driver-process.mjs', import.meta.url));

export interface ProcessOptions {
  /** The Node.js that it runs on. */
  readonly node: string;
  /** LITESTREAM_SQLITE. */
  readonly driver: 'node' | 'better-sqlite3';
  readonly cwd: string;
  /** Runs as this user; needs root. */
  readonly userId?: number;
}

type Argument = Readonly<Record<string, unknown>>;

/** What a call rejects with. */
export class DriverError extends Error {
  /** What codeOf() says. */
  readonly code: string;

  constructor(message: string, code: string) {
    super(message);
    this.code = code;
  }
}

/** As SqliteDatabase, in the other process. Of prepared statements it has one. */
export class RemoteDatabase {
  readonly #process: DriverProcess;
  readonly #argument: Argument;

  constructor(process: DriverProcess, argument: Argument) {
    this.#process = process;
    this.#argument = argument;
  }

  exec = (sql: string): Promise<unknown> => this.#call('exec', { sql });
  all = (sql: string): Promise<unknown> => this.#call('all', { sql });
  prepare = (sql: string): Promise<unknown> => this.#call('prepare', { sql });
  /** Of what was prepared. */
  run = (): Promise<unknown> => this.#call('run');
  inTransaction = (): Promise<unknown> => this.#call('inTransaction');
  close = (): Promise<unknown> => this.#call('close');

  #call(operation: string, argument: Argument = {}): Promise<unknown> {
    return this.#process.call(operation, { ...this.#argument, ...argument });
  }
}

export class DriverProcess {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  readonly #closed: Promise<unknown>;
  #stderr = '';
  #count = 0;

  constructor({ node, driver, cwd, userId }: ProcessOptions) {
    const env = Object.entries(process.env).filter(([name]) => !/^(NODE_|VITEST)/.test(name));
    this.#child = fork(PROGRAM, [], {
      execPath: node,
      execArgv: [],
      cwd,
      env: { ...Object.fromEntries(env), LITESTREAM_SQLITE: driver },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      ...(userId === undefined ? {} : { uid: userId, gid: userId }),
    });
    this.#closed = once(this.#child, 'close');
    this.#child.stdout?.resume();
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => (this.#stderr += text));
    this.#child.on('message', (message) => {
      const reply = message as { number: number; result?: unknown; error?: string; code?: string };
      const caller = this.#waiting.get(reply.number);
      this.#waiting.delete(reply.number);
      if (reply.error === undefined) caller?.resolve(reply.result);
      else caller?.reject(new DriverError(reply.error, reply.code ?? ''));
    });
    this.#child.on('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(new Error(`it has ended: ${this.#stderr}`));
    });
  }

  call(operation: string, argument: Argument = {}): Promise<unknown> {
    const number = this.#count++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(number, { resolve, reject });
      this.#child.send({ number, operation, argument }, (error) => {
        if (error) reject(error);
      });
    });
  }

  /** @param where in a worker thread of that process, the same for all */
  async open(path: string, access: Access, where?: 'in a thread'): Promise<RemoteDatabase> {
    const argument = { id: `connection ${this.#count}`, thread: where !== undefined };
    await this.call('open', { ...argument, path, access });
    return new RemoteDatabase(this, argument);
  }

  /** Ends the process as a crash would. All that it wrote to stderr. */
  async end(): Promise<string> {
    this.#child.kill('SIGKILL');
    await this.#closed;
    return this.#stderr;
  }
}
