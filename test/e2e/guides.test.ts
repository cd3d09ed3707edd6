/** What people copy from guides to Litestream, run as it stands there; only endpoints and folders are ours. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  SUBJECT,
  runLitestream,
  startLitestream,
  until,
  withTempDir,
  type LitestreamProcess,
  type RunResult,
} from '../support/process.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import { S3Server } from '../support/s3-server.ts';
import { openSqlite, withSqlite } from '../support/sqlite.ts';

const NAMES = ['production', 'production_cache', 'production_queue', 'production_cable'];
const PREFIXES = ['production', 'cache', 'queue', 'cable'];
/** As published: sync-interval, snapshot-interval and retention of each of the four. */
const INTERVALS = ['5s 1h 720h', '10s 6h 24h', '5s 1h 72h', '10s 6h 24h'];
const BUCKET = 'myapp-backups';

let server: S3Server;
let env: Record<string, string>;
let started: LitestreamProcess[];

async function startServer(region: string): Promise<void> {
  server = await S3Server.start({ buckets: [BUCKET, 'mybkt'], region });
  const { accessKeyId, secretAccessKey } = server.credentials;
  env = { LITESTREAM_ACCESS_KEY_ID: accessKeyId, LITESTREAM_SECRET_ACCESS_KEY: secretAccessKey };
  started = [];
}

afterEach(async () => {
  await Promise.all(started.map((litestream) => litestream.kill()));
  await server.close();
});

function replicate(
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): LitestreamProcess {
  const litestream = startLitestream({ binary: SUBJECT, args: ['replicate', ...args], env, ...options });
  started.push(litestream);
  return litestream;
}

function run(
  args: readonly string[],
  options: { cwd?: string; env?: Record<string, string> } = {},
): Promise<RunResult> {
  return runLitestream({ binary: SUBJECT, args, env, ...options });
}

/** The guide's four databases, word for word, in `storage`. */
function fourDatabases(storage: string): string {
  const entries = NAMES.map((name, i) => {
    const [sync = '', snapshot = '', retention = ''] = INTERVALS[i]?.split(' ') ?? [];
    return [
      `  - path: ${storage}/${name}.sqlite3`,
      '    replicas:',
      '      - type: s3',
      `        bucket: ${BUCKET}`,
      `        path: sqlite/${PREFIXES[i] ?? ''}`,
      `        endpoint: ${server.endpoint}`,
      '        region: fsn1',
      '        access-key-id: ${LITESTREAM_ACCESS_KEY_ID}',
      '        secret-access-key: ${LITESTREAM_SECRET_ACCESS_KEY}',
      '        force-path-style: true',
      `        sync-interval: ${sync}`,
      `        snapshot-interval: ${snapshot}`,
      `        retention: ${retention}`,
      ...(i === 0 ? ['        retention-check-interval: 1h', '        validation-interval: 12h'] : []),
    ].join('\n');
  });
  return `dbs:\n${entries.join('\n\n')}\n`;
}

/** Adds a row in an application's process that then dies, so that the WAL stays. */
async function insert(path: string, row: string): Promise<void> {
  await withSqlite({ path, pragmas: ['journal_mode=WAL'] }, (sqlite) =>
    sqlite.exec(`CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES ('${row}')`),
  );
}

async function rows(path: string): Promise<unknown[]> {
  return await withSqlite({ path, readonly: true }, async (sqlite) =>
    (await sqlite.all('SELECT x FROM t ORDER BY rowid')).map(({ x }) => x),
  );
}

function stored(prefix: string, bucket = BUCKET): string[] {
  return server
    .bucket(bucket)
    .keys()
    .filter((key) => key.startsWith(`${prefix}/generations/`));
}

describe('four databases of a Rails application in an S3-compatible bucket', () => {
  beforeEach(() => startServer('fsn1'));

  it('are replicated, listed, and restored to the latest state and to a moment', async () => {
    await withTempDir(async (dir) => {
      const config = join(dir, 'litestream.yml');
      await fs.writeFile(config, fourDatabases(dir));
      for (const name of NAMES) await insert(`${dir}/${name}.sqlite3`, `first of ${name}`);
      const litestream = replicate(['-config', config]);
      for (const prefix of PREFIXES) {
        await until(() => stored(`sqlite/${prefix}`).some((key) => key.endsWith('.snapshot.lz4')));
      }
      const { code, stdout } = await run(['databases', '-config', config]);
      expect(code).toBe(0);
      expect(stdout.trimEnd().split('\n').slice(1)).toEqual(
        NAMES.map(
          (name) => expect.stringMatching(`^${dir}/${name}\\.sqlite3 +s3 +(ok|starting) +\\w+$`) as string,
        ),
      );

      const database = `${dir}/production.sqlite3`;
      // Times of objects have whole seconds.
      const moment = await nextSecond();
      await nextSecond();
      await insert(database, 'second');
      expect((await litestream.stop()).code).toBe(0);

      const there = await run(['restore', '-config', config, database]);
      expect([there.code, there.stdout]).toEqual([
        1,
        expect.stringContaining(`cannot restore, output path already exists: ${database}`) as string,
      ]);
      await fs.rm(database);
      // The WAL that it left is all in the backup, but it is later than the moment: it is not set aside unasked.
      const leftOver = await run(['restore', '-config', config, '-timestamp', moment, database]);
      expect([leftOver.code, leftOver.stdout]).toEqual([
        1,
        expect.stringContaining(`mv ${database}-wal `) as string,
      ]);
      await fs.rm(`${database}-wal`);
      await fs.rm(`${database}-shm`);
      expect((await run(['restore', '-config', config, '-timestamp', moment, database])).code).toBe(0);
      expect(await rows(database)).toEqual(['first of production']);
      await fs.rm(database);
      await fs.rm(`${database}-wal`, { force: true });
      await fs.rm(`${database}-shm`, { force: true });
      expect((await run(['restore', '-config', config, database])).code).toBe(0);
      expect(await rows(database)).toEqual(['first of production', 'second']);
    });
  });

  it('are watched by the health check of the guides, from a process without the variables of the first', async () => {
    const proxy = await startFaultProxy('http', { host: '127.0.0.1', port: server.port });
    try {
      await withTempDir(async (dir) => {
        const config = join(dir, 'litestream.yml');
        await fs.writeFile(
          config,
          fourDatabases(dir).replaceAll(server.endpoint, `http://127.0.0.1:${proxy.port}`),
        );
        const check = (): Promise<RunResult> =>
          runLitestream({
            binary: SUBJECT,
            args: ['databases'],
            env: { LITESTREAM_CONFIG: config },
            // As in health-timeout.
            timeoutMs: 5000,
          });
        expect((await check()).code).toBe(0);
        replicate(['-config', config]);
        const database = `${dir}/production.sqlite3`;
        for (const name of NAMES) await insert(`${dir}/${name}.sqlite3`, `first of ${name}`);
        // Starting is no reason to restart the container.
        await until(async () => {
          const { code, stdout, stderr } = await check();
          expect(code, stderr).toBe(0);
          return stdout.match(/ ok +0s$/gm)?.length === 4;
        });
        await proxy.set('dead');
        await insert(database, 'second');
        await until(async () => (await check()).code === 1);
        const { stdout, stderr } = await check();
        expect(stdout).toMatch(/production\.sqlite3 +s3 +failing +\S+$/m);
        expect(stderr).toMatch(/production\.sqlite3: failing: .*ECONNREFUSED/);
        await proxy.set('pass');
        await until(async () => (await check()).code === 0);
      });
    } finally {
      await proxy.close();
    }
  });

  it('come back on a new server by the restore step before the application, once', async () => {
    await withTempDir(async (dir) => {
      const config = join(dir, 'litestream.yml');
      await fs.writeFile(config, fourDatabases(dir));
      const database = `${dir}/production.sqlite3`;
      const step = ['restore', '-config', config, '-if-db-not-exists', '-if-replica-exists', database];
      expect((await run(step)).code).toBe(0);
      await expect(fs.stat(database)).rejects.toMatchObject({ code: 'ENOENT' });
      await insert(database, 'old server');
      const litestream = replicate(['-config', config]);
      await until(() => stored('sqlite/production').some((key) => key.endsWith('.snapshot.lz4')));
      expect((await litestream.stop()).code).toBe(0);

      for (const name of await fs.readdir(dir)) {
        if (name.includes('.sqlite3')) await fs.rm(join(dir, name), { recursive: true });
      }
      expect((await run(step)).code).toBe(0);
      expect(await rows(database)).toEqual(['old server']);
      await insert(database, 'new server');
      expect((await run(step)).code).toBe(0);
      expect(await rows(database)).toEqual(['old server', 'new server']);
    });
  });
});

/** Waits for the next whole second of the clock; it, in RFC 3339. */
async function nextSecond(): Promise<string> {
  const second = Math.floor(Date.now() / 1000) + 1;
  await until(() => Date.now() >= second * 1000);
  return new Date(second * 1000).toISOString();
}

describe('the gem', () => {
  beforeEach(() => startServer('us-east-1'));

  /** Its default file, in a project's folder. */
  async function project(dir: string): Promise<string> {
    await fs.mkdir(join(dir, 'config'));
    await fs.mkdir(join(dir, 'storage'));
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
    await insert(join(dir, 'storage/production.sqlite3'), 'a row');
    return join(dir, 'storage/production.sqlite3');
  }

  it('with a bucket that is a URL starts with its three lines, and takes its forms of commands', async () => {
    await withTempDir(async (dir) => {
      const database = await project(dir);
      const bucket = { LITESTREAM_REPLICA_BUCKET: `s3://mybkt.localhost:${server.port}/` };
      const options = { cwd: dir, env: { ...env, ...bucket } };
      const litestream = replicate(['--config', 'config/litestream.yml'], options);
      await litestream.waitForLine(/replicating to/);
      const lines = litestream.lines.filter((line) =>
        /msg=litestream|initialized db|replicating to/.test(line),
      );
      expect(lines.map((line) => line.replace(/^time=\S+ /, ''))).toEqual([
        expect.stringMatching(/^level=INFO msg=litestream version=v\d/),
        `level=INFO msg="initialized db" path=${database}`,
        'level=INFO msg="replicating to" name=s3 type=s3 sync-interval=1s bucket=mybkt ' +
          `path=storage/production.sqlite3 region=us-east-1 endpoint=http://localhost:${server.port}`,
      ]);
      await until(() => stored('storage/production.sqlite3', 'mybkt').length > 1);
      for (const command of ['generations', 'snapshots', 'wal']) {
        const { code, stdout } = await run([command, '-database=storage/production.sqlite3'], options);
        expect([code, stdout.split('\n').length]).toEqual([0, 3]);
      }
      expect((await litestream.stop()).code).toBe(0);
      const skip = await run(
        ['restore', '--database=storage/production.sqlite3', '--if-db-not-exists'],
        options,
      );
      expect([skip.code, skip.stdout]).toEqual([0, expect.stringContaining('already exists') as string]);
      const flags = ['-if-replica-exists', '-parallelism', '4', '-replica', 's3', '-no-expand-env=false'];
      const restore = ['restore', '--', 'storage/production.sqlite3'];
      restore.splice(1, 0, ...flags, '-o', 'copy.sqlite3', '-config', 'config/litestream.yml');
      expect((await run(restore, options)).code).toBe(0);
      expect(await rows(join(dir, 'copy.sqlite3'))).toEqual(['a row']);
    });
  });

  it('runs a command with quotes around it, and ends with it', async () => {
    await withTempDir(async (dir) => {
      await project(dir);
      const replica = [
        'dbs:',
        '  - path: storage/production.sqlite3',
        '    replicas:',
        '      - path: replica',
      ];
      await fs.writeFile(join(dir, 'config/litestream.yml'), `${replica.join('\n')}\n`);
      await fs.writeFile(join(dir, 'foreman'), '#!/bin/sh\necho "foreman: $1, $2"\nexit 3\n', {
        mode: 0o755,
      });
      const path = `${dir}:${process.env['PATH'] ?? ''}`;
      const litestream = replicate(['-exec', 'foreman start "two words"'], { cwd: dir, env: { PATH: path } });
      expect((await litestream.exited).code).toBe(3);
      expect(litestream.lines).toContain('foreman: start, two words');
    });
  });
});

describe('systemd on a server with release folders', () => {
  beforeEach(() => startServer('us-east-1'));

  it.each(['replica', 'global'])('starts, stops and restarts with %s keys beside a URL', async (place) => {
    await withTempDir(async (dir) => {
      await fs.mkdir(join(dir, 'releases/1/storage'), { recursive: true });
      await fs.symlink('releases/1', join(dir, 'current'));
      const database = join(dir, 'current/storage/production.sqlite3');
      const indent = place === 'replica' ? '        ' : '';
      const { accessKeyId, secretAccessKey } = server.credentials;
      const keys = `${indent}access-key-id: ${accessKeyId}\n${indent}secret-access-key: ${secretAccessKey}\n`;
      const url = `      - url: s3://mybkt.localhost:${server.port}/production\n`;
      const dbs = `dbs:\n  - path: ${database}\n    replicas:\n${url}`;
      const config = join(dir, 'litestream.yml');
      await fs.writeFile(config, place === 'replica' ? dbs + keys : keys + dbs);
      const app = await openSqlite({ path: database, pragmas: ['journal_mode=WAL'] });
      await app.exec('CREATE TABLE t (x)');
      for (const row of ['first', 'second']) {
        await app.exec(`INSERT INTO t VALUES ('${row}')`);
        const litestream = replicate(['-config', config], { env: {} });
        await litestream.waitForLine(/replicating to/);
        expect(await litestream.stop()).toEqual({ code: 0, signal: null });
        expect(litestream.lines.join('\n')).not.toContain(secretAccessKey);
      }
      const generations = new Set(stored('production', 'mybkt').map((key) => key.split('/')[2]));
      expect(generations.size).toBe(1);

      // The disaster, with nothing running: the database and all that belongs to it is gone.
      await app.kill();
      const storage = join(dir, 'releases/1/storage');
      await fs.rename(join(storage, 'production.sqlite3'), join(storage, '-deleted.sqlite3'));
      await fs.rename(join(storage, 'production.sqlite3-wal'), join(storage, '-deleted.sqlite3-wal'));
      await fs.rm(join(storage, 'production.sqlite3-shm'));
      const shell = { cwd: storage, env: { LITESTREAM_CONFIG: config, PWD: join(dir, 'current/storage') } };
      expect((await run(['restore', 'production.sqlite3'], shell)).code).toBe(0);
      expect(await rows(database)).toEqual(['first', 'second']);
    });
  });

  it('finds a moved database again after its restore, in a new generation', async () => {
    await withTempDir(async (dir) => {
      const [database, moved] = [join(dir, 'production.sqlite3'), join(dir, '-deleted.sqlite3')];
      const config = join(dir, 'litestream.yml');
      const replica = join(dir, 'replica');
      await fs.writeFile(config, `dbs:\n  - path: ${database}\n    replicas:\n      - path: ${replica}\n`);
      await insert(database, 'last row');
      const litestream = replicate(['-config', config]);
      const generations = (): Promise<string[]> => fs.readdir(join(replica, 'generations')).catch(() => []);
      await litestream.waitForLine(/snapshot written/);
      await fs.rename(database, moved);
      await litestream.waitForLine(/was moved, replaced or deleted/);
      for (const part of ['-wal', '-shm']) await fs.rename(`${database}${part}`, `${moved}${part}`);
      expect((await run(['restore', '-config', config, 'production.sqlite3'], { cwd: dir })).code).toBe(0);
      expect(await rows(database)).toEqual(['last row']);
      await litestream.waitForLine(/database is followed/);
      await insert(database, 'after');
      await until(async () => (await generations()).length === 2);
      expect((await litestream.stop()).code).toBe(0);
      const copy = join(dir, 'copy.sqlite3');
      expect((await run(['restore', '-o', copy, `file://${replica}`])).code).toBe(0);
      expect(await rows(copy)).toEqual(['last row', 'after']);
    });
  });
});
