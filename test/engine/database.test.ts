/** The end of following: what could not be copied must not pass for stored. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
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

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'database-'));
  const path = join(directory, 'db');
  application = new BetterSqlite3(path);
  application.pragma('journal_mode = WAL');
  application.exec('CREATE TABLE t (v)');
  log = [];
  const logger = recordingLogger(log);
  database = new Database({
    options: { path, ...DATABASE_DEFAULTS, monitorIntervalMs: 3600_000, replicas: [] },
    logger,
    checkpointer: new Checkpointer(),
    watch: new DirectoryWatch(logger),
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
