/**
 * A follower that gave up its mark, against real SQLite: whatever the application did meanwhile, every commit is in the
 * shadow WAL, or the outcome says that continuity is lost.
 */

import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DatabaseFiles } from '../../src/engine/database-files.ts';
import { ShadowWal, emptyChain } from '../../src/engine/shadow-wal.ts';
import { WalFollower } from '../../src/engine/wal-follower.ts';
import { ReadConnection } from '../../src/sqlite/connection.ts';
import {
  WAL_HEADER_SIZE,
  encodeFrame,
  parseWalHeader,
  readFrameHeader,
  verifyFrames,
  walFrameSize,
} from '../../src/sqlite/wal.ts';

const PAGE_SIZE = 4096;

/** A database with its application and a follower, in one process: SQLite shares locks in it as between processes. */
class Site {
  readonly directory = mkdtempSync(join(tmpdir(), 'gap-'));
  readonly path = join(this.directory, 'db');
  readonly application = new BetterSqlite3(this.path, { timeout: 0 });
  readonly files: DatabaseFiles;
  follower!: WalFollower;
  shadow!: ShadowWal;
  commits = 0;
  /** Counted in the WAL when the follower began. */
  #before = 0;

  constructor() {
    this.application.pragma('journal_mode = WAL');
    this.application.pragma('wal_autocheckpoint = 0');
    this.application.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v)');
    this.files = new DatabaseFiles(this.path);
  }

  async begin(): Promise<this> {
    for (let i = 0; i < 8; i++) this.commit(9000);
    const meta = join(this.directory, 'meta');
    await mkdir(meta);
    const reader = new ReadConnection(this.path);
    reader.begin();
    this.files.openWal();
    this.shadow = await ShadowWal.create(meta);
    this.follower = new WalFollower(this.files, this.shadow, reader, emptyChain(0), PAGE_SIZE);
    expect((await this.follower.start()).kind).toBe('ok');
    this.#before = this.copied();
    this.commits = 0;
    return this;
  }

  commit(bytes = 10): void {
    this.application.prepare('INSERT INTO t (v) VALUES (randomblob(?))').run(bytes);
    this.commits++;
  }

  checkpoint(mode: 'PASSIVE' | 'RESTART' | 'TRUNCATE'): void {
    this.application.pragma(`wal_checkpoint(${mode})`);
  }

  /** Commits in the shadow WAL, each frame verified. */
  copied(): number {
    let count = 0;
    for (let index = 0; index <= this.follower.chain.index; index++) {
      if (!this.shadow.has(index)) continue;
      const data = new Uint8Array(readFileSync(this.shadow.pathOf(index)));
      expect(data.byteLength).toBe(this.shadow.endOf(index));
      const header = parseWalHeader(data);
      const frames = data.subarray(WAL_HEADER_SIZE);
      const run = verifyFrames(header, frames, header.checksum);
      expect(run.committedBytes).toBe(frames.byteLength);
      count += run.commitCount;
    }
    return count - this.#before;
  }

  end(): void {
    this.follower.close();
    this.application.close();
    this.files.close();
    rmSync(this.directory, { recursive: true });
  }
}

describe('a follower without a mark', () => {
  let site: Site;
  beforeEach(async () => {
    site = await new Site().begin();
  });
  afterEach(() => {
    vi.restoreAllMocks();
    site.end();
  });

  it('is in the way of no checkpoint', async () => {
    site.commit();
    await site.follower.sync();
    site.commit();
    expect(site.application.pragma('wal_checkpoint(TRUNCATE)')).toMatchObject([{ busy: 1 }]);
    site.follower.letGo();
    expect(site.application.pragma('wal_checkpoint(TRUNCATE)')).toMatchObject([{ busy: 0 }]);
  });

  it('salvages what the application committed before it started the WAL over', async () => {
    site.follower.letGo();
    site.commit();
    site.commit(5000);
    const old = readFileSync(`${site.path}-wal`);
    site.checkpoint('PASSIVE');
    site.commit();
    expect(await site.follower.sync()).toMatchObject({ kind: 'ok' });
    expect(site.follower.chain.index).toBe(1);
    expect(readFileSync(site.shadow.pathOf(0))).toEqual(old);
    expect(site.copied()).toBe(site.commits);
  });

  it('salvages also before the first commit to the new WAL', async () => {
    for (let i = 0; i < 2; i++) await site.follower.sync();
    expect(site.follower.hasNews()).toBe(false);
    site.follower.letGo();
    site.commit();
    site.checkpoint('RESTART');
    // A transaction that does not fit in its cache starts the WAL over; rolled back, it has committed nothing.
    site.application.pragma('cache_size = 2');
    site.application.exec('BEGIN IMMEDIATE; UPDATE t SET v = randomblob(40000) WHERE id = 1; ROLLBACK');
    expect(site.files.readWalIndex()?.mxFrame).toBe(0);
    expect(site.follower.hasNews()).toBe(true);
    expect(await site.follower.sync()).toMatchObject({ kind: 'ok' });
    expect(site.copied()).toBe(site.commits);
    site.commit();
    await site.follower.sync();
    expect(site.copied()).toBe(site.commits);
  });

  it('goes on after a TRUNCATE when everything was copied', async () => {
    site.commit();
    await site.follower.sync();
    site.follower.letGo();
    site.checkpoint('TRUNCATE');
    expect(await site.follower.sync()).toMatchObject({ kind: 'ok' });
    site.commit();
    expect(await site.follower.sync()).toMatchObject({ kind: 'ok' });
    expect(site.copied()).toBe(site.commits);
  });

  it('does not believe in a WAL that was cut: TRUNCATE after a commit', async () => {
    site.follower.letGo();
    site.commit();
    site.checkpoint('TRUNCATE');
    site.commit();
    expect(await site.follower.sync()).toEqual({
      kind: 'lost',
      reason: 'wal started over by the application before 1 of its commits could be copied',
    });
  });

  it('does not believe in a WAL that was cut: journal_size_limit', async () => {
    site.follower.letGo();
    site.application.pragma('journal_size_limit = 0');
    site.commit();
    site.checkpoint('PASSIVE');
    site.commit();
    expect(await site.follower.sync()).toMatchObject({ kind: 'lost' });
  });

  it('does not believe in an end that the new WAL has overwritten', async () => {
    site.follower.letGo();
    site.commit();
    site.checkpoint('PASSIVE');
    site.commit(200_000);
    expect(await site.follower.sync()).toMatchObject({ kind: 'lost' });
  });

  it('does not bridge two restarts that carried commits away', async () => {
    site.follower.letGo();
    for (let i = 0; i < 3; i++) {
      site.checkpoint('PASSIVE');
      site.commit();
    }
    expect(await site.follower.sync()).toMatchObject({ kind: 'lost' });
  });

  it('does not take a ghost at the end of the old WAL for a commit', async () => {
    const { header, checksum, offset } = site.follower.chain;
    const page = new Uint8Array(PAGE_SIZE).fill(7);
    const ghost = encodeFrame(header!, { pageNumber: 2, commitPageCount: 2 }, page, checksum);
    site.follower.letGo();
    site.checkpoint('PASSIVE');
    const fd = openSync(`${site.path}-wal`, 'r+');
    writeSync(fd, ghost, 0, ghost.byteLength, offset);
    closeSync(fd);
    site.commit();
    expect(statSync(`${site.path}-wal`).size).toBeGreaterThan(offset);
    expect(await site.follower.sync()).toEqual({
      kind: 'lost',
      reason: 'the end of the old wal is uncertain',
    });
    expect(readFileSync(site.shadow.pathOf(0)).byteLength).toBe(offset);
  });

  it('does not count commits that may be padding', async () => {
    site.follower.letGo();
    site.checkpoint('PASSIVE');
    site.commit();
    const now = site.files.readWalIndex()!;
    const wal = new Uint8Array(readFileSync(`${site.path}-wal`));
    const header = parseWalHeader(wal);
    // As SQLite fills a sector: the commit frame once more, with the checksum that follows.
    const before = now.mxFrame * walFrameSize(PAGE_SIZE) + WAL_HEADER_SIZE;
    const last = wal.subarray(before - PAGE_SIZE, before);
    const { pageNumber, commitPageCount } = readFrameHeader(wal, before - walFrameSize(PAGE_SIZE));
    const padding = encodeFrame(header, { pageNumber, commitPageCount }, last, now.frameChecksum);
    const fd = openSync(`${site.path}-wal`, 'r+');
    writeSync(fd, padding, 0, padding.byteLength, before);
    closeSync(fd);
    const { checksum } = readFrameHeader(padding, 0);
    const padded = { ...now, mxFrame: now.mxFrame + 1, frameChecksum: checksum };
    vi.spyOn(site.files, 'readWalIndex').mockReturnValue(padded);
    const outcome = await site.follower.sync();
    expect(outcome).toMatchObject({ kind: 'lost' });
    expect(JSON.stringify(outcome)).toContain('cannot be counted');
  });

  it('notices a wal-index that was built anew', async () => {
    site.follower.letGo();
    site.checkpoint('PASSIVE');
    site.commit();
    const now = site.files.readWalIndex()!;
    vi.spyOn(site.files, 'readWalIndex').mockReturnValue({ ...now, changeCount: 1 });
    expect(await site.follower.sync()).toEqual({
      kind: 'lost',
      reason: 'the wal-index was rebuilt while no read mark was held',
    });
  });

  it('copies freely what is added to the same WAL, and takes a mark when that is wholly in the database', async () => {
    site.follower.letGo();
    site.commit();
    expect(site.follower.hasNews()).toBe(true);
    expect(await site.follower.syncFreely()).toMatchObject({ kind: 'ok' });
    expect(site.follower.holding).toBe(false);
    expect(site.follower.hasNews()).toBe(false);
    expect(site.copied()).toBe(site.commits);
    site.checkpoint('PASSIVE');
    expect(site.follower.hasNews()).toBe(true);
    await site.follower.syncFreely();
    expect(site.follower.holding).toBe(true);
    expect(site.follower.resting).toBe(true);
    // The next writer starts the WAL over, and after that nobody does before it is copied.
    site.commit();
    expect(site.application.pragma('wal_checkpoint(TRUNCATE)')).toMatchObject([{ busy: 1 }]);
    await site.follower.sync();
    expect(site.follower.chain.index).toBe(1);
    expect(site.copied()).toBe(site.commits);
  });
});

describe('any sequence of what an application does', () => {
  const action = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('commit' as const), bytes: fc.nat(12_000) }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'sync' as const }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'free' as const }) },
    { weight: 2, arbitrary: fc.constant({ kind: 'let go' as const }) },
    {
      weight: 3,
      arbitrary: fc.record({
        kind: fc.constant('checkpoint' as const),
        mode: fc.constantFrom('PASSIVE', 'RESTART', 'TRUNCATE'),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: 'rollback' as const }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('limit' as const), bytes: fc.nat(60_000) }) },
  );

  it('is copied whole, or lost', async () => {
    let proven = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(action, { minLength: 5, maxLength: 25 }), async (actions) => {
        const site = await new Site().begin();
        const { follower, application } = site;
        try {
          for (const step of actions) {
            if (step.kind === 'commit') site.commit(step.bytes);
            else if (step.kind === 'let go') follower.letGo();
            else if (step.kind === 'checkpoint') site.checkpoint(step.mode);
            else if (step.kind === 'limit') application.pragma(`journal_size_limit = ${step.bytes}`);
            else if (step.kind === 'rollback') {
              application.pragma('cache_size = 2');
              application.exec('BEGIN IMMEDIATE; UPDATE t SET v = randomblob(6000); ROLLBACK');
            } else {
              const free = step.kind === 'free' && !follower.holding;
              const { kind } = await (free ? follower.syncFreely() : follower.sync());
              if (kind === 'lost') return;
              if (kind === 'ok') expect(site.copied()).toBe(site.commits);
            }
          }
          const { kind } = await follower.sync();
          if (kind !== 'ok') return;
          expect(site.copied()).toBe(site.commits);
          proven++;
        } finally {
          site.end();
        }
      }),
      { numRuns: 80 },
    );
    expect(proven).toBeGreaterThan(10);
  });
});
