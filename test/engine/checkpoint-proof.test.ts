/**
 * The look right before a checkpoint, by itself: a proof of a moment ago lets nothing be written when the files are not
 * what was proven any more. The checkpointer is the compiled one, its thread cannot be started from TypeScript.
 */

import { execFileSync } from 'node:child_process';
import { closeSync, existsSync, openSync, readdirSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import type { Checkpointer } from '../../src/engine/checkpointer.ts';
import { DatabaseFiles } from '../../src/engine/database-files.ts';
import type { ProvenFiles } from '../../src/engine/file-identity.ts';
import { ReadConnection } from '../../src/sqlite/connection.ts';
import { findWritable } from '../../src/sqlite/writable-path.ts';
import { withTempDir } from '../support/process.ts';
import { withSqlite } from '../support/sqlite.ts';

const MODULE = new URL('../../dist/engine/checkpointer.js', import.meta.url).href;
const DRIVER = new URL('../../dist/sqlite/driver.js', import.meta.url).href;
const compiledDriver = (await import(DRIVER)) as { readonly sqliteDriver: () => unknown };
const compiled = (await import(MODULE)) as { readonly Checkpointer: new () => Checkpointer };

/** Salts in the header of a WAL. */
const SALTS_AT = 16;

interface Proven {
  readonly path: string;
  readonly checkpointer: Checkpointer;
  readonly proof: ProvenFiles;
}

/** The files are read by processes of their own: to close one here would drop the locks of this process. */
const read = (path: string): Buffer => execFileSync('cat', [path]);

function replaceByCopy(path: string): void {
  execFileSync('cp', [path, `${path}.copy`]);
  renameSync(path, `${path}.old`);
  renameSync(`${path}.copy`, path);
}

/**
 * A database with frames to checkpoint, an application that has it open, and a proof.
 * @param warm the thread has its connection already
 */
async function withProof(warm: boolean, body: (proven: Proven) => Promise<void>): Promise<void> {
  await withTempDir(async (dir) => {
    const path = join(dir, 'db');
    const pragmas = ['journal_mode=WAL', 'wal_autocheckpoint=0'];
    await withSqlite({ path, pragmas }, async (application) => {
      await application.exec('CREATE TABLE t (v)');
      const files = new DatabaseFiles(path);
      const reader = new ReadConnection(path);
      const checkpointer = new compiled.Checkpointer();
      try {
        reader.begin();
        files.openWal();
        const writable = findWritable(path)!;
        if (warm) await checkpointer.checkpoint(files.prove(writable));
        await application.exec('INSERT INTO t VALUES (randomblob(20000))');
        // The mark of the reader is where the checkpoint ends.
        reader.end();
        reader.begin();
        await body({ path, checkpointer, proof: files.prove(writable) });
      } finally {
        await checkpointer.close(path);
        reader.close();
        files.close();
      }
    });
  });
}

interface Exchange {
  readonly what: string;
  readonly exchange: (path: string) => void;
  readonly reason: string;
}

const EXCHANGES: readonly Exchange[] = [
  {
    what: 'the -shm was replaced',
    exchange: (path) => replaceByCopy(`${path}-shm`),
    reason: 'db-shm was replaced',
  },
  {
    what: 'the -shm was deleted',
    exchange: (path) => rmSync(`${path}-shm`),
    reason: 'db-shm was moved or deleted',
  },
  {
    what: 'the -wal was replaced',
    exchange: (path) => replaceByCopy(`${path}-wal`),
    reason: 'db-wal was replaced',
  },
  {
    what: 'the -wal was deleted',
    exchange: (path) => rmSync(`${path}-wal`),
    reason: 'db-wal was moved or deleted',
  },
  { what: 'the database was replaced', exchange: replaceByCopy, reason: 'db was replaced' },
  {
    what: 'the -wal was written anew, as the wal-index does not know',
    exchange: (path) => {
      const wal = openSync(`${path}-wal`, 'r+');
      writeSync(wal, Buffer.from('new salt'), 0, 8, SALTS_AT);
      closeSync(wal);
    },
    reason: 'db-wal is not the one that',
  },
];

describe.each([
  { thread: 'has a connection', warm: true },
  { thread: 'has no connection yet', warm: false },
])('a checkpoint whose thread $thread', ({ warm }) => {
  it('copies the frames into the file that was proven', async () => {
    await withProof(warm, async ({ path, checkpointer, proof }) => {
      const before = read(path);
      expect(await checkpointer.checkpoint(proof)).toMatchObject({ busy: false });
      expect(read(path).equals(before)).toBe(false);
    });
  });

  it.each(EXCHANGES)('writes nothing by a proof after which $what', async ({ exchange, reason }) => {
    await withProof(warm, async ({ path, checkpointer, proof }) => {
      const before = read(path);
      exchange(path);
      const names = readdirSync(dirname(path));
      await expect(checkpointer.checkpoint(proof)).rejects.toMatchObject({
        code: 'not-found',
        message: expect.stringContaining(reason) as string,
      });
      expect(readdirSync(dirname(path))).toEqual(names);
      for (const file of [path, `${path}.old`]) {
        if (existsSync(file)) expect(read(file).equals(before), file).toBe(true);
      }
    });
  });
});

it('a checkpoint writes nothing while the wal-index is being written', async () => {
  await withProof(true, async ({ path, checkpointer, proof }) => {
    const before = read(path);
    // The change counter in the first of its two copies.
    execFileSync('dd', [`of=${path}-shm`, 'conv=notrunc', 'bs=1', 'seek=8', 'count=4', 'status=none'], {
      input: Buffer.alloc(4, 0xff),
    });
    const busy = { busy: true, logFrames: -1, checkpointedFrames: -1 };
    expect(await checkpointer.checkpoint(proof)).toEqual(busy);
    expect(read(path).equals(before)).toBe(true);
  });
});

it('is made by the SQLite of the process, whatever the environment says by then', async () => {
  await withProof(false, async ({ path, checkpointer, proof }) => {
    const before = read(path);
    compiledDriver.sqliteDriver();
    vi.stubEnv('LITESTREAM_SQLITE', 'of another process');
    try {
      expect(await checkpointer.checkpoint(proof)).toMatchObject({ busy: false });
    } finally {
      vi.unstubAllEnvs();
    }
    expect(read(path).equals(before)).toBe(false);
  });
});
