/** Where replication cannot run: said once, and the application goes on. */

import { execFile } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type * as library from '../../src/library/index.ts';
import { withTempDir } from '../support/process.ts';
import { withSqlite } from '../support/sqlite.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const LIBRARY = join(ROOT, 'dist/library/index.js');

interface Started {
  readonly replication: library.Replication;
  readonly entries: library.LogEntry[];
  readonly events: string[];
}

/** By a package that stands where it finds no other one. */
async function withReplication(
  env: Record<string, string>,
  body: (started: Started) => Promise<void>,
): Promise<void> {
  await withTempDir(async (dir) => {
    const path = join(dir, 'app.db');
    await withSqlite({ path }, (sqlite) => sqlite.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (x)'));
    for (const part of ['package.json', 'bin', 'dist/cli', 'dist/library']) {
      await fs.cp(join(ROOT, part), join(dir, 'package', part), { recursive: true });
    }
    const { href } = pathToFileURL(join(dir, 'package/dist/library/index.js'));
    const { startReplication } = (await import(href)) as typeof library;
    const entries: library.LogEntry[] = [];
    const events: string[] = [];
    const replication = startReplication({
      databases: [{ path, replicas: [{ path: join(dir, 'replica') }] }],
      env,
      enabled: true,
      restart: { minDelayMs: 1, maxDelayMs: 1 },
      logger: (entry) => entries.push(entry),
    });
    for (const name of ['start', 'failure', 'exit', 'restart', 'stop'] as const) {
      replication.on(name, () => events.push(name));
    }
    try {
      await body({ replication, entries, events });
    } finally {
      await replication.stop();
    }
  });
}

describe('replication that cannot run', () => {
  it('for want of SQLite is said once: no restart, and whoever waits or asks is told', async () => {
    await withReplication(
      { LITESTREAM_SQLITE: 'better-sqlite3' },
      async ({ replication, entries, events }) => {
        await expect(replication.waitForSync({ timeoutMs: 30_000 })).rejects.toMatchObject({
          code: 'unsupported',
          message: expect.stringContaining('no SQLite that can be used') as string,
        });
        expect(replication.state).toBe('failed');
        expect(events).toEqual(['start', 'exit', 'failure']);
        expect(entries.filter(({ level }) => level === 'error')).toMatchObject([
          { message: 'litestream cannot run here, databases are not replicated' },
        ]);
        const { running, healthy, reason } = await replication.status();
        expect({ running, healthy }).toEqual({ running: false, healthy: false });
        expect(reason).toContain('no SQLite that can be used');
        await replication.stop();
        expect(replication.state).toBe('stopped');
        expect(events).toEqual(['start', 'exit', 'failure', 'stop']);
      },
    );
  });

  it('for want of Node.js starts no child at all', async () => {
    Object.defineProperty(process.versions, 'bun', { value: '1.4.5', configurable: true });
    try {
      await withReplication({ PATH: '/nowhere' }, async ({ replication, entries, events }) => {
        await expect(replication.waitForSync()).rejects.toMatchObject({ code: 'unsupported' });
        expect(replication.state).toBe('failed');
        expect(events).toEqual(['failure']);
        expect(entries.map(({ level }) => level)).toEqual(['error']);
      });
    } finally {
      Reflect.deleteProperty(process.versions, 'bun');
    }
  });
});

describe('on Windows', () => {
  it('the library loads, says one line, and does nothing', async () => {
    await withTempDir(async (dir) => {
      const script = join(dir, 'application.mjs');
      // The platform is what it says before anything of ours is loaded.
      await fs.writeFile(
        script,
        `Object.defineProperty(process, 'platform', { value: 'win32' });
        const { startReplication, restoreIfMissing } = await import(${JSON.stringify(LIBRARY)});
        const entries = [];
        const options = {
          databases: [{ path: 'app.db', replicas: [{ path: 'replica' }] }],
          enabled: true,
          logger: (entry) => entries.push(entry),
        };
        const replication = startReplication(options);
        const stored = await replication.waitForSync();
        const said = entries.length;
        const missing = await restoreIfMissing(options);
        const { state, pid } = replication;
        await replication.stop();
        console.log(JSON.stringify({ state, pid: pid ?? null, stored, said, missing, entry: entries[0] }));`,
      );
      const { stdout } = await promisify(execFile)(process.execPath, [script], { cwd: dir });
      expect(JSON.parse(stdout)).toEqual({
        ...{ state: 'off', pid: null, stored: false, said: 1, missing: [] },
        entry: {
          level: 'warn',
          message: 'litestream replicates nothing',
          attributes: { reason: 'win32 is not supported: it runs on Linux and macOS' },
        },
      });
      expect((await fs.readdir(dir)).sort()).toEqual(['application.mjs']);
    });
  });
});
