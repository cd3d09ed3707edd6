/**
 * The executable of build-binary.mjs, in a folder without anything else, without a Node.js to find and without a file of its
 * own: threads, programs and the page's files are in it.
 */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findNodeSqlite } from '../support/node-sqlite.ts';
import { until } from '../support/process.ts';
import { compareDatabases, openSqlite, truncateCheckpoint, withSqlite } from '../support/sqlite.ts';
import { BUILD_TIMEOUT_MS, ROOT, type Ran, run } from './opt-folder.ts';

const { path: node, missing } = findNodeSqlite();

let dir: string;
let executable: string;
/** Of the environment: nothing may be left in it. */
let temporary: string;

const { version } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { version: string };

describe.skipIf(missing !== undefined)(`the executable${missing === undefined ? '' : `: ${missing}`}`, () => {
  beforeAll(async () => {
    dir = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'litestream-binary-')));
    const built = join(dir, 'built');
    const env = { LITESTREAM_NODE: node };
    const { code, stderr } = await run(process.execPath, [join(ROOT, 'build-binary.mjs'), built], { env });
    expect(stderr).toBe('');
    expect(code).toBe(0);
    expect((await fs.readdir(built)).sort()).toEqual(['THIRD-PARTY-NOTICES.txt', 'litestream']);
    const notices = await fs.readFile(join(built, 'THIRD-PARTY-NOTICES.txt'), 'utf8');
    expect(notices).toContain('@aws-sdk/client-s3 ');
    expect(notices).toMatch(/^Node\.js v\d/m);
    temporary = join(dir, 'tmp');
    await fs.mkdir(temporary);
    await fs.mkdir(join(dir, 'bin'));
    executable = join(dir, 'bin/litestream');
    await fs.rename(join(built, 'litestream'), executable);
  }, BUILD_TIMEOUT_MS);

  afterAll(async () => {
    await fs.rm(dir, { recursive: true, force: true });
  });

  /** Nothing but itself is on PATH. */
  const environment = (): NodeJS.ProcessEnv => ({ PATH: join(dir, 'bin'), TMPDIR: temporary, TZ: 'UTC' });

  const litestream = (args: readonly string[]): Promise<Ran> =>
    run(executable, args, { cwd: dir, env: environment() });

  async function succeed(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await litestream(args);
    expect(code, stdout + stderr).toBe(0);
    expect(await fs.readdir(temporary)).toEqual([]);
    return stdout + stderr;
  }

  interface Running {
    readonly child: ChildProcess;
    readonly log: () => string;
    /** SIGTERM; the exit code and signal. */
    readonly stop: () => Promise<unknown[]>;
  }

  function start(...args: string[]): Running {
    const child = spawn(executable, args, {
      cwd: dir,
      env: environment(),
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const exited = once(child, 'exit');
    let log = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (log += chunk.toString()));
    }
    const stop = (): Promise<unknown[]> => {
      child.kill('SIGTERM');
      return exited;
    };
    return { child, log: () => log, stop };
  }

  async function writeConfig(): Promise<string> {
    const database = {
      path: join(dir, 'app.db'),
      'min-checkpoint-page-count': 1,
      'checkpoint-interval': '20ms',
      replicas: [{ path: join(dir, 'replica'), 'sync-interval': '20ms' }],
    };
    // JSON is YAML.
    await fs.writeFile(join(dir, 'litestream.yml'), JSON.stringify({ dbs: [database] }));
    return join(dir, 'litestream.yml');
  }

  it('is not made of a Node.js that has no SQLite, or of another than is named', async () => {
    const env = { LITESTREAM_NODE: '/bin/false' };
    const { code, stderr } = await run(
      process.execPath,
      [join(ROOT, 'build-binary.mjs'), join(dir, 'none')],
      { env },
    );
    expect([code, stderr]).toEqual([1, expect.stringContaining('no Node.js to make it of:\n/bin/false: ')]);
    expect(await fs.readdir(dir)).not.toContain('none');
  });

  it('tells its version and what is in it', async () => {
    expect(await succeed('version')).toBe(`v${version}\n`);
    const { packages } = JSON.parse(await succeed('version', '-json')) as { packages: { name: string }[] };
    expect(packages.map(({ name }) => name)).toContain('@aws-sdk/client-s3');
  });

  it('ends with code 1 by what it does not know', async () => {
    const { code, stderr } = await litestream(['no-such-command']);
    expect([code, stderr]).toEqual([1, expect.stringContaining('unknown command')]);
  });

  it('checkpoints in its thread, restores with the check of SQLite in its process, and verifies', async () => {
    const config = await writeConfig();
    const database = join(dir, 'app.db');
    const application = await openSqlite({ path: database, pragmas: ['journal_mode=WAL'] });
    await application.exec('CREATE TABLE t (x)');
    const replication = start('replicate', '-config', config);
    try {
      await until(
        async () => {
          await application.exec('INSERT INTO t VALUES (hex(randomblob(1000)))');
          const names = await fs.readdir(join(dir, 'replica'), { recursive: true }).catch(() => []);
          // What is written after a checkpoint.
          return names.some((name) => /\/00000002_/.test(name));
        },
        { describe: replication.log },
      );
      expect(await succeed('verify', '-config', config, database)).toContain('ok');
    } finally {
      expect(await replication.stop()).toEqual([0, null]);
    }
    const restored = join(dir, 'restored.db');
    await succeed('restore', '-config', config, '-integrity-check', 'full', '-o', restored, database);
    await application.close();
    expect(await compareDatabases(database, restored)).toBeUndefined();
  });

  it('tells what SQLite finds wrong in a database', async () => {
    const database = join(dir, 'wrong.db');
    await withSqlite({ path: database, pragmas: ['journal_mode=WAL'] }, (sqlite) =>
      sqlite.exec("CREATE TABLE t (x); CREATE INDEX i ON t (x); INSERT INTO t VALUES ('as in the table')"),
    );
    await truncateCheckpoint(database);
    const bytes = await fs.readFile(database);
    // The index is the last page.
    bytes.write('not', bytes.lastIndexOf('as in the table'));
    await fs.writeFile(database, bytes);
    const url = `file://${join(dir, 'wrong-replica')}`;
    await succeed('replicate', '-exec', `${executable} version`, database, url);
    const checked = join(dir, 'wrong-restored.db');
    const { code, stderr } = await litestream(['restore', '-integrity-check', 'full', '-o', checked, url]);
    expect([code, stderr]).toEqual([1, expect.stringContaining('row 1 missing from index i')]);
  });

  it('runs a command beside the replication, and ends with its code', async () => {
    await withSqlite({ path: join(dir, 'run.db'), pragmas: ['journal_mode=WAL'] }, (sqlite) =>
      sqlite.exec('CREATE TABLE t (x)'),
    );
    const url = `file://${join(dir, 'run-replica')}`;
    const { code, stderr } = await litestream(['replicate', '-exec', 'litestream nothing', 'run.db', url]);
    expect([code, stderr]).toEqual([1, expect.stringContaining('litestream nothing: unknown command')]);
    expect(await succeed('replicate', '-exec', 'litestream version', 'run.db', url)).toContain(
      `v${version}\n`,
    );
    await succeed('restore', '-o', 'run-restored.db', url);
  });

  it('serves the dashboard with all that its page needs', async () => {
    const dashboard = start('dashboard', '-addr', '127.0.0.1:0', '-config', await writeConfig());
    try {
      const found = (): string | undefined => /http:\/\/127\.0\.0\.1:\d+/.exec(dashboard.log())?.[0];
      const url = await until(found, { describe: dashboard.log });
      const page = await (await fetch(`${url}/`)).text();
      const links = [...page.matchAll(/(?:src|href)="([^"#]+\.(?:js|css))"/g)].map(([, link]) => link ?? '');
      expect(links.length).toBeGreaterThanOrEqual(2);
      for (const link of links) expect((await fetch(new URL(link, `${url}/`))).status, link).toBe(200);
    } finally {
      expect(await dashboard.stop()).toEqual([0, null]);
    }
  });
});
