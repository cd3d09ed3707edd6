/** A Rails project with Cloudflare R2, from `litestream init` to a restore; and the processes and pages of the gem. */

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { run, type Ran } from '../deploy/opt-folder.ts';
import { until, withTempDir } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { withSqlite } from '../support/sqlite.ts';

const ROOT = new URL('../..', import.meta.url).pathname;
const ACCOUNT = '0123456789abcdef0123456789abcdef';
const NAMES = ['production', 'production_cache', 'production_queue', 'production_cable'];

let dir: string;
let leave: () => void;
let left: Promise<void>;
let server: S3Server;
const running: ChildProcess[] = [];

/** A Rails project with its four databases, and a bucket that signs as R2 does. */
beforeEach(async () => {
  server = await S3Server.start({ buckets: ['your-app-litestream'], region: 'auto' });
  await new Promise<void>((entered) => {
    left = withTempDir(async (folder) => {
      dir = join(folder, 'your-app');
      for (const name of ['config', 'storage', 'bin']) await fs.mkdir(join(dir, name), { recursive: true });
      entered();
      await new Promise<void>((resolve) => (leave = resolve));
    });
  });
  const keys = ['primary', 'cache', 'queue', 'cable'];
  const entries = NAMES.map(
    (name, i) => `  ${keys[i]!}: {adapter: sqlite3, database: storage/${name}.sqlite3}\n`,
  );
  await fs.writeFile(join(dir, 'config/database.yml'), `production:\n${entries.join('')}`);
  for (const name of NAMES) {
    await withSqlite(
      { path: join(dir, `storage/${name}.sqlite3`), pragmas: ['journal_mode=WAL'] },
      (sqlite) => sqlite.exec(`CREATE TABLE t (x); INSERT INTO t VALUES ('${name}')`),
    );
  }
});

afterEach(async () => {
  for (const child of running.splice(0)) await end(child, 'SIGKILL');
  await server.close();
  leave();
  await left;
});

async function end(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = once(child, 'exit');
  child.kill(signal);
  await exited;
}

/** The environment of the server: the bucket and its keys, from Rails' credentials. */
function environment(more: Record<string, string> = {}): Record<string, string> {
  const { accessKeyId, secretAccessKey } = server.credentials;
  return {
    PATH: `${join(ROOT, 'bin')}:${dir}/bin:${process.env['PATH'] ?? ''}`,
    TZ: 'UTC',
    LITESTREAM_REPLICA_BUCKET: 'your-app-litestream',
    LITESTREAM_ACCESS_KEY_ID: accessKeyId,
    LITESTREAM_SECRET_ACCESS_KEY: secretAccessKey,
    ...more,
  };
}

function shell(line: string, env: Record<string, string> = environment()): Promise<Ran> {
  return run('/bin/sh', ['-c', line], { cwd: dir, env });
}

/** `litestream init`, with the server of the test in the place of Cloudflare's. */
async function init(): Promise<void> {
  const { code, stderr } = await shell(`litestream init -provider r2 -account-id ${ACCOUNT}`);
  expect(code, stderr).toBe(0);
  const path = join(dir, 'config/litestream.yml');
  const text = await fs.readFile(path, 'utf8');
  const endpoint = `https://${ACCOUNT}.r2.cloudflarestorage.com`;
  expect(text.split(endpoint)).toHaveLength(5);
  // A test needs no minute for its commits.
  await fs.writeFile(
    path,
    text.replaceAll(endpoint, server.endpoint).replaceAll(/sync-interval: \S+/g, 'sync-interval: 100ms'),
  );
}

/** Starts a process of the project and hands its lines on. */
function start(
  file: string,
  args: readonly string[],
  env: Record<string, string>,
): { child: ChildProcess; lines: string[] } {
  const child = spawn(file, args, { cwd: dir, env });
  running.push(child);
  const lines: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    createInterface({ input: stream }).on('line', (line) => lines.push(line));
  return { child, lines };
}

/** The web server; its address, what replication said at its start, and what it logs. */
async function webServer(
  more: Record<string, string>,
): Promise<{ url: string; state: string; lines: string[]; child: ChildProcess }> {
  const { child, lines } = start(
    process.execPath,
    [join(ROOT, 'test/e2e/acceptance-app.mjs')],
    environment(more),
  );
  const first = await until(() => lines.find((line) => line.startsWith('{')), {
    describe: () => lines.join('\n'),
  });
  const { port, state } = JSON.parse(first) as { port: number; state: string };
  return { url: `http://127.0.0.1:${port}`, state, lines, child };
}

function prefixes(): string[] {
  const keys = server.bucket('your-app-litestream').keys();
  return [...new Set(keys.map((key) => key.replace(/\/generations\/.*/, '')))].sort();
}

async function firstValue(path: string): Promise<unknown> {
  const [row] = await withSqlite({ path, readonly: true }, (sqlite) => sqlite.all('SELECT x FROM t'));
  return row?.['x'];
}

describe('R2 in a Rails project', () => {
  it('replicates with the server where the variable says so, shows its status to administrators, and restores', async () => {
    await init();
    const web = await webServer({ LITESTREAM_IN_PUMA: 'true' });
    expect(web.state).toBe('starting');
    await until(() => prefixes().length === 4, { describe: () => web.lines.join('\n') });
    expect(prefixes()).toEqual(['cable', 'cache', 'production', 'queue'].map((name) => `your-app/${name}`));

    expect(await (await fetch(web.url)).text()).toBe('hello');
    expect((await fetch(`${web.url}/litestream/`)).status).toBe(404);
    const page = await fetch(`${web.url}/litestream/`, { headers: { cookie: 'user=admin' } });
    expect(page.status).toBe(200);
    const html = await page.text();
    for (const name of NAMES) expect(html).toContain(`${name}.sqlite3`);
    expect(html).not.toContain(server.credentials.secretAccessKey);

    expect((await shell('litestream sync -wait')).code).toBe(0);
    await end(web.child, 'SIGTERM');
    for (const name of await fs.readdir(join(dir, 'storage'))) {
      await fs.rm(join(dir, 'storage', name), { recursive: true });
    }
    const restored = await shell('litestream restore -database storage/production.sqlite3');
    expect(restored.code, restored.stdout).toBe(0);
    expect(await firstValue(join(dir, 'storage/production.sqlite3'))).toBe('production');
  });

  it('replicates nothing without the variable, and says so in one line', async () => {
    await init();
    const web = await webServer({});
    expect(web.state).toBe('off');
    expect(await (await fetch(web.url)).text()).toBe('hello');
    await end(web.child, 'SIGTERM');
    const said = web.lines.filter((line) => !line.startsWith('{'));
    expect(said).toEqual([
      expect.stringContaining('the variable LITESTREAM_IN_PUMA does not say yes') as string,
    ]);
    expect(prefixes()).toEqual([]);
  });
});

describe('processes of the gem', () => {
  it('foreman: the command of -exec runs once replication does, and ends it', async () => {
    await init();
    await fs.writeFile(join(dir, 'bin/foreman'), '#!/bin/sh\necho "foreman $1"\nexit 4\n', { mode: 0o755 });
    const { code, stdout } = await shell('litestream replicate -exec "foreman start"');
    expect([code, stdout]).toEqual([4, expect.stringContaining('foreman start\n') as string]);
    expect(stdout.indexOf('replicating to')).toBeLessThan(stdout.indexOf('foreman start'));
  });

  it('the pair of the Procfile: the application beside replication', async () => {
    await init();
    await fs.writeFile(join(dir, 'bin/rails'), '#!/bin/sh\necho "rails $1"\nexec sleep 100\n', {
      mode: 0o755,
    });
    const { stdout } = await shell('litestream init -procfile');
    const commands = Object.fromEntries(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => line.split(/: (.*)/)),
    ) as Record<string, string>;
    const replication = start('/bin/sh', ['-c', `exec ${commands['litestream'] ?? ''}`], environment());
    await until(() => replication.lines.some((line) => line.includes('snapshot written')));
    const web = start('/bin/sh', ['-c', commands['web'] ?? ''], environment());
    await until(() => web.lines.includes('rails server'), { describe: () => web.lines.join('\n') });
  });

  it('restore with each flag that is listed', async () => {
    await init();
    const { child, lines } = start('/bin/sh', ['-c', 'exec litestream replicate'], environment());
    const isStored = (line: string): boolean =>
      line.includes('snapshot written') && line.includes('/production.sqlite3');
    await until(() => lines.some(isStored));
    await end(child, 'SIGTERM');
    const generation = /generations\/([0-9a-f]{16})\//.exec(
      server
        .bucket('your-app-litestream')
        .keys()
        .find((key) => key.startsWith('your-app/production/')) ?? '',
    )?.[1];
    for (const flags of [
      '',
      '--if-db-not-exists',
      '-if-replica-exists',
      '-parallelism 2',
      '-replica s3',
      `-generation ${generation ?? ''}`,
      '-index 0',
      '-config config/litestream.yml -no-expand-env=false',
    ]) {
      const line = `litestream restore --database=storage/production.sqlite3 -o copy.sqlite3 ${flags}`;
      const { code, stdout } = await shell(line);
      expect(code, `${line}\n${stdout}`).toBe(0);
      expect(await firstValue(join(dir, 'copy.sqlite3')), line).toBe('production');
      await fs.rm(join(dir, 'copy.sqlite3'));
    }
    const there = 'litestream restore --database=storage/production.sqlite3';
    expect((await shell(there)).code).toBe(1);
    expect((await shell(`${there} --if-db-not-exists`)).code).toBe(0);
  });
});

describe('the dashboard', () => {
  it('asks for the name and the password of the variables', async () => {
    await init();
    const { lines } = start(
      '/bin/sh',
      ['-c', 'exec litestream dashboard -addr 127.0.0.1:0'],
      environment({ LITESTREAM_USERNAME: 'frodo', LITESTREAM_PASSWORD: 'ikeptmysecrets' }),
    );
    const line = await until(() => lines.find((text) => text.includes('http://127.0.0.1:')), {
      describe: () => lines.join('\n'),
    });
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0] ?? '';
    const status = async (credentials?: string): Promise<number> => {
      const headers = credentials === undefined ? {} : { authorization: `Basic ${btoa(credentials)}` };
      return (await fetch(`${url}/`, { headers })).status;
    };
    expect([await status(), await status('frodo:mellon'), await status('frodo:ikeptmysecrets')]).toEqual([
      401, 401, 200,
    ]);
  });
});
