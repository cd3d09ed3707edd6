/** Following a database: when its files are watched, and the end, where what could not be copied must not pass for stored. */

import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { sleep } from '../../src/base/concurrency.ts';
import { LitestreamError } from '../../src/base/errors.ts';
import { Checkpointer } from '../../src/engine/checkpointer.ts';
import { Database } from '../../src/engine/database.ts';
import { DirectoryWatch } from '../../src/engine/directory-watch.ts';
import { DATABASE_DEFAULTS } from '../../src/engine/options.ts';
import { WalFollower, type CopyOutcome } from '../../src/engine/wal-follower.ts';
import { recordingLogger, type LogLine } from './replica-rig.ts';

let directory: string;
let application: BetterSqlite3.Database;
let database: Database;
let log: LogLine[];
let watch: CountingWatch;

/** Knows how many listen to the folder. */
class CountingWatch extends DirectoryWatch {
  listeners = 0;

  override add(path: string, listener: Parameters<DirectoryWatch['add']>[1]): () => void {
    this.listeners++;
    const end = super.add(path, listener);
    return () => {
      this.listeners--;
      end();
    };
  }
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'database-'));
  const path = join(directory, 'db');
  application = new BetterSqlite3(path);
  application.pragma('journal_mode = WAL');
  application.exec('CREATE TABLE t (v)');
  log = [];
  const logger = recordingLogger(log);
  watch = new CountingWatch(logger);
  database = new Database({
    options: { path, ...DATABASE_DEFAULTS, monitorIntervalMs: 3600_000, replicas: [] },
    logger,
    checkpointer: new Checkpointer(),
    watch,
  });
  await database.start();
});

afterEach(async () => {
  vi.restoreAllMocks();
  await database.close();
  application.close();
  rmSync(directory, { recursive: true });
});

const RETRY: CopyOutcome = { kind: 'retry', reason: 'the wal-index is being written' };

const insert = (): unknown => application.exec('INSERT INTO t VALUES (1)');

/** Commits without a pause until the folder is not listened to any more. */
async function commitSteadily(): Promise<void> {
  while (watch.listeners > 0) {
    insert();
    await sleep(2);
  }
}

/** Until all that is in the WAL is in the shadow WAL. */
async function copied(): Promise<void> {
  const sizeBytes = statSync(join(directory, 'db-wal')).size;
  await vi.waitUntil(() => database.position().offset >= sizeBytes, { timeout: 20_000, interval: 5 });
}

describe.runIf(process.platform === 'linux')('Database under steady load', () => {
  it('is not woken by each commit, and copies all the same', async () => {
    await commitSteadily();
    insert();
    await copied();
  });

  it('is woken by a commit again afterwards', async () => {
    await commitSteadily();
    await vi.waitUntil(() => watch.listeners > 0, { timeout: 20_000 });
    await copied();
    // What looks for commits without an event is over: from now on it polls once an hour.
    await sleep(600);
    insert();
    await copied();
  });

  it('listens to the folder of a database that it let go of', async () => {
    await commitSteadily();
    await database.lend();
    expect(watch.listeners).toBeGreaterThan(0);
  });

  it('opens a database that was replaced', async () => {
    await commitSteadily();
    const generation = database.position().generation;
    application.close();
    for (const name of ['db', 'db-wal', 'db-shm']) rmSync(join(directory, name), { force: true });
    application = new BetterSqlite3(join(directory, 'db'));
    application.pragma('journal_mode = WAL');
    application.exec('CREATE TABLE t (v)');
    await vi.waitUntil(() => !database.followed, { timeout: 20_000 });
    insert();
    await vi.waitUntil(() => database.followed, { timeout: 20_000 });
    expect(database.position().generation).not.toBe(generation);
    await copied();
  });
});

describe('Database.stop', () => {
  it('copies what is committed', async () => {
    const before = database.position();
    application.exec('INSERT INTO t VALUES (1)');
    await database.stop();
    expect(database.position().offset).toBeGreaterThan(before.offset);
    expect(database.broken).toBeUndefined();
  });

  it('copies what is committed also when a writer is in the way at first', async () => {
    const before = database.position();
    application.exec('INSERT INTO t VALUES (1)');
    vi.spyOn(WalFollower.prototype, 'sync').mockResolvedValueOnce(RETRY).mockResolvedValueOnce(RETRY);
    await database.stop();
    expect(database.position().offset).toBeGreaterThan(before.offset);
    expect(database.broken).toBeUndefined();
  });

  it('is a failure when a writer stays in the way', async () => {
    vi.spyOn(WalFollower.prototype, 'sync').mockResolvedValue(RETRY);
    await database.stop();
    expect(database.broken).toBe('final sync: a writer is in the way');
  });

  it('is a failure when the last copy fails', async () => {
    vi.spyOn(WalFollower.prototype, 'sync').mockRejectedValue(new LitestreamError('disk-full', 'no room'));
    await database.stop();
    expect(database.broken).toBe('final sync: no room');
    expect(
      log.some(({ level, attributes }) => level === 'ERROR' && attributes['error'] === 'final sync: no room'),
    ).toBe(true);
  });
});
