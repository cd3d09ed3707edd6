/** A test's temporary folder with a database, a replica, and processes that are ended whatever happens. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import {
  SUBJECT,
  runLitestream,
  startLitestream,
  until,
  withTempDir,
  type Binary,
  type LitestreamProcess,
  type RunResult,
} from './process.ts';
import { openSqlite, withSqlite, type OpenOptions, type SqliteProcess } from './sqlite.ts';

export interface ReplicateOptions {
  readonly binary?: Binary;
  /** The database as the config spells it; default: the rig's. */
  readonly path?: string;
  /** Lines added to the database's entry of the config, for example `checkpoint-interval: 1s`. */
  readonly database?: readonly string[];
  /** Lines of the replica's entry; default: the file replica of the rig, synced each 20 ms. */
  readonly replica?: readonly string[];
  /** Entries of further replicas. */
  readonly moreReplicas?: readonly (readonly string[])[];
  /** Global lines of the config. */
  readonly global?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  readonly args?: readonly string[];
  /** Runs as this user and group; needs root. */
  readonly userId?: number;
}

export interface RestoreOptions {
  readonly binary?: Binary;
  readonly args?: readonly string[];
  /** Default: the rig's file replica. */
  readonly url?: string;
  /** Restores the rig's database by this config in place of a URL. */
  readonly config?: string;
  readonly env?: Readonly<Record<string, string>>;
}

export interface RestoreOutcome extends RunResult {
  readonly path: string;
}

export class Rig {
  readonly dir: string;
  readonly #processes: LitestreamProcess[] = [];
  readonly #applications: SqliteProcess[] = [];
  #count = 0;

  constructor(dir: string) {
    this.dir = dir;
  }

  get database(): string {
    return join(this.dir, 'db');
  }

  get replica(): string {
    return join(this.dir, 'replica');
  }

  get metaDir(): string {
    return join(this.dir, '.db-litestream');
  }

  /** Starts an application on the rig's database in WAL mode, or with `options`. */
  async application(options: Partial<OpenOptions> = {}): Promise<SqliteProcess> {
    const sqlite = await openSqlite({ path: this.database, pragmas: ['journal_mode=WAL'], ...options });
    this.#applications.push(sqlite);
    return sqlite;
  }

  /** Writes a config made of `options`; its path. */
  async config(options: ReplicateOptions = {}): Promise<string> {
    const config = join(this.dir, `litestream-${this.#count++}.yml`);
    const replica = options.replica ?? [`path: ${this.replica}`, 'sync-interval: 20ms'];
    const own = options.database ?? [];
    const interval = own.some((line) => line.startsWith('monitor-interval'))
      ? []
      : ['monitor-interval: 20ms'];
    const database = [`path: ${options.path ?? this.database}`, ...interval, ...own];
    const lines = [
      ...(options.global ?? []),
      'dbs:',
      ...database.map((line, i) => `${i === 0 ? '  - ' : '    '}${line}`),
      '    replicas:',
      ...[replica, ...(options.moreReplicas ?? [])].flatMap((entry) =>
        entry.map((line, i) => `${i === 0 ? '      - ' : '        '}${line}`),
      ),
    ];
    await fs.writeFile(config, `${lines.join('\n')}\n`);
    return config;
  }

  /** Starts `replicate` and waits until it follows the database, or says why not. */
  async replicate(options: ReplicateOptions = {}): Promise<LitestreamProcess> {
    const litestream = await this.replicateUnready(options);
    await litestream.waitForLine(/replicating to/);
    if ((options.binary ?? SUBJECT) === 'ours') await litestream.waitForLine(/"(sync|waiting): |sync error/);
    return litestream;
  }

  /** Starts `replicate` without waiting for anything. */
  async replicateUnready(options: ReplicateOptions = {}): Promise<LitestreamProcess> {
    const args = ['replicate', ...(options.args ?? []), '-config', await this.config(options)];
    const litestream = startLitestream({
      binary: options.binary ?? SUBJECT,
      args,
      env: options.env ?? {},
      ...(options.userId === undefined ? {} : { userId: options.userId }),
    });
    this.#processes.push(litestream);
    return litestream;
  }

  /** Restores the replica to a new file. */
  async restore(options: RestoreOptions = {}): Promise<RestoreOutcome> {
    const path = join(this.dir, `restored-${this.#count++}`);
    const source = options.config
      ? ['-config', options.config, this.database]
      : [options.url ?? `file://${this.replica}`];
    const args = ['restore', '-o', path, ...(options.args ?? []), ...source];
    return {
      path,
      ...(await runLitestream({ binary: options.binary ?? SUBJECT, args, env: options.env ?? {} })),
    };
  }

  /** restore() that must succeed; the restored file's path. */
  async restored(options: RestoreOptions = {}): Promise<string> {
    const { code, path, stdout, stderr } = await this.restore(options);
    if (code !== 0) throw new Error(`restore exited ${code}\n${stdout}${stderr}`);
    return path;
  }

  /** The generation in the meta directory, undefined when there is none. */
  async generation(): Promise<string | undefined> {
    const text = await fs.readFile(join(this.metaDir, 'generation'), 'utf8').catch(() => '');
    return text === '' ? undefined : text.trim();
  }

  /** Names of all files of the replica, relative to its generations folder, sorted. */
  async replicaFiles(): Promise<string[]> {
    const root = join(this.replica, 'generations');
    const names = await fs.readdir(root, { recursive: true }).catch(() => [] as string[]);
    return names.filter((name) => name.endsWith('.lz4')).sort();
  }

  /** Waits until a restore has as many commits as the database; the restored file. */
  async caughtUp(options: RestoreOptions = {}): Promise<string> {
    const last = async (path: string) =>
      await withSqlite({ path, readonly: true }, (sqlite) => sqlite.all('SELECT max(n) AS n FROM commits'));
    const live = JSON.stringify(await last(this.database));
    return await until(
      async () => {
        const { code, path } = await this.restore(options);
        return code === 0 && JSON.stringify(await last(path)) === live ? path : undefined;
      },
      // Longer than the longest pause between two generations.
      { timeoutMs: 60_000, describe: () => `no restore has the last commit, ${live}` },
    );
  }

  /** Waits until the replica holds a snapshot. */
  async snapshotStored(): Promise<void> {
    await until(async () => (await this.replicaFiles()).some((name) => name.endsWith('.snapshot.lz4')), {
      describe: () => `no snapshot in ${this.replica}\n${this.log()}`,
    });
  }

  log(): string {
    return this.#processes.map(({ pid, lines }) => `--- ${pid}\n${lines.slice(-60).join('\n')}`).join('\n');
  }

  async end(): Promise<void> {
    const left = this.#processes.filter((process) => process.running);
    await Promise.all([...left, ...this.#applications].map((process) => process.kill()));
  }
}

/** Runs `body` with a rig; ends what it started, and adds the logs to a failure's message. */
export async function withRig(body: (rig: Rig) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    const rig = new Rig(dir);
    try {
      await body(rig);
    } catch (error) {
      if (error instanceof Error) error.message += `\n${rig.log()}`;
      throw error;
    } finally {
      await rig.end();
    }
  });
}
