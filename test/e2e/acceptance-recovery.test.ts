/**
 * The worst day as guides describe it, word for word where a machine allows: recovery in containers, recovery on a server
 * with systemd while replication runs, and a new server.
 */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { run, type Ran } from '../deploy/opt-folder.ts';
import { startLitestream, until, withTempDir, type LitestreamProcess } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { openSqlite, withSqlite, type SqliteProcess } from '../support/sqlite.ts';

const ROOT = new URL('../..', import.meta.url).pathname;
const NAMES = ['production', 'production_cache', 'production_queue', 'production_cable'];
const APP_USER = 1000;

let server: S3Server;
let keys: Record<string, string>;
let started: LitestreamProcess[];
let applications: SqliteProcess[];

beforeEach(async () => {
  server = await S3Server.start({ buckets: ['myapp-backups'], region: 'fsn1' });
  const { accessKeyId, secretAccessKey } = server.credentials;
  keys = { LITESTREAM_ACCESS_KEY_ID: accessKeyId, LITESTREAM_SECRET_ACCESS_KEY: secretAccessKey };
  started = [];
  applications = [];
});

afterEach(async () => {
  await Promise.all([...started.map((one) => one.kill()), ...applications.map((one) => one.kill())]);
  await server.close();
});

async function application(path: string): Promise<SqliteProcess> {
  const sqlite = await openSqlite({ path, pragmas: ['journal_mode=WAL'], timeoutMs: 10_000 });
  applications.push(sqlite);
  return sqlite;
}

/** A config with the databases of the guide in `storage`. */
async function writeConfig(path: string, storage: string, names: readonly string[] = NAMES): Promise<void> {
  const entries = names.map((name) => [
    `  - path: ${storage}/${name}.sqlite3`,
    '    replicas:',
    '      - type: s3',
    '        bucket: myapp-backups',
    `        path: sqlite/${name.replace('production_', '')}`,
    `        endpoint: ${server.endpoint}`,
    '        region: fsn1',
    '        access-key-id: ${LITESTREAM_ACCESS_KEY_ID}',
    '        secret-access-key: ${LITESTREAM_SECRET_ACCESS_KEY}',
    '        force-path-style: true',
    '        sync-interval: 100ms',
  ]);
  await fs.writeFile(path, `dbs:\n${entries.flat().join('\n')}\n`);
}

/** Runs a line of a guide: `litestream` is ours, and what the container or the shell has is in `env`. */
function shell(line: string, cwd: string, env: Record<string, string>): Promise<Ran> {
  const path = `${join(ROOT, 'bin')}:${process.env['PATH'] ?? ''}`;
  return run('/bin/sh', ['-c', line], { cwd, env: { ...env, PATH: path, PWD: cwd } });
}

function replicate(config: string): LitestreamProcess {
  const litestream = startLitestream({ binary: 'ours', args: ['replicate', '-config', config], env: keys });
  started.push(litestream);
  return litestream;
}

/** Waits until everything that is committed is stored. */
async function synced(config: string, database = ''): Promise<void> {
  const { code, stdout } = await shell(`litestream sync -wait -config ${config} ${database}`, '/', keys);
  expect(code, stdout).toBe(0);
}

async function rows(path: string): Promise<unknown[]> {
  return await withSqlite({ path, readonly: true }, async (sqlite) =>
    (await sqlite.all('SELECT x FROM t ORDER BY rowid')).map(({ x }) => x),
  );
}

describe('recovery in a container', () => {
  it('restores to the latest state beside a stale WAL and to a moment, for the user of the application', async () => {
    await withTempDir(async (dir) => {
      const storage = join(dir, 'storage');
      await fs.mkdir(storage);
      const [config, database] = [join(dir, 'litestream.yml'), join(storage, 'production.sqlite3')];
      await writeConfig(config, storage);
      const asRoot = process.getuid?.() === 0;
      if (asRoot) for (const path of [dir, storage]) await fs.chown(path, APP_USER, APP_USER);
      const app = await application(database);
      await app.exec("CREATE TABLE t (x); INSERT INTO t VALUES ('first')");
      const litestream = replicate(config);
      await litestream.waitForLine(/database is followed|new generation/);
      await synced(config, database);
      // Times of objects have whole seconds.
      const second = Math.floor(Date.now() / 1000) + 1;
      await until(() => Date.now() >= (second + 1) * 1000);
      await app.exec("INSERT INTO t VALUES ('second')");
      await synced(config, database);
      await app.kill();
      expect((await litestream.stop()).code).toBe(0);

      const restore = `litestream restore -config ${config} ${database}`;
      const there = await shell(restore, dir, keys);
      expect(there.code).toBe(1);
      expect(there.stdout).toContain(`cannot restore, output path already exists: ${database}`);
      expect(there.stdout).toContain('-force');
      // The database gone, its WAL left behind.
      await fs.rm(database);
      await fs.access(`${database}-wal`);
      const latest = await shell(restore, dir, keys);
      expect(latest.code, latest.stdout).toBe(0);
      expect(await rows(database)).toEqual(['first', 'second']);
      await clear(storage);
      const timestamp = new Date(second * 1000).toISOString();
      const earlier = await shell(
        `${restore.replace(database, '')} -timestamp "${timestamp}" ${database}`,
        dir,
        keys,
      );
      expect(earlier.code, earlier.stdout).toBe(0);
      if (asRoot) {
        // The application's user must be able to open it for writing, without any chown.
        const code = `new (require('better-sqlite3'))('${database}').exec("INSERT INTO t VALUES ('as 1000')")`;
        const env = { NODE_PATH: join(ROOT, 'node_modules'), PATH: process.env['PATH'] };
        const written = await run(process.execPath, ['-e', code], { env, uid: APP_USER, gid: APP_USER });
        expect(written.stderr).toBe('');
      }
      expect(await rows(database)).toEqual(asRoot ? ['first', 'as 1000'] : ['first']);
    });
  });

  it('is watched by the entry point in a second process that has no keys', async () => {
    await withTempDir(async (dir) => {
      const config = join(dir, 'litestream.yml');
      await writeConfig(config, dir);
      const database = join(dir, 'production.sqlite3');
      const app = await application(database);
      await app.exec("CREATE TABLE t (x); INSERT INTO t VALUES ('first')");
      const litestream = replicate(config);
      await litestream.waitForLine(/snapshot written/);
      const entry = join(ROOT, 'etc/docker/entrypoint');
      const check = (): Promise<Ran> =>
        shell(`${entry} litestream databases`, dir, { LITESTREAM_CONFIG: config });
      await until(async () => / ok +\S+$/m.test((await check()).stdout));
      const { code, stdout } = await check();
      expect(code).toBe(0);
      expect(stdout.split('\n')).toHaveLength(6);
    });
  });
});

/** Deletes the databases, their WALs and what litestream remembers of them. */
async function clear(storage: string): Promise<void> {
  for (const name of await fs.readdir(storage)) await fs.rm(join(storage, name), { recursive: true });
}

describe('recovery on a server', () => {
  it('by mv while replicating and restore in the folder, goes on in a new generation by itself', async () => {
    await withTempDir(async (dir) => {
      await fs.mkdir(join(dir, 'releases/1/storage'), { recursive: true });
      await fs.symlink('releases/1', join(dir, 'current'));
      const storage = join(dir, 'current/storage');
      const config = join(dir, 'litestream.yml');
      await writeConfig(config, storage, ['production']);
      const app = await application(join(storage, 'production.sqlite3'));
      await app.exec("CREATE TABLE t (x); INSERT INTO t VALUES ('last row')");
      const litestream = replicate(config);
      await litestream.waitForLine(/snapshot written/);
      await synced(config);
      await app.kill();

      const env = { ...keys, LITESTREAM_CONFIG: config };
      expect((await shell('mv production.sqlite3 ./-deleted.sqlite3', storage, env)).code).toBe(0);
      const restored = await shell(`cd ${storage} && litestream restore production.sqlite3`, dir, env);
      expect(restored.code, restored.stdout + restored.stderr).toBe(0);
      expect(await rows(join(storage, 'production.sqlite3'))).toEqual(['last row']);

      const again = await application(join(storage, 'production.sqlite3'));
      await again.exec("INSERT INTO t VALUES ('after')");
      const generations = async (): Promise<number> => {
        // From any folder, the name alone is enough, and nothing but the table is printed.
        const { stdout } = await shell('litestream generations production.sqlite3', dir, env);
        expect(stdout).toMatch(/^name +generation +lag +start +end\n/);
        return stdout.trimEnd().split('\n').length - 1;
      };
      await until(async () => (await generations()) === 2);
      await synced(config);
      const copy = join(dir, 'copy.sqlite3');
      expect((await shell(`litestream restore -o ${copy} production.sqlite3`, storage, env)).code).toBe(0);
      expect(await rows(copy)).toEqual(['last row', 'after']);
      expect((await litestream.stop()).code).toBe(0);
    });
  });
});

describe('a new server', () => {
  it('has the data of all databases after the restore step, and its application goes on', async () => {
    await withTempDir(async (dir) => {
      const storage = join(dir, 'storage');
      await fs.mkdir(storage);
      const config = join(dir, 'litestream.yml');
      await writeConfig(config, storage);
      const paths = NAMES.map((name) => join(storage, `${name}.sqlite3`));
      for (const path of paths) {
        const app = await application(path);
        await app.exec("CREATE TABLE t (x); INSERT INTO t VALUES ('old server')");
      }
      const litestream = replicate(config);
      await until(() => litestream.lines.filter((line) => line.includes('snapshot written')).length >= 4);
      await synced(config);
      await Promise.all(applications.splice(0).map((app) => app.kill()));
      await litestream.kill();
      await clear(storage);

      // As init prints it for the Dockerfile.
      const steps = paths.map(
        (path) => `litestream restore -config ${config} -if-db-not-exists -if-replica-exists ${path}`,
      );
      const step = await shell(steps.join(' && '), dir, keys);
      expect(step.code, step.stdout).toBe(0);
      for (const path of paths) expect(await rows(path)).toEqual(['old server']);
      // Once it has run, it does nothing more.
      await withSqlite({ path: paths[0]! }, (sqlite) => sqlite.exec("INSERT INTO t VALUES ('new server')"));
      expect((await shell(steps.join(' && '), dir, keys)).code).toBe(0);
      expect(await rows(paths[0]!)).toEqual(['old server', 'new server']);
    });
  });

  it('without the step is warned of the older history, which stays', async () => {
    await withTempDir(async (dir) => {
      const config = join(dir, 'litestream.yml');
      await writeConfig(config, dir, ['production']);
      const database = join(dir, 'production.sqlite3');
      const app = await application(database);
      await app.exec("CREATE TABLE t (x); INSERT INTO t VALUES ('old server')");
      const first = replicate(config);
      await first.waitForLine(/snapshot written/);
      await synced(config);
      await app.kill();
      await first.kill();
      const before = server.bucket('myapp-backups').keys();
      for (const name of await fs.readdir(dir)) {
        if (name.includes('production')) await fs.rm(join(dir, name), { recursive: true });
      }

      const empty = await application(database);
      await empty.exec('CREATE TABLE t (x)');
      const second = replicate(config);
      const warning = await second.waitForLine(/holds (an older|the history of an older)/);
      expect(warning).toMatch(/restore/);
      await second.waitForLine(/snapshot written/);
      await synced(config);
      expect((await second.stop()).code).toBe(0);
      expect(server.bucket('myapp-backups').keys()).toEqual(expect.arrayContaining(before));
      const generation = /generations\/([0-9a-f]{16})\//.exec(before[0] ?? '')?.[1] ?? '';
      const copy = join(dir, 'copy.sqlite3');
      const old = await shell(
        `litestream restore -config ${config} -generation ${generation} -o ${copy} ${database}`,
        dir,
        keys,
      );
      expect(old.code, old.stdout).toBe(0);
      expect(await rows(copy)).toEqual(['old server']);
    });
  });
});
