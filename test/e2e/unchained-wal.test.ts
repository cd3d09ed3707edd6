/**
 * A WAL that is committed and yet no chain of checksums, as SQLite 3.40 leaves it after ROLLBACK TO behind a cache
 * spill: what is committed is stored while the application goes on.
 */

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs } from 'node:fs';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { until } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { compareDatabases, integrityCheck, withSqlite, type SqliteProcess } from '../support/sqlite.ts';

const HEADER_SIZE = 32;
const FRAME_SIZE = 24 + 4096;

/** The machine's own Python where its SQLite has the fault. */
const PYTHON = ((): string | undefined => {
  try {
    const version = execFileSync('/usr/bin/python3', ['-c', 'import sqlite3; print(sqlite3.sqlite_version)']);
    const [major = 0, minor = 0] = String(version).trim().split('.').map(Number);
    return major === 3 && minor >= 31 && minor <= 40 ? '/usr/bin/python3' : undefined;
  } catch {
    return undefined;
  }
})();

/** A bulk import that fails inside a transaction, and one more commit for each line that it is sent. */
const FAILED_IMPORT = `
import sqlite3, sys
c = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=10); x = c.execute
x('PRAGMA cache_size=10')
x('BEGIN'); x("INSERT INTO t(v) VALUES('keep')"); x('SAVEPOINT s')
x('INSERT INTO t(v) SELECT hex(randomblob(900)) FROM (WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x+1 FROM c WHERE x<3000) SELECT x FROM c)')
x('ROLLBACK TO s'); x('RELEASE s'); x("INSERT INTO t(v) VALUES('after')"); x('COMMIT')
print('committed', flush=True)
for line in sys.stdin:
    x('INSERT INTO t(v) VALUES(?)', (line.strip(),)); print('committed', flush=True)
`;

const rows = (path: string) =>
  withSqlite({ path, readonly: true }, (sqlite) => sqlite.all('SELECT * FROM t ORDER BY id'));

/** Waits until a restore is as the database. */
async function stored(rig: Rig): Promise<string> {
  return until(
    async () => {
      const { code, path } = await rig.restore();
      if (code !== 0) return undefined;
      const [ours, theirs] = await Promise.all([rows(path), rows(rig.database)]);
      return JSON.stringify(ours) === JSON.stringify(theirs) ? path : undefined;
    },
    { describe: () => 'no restore is as the database' },
  );
}

/** Takes salts and checksums from the frames of the last commit, as that SQLite does. */
async function unchainLastCommit(rig: Rig, app: SqliteProcess): Promise<void> {
  const size = async () => (await fs.stat(`${rig.database}-wal`)).size;
  const from = await size();
  await app.exec("INSERT INTO t (v) VALUES ('after')");
  const end = await size();
  const wal = await fs.open(`${rig.database}-wal`, 'r+');
  for (let at = from; at < end; at += FRAME_SIZE) await wal.write(Buffer.alloc(16), 0, 16, at + 8);
  await wal.close();
  expect((end - HEADER_SIZE) % FRAME_SIZE).toBe(0);
}

async function table(rig: Rig): Promise<SqliteProcess> {
  const app = await rig.application({ pragmas: ['journal_mode=WAL', 'wal_autocheckpoint=0'] });
  await app.exec(
    "CREATE TABLE t (id INTEGER PRIMARY KEY, v TEXT); CREATE INDEX tv ON t (v); INSERT INTO t (v) VALUES ('a')",
  );
  return app;
}

describe('a WAL with committed frames that have no checksum', () => {
  it('that is there at the start is stored, and so is what comes after it, in one generation', async () => {
    await withRig(async (rig) => {
      const app = await table(rig);
      await unchainLastCommit(rig, app);
      await app.exec("INSERT INTO t (v) VALUES ('more')");
      const litestream = await rig.replicate();
      await stored(rig);
      const generation = await rig.generation();
      for (let i = 0; i < 3; i++) {
        await app.exec(`INSERT INTO t (v) VALUES ('later ${i}')`);
        await stored(rig);
      }
      expect(await rig.generation()).toBe(generation);
      expect(litestream.lines.join('\n')).toMatch(/level=WARN .*frames without checksum/);
      expect(await integrityCheck(await rig.restored({ binary: 'oracle' }))).toBe('ok');
      await app.close();
      expect((await litestream.stop()).code).toBe(0);
      expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
    });
  });

  it('is told while a reader keeps it from being started over, and stored when that is gone', async () => {
    await withRig(async (rig) => {
      const app = await table(rig);
      const reader = await rig.application();
      await reader.exec('BEGIN');
      await reader.all('SELECT count(*) FROM t');
      await unchainLastCommit(rig, app);
      const litestream = await rig.replicateUnready();
      await litestream.waitForLine(/level=ERROR .*frames without checksum.*a reader holds frame/);
      await app.exec("INSERT INTO t (v) VALUES ('later')");
      await reader.exec('COMMIT');
      await stored(rig);
      await app.close();
      await reader.close();
      expect((await litestream.stop()).code).toBe(0);
    });
  });

  it.skipIf(PYTHON === undefined)(
    'that an application of SQLite 3.40 leaves while it is followed is stored while it goes on (needs /usr/bin/python3 with it)',
    async () => {
      await withRig(async (rig) => {
        const app = await table(rig);
        const litestream = await rig.replicate();
        await stored(rig);
        const old = spawn(PYTHON ?? '', ['-c', FAILED_IMPORT, rig.database], {
          stdio: ['pipe', 'pipe', 'inherit'],
        });
        try {
          const committed = createInterface({ input: old.stdout })[Symbol.asyncIterator]();
          await committed.next();
          for (let i = 0; i < 5; i++) {
            old.stdin.write(`later ${i}\n`);
            await committed.next();
            await stored(rig);
          }
          const begun = litestream.lines.filter((line) => line.includes('new generation'));
          expect(begun.filter((line) => line.includes('frames without checksum'))).toHaveLength(1);
          expect(await integrityCheck(await rig.restored({ binary: 'oracle' }))).toBe('ok');
        } finally {
          old.stdin.end();
          await once(old, 'exit');
        }
        await app.close();
        expect((await litestream.stop()).code).toBe(0);
        expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
      });
    },
  );
});
