/** The application beside litestream, and everything that it ever committed. */

import { fork, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const WORKER = fileURLToPath(new URL('./application.mjs', import.meta.url));

/** What a database holds. */
export interface Content {
  /** Commits. */
  readonly n: number;
  /** Covers all of them. */
  readonly hash: string;
  readonly problem?: string;
}

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
}

export class Application {
  readonly #child: ChildProcess;
  readonly #waiting = new Map<
    number,
    { resolve: (value: unknown) => void; reject: (error: Error) => void }
  >();
  readonly #exited: Promise<void>;
  /** Hashes of the commits of the live database: number n stands at n. */
  #hashes: string[] = [''];
  /** Hashes of all commits ever, also of those that are gone. */
  readonly #known = new Set<string>(['']);
  #salt: number;
  #calls = 0;

  /** @param seed tells its data apart from that of other cases */
  constructor(seed: number, env: Readonly<Record<string, string>> = {}) {
    this.#salt = seed;
    this.#child = fork(WORKER, [], { execArgv: [], env: { ...process.env, ...env } });
    this.#child.on('message', (message) => {
      const { id, result, error } = message as Reply;
      const caller = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error === undefined) caller?.resolve(result);
      else caller?.reject(new Error(`application: ${error}`));
    });
    this.#exited = new Promise((resolve) => {
      this.#child.on('exit', () => {
        for (const { reject } of this.#waiting.values()) reject(new Error('application died'));
        resolve();
      });
    });
  }

  /** Commits of the live database. */
  get n(): number {
    return this.#hashes.length - 1;
  }

  /** Opens the database, or another one. */
  async open(path: string, pragmas: readonly string[] = ['synchronous=NORMAL']): Promise<void> {
    await this.#call('open', { path, pragmas });
  }

  async commit(count: number): Promise<void> {
    const hashes = (await this.#call('commit', { count, salt: String(this.#salt) })) as string[];
    for (const hash of hashes) {
      this.#hashes.push(hash);
      this.#known.add(hash);
    }
  }

  /** Whether it was kept from finishing. */
  async checkpoint(mode: 'PASSIVE' | 'RESTART' | 'TRUNCATE'): Promise<boolean> {
    return (await this.#call('checkpoint', { mode })) === 1;
  }

  async exec(sql: string): Promise<void> {
    await this.#call('exec', { sql });
  }

  /** Closes the database; the process stays. */
  async close(): Promise<void> {
    await this.#call('close');
  }

  /** What the live database holds, by its own connection. */
  async look(): Promise<Content> {
    return (await this.#call('examine')) as Content;
  }

  /** Throws unless the live database is whole and has everything. */
  async expectAlive(): Promise<void> {
    const content = await this.look();
    const problem = content.problem ?? this.#differs(content);
    if (problem !== undefined) throw new Error(`the live database is damaged: ${problem}`);
  }

  #differs({ n, hash }: Content): string | undefined {
    if (n === this.n && hash === this.#hashes[n]) return undefined;
    return `it has ${n} commits of ${this.n}`;
  }

  /** What a file holds that nobody uses. @throws when that is no exact prefix of what was ever committed */
  async inspect(path: string, remove = true): Promise<Content> {
    const content = (await this.#call('inspect', { path, remove })) as Content;
    if (content.problem !== undefined) throw new Error(`the database that was restored: ${content.problem}`);
    if (!this.#known.has(content.hash))
      throw new Error(`the database that was restored ends in a commit ${content.n} that was never made`);
    return content;
  }

  /** Whether `content` is a state of the present live database's history. */
  isPrefix({ n, hash }: Content): boolean {
    return this.#hashes[n] === hash;
  }

  /** The live database has gone back to an earlier state. What is committed from now on differs from what was. */
  wentBackTo(content: Content): void {
    if (!this.isPrefix(content)) throw new Error(`commit ${content.n} is not of this history`);
    this.#hashes = this.#hashes.slice(0, content.n + 1);
    this.#salt++;
  }

  /** Another process that knows everything that `other` has committed, and does something else from now on. */
  static after(other: Application): Application {
    const app = new Application(other.#salt + 1000);
    app.#hashes = [...other.#hashes];
    for (const hash of other.#known) app.#known.add(hash);
    return app;
  }

  /** What `other` has committed may be found in the replica, too. */
  learn(other: Application): void {
    for (const hash of other.#known) this.#known.add(hash);
  }

  /** Ends the process as a crash would. Idempotent. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }

  async #call(operation: string, argument: object = {}): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const id = this.#calls++;
      if (!this.#child.connected) {
        reject(new Error('application is dead'));
        return;
      }
      this.#waiting.set(id, { resolve, reject });
      // The exit event rejects what is waiting when this fails.
      this.#child.send({ id, operation, argument }, () => undefined);
    });
  }
}
