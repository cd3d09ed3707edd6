/**
 * Under litestream-ruby: what the gem does with the command in LITESTREAM_INSTALL_DIR, told in TypeScript. Its rules:
 * it joins words with spaces for a shell, passes `--config FILE` before its flags and the database last, reads standard
 * output only, splits tables at white space by header and other lines as logfmt, and looks for the process with
 * `ps -ax | grep litestream | grep replicate`.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { openSqlite, withSqlite, type SqliteProcess } from '../support/sqlite.ts';
import { ROOT, run } from './opt-folder.ts';

let dir: string;
let server: S3Server;
let application: SqliteProcess;
const running: ChildProcess[] = [];

/** A Rails application with the gem's own config, whose process writes. */
beforeEach(async () => {
  dir = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'litestream-gem-')));
  for (const folder of ['config', 'storage', 'tmp', '.bin']) await fs.mkdir(join(dir, folder));
  await fs.symlink(join(ROOT, 'bin/litestream'), join(dir, '.bin/litestream'));
  server = await S3Server.start({ buckets: ['mybkt'] });
  const lines = [
    'dbs:',
    '  - path: storage/production.sqlite3',
    '    replicas:',
    '      - type: s3',
    '        bucket: $LITESTREAM_REPLICA_BUCKET',
    '        path: storage/production.sqlite3',
    '        access-key-id: $LITESTREAM_ACCESS_KEY_ID',
    '        secret-access-key: $LITESTREAM_SECRET_ACCESS_KEY',
  ];
  await fs.writeFile(join(dir, 'config/litestream.yml'), `${lines.join('\n')}\n`);
  application = await openSqlite({
    path: join(dir, 'storage/production.sqlite3'),
    pragmas: ['journal_mode=WAL'],
    timeoutMs: 5000,
  });
  await application.exec('CREATE TABLE t (x); INSERT INTO t VALUES (1)');
});

afterEach(async () => {
  for (const child of running.splice(0)) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  }
  await application.kill();
  await server.close();
  await fs.rm(dir, { recursive: true, force: true });
});

/** The gem in a Rails application that runs in `dir`, with LITESTREAM_INSTALL_DIR set. */
class Gem {
  readonly #installDir: string;

  constructor(installDir: string) {
    this.#installDir = installDir;
  }

  get #env(): NodeJS.ProcessEnv {
    const { accessKeyId, secretAccessKey } = server.credentials;
    return {
      PATH: process.env['PATH'],
      TZ: 'UTC',
      LITESTREAM_REPLICA_BUCKET: `s3://mybkt.localhost:${server.port}/`,
      LITESTREAM_ACCESS_KEY_ID: accessKeyId,
      LITESTREAM_SECRET_ACCESS_KEY: secretAccessKey,
    };
  }

  #words(command: string, flags: readonly string[], database?: string): string[] {
    const folder = isAbsolute(this.#installDir) ? this.#installDir : join(dir, this.#installDir);
    const words = [
      join(folder, 'litestream'),
      command,
      '--config',
      join(dir, 'config/litestream.yml'),
      ...flags,
    ];
    return database === undefined ? words : [...words, database];
  }

  async #stdout(command: string, flags: readonly string[], database?: string): Promise<string> {
    const line = this.#words(command, flags, database).join(' ');
    const { stdout } = await run('/bin/sh', ['-c', line], { cwd: dir, env: this.#env });
    return stdout;
  }

  async table(command: string, database?: string): Promise<Record<string, string>[]> {
    const [keys = [], ...rows] = (await this.#stdout(command, [], database))
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/\s+/));
    return rows.map((cells) => Object.fromEntries(keys.map((key, i) => [key, cells[i] ?? ''])));
  }

  /** What it prints must be logfmt, line by line. */
  async restore(database: string, output: string): Promise<string> {
    const stdout = await this.#stdout('restore', ['-o', output], database);
    for (const line of stdout.trimEnd().split('\n')) expect(line).toMatch(/^time=\S+ level=\S+ msg=/);
    return output;
  }

  /** Runs it in place of a process of its own, as the gem does after a fork. */
  replicate(): ChildProcess {
    const [file = '', ...args] = this.#words('replicate', []);
    const child = spawn(file, args, { cwd: dir, env: this.#env, stdio: 'ignore' });
    running.push(child);
    return child;
  }

  /** The process that its dashboard shows, with the word for its state. */
  async process(): Promise<{ pid: number; state: string } | undefined> {
    const { stdout } = await run('/bin/sh', ['-c', 'ps -ax | grep litestream | grep replicate']);
    // Others may replicate on the machine of this test.
    const lines = stdout
      .split('\n')
      .filter((line) => line.includes('litestream replicate') && line.includes(dir));
    const pid = Number(lines.at(-1)?.trim().split(' ')[0] ?? 0);
    if (pid === 0) return undefined;
    const status = await run('ps', ['-o', 'state,lstart', String(pid)]);
    return { pid, state: status.stdout.trim().split('\n').at(-1)?.[0] ?? '' };
  }
}

const DATABASE = 'storage/production.sqlite3';

describe.each([
  ['absolute', join(ROOT, 'bin')],
  ['relative', '.bin'],
])('with LITESTREAM_INSTALL_DIR, %s', (_, installDir) => {
  it('its commands read our tables', async () => {
    const gem = new Gem(installDir);
    expect(await gem.table('databases')).toEqual([{ path: join(dir, DATABASE), replicas: 's3' }]);
    const litestream = gem.replicate();
    // Columns that are new stand after its own.
    await until(async () => (await gem.table('databases'))[0]?.['status'] === 'ok');
    expect((await gem.table('databases'))[0]).toMatchObject({ path: join(dir, DATABASE), replicas: 's3' });
    await until(async () => (await gem.table('generations', DATABASE)).length > 0);
    await application.exec('INSERT INTO t VALUES (2)');
    await until(async () => (await gem.table('wal', DATABASE)).length > 0);

    const time = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/) as string;
    const number = expect.stringMatching(/^\d+$/) as string;
    const [generation] = await gem.table('generations', DATABASE);
    const id = expect.stringMatching(/^[0-9a-f]{16}$/) as string;
    const lag = expect.stringMatching(/^-?[\d.]+(ms|µs|ns|s|m|h)/) as string;
    expect(generation).toEqual({ name: 's3', generation: id, lag, start: time, end: time });
    const same = { replica: 's3', generation: generation?.['generation'], index: '0' };
    expect(await gem.table('snapshots', DATABASE)).toEqual([{ ...same, size: number, created: time }]);
    for (const row of await gem.table('wal', DATABASE)) {
      expect(row).toEqual({ ...same, offset: number, size: number, created: time });
    }
    litestream.kill('SIGINT');
    expect(await once(litestream, 'exit')).toEqual([0, null]);
  });

  it('its dashboard finds the process, and its plugin stops it with SIGINT', async () => {
    const gem = new Gem(installDir);
    expect(await gem.process()).toBeUndefined();
    const litestream = gem.replicate();
    await until(async () => (await gem.table('databases'))[0]?.['status'] === 'ok');
    const found = await until(() => gem.process());
    expect(found.pid).toBe(litestream.pid);
    expect(found.state).toMatch(/[IRSD]/);
    litestream.kill('SIGINT');
    expect(await once(litestream, 'exit')).toEqual([0, null]);
    expect(await gem.process()).toBeUndefined();
  });
});

describe('verify!', () => {
  it('finds its row in the backup, and leaves nothing behind', async () => {
    const gem = new Gem('.bin');
    gem.replicate();
    await until(async () => (await gem.table('databases'))[0]?.['status'] === 'ok');
    await application.exec(
      'CREATE TABLE IF NOT EXISTS _litestream_verification (id INTEGER PRIMARY KEY, uuid BLOB);' +
        "INSERT INTO _litestream_verification (uuid) VALUES ('sentinel')",
    );
    // It sleeps for ten seconds here; the test looks until the row is there.
    let tries = 0;
    await until(async () => {
      const backup = await gem.restore(DATABASE, `tmp/backup-${tries++}.sqlite3`);
      const rows = await withSqlite({ path: join(dir, backup) }, (sqlite) =>
        sqlite.all("SELECT 1 AS found FROM sqlite_schema WHERE name = '_litestream_verification'"),
      );
      if (rows.length === 0) return false;
      const found = await withSqlite({ path: join(dir, backup) }, (sqlite) =>
        sqlite.all("SELECT 1 AS found FROM _litestream_verification WHERE uuid = 'sentinel' LIMIT 1"),
      );
      return found.length === 1;
    });
    await application.exec("DELETE FROM _litestream_verification WHERE uuid = 'sentinel'");
    // It deletes what begins with the name of the backup: there must be nothing else.
    const names = await fs.readdir(join(dir, 'tmp'));
    expect(names.filter((name) => !/^backup-\d+\.sqlite3(-wal|-shm)?$/.test(name))).toEqual([]);
  });
});
