/** One life of `litestream replicate`, and what can be asked of it. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { callControl } from '../../src/control/client.ts';
import { pause, startLitestream, until, type Exit, type LitestreamProcess } from '../support/process.ts';
import { NAMES, SYNCS, WRITES, type Control } from './shim.ts';

/** A look at whether it is healthy is repeated for so long. */
const HEALTHY_MS = 20_000;
/** Of one question for what is stored. */
const QUESTION_MS = 500;

interface Status {
  readonly healthy: boolean;
  readonly databases: readonly {
    readonly state: string;
    readonly healthy: boolean;
    readonly reason?: string;
  }[];
}

export class Life {
  readonly control: Control;
  readonly config: string;
  readonly metaDir: string;
  readonly #process: LitestreamProcess;

  constructor(options: {
    readonly config: string;
    readonly control: Control;
    readonly env: Readonly<Record<string, string>>;
    readonly metaDir: string;
  }) {
    const { config, control, env, metaDir } = options;
    this.config = config;
    this.control = control;
    this.metaDir = metaDir;
    this.#process = startLitestream({ binary: 'ours', args: ['replicate', '-config', config], env });
  }

  get running(): boolean {
    return this.#process.running;
  }
  get lines(): readonly string[] {
    return this.#process.lines;
  }
  get pid(): number {
    return this.#process.pid;
  }
  get exited(): Promise<Exit> {
    return this.#process.exited;
  }
  /** Where it answers: somewhere else when it could not make a socket in its meta directory. */
  get socket(): string {
    try {
      const { socket } = JSON.parse(readFileSync(join(this.metaDir, 'replicate.json'), 'utf8')) as {
        socket: string | null;
      };
      if (socket !== null) return socket;
    } catch {
      // Not written yet.
    }
    return join(this.metaDir, 'control.sock');
  }

  /**
   * `sync -wait`: whether it says within `timeoutMs` that everything is stored. Asks again while it cannot be asked.
   * @param over ends it before, when true between two questions
   */
  async sync(timeoutMs: number, over: () => boolean = () => false): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const askMs = Math.min(QUESTION_MS, Math.max(1, Math.round(deadline - performance.now())));
      const body = { wait: true, timeoutMs: askMs };
      const signal = AbortSignal.timeout(askMs + 1000);
      const done = await callControl(this.socket, { method: 'POST', path: '/sync', body, signal }).then(
        () => true,
        () => false,
      );
      if (done) return true;
      if (!this.running || over() || performance.now() >= deadline) return false;
      await pause(15);
    }
  }

  async status(): Promise<Status> {
    const signal = AbortSignal.timeout(10_000);
    return (await callControl(this.socket, { method: 'GET', path: '/status', signal })) as Status;
  }

  /** I3, the other way round: what is stored is healthy. */
  async expectHealthy(when: string): Promise<void> {
    let seen = '';
    await until(
      async () => {
        const status = await this.status();
        seen = JSON.stringify(status);
        return status.healthy;
      },
      {
        timeoutMs: HEALTHY_MS,
        describe: () => `I5 ${when}: everything is stored, and the status is ${seen}`,
      },
    );
  }

  /** Waits for a line of the log, or for its end. Whether the line came. */
  async sees(pattern: RegExp, timeoutMs: number): Promise<boolean> {
    const found = (): boolean => this.lines.some((line) => pattern.test(line));
    await until(() => found() || !this.running, { timeoutMs }).catch(() => undefined);
    return found();
  }

  async stop(): Promise<Exit> {
    return await this.#process.stop();
  }
  async kill(): Promise<Exit> {
    return await this.#process.kill();
  }
  signal(signal: NodeJS.Signals): void {
    this.#process.signal(signal);
  }

  async end(): Promise<void> {
    await this.#process.kill();
    this.control.close();
  }

  /** The call that met the fault, in brackets; empty: none has. */
  get struck(): string {
    return this.control.hits > 0 ? `(${this.control.what})` : '';
  }

  summary(): string {
    return `: ${this.control.count(WRITES | SYNCS | NAMES)} calls ${this.struck}`;
  }

  tail(): string {
    return this.lines.slice(-25).join('\n');
  }
}
