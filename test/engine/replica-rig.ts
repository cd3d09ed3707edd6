/** A segment source over a real database in this process, a store that fails on demand, and what tests ask of them. */

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { abortedError } from '../../src/base/concurrency.ts';
import type { LogAttributes, LogLevel, Logger } from '../../src/base/logger.ts';
import { newGeneration } from '../../src/format/names.ts';
import type { CommitTime } from '../../src/format/object-trailer.ts';
import type { Origin } from '../../src/format/origin-frame.ts';
import type { Position } from '../../src/format/position.ts';
import type { ReplicaOptions } from '../../src/engine/options.ts';
import { Replica, type ReplicaDependencies } from '../../src/engine/replica.ts';
import type { SegmentSource, SnapshotHold } from '../../src/engine/segment-source.ts';
import {
  WAL_HEADER_SIZE,
  type WalChecksum,
  checksumsEqual,
  parseWalHeader,
  readFrameHeader,
  verifyFrames,
  walFrameSize,
} from '../../src/sqlite/wal.ts';
import type {
  CallOptions,
  ObjectInfo,
  ObjectStore,
  StoreCapabilities,
} from '../../src/storage/object-store.ts';

/** Polls until `condition` gives something truthy. */
export async function until<T>(
  what: string | (() => string),
  condition: () => T | Promise<T>,
  ms = 20_000,
): Promise<T> {
  const deadline = Date.now() + ms;
  for (;;) {
    const result = await condition();
    if (result) return result;
    if (Date.now() > deadline)
      throw new Error(`timed out waiting: ${typeof what === 'string' ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export interface LogLine {
  readonly level: LogLevel;
  readonly message: string;
  readonly attributes: LogAttributes;
}

export function recordingLogger(lines: LogLine[], base: LogAttributes = {}): Logger {
  const record =
    (level: LogLevel) =>
    (message: string, attributes: LogAttributes = {}): void => {
      lines.push({ level, message, attributes: { ...base, ...attributes } });
    };
  return {
    debug: record('DEBUG'),
    info: record('INFO'),
    warn: record('WARN'),
    error: record('ERROR'),
    with: (attributes) => recordingLogger(lines, { ...base, ...attributes }),
  };
}

export const OPTIONS: ReplicaOptions = {
  name: 'test',
  store: { type: 'file', path: '/nowhere' },
  syncIntervalMs: 5,
  snapshotIntervalMs: 0,
  retentionMs: 0,
  retentionCheckIntervalMs: 3600_000,
  validationIntervalMs: 0,
};

/** The chain of a database that only this process writes to, copied whenever sync() is called. */
export class FakeSource implements SegmentSource {
  readonly dir: string = mkdtempSync(join(tmpdir(), 'replica-'));
  readonly path: string = join(this.dir, 'db');
  readonly metaPath: string = join(this.dir, 'meta');
  readonly pageSizeBytes: number;
  readonly db: Database.Database;
  readonly shadow: Map<number, Buffer> = new Map();
  /** When the commits of each index were copied. */
  readonly times: Map<number, CommitTime[]> = new Map();
  /** Gives the times of commits: epoch milliseconds. */
  clock: () => number = Date.now;
  readonly restarts: string[] = [];
  readonly retained: number[] = [];
  holds = 0;
  /** Whether nothing was known of the database before. */
  first = false;
  /** Whether nothing of the present generation is said to be anywhere. */
  fresh = false;
  /** Of the present generation. */
  origin: Origin | undefined;
  #generation = newGeneration();
  #index = 0;
  #checksum: WalChecksum = [0, 0];
  readonly #listeners = new Set<() => void>();

  constructor(pageSizeBytes = 4096) {
    this.pageSizeBytes = pageSizeBytes;
    mkdirSync(this.metaPath);
    this.db = new Database(this.path);
    this.db.pragma(`page_size = ${pageSizeBytes}`);
    this.db.pragma('journal_mode = WAL');
    this.db.pragma('wal_autocheckpoint = 0');
    this.db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)');
    this.db.pragma('wal_checkpoint(TRUNCATE)');
  }

  /** One transaction of `rows` rows, copied and announced. */
  commit(rows = 1, sizeBytes = 100): void {
    const insert = this.db.prepare('INSERT INTO t (v) VALUES (randomblob(?))');
    this.db.transaction(() => {
      for (let i = 0; i < rows; i++) insert.run(sizeBytes);
    })();
    this.sync();
  }

  /** Backfills everything: the next commit opens the next index. */
  checkpoint(): void {
    this.sync();
    this.db.pragma('wal_checkpoint(TRUNCATE)');
  }

  sync(): void {
    const wal = readFileSync(`${this.path}-wal`);
    if (wal.byteLength <= WAL_HEADER_SIZE) return;
    const header = parseWalHeader(wal);
    let shadow = this.shadow.get(this.#index) ?? Buffer.alloc(0);
    if (
      shadow.byteLength > 0 &&
      !wal.subarray(0, WAL_HEADER_SIZE).equals(shadow.subarray(0, WAL_HEADER_SIZE))
    ) {
      this.#index++;
      shadow = Buffer.alloc(0);
    }
    const from = Math.max(shadow.byteLength, WAL_HEADER_SIZE);
    const seed = shadow.byteLength === 0 ? header.checksum : this.#checksum;
    const run = verifyFrames(header, wal.subarray(from), seed);
    if (run.committedBytes === 0) return;
    this.#checksum = run.committedChecksum;
    const offset = from + run.committedBytes;
    this.shadow.set(this.#index, Buffer.from(wal.subarray(0, offset)));
    const times = this.times.get(this.#index) ?? [];
    this.times.set(this.#index, [...times, { offset, timeMs: this.clock() }]);
    this.notify();
  }

  notify(): void {
    for (const listener of this.#listeners) listener();
  }

  position(): Position {
    return { generation: this.#generation, index: this.#index, offset: this.indexEnd(this.#index) };
  }

  isNewGeneration(generation: string): boolean {
    return this.fresh && generation === this.#generation;
  }

  isFirstGeneration(): boolean {
    return this.first;
  }

  originOf(generation: string): Origin | undefined {
    return generation === this.#generation ? this.origin : undefined;
  }

  onAdvance(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  freshen(): Promise<void> {
    return Promise.resolve();
  }

  indexEnd(index: number): number {
    return this.shadow.get(index)?.byteLength ?? 0;
  }

  hasIndex(index: number): boolean {
    return this.shadow.has(index);
  }

  commitTimes(index: number, start: number, end: number): Promise<CommitTime[]> {
    const times = this.times.get(index) ?? [];
    const within = times.filter(({ offset }) => offset > start && offset < end);
    const last = times.find(({ offset }) => offset >= end);
    return Promise.resolve([...within, { offset: end, timeMs: last?.timeMs ?? this.clock() }]);
  }

  async readShadow(index: number, start: number, end: number): Promise<Uint8Array> {
    await Promise.resolve();
    const data = this.shadow.get(index)!;
    if (end > data.byteLength) throw new Error('read beyond the committed end');
    return new Uint8Array(data.subarray(start, end));
  }

  contains(index: number, offset: number, checksum: WalChecksum): Promise<boolean> {
    const at = offset - walFrameSize(this.pageSizeBytes);
    if (offset > this.indexEnd(index) || at < WAL_HEADER_SIZE) return Promise.resolve(false);
    const frame = readFrameHeader(this.shadow.get(index)!, at);
    return Promise.resolve(frame.commitPageCount > 0 && checksumsEqual(frame.checksum, checksum));
  }

  retainFrom(_replica: string, index: number): void {
    this.retained.push(index);
  }

  restartGeneration(reason: string): void {
    this.restarts.push(reason);
    const current = this.shadow.get(this.#index);
    this.shadow.clear();
    if (current) this.shadow.set(0, current);
    this.times.clear();
    this.origin = { generations: [this.#generation, ...(this.origin?.generations ?? [])], end: undefined };
    this.#generation = newGeneration();
    this.#index = 0;
    this.notify();
  }

  async holdSnapshot(): Promise<SnapshotHold> {
    this.sync();
    await Promise.resolve();
    const copy = join(this.dir, 'held');
    // By a process of its own: to open and close the file in this one would drop SQLite's locks.
    execFileSync('cp', [this.path, copy]);
    const data = readFileSync(copy);
    this.holds++;
    let held = true;
    const position = this.position();
    return {
      position,
      checksum: position.offset === 0 ? [0, 0] : this.#checksum,
      timeMs: this.times.get(position.index)?.at(-1)?.timeMs ?? this.clock(),
      sizeBytes: data.byteLength,
      read: async function* () {
        for (let at = 0; at < data.byteLength; at += 10_000) {
          await Promise.resolve();
          if (!held) throw new Error('read after release');
          yield data.subarray(at, at + 10_000);
        }
      },
      release: () => {
        if (held) this.holds--;
        held = false;
        return Promise.resolve();
      },
    };
  }

  /** The database as it is now, byte for byte: everything backfilled. */
  bytes(): Buffer {
    this.checkpoint();
    const copy = join(this.dir, 'copy');
    execFileSync('cp', [this.path, copy]);
    return readFileSync(copy);
  }

  close(): void {
    this.db.close();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** The replicas of one test, and their source: all of it ends with end(). */
export class Replicas {
  readonly source: FakeSource;
  readonly log: LogLine[] = [];
  readonly #running: Replica[] = [];

  constructor(pageSizeBytes?: number) {
    this.source = new FakeSource(pageSizeBytes);
  }

  start(
    store: ObjectStore,
    options: Partial<ReplicaOptions> = {},
    more: Partial<ReplicaDependencies> = {},
  ): Replica {
    const replica = new Replica({
      options: { ...OPTIONS, ...options },
      source: this.source,
      openStore: () => Promise.resolve(store),
      logger: recordingLogger(this.log),
      ...more,
    });
    this.#running.push(replica);
    replica.start();
    return replica;
  }

  async end(): Promise<void> {
    for (const replica of this.#running) await replica.stop(AbortSignal.abort());
    this.source.close();
  }
}

/** Waits until a replica holds everything that is committed. */
export function allStored(replica: Replica): Promise<boolean> {
  return until('everything is stored', () => replica.lagging() === undefined);
}

export type Operation = 'list' | 'listPrefixes' | 'stat' | 'get' | 'put' | 'delete';
export interface Request {
  readonly operation: Operation;
  readonly key: string;
}

/** Passes everything on and writes it down; `fault` may throw or wait before a call, `after` once it has worked. */
export class FaultStore implements ObjectStore {
  readonly type: string = 'fault';
  readonly location: string = 'fault://test';
  readonly capabilities: StoreCapabilities;
  readonly requests: Request[] = [];
  fault: ((request: Request, signal?: AbortSignal) => Promise<void> | void) | undefined;
  after: ((request: Request) => Promise<void> | void) | undefined;
  readonly #inner: ObjectStore;

  constructor(inner: ObjectStore, local = true) {
    this.#inner = inner;
    this.capabilities = { local, concurrency: 4 };
  }

  async #begin(operation: Operation, key: string, signal?: AbortSignal): Promise<void> {
    this.requests.push({ operation, key });
    await this.fault?.({ operation, key }, signal);
  }

  async *list(...[prefix, options]: Parameters<ObjectStore['list']>): AsyncGenerator<ObjectInfo> {
    await this.#begin('list', prefix, options?.signal);
    yield* this.#inner.list(prefix, options);
  }

  async *listPrefixes(...[prefix, options]: Parameters<ObjectStore['listPrefixes']>): AsyncGenerator<string> {
    await this.#begin('listPrefixes', prefix, options?.signal);
    yield* this.#inner.listPrefixes(prefix, options);
  }

  async stat(key: string, options?: CallOptions): Promise<ObjectInfo | undefined> {
    await this.#begin('stat', key, options?.signal);
    return this.#inner.stat!(key, options);
  }

  async get(...[key, options]: Parameters<ObjectStore['get']>): ReturnType<ObjectStore['get']> {
    await this.#begin('get', key, options?.signal);
    return this.#inner.get(key, options);
  }

  async put(...[key, body, options]: Parameters<ObjectStore['put']>): Promise<ObjectInfo> {
    await this.#begin('put', key, options?.signal);
    const info = await this.#inner.put(key, body, options);
    await this.after?.({ operation: 'put', key });
    return info;
  }

  async delete(...[keys, options]: Parameters<ObjectStore['delete']>): Promise<void> {
    for (const key of keys) await this.#begin('delete', key, options?.signal);
    await this.#inner.delete(keys, options);
  }

  close(): Promise<void> {
    return this.#inner.close();
  }
}

/** Waits until `signal` fires, as a request that nobody answers. */
export function hang(signal: AbortSignal | undefined): Promise<never> {
  return new Promise((_, reject) => {
    signal?.addEventListener('abort', () => reject(abortedError(signal)), { once: true });
  });
}
