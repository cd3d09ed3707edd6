/** New generations: asked for until there is one, and not one after the other. */

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { sleep } from '../../src/base/concurrency.ts';
import { LitestreamError } from '../../src/base/errors.ts';
import { Checkpointer } from '../../src/engine/checkpointer.ts';
import { Database } from '../../src/engine/database.ts';
import { DirectoryWatch } from '../../src/engine/directory-watch.ts';
import { GenerationRestarts } from '../../src/engine/generation-restarts.ts';
import { DATABASE_DEFAULTS } from '../../src/engine/options.ts';
import { ShadowWal } from '../../src/engine/shadow-wal.ts';
import { WalFollower } from '../../src/engine/wal-follower.ts';
import { recordingLogger, until, type LogLine } from './replica-rig.ts';

let directory: string;
let application: BetterSqlite3.Database;
let database: Database;
let log: LogLine[];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'restarts-'));
  const path = join(directory, 'db');
  application = new BetterSqlite3(path);
  application.pragma('journal_mode = WAL');
  application.exec('CREATE TABLE t (v)');
  log = [];
  const logger = recordingLogger(log);
  database = new Database({
    options: { path, ...DATABASE_DEFAULTS, monitorIntervalMs: 20, replicas: [] },
    logger,
    checkpointer: new Checkpointer(),
    watch: new DirectoryWatch(logger),
  });
  await database.start();
});

afterEach(async () => {
  vi.restoreAllMocks();
  await database.stop();
  await database.close();
  application.close();
  rmSync(directory, { recursive: true });
});

const begun = () => log.filter(({ message }) => message === 'sync: new generation').length;
const errors = () =>
  log.filter(({ level }) => level === 'ERROR').map(({ attributes }) => attributes['error']);

/** Commits again and again: each wakes the database. */
async function commitOften(): Promise<void> {
  const insert = application.prepare('INSERT INTO t VALUES (randomblob(100))');
  for (let i = 0; i < 150; i++) {
    insert.run();
    await sleep(10);
  }
}

describe('GenerationRestarts', () => {
  it('waits longer each time, within bounds, and not at all after one that has lasted', () => {
    const restarts = new GenerationRestarts();
    const waits: number[] = [];
    let nowMs = 0;
    for (let i = 0; i < 12; i++) {
      const waitMs = restarts.waitMs(nowMs);
      waits.push(waitMs);
      nowMs += waitMs;
      restarts.begins(nowMs);
    }
    expect(waits).toEqual([0, 0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000, 30_000]);
    nowMs += 60_000;
    expect(restarts.waitMs(nowMs)).toBe(0);
    restarts.begins(nowMs);
    expect(restarts.waitMs(nowMs)).toBe(0);
  });

  it('keeps the first reason until the generation has changed', () => {
    const restarts = new GenerationRestarts();
    expect(restarts.reason).toBeUndefined();
    restarts.want('first');
    restarts.want('second');
    expect(restarts.reason).toBe('first');
    restarts.done();
    expect(restarts.reason).toBeUndefined();
  });
});

describe('a new generation that fails', () => {
  it('once is begun all the same', async () => {
    const before = database.position().generation;
    vi.spyOn(ShadowWal, 'create').mockRejectedValueOnce(new LitestreamError('io', 'EIO: i/o error'));
    database.restartGeneration('replica no longer holds its snapshot');
    await until('another generation', () => database.position().generation !== before);
    expect(errors()).toEqual(['EIO: i/o error']);
    expect(log.at(-2)?.attributes['reason'] ?? log.at(-1)?.attributes['reason']).toBe(
      'replica no longer holds its snapshot',
    );
  });

  it('because its name cannot be written is begun when that is possible', async () => {
    const before = database.position().generation;
    const obstacle = join(database.metaPath, 'generation.tmp');
    mkdirSync(join(obstacle, 'in-the-way'), { recursive: true });
    database.restartGeneration('replica no longer holds its snapshot');
    await until('a failure', () => errors().length > 0);
    expect(database.position().generation).toBe(before);
    expect(database.broken).toMatch(/generation/);
    rmSync(obstacle, { recursive: true });
    await until('another generation', () => database.position().generation !== before);
    await until('no failure', () => database.broken === undefined);
  });

  it('when the WAL was lost is begun although the old one could be continued', async () => {
    const before = database.position().generation;
    vi.spyOn(WalFollower.prototype, 'sync').mockResolvedValueOnce({ kind: 'lost', reason: 'gone' });
    vi.spyOn(ShadowWal, 'create').mockRejectedValueOnce(new LitestreamError('io', 'EMFILE'));
    application.exec('INSERT INTO t VALUES (1)');
    await until('another generation', () => database.position().generation !== before);
  });
});

describe('generations that are of no use', () => {
  it('do not follow one another with each commit while the WAL is always lost', async () => {
    const lost = vi.spyOn(WalFollower.prototype, 'sync').mockResolvedValue({ kind: 'lost', reason: 'gone' });
    await commitOften();
    expect(begun()).toBeLessThan(15);
    expect(database.facts().delay?.reason).toMatch(/gone/);
    lost.mockRestore();
    await until('what is committed is copied', () => database.facts().delay === undefined);
    const { generation } = database.position();
    application.exec('INSERT INTO t VALUES (1)');
    await database.sync();
    expect(database.position().generation).toBe(generation);
  });

  it('do not follow one another with each commit while the spool is full', async () => {
    const full = new LitestreamError('disk-full', 'no space left on device');
    const write = vi.spyOn(ShadowWal.prototype, 'write').mockImplementation(() => {
      throw full;
    });
    await commitOften();
    expect(begun()).toBeLessThan(15);
    write.mockRestore();
    await until('it is followed', () => database.followed && database.broken === undefined);
  });
});
