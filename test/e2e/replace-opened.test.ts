/**
 * Applications that open a database, write to it and close it while `restore -force` has the old file in its hands, each
 * in a process of its own as with PHP, CGI or cron: with SQLite of Python, which may be older, and with better-sqlite3.
 */

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { describe, expect, it } from 'vitest';
import { runLitestream, startLitestream, until } from '../support/process.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { SHIM_SUPPORTED, buildShim } from '../support/shim.ts';
import { withSqlite } from '../support/sqlite.ts';

const HAS_PYTHON = spawnSync('python3', ['-c', 'import sqlite3']).status === 0;
const REPLACEMENTS = Number(process.env['LITESTREAM_REPLACEMENTS'] ?? 3);
const BASE_ROWS = 200;
/** Of each opener, after the replacement. */
const COMMITS = 8;

/** Opens, waits a little before the first statement or not, inserts, closes; prints the number of each commit. */
const PYTHON = `
import random, sqlite3, sys, time
path, who = sys.argv[1:]
i = 0
while True:
    db = sqlite3.connect(path, timeout=20, isolation_level=None)
    if random.random() < 0.5: time.sleep(random.random() * 0.02)
    db.execute("INSERT INTO t (tag, filler) VALUES (?, randomblob(700))", (who + str(i),))
    db.close()
    print(i, flush=True); i += 1
    time.sleep(random.random() * 0.05)
`;
const NODE = `
const Database = require('better-sqlite3');
const [path, who] = process.argv.slice(1);
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, Math.random() * ms));
(async () => {
  for (let i = 0; ; i++) {
    const db = new Database(path, { timeout: 20_000 });
    if (Math.random() < 0.5) await pause(20);
    db.prepare('INSERT INTO t (tag, filler) VALUES (?, randomblob(700))').run(who + i);
    db.close();
    console.log(i);
    await pause(50);
  }
})();
`;

class Opener {
  readonly who: string;
  /** How many commits it has told. */
  count = 0;
  failure = '';
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;

  constructor(who: string, path: string) {
    this.who = who;
    const [program, ...args] = who.startsWith('py')
      ? ['python3', '-c', PYTHON, path, who]
      : [process.execPath, '-e', NODE, path, who];
    this.#child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#exited = once(this.#child, 'exit');
    createInterface({ input: this.#child.stdout! }).on('line', () => this.count++);
    this.#child.stderr!.setEncoding('utf8').on('data', (text: string) => (this.failure += text));
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}

/** The restored rows, then all commits of all openers: none was made before. */
async function checkRows(rig: Rig, openers: readonly Opener[]): Promise<void> {
  await until(() => openers.every(({ count, failure }) => count >= COMMITS || failure !== ''));
  for (const { failure } of openers) expect(failure).toBe('');
  const told = openers.map(({ count }) => count);
  await withSqlite({ path: rig.database, timeoutMs: 20_000 }, async (sqlite) => {
    expect(await sqlite.all('PRAGMA integrity_check')).toEqual([{ integrity_check: 'ok' }]);
    const rows = await sqlite.all('SELECT id, tag FROM t ORDER BY id');
    expect(rows.map(({ id }) => id)).toEqual(rows.map((_, i) => i + 1));
    const tags = rows.map(({ tag }) => String(tag));
    expect(tags.filter((tag) => !tag.includes('-'))).toEqual(Array<string>(BASE_ROWS).fill('base'));
    openers.forEach(({ who }, i) => {
      const numbers = tags.filter((tag) => tag.startsWith(who)).map((tag) => Number(tag.slice(who.length)));
      expect(numbers, `commits of ${who}`).toEqual(numbers.map((_, k) => k));
      expect(numbers.length).toBeGreaterThanOrEqual(told[i] ?? 0);
    });
  });
}

describe.runIf(HAS_PYTHON && SHIM_SUPPORTED)(
  'an application that opens the database during restore -force',
  () => {
    it.each([false, true])(
      'goes on with the restored one, beside replicate: %s',
      async (replicated) => {
        await withRig(async (rig) => {
          const { database } = rig;
          await withSqlite({ path: database, pragmas: ['journal_mode=WAL'] }, async (sqlite) => {
            await sqlite.exec(
              'CREATE TABLE t (id INTEGER PRIMARY KEY, tag, filler); CREATE INDEX i ON t (tag)',
            );
            await sqlite.exec(
              `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${BASE_ROWS})
           INSERT INTO t (tag, filler) SELECT 'base', randomblob(700) FROM n`,
            );
          });
          const config = await rig.config();
          const litestream = await rig.replicate();
          const stored = await runLitestream({ binary: 'ours', args: ['sync', '-wait', '-config', config] });
          expect(stored.code, stored.stderr).toBe(0);
          const moment = new Date().toISOString();
          if (!replicated) await litestream.stop();
          const env = {
            LD_PRELOAD: await buildShim(rig.dir, 'kill-in-file-call'),
            STOP_BEFORE_NAME: database,
          };
          const args = ['restore', '-force', '-timestamp', moment, '-config', config, database];
          for (let i = 0; i < REPLACEMENTS; i++) {
            // Rows of the old database, in all pages.
            await withSqlite({ path: database, timeoutMs: 20_000 }, async (sqlite) => {
              await sqlite.exec(`INSERT INTO t (tag, filler) SELECT 'old-' || id, randomblob(900) FROM t`);
            });
            const restore = startLitestream({ binary: 'ours', args, env });
            await until(() => !restore.running || isStopped(restore.pid), {
              describe: () => restore.lines.join('\n'),
            });
            const openers = ['py-a-', 'js-b-', 'py-c-'].map((who) => new Opener(who, database));
            try {
              await until(() => openers.every(({ pid }) => hasOpen(pid, database)));
              await until(() => {
                restore.signal('SIGCONT');
                return !restore.running;
              });
              expect(await restore.exited, restore.lines.join('\n')).toEqual({ code: 0, signal: null });
              await checkRows(rig, openers);
            } finally {
              restore.signal('SIGCONT');
              await Promise.all(openers.map((opener) => opener.kill()));
            }
          }
        });
      },
      300_000,
    );
  },
);

function isStopped(pid: number): boolean {
  return /^\d+ \(.*\) T /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
}

function hasOpen(pid: number, path: string): boolean {
  return readdirSync(`/proc/${pid}/fd`).some((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`) === path;
    } catch {
      return false; // Closed meanwhile.
    }
  });
}
