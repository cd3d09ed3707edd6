/**
 * The follower against real SQLite: after every scenario the shadow WAL must be what SQLite committed, or the outcome
 * must say that continuity is lost. The application is a connection of the same SQLite library, which shares locks
 * with the follower's connections as another process would.
 */

import {
  closeSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import BetterSqlite3 from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { DatabaseFiles } from '../../src/engine/database-files.ts';
import { ShadowWal, emptyChain, type WalChain } from '../../src/engine/shadow-wal.ts';
import { WalFollower } from '../../src/engine/wal-follower.ts';
import { ReadConnection } from '../../src/sqlite/connection.ts';
import { WAL_HEADER_SIZE, encodeFrame, parseWalHeader, walFrameSize } from '../../src/sqlite/wal.ts';

const PAGE_SIZE = 4096;
let directory: string;
let path: string;
let application: BetterSqlite3.Database;
const cleanups: (() => void)[] = [];

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'follower-'));
  path = join(directory, 'db');
  application = openApplication();
  application.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v); INSERT INTO t (v) VALUES (1)');
  await mkdir(join(directory, 'meta'));
});

afterEach(() => {
  for (const cleanup of cleanups.splice(0).reverse()) cleanup();
  if (application.open) application.close();
  rmSync(directory, { recursive: true });
});

function openApplication(): BetterSqlite3.Database {
  const database = new BetterSqlite3(path, { timeout: 0 });
  database.pragma('journal_mode = WAL');
  database.pragma('wal_autocheckpoint = 0');
  return database;
}

const insert = (bytes = 10) => application.prepare('INSERT INTO t (v) VALUES (randomblob(?))').run(bytes);

/** A follower as a session makes it; `chain` and `shadow` as a process before left them. */
async function follow(left?: { shadow: ShadowWal; chain: WalChain }) {
  const files = new DatabaseFiles(path);
  const reader = new ReadConnection(path);
  reader.begin();
  files.openWal();
  const shadow = left?.shadow ?? (await ShadowWal.create(join(directory, 'meta')));
  const follower = new WalFollower(files, shadow, reader, left?.chain ?? emptyChain(0), PAGE_SIZE);
  let open = true;
  const close = () => {
    if (!open) return;
    open = false;
    follower.close();
    files.close();
  };
  cleanups.push(close);
  return { follower, shadow, files, close };
}

async function reload() {
  const loaded = await ShadowWal.load(join(directory, 'meta'));
  if (loaded.kind !== 'loaded') throw new Error(loaded.reason);
  return loaded;
}

const shadowBytes = (shadow: ShadowWal, index: number) => readFileSync(shadow.pathOf(index));
/** The live WAL up to its last commit; reading it with fs is safe, only the database and -shm are not. */
const walBytes = (frames: number) =>
  readFileSync(`${path}-wal`).subarray(0, WAL_HEADER_SIZE + frames * walFrameSize(PAGE_SIZE));
const framesOf = (chain: WalChain) => (chain.offset - WAL_HEADER_SIZE) / walFrameSize(PAGE_SIZE);

describe('WalFollower', () => {
  it('copies what is committed at the start and at each sync, byte for byte', async () => {
    const { follower, shadow } = await follow();
    expect((await follower.start()).kind).toBe('ok');
    for (let i = 0; i < 5; i++) {
      insert(20_000);
      expect(follower.hasNews()).toBe(true);
      expect(await follower.sync()).toMatchObject({ kind: 'ok' });
      expect(follower.hasNews()).toBe(false);
    }
    expect(shadowBytes(shadow, 0)).toEqual(readFileSync(`${path}-wal`));
  });

  it('has something to do when a commit came between the begin of its read transaction and the copy', async () => {
    const { follower, files } = await follow();
    await follower.start();
    insert();
    // The mark is taken before this commit, the copy holds it.
    const begin = vi.spyOn(ReadConnection.prototype, 'begin').mockImplementationOnce(function (
      this: ReadConnection,
    ) {
      begin.mockRestore();
      this.begin();
      insert();
    });
    expect(await follower.sync()).toMatchObject({ kind: 'ok' });
    expect(framesOf(follower.chain)).toBe(files.readWalIndex()?.mxFrame);
    // A checkpoint cannot get past the mark, and nothing will change in the wal-index as long as it waits.
    expect(application.pragma('wal_checkpoint(TRUNCATE)')).toMatchObject([{ busy: 1 }]);
    expect(follower.hasNews()).toBe(true);
    await follower.sync();
    application.pragma('wal_checkpoint(PASSIVE)');
    await follower.sync();
    expect(application.pragma('wal_checkpoint(TRUNCATE)')).toMatchObject([{ busy: 0 }]);
  });

  it('has something to do once more after a checkpoint has finished', async () => {
    const { follower } = await follow();
    await follower.start();
    insert();
    await follower.sync();
    application.pragma('wal_checkpoint(PASSIVE)');
    expect(follower.hasNews()).toBe(true);
    await follower.sync();
    expect(follower.hasNews()).toBe(true);
    await follower.sync();
    expect(follower.hasNews()).toBe(false);
  });

  it('does not copy frames that are not committed', async () => {
    const { follower, shadow } = await follow();
    await follower.start();
    const before = shadowBytes(shadow, 0);
    application.pragma('cache_size = 2');
    application.exec('BEGIN');
    for (let i = 0; i < 50; i++) insert(PAGE_SIZE);
    expect(statSync(`${path}-wal`).size).toBeGreaterThan(before.byteLength);
    expect(await follower.sync()).toEqual({ kind: 'ok', copiedBytes: 0 });
    expect(shadowBytes(shadow, 0)).toEqual(before);
    application.exec('ROLLBACK');
    insert();
    await follower.sync();
    expect(shadowBytes(shadow, 0)).toEqual(walBytes(framesOf(follower.chain)));
  });

  it('does not take a ghost: a commit frame whose writer died before it published the commit', async () => {
    const { follower, shadow } = await follow();
    await follower.start();
    const { header, checksum, offset } = follower.chain;
    const ghost = encodeFrame(
      header!,
      { pageNumber: 2, commitPageCount: 2 },
      new Uint8Array(PAGE_SIZE).fill(7),
      checksum,
    );
    const fd = openSync(`${path}-wal`, 'r+');
    writeSync(fd, ghost, 0, ghost.byteLength, offset);
    closeSync(fd);
    expect(await follower.sync()).toEqual({ kind: 'ok', copiedBytes: 0 });
    // The next writer overwrites the ghost.
    insert();
    expect((await follower.sync()).kind).toBe('ok');
    expect(shadowBytes(shadow, 0)).toEqual(walBytes(framesOf(follower.chain)));
    expect(shadowBytes(shadow, 0).includes(Buffer.from(ghost))).toBe(false);
  });

  it('opens the next index when the WAL was restarted, with every commit of the one before', async () => {
    const { follower, shadow } = await follow();
    await follower.start();
    for (let index = 0; index < 10; index++) {
      insert(5000);
      await follower.sync();
      const full = walBytes(framesOf(follower.chain));
      application.pragma('wal_checkpoint(PASSIVE)');
      // This read begins where all is checkpointed: the next writer may start the WAL over.
      expect(follower.hasNews()).toBe(true);
      await follower.sync();
      insert(100);
      await follower.sync();
      expect(follower.chain.index).toBe(index + 1);
      expect(shadowBytes(shadow, index)).toEqual(full);
    }
    expect(shadowBytes(shadow, 10)).toEqual(walBytes(framesOf(follower.chain)));
  });

  it('keeps the WAL from being restarted while it has not copied everything', async () => {
    const { follower, shadow } = await follow();
    await follower.start();
    insert(50_000);
    const [result] = application.pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[];
    expect(result?.busy).toBe(1);
    insert(50_000);
    await follower.sync();
    expect(shadowBytes(shadow, 0)).toEqual(readFileSync(`${path}-wal`));
  });

  it('begins the next read before it ends the present one: no moment is without a mark', async () => {
    const { follower, shadow } = await follow();
    await follower.start();
    let committed: Buffer | undefined;
    const begin = vi.spyOn(ReadConnection.prototype, 'begin').mockImplementationOnce(function (
      this: ReadConnection,
    ) {
      // In the very moment in which a follower without overlap would have let go.
      insert(20_000);
      committed = readFileSync(`${path}-wal`);
      application.pragma('wal_checkpoint(TRUNCATE)');
      this.begin();
    });
    try {
      expect((await follower.sync()).kind).toBe('ok');
    } finally {
      begin.mockRestore();
    }
    insert();
    await follower.sync();
    expect(shadowBytes(shadow, 0).subarray(0, committed!.byteLength)).toEqual(committed);
  });

  it('lets a TRUNCATE through after a sync, and goes on in the next index', async () => {
    const { follower, shadow } = await follow();
    await follower.start();
    insert(50_000);
    await follower.sync();
    application.pragma('wal_checkpoint(PASSIVE)');
    await follower.sync();
    const [result] = application.pragma('wal_checkpoint(TRUNCATE)') as { busy: number }[];
    expect(result?.busy).toBe(0);
    expect(await follower.sync()).toEqual({ kind: 'ok', copiedBytes: 0 });
    insert();
    await follower.sync();
    expect(follower.chain.index).toBe(1);
    expect(shadowBytes(shadow, 1)).toEqual(readFileSync(`${path}-wal`));
  });

  it('starts on an empty WAL and opens index 0 with the first commit', async () => {
    application.pragma('wal_checkpoint(TRUNCATE)');
    const { follower, shadow } = await follow();
    expect(await follower.start()).toEqual({ kind: 'ok', copiedBytes: 0 });
    expect(follower.chain).toMatchObject({ index: 0, offset: 0 });
    insert();
    await follower.sync();
    expect(follower.chain.index).toBe(0);
    expect(shadowBytes(shadow, 0)).toEqual(readFileSync(`${path}-wal`));
  });

  it('reports a chain that SQLite does not confirm as lost', async () => {
    const { follower } = await follow();
    await follower.start();
    insert();
    const fd = openSync(`${path}-wal`, 'r+');
    // The page of the last frame: its checksum fails now, and the WAL was not restarted.
    writeSync(fd, Buffer.from([1, 2, 3, 4]), 0, 4, statSync(`${path}-wal`).size - 100);
    closeSync(fd);
    expect((await follower.sync()).kind).toBe('lost');
  });
});

describe('WalFollower after a restart of the process', () => {
  /** Follows to the end, then ends as a killed process would: the shadow WAL stays, connections go. */
  async function leave() {
    const { follower, close } = await follow();
    await follower.start();
    insert(30_000);
    await follower.sync();
    close();
  }

  it('continues the generation when the WAL only grew', async () => {
    await leave();
    insert(10_000);
    const { follower, shadow } = await follow(await reload());
    expect((await follower.start()).kind).toBe('ok');
    expect(follower.chain.index).toBe(0);
    expect(shadowBytes(shadow, 0)).toEqual(readFileSync(`${path}-wal`));
  });

  it('continues behind frames that were copied but not committed to the shadow WAL', async () => {
    await leave();
    const { shadow } = await reload();
    const fd = openSync(shadow.pathOf(0), 'a');
    writeSync(fd, Buffer.alloc(walFrameSize(PAGE_SIZE) + 100, 9));
    closeSync(fd);
    insert(10_000);
    const left = await reload();
    expect(statSync(shadow.pathOf(0)).size).toBe(left.chain.offset);
    const again = await follow(left);
    expect((await again.follower.start()).kind).toBe('ok');
    expect(shadowBytes(again.shadow, 0)).toEqual(readFileSync(`${path}-wal`));
  });

  it('is lost when the WAL was restarted meanwhile', async () => {
    await leave();
    application.pragma('wal_checkpoint(RESTART)');
    insert();
    const { follower } = await follow(await reload());
    expect(await follower.start()).toMatchObject({
      kind: 'lost',
      reason: expect.stringContaining('restarted') as string,
    });
  });

  it('is lost when the WAL was emptied meanwhile', async () => {
    await leave();
    application.pragma('wal_checkpoint(TRUNCATE)');
    const { follower } = await follow(await reload());
    expect((await follower.start()).kind).toBe('lost');
  });

  it('is lost when the WAL was cut back as after a power loss, also when it grew again', async () => {
    for (const grow of ['not at all', 'to the same length', 'beyond']) {
      await leave();
      const left = await reload();
      // A read-only connection that closes last leaves the WAL.
      const last = new BetterSqlite3(path, { readonly: true });
      last.pragma('user_version');
      application.close();
      last.close();
      // Three frames that never reached the disk.
      truncateSync(`${path}-wal`, left.chain.offset - 3 * walFrameSize(PAGE_SIZE));
      rmSync(`${path}-shm`, { force: true });
      application = openApplication();
      const size = () => statSync(`${path}-wal`).size;
      if (grow !== 'not at all') while (size() < left.chain.offset) insert();
      if (grow === 'to the same length') expect(size()).toBe(left.chain.offset);
      if (grow === 'beyond') insert(30_000);
      const { follower, close } = await follow(left);
      expect((await follower.start()).kind).toBe('lost');
      close();
    }
  });

  it('an index whose end was not recorded counts as whole in the same boot only, whatever the times of its file', async () => {
    const { follower, shadow, close } = await follow();
    await follower.start();
    insert(50_000);
    await follower.sync();
    application.pragma('wal_checkpoint(PASSIVE)');
    await follower.sync();
    insert();
    await follower.sync();
    expect(follower.chain.index).toBe(1);
    close();
    await shadow.close();
    rmSync(join(shadow.path, 'ends.json'));
    expect((await reload()).shadow.has(0)).toBe(true);
    // As on another machine, or after a boot: the last frames never reached the disk.
    writeFileSync(join(shadow.path, 'boot'), 'another-boot\n');
    truncateSync(shadow.pathOf(0), WAL_HEADER_SIZE + 3 * walFrameSize(PAGE_SIZE));
    const left = await reload();
    expect(left.shadow.has(0)).toBe(false);
    expect(left.shadow.has(1)).toBe(true);
    expect(readFileSync(join(shadow.path, 'boot'), 'utf8')).not.toContain('another');
  });

  it('load gives no chain when a file is damaged', async () => {
    await leave();
    const { shadow } = await reload();
    truncateSync(shadow.pathOf(0), 20);
    expect(await ShadowWal.load(join(directory, 'meta'))).toMatchObject({ kind: 'none' });
  });

  it('the chain is parsed as v0.3.13 leaves it: header and whole frames', async () => {
    await leave();
    const { shadow, chain } = await reload();
    const data = shadowBytes(shadow, 0);
    expect(parseWalHeader(data).salt1).toBe(chain.header?.salt1);
    expect((data.byteLength - WAL_HEADER_SIZE) % walFrameSize(PAGE_SIZE)).toBe(0);
  });
});
