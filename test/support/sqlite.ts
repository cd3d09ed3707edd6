/**
 * SQLite in processes of its own (applications beside litestream), and comparison of databases. The test's own process
 * never opens a connection, so it may read database files as it likes.
 */

import { fork } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs } from 'node:fs';
import { fileURLToPath } from 'node:url';

const WORKER = fileURLToPath(new URL('./sqlite-worker.mjs', import.meta.url));

export interface OpenOptions {
  readonly path: string;
  readonly readonly?: boolean;
  /** Busy timeout. */
  readonly timeoutMs?: number;
  /** Run after opening, for example `journal_mode=WAL`. */
  readonly pragmas?: readonly string[];
}

export type CheckpointMode = 'PASSIVE' | 'FULL' | 'RESTART' | 'TRUNCATE';

export interface CheckpointResult {
  /** 1 when it could not be completed. */
  readonly busy: number;
  readonly log: number;
  readonly checkpointed: number;
  readonly elapsedMs: number;
}

/** One load as sqlite-worker.mjs runs it; see its defaults. */
export interface LoadOptions {
  readonly kind: 'write' | 'checkpoint' | 'read';
  readonly seed: number;
  readonly writer?: number;
  readonly maxRows?: number;
  readonly maxBlobBytes?: number;
  readonly rollbackShare?: number;
  readonly vacuumShare?: number;
  /** A reader's longest transaction. */
  readonly holdMs?: number;
  /** Longest random pause between steps. */
  readonly pauseMs?: number;
  readonly steps?: number;
  /** False: "database is locked", after the busy timeout, is a failure. Default: true. */
  readonly mayBeBusy?: boolean;
}

export type Row = Record<string, string | number | null>;

/** A process with one connection. Every method rejects when the process has died. */
export interface SqliteProcess {
  readonly pid: number;
  readonly running: boolean;
  readonly exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  exec(sql: string): Promise<void>;
  all(sql: string, ...values: (string | number)[]): Promise<Row[]>;
  /** @param timeoutMs a new busy timeout */
  checkpoint(mode: CheckpointMode, timeoutMs?: number): Promise<CheckpointResult>;
  /** Resolves with the steps done, after `stop()` or when `steps` are done. */
  load(options: LoadOptions): Promise<number>;
  stop(): Promise<void>;
  /** Closes the connection (the last one checkpoints and deletes the WAL) and ends the process. */
  close(): Promise<void>;
  /** Ends the process as a crash would: the WAL stays. Also when it is dead already. */
  kill(): Promise<void>;
}

interface Reply {
  readonly id: number;
  readonly result?: unknown;
  readonly error?: string;
  readonly code?: string;
}

/** Starts a process and opens a database in it. */
export async function openSqlite(
  options: OpenOptions,
  env: Readonly<Record<string, string>> = {},
): Promise<SqliteProcess> {
  const child = fork(WORKER, [], { execArgv: [], env: { ...process.env, ...env } });
  const waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  let nextId = 0;
  child.on('message', (message) => {
    const reply = message as Reply;
    const caller = waiting.get(reply.id);
    waiting.delete(reply.id);
    if (reply.error === undefined) caller?.resolve(reply.result);
    else caller?.reject(new Error(`sqlite: ${reply.error} (${reply.code ?? 'no code'})`));
  });
  const exited = new Promise<{ code: number | null; signal: NodeJS.Signals | null }>((resolve) => {
    child.on('exit', (code, signal) => {
      for (const { reject } of waiting.values()) reject(new Error(`sqlite process died: ${signal ?? code}`));
      waiting.clear();
      resolve({ code, signal });
    });
  });
  const call = (operation: string, argument: object = {}) =>
    new Promise<unknown>((resolve, reject) => {
      if (!child.connected) {
        reject(new Error('sqlite process is dead'));
        return;
      }
      const id = nextId++;
      waiting.set(id, { resolve, reject });
      // The exit event rejects what is waiting when the send fails.
      child.send({ id, operation, argument }, () => undefined);
    });
  const process_: SqliteProcess = {
    pid: child.pid ?? 0,
    get running() {
      return child.exitCode === null && child.signalCode === null;
    },
    exited,
    exec: async (sql) => {
      await call('exec', { sql });
    },
    all: async (sql, ...values) => (await call('all', { sql, values })) as Row[],
    checkpoint: async (mode, timeoutMs) =>
      (await call('checkpoint', { mode, timeoutMs })) as CheckpointResult,
    load: async (load) => (await call('load', load)) as number,
    stop: async () => {
      await call('stop');
    },
    close: async () => {
      await call('close');
      child.disconnect();
      await exited;
    },
    kill: async () => {
      child.kill('SIGKILL');
      await exited;
    },
  };
  await Promise.race([once(child, 'spawn'), exited]);
  await call('open', options);
  return process_;
}

/** Opens a database, runs `body`, and ends the process without a checkpoint. */
export async function withSqlite<T>(
  options: OpenOptions,
  body: (sqlite: SqliteProcess) => Promise<T>,
): Promise<T> {
  const sqlite = await openSqlite(options);
  try {
    return await body(sqlite);
  } finally {
    await sqlite.kill();
  }
}

/** Moves everything of the WAL into the database file. Rejects when a reader keeps it from doing so. */
export async function truncateCheckpoint(path: string): Promise<void> {
  const { busy } = await withSqlite({ path }, (sqlite) => sqlite.checkpoint('TRUNCATE', 20_000));
  if (busy !== 0) throw new Error(`TRUNCATE checkpoint of ${path} stayed busy`);
}

/** `ok`, or what PRAGMA integrity_check finds. Opens the database read-only. */
export async function integrityCheck(path: string): Promise<string> {
  const rows = await withSqlite({ path, readonly: true }, (sqlite) => sqlite.all('PRAGMA integrity_check'));
  return rows.map((row) => row['integrity_check']).join('; ');
}

/**
 * Checkpoints `live` and compares it with `restored` byte by byte.
 * @returns undefined when they are equal, else which pages differ
 */
export async function compareDatabases(live: string, restored: string): Promise<string | undefined> {
  await truncateCheckpoint(live);
  return await compareFiles(live, restored);
}

/** Like compareDatabases() for files that have no WAL. */
export async function compareFiles(expected: string, actual: string): Promise<string | undefined> {
  const [a, b] = await Promise.all([fs.readFile(expected), fs.readFile(actual)]);
  if (a.equals(b)) return undefined;
  const stored = a.length >= 100 ? a.readUInt16BE(16) : 4096;
  const pageSize = stored === 1 ? 65536 : stored;
  const pages: number[] = [];
  for (let at = 0; at < Math.max(a.length, b.length); at += pageSize) {
    if (!a.subarray(at, at + pageSize).equals(b.subarray(at, at + pageSize))) pages.push(at / pageSize + 1);
  }
  const list = pages.slice(0, 20).join(', ');
  return `${pages.length} pages of ${pageSize} differ (${list}); ${a.length} bytes expected, got ${b.length}`;
}
