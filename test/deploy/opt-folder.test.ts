/** The folder for images and packages: it must run where there is no Node.js, and do what the entry point is told. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { chooseDriver } from '../../src/sqlite/driver.ts';
import { until } from '../support/process.ts';
import { withSqlite } from '../support/sqlite.ts';
import { BUILD_TIMEOUT_MS, ROOT, buildOptFolder, run, type Ran } from './opt-folder.ts';

let dir: string;
let opt: string;
/** A PATH with a shell and readlink, but no Node.js. */
let bare: string;

beforeAll(async () => {
  dir = await fs.realpath(await fs.mkdtemp(join(tmpdir(), 'litestream-opt-')));
  await fs.chmod(dir, 0o755);
  // Built somewhere else than where it runs.
  await fs.mkdir(join(dir, 'built'));
  const built = await buildOptFolder(join(dir, 'built'));
  opt = join(dir, 'opt litestream');
  await fs.rename(built, opt);
  bare = join(dir, 'tools');
  await fs.mkdir(bare);
  await fs.symlink('/bin/sh', join(bare, 'sh'));
  await fs.symlink(
    (await run('/bin/sh', ['-c', 'command -v readlink'])).stdout.trim(),
    join(bare, 'readlink'),
  );
  await fs.symlink(join(opt, 'bin/litestream'), join(bare, 'litestream'));
  const database = join(dir, 'app.db');
  await withSqlite({ path: database, pragmas: ['journal_mode=WAL'] }, (sqlite) =>
    sqlite.exec('CREATE TABLE t (x); INSERT INTO t VALUES (42)'),
  );
  await fs.writeFile(
    join(dir, 'litestream.yml'),
    `dbs:\n  - path: ${database}\n    replicas:\n      - path: ${dir}/replica\n`,
  );
}, BUILD_TIMEOUT_MS);

afterAll(async () => {
  await fs.rm(dir, { recursive: true, force: true });
});

/** Runs with the bare PATH and this test's config. */
function inImage(file: string, args: readonly string[], userId?: number): Promise<Ran> {
  const env = { PATH: bare, LITESTREAM_CONFIG: join(dir, 'litestream.yml') };
  return run(file, args, { env, ...(userId === undefined ? {} : { uid: userId, gid: userId }) });
}

describe('/opt/litestream', () => {
  it('runs by a link, without any other Node.js, as a user of its own', async () => {
    const { version } = JSON.parse(await fs.readFile(join(ROOT, 'package.json'), 'utf8')) as {
      version: string;
    };
    expect((await inImage('/bin/sh', ['-c', 'command -v node'])).code).not.toBe(0);
    expect((await inImage(join(bare, 'litestream'), ['version'])).stdout).toBe(`v${version}\n`);
    if (process.getuid?.() !== 0) return;
    expect((await inImage(join(bare, 'litestream'), ['version'], 1000)).stdout).toBe(`v${version}\n`);
  });

  it('replicates and restores, and is found in ps as litestream replicate', async () => {
    const child = spawn(join(bare, 'litestream'), ['replicate', '-config', join(dir, 'litestream.yml')], {
      env: { PATH: bare },
    });
    const exited = once(child, 'exit');
    try {
      // As the gem looks for it.
      const row = new RegExp(`^ *${String(child.pid)} .* litestream replicate -config `, 'm');
      await until(async () => row.test((await run('ps', ['-ax'])).stdout));
      const generations = join(dir, 'replica/generations');
      await until(async () => (await fs.readdir(generations).catch(() => [])).length > 0);
    } finally {
      child.kill('SIGTERM');
    }
    expect(await exited).toEqual([0, null]);
    const copy = join(dir, 'copy.db');
    const restored = await inImage(join(bare, 'litestream'), ['restore', '-o', copy, join(dir, 'app.db')]);
    expect(restored.code, restored.stdout + restored.stderr).toBe(0);
    const rows = await withSqlite({ path: copy, readonly: true }, (sqlite) => sqlite.all('SELECT x FROM t'));
    expect(rows).toEqual([{ x: 42 }]);
  });

  it.each(['s3://b.localhost:1/x', 'abs://a@b', 'gcs://b/x', 'sftp://u@127.0.0.1:1/x'])(
    'has all packages that %s needs',
    async (url) => {
      const code = "import('./lib/dist/cli/main.js').then((m) => m.main(['snapshots', process.argv[1]]))";
      // Nothing answers there: that is what must be said, and not that a module is missing.
      const env = {
        LITESTREAM_ACCESS_KEY_ID: 'k',
        LITESTREAM_SECRET_ACCESS_KEY: 's',
        LITESTREAM_AZURE_ACCOUNT_KEY: 'a2V5',
      };
      const child = spawn(join(opt, 'libexec/node'), ['-e', code, url], { cwd: opt, env });
      let output = '';
      child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()));
      child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()));
      const exited = once(child, 'exit');
      // Some stores are retried for long: that they are asked at all is enough.
      const timer = setTimeout(() => child.kill('SIGKILL'), 3000);
      await exited;
      clearTimeout(timer);
      expect(output).not.toMatch(/cannot find|ERR_MODULE|incomplete/i);
    },
  );

  it('serves the dashboard with all that its page needs', async () => {
    const child = spawn(join(bare, 'litestream'), ['dashboard', '-addr', '127.0.0.1:0'], {
      env: { PATH: bare, LITESTREAM_CONFIG: join(dir, 'litestream.yml') },
    });
    const exited = once(child, 'exit');
    let log = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (chunk: Buffer) => (log += chunk.toString()));
    }
    try {
      const url = await until(() => /http:\/\/127\.0\.0\.1:\d+/.exec(log)?.[0], { describe: () => log });
      const page = await (await fetch(`${url}/`)).text();
      const links = [...page.matchAll(/(?:src|href)="([^"#]+\.(?:js|css))"/g)].map(([, link]) => link ?? '');
      expect(links.length).toBeGreaterThanOrEqual(2);
      for (const link of links) expect((await fetch(new URL(link, `${url}/`))).status, link).toBe(200);
    } finally {
      child.kill('SIGTERM');
    }
    expect(await exited).toEqual([0, null]);
  });

  it('is not made over something that is there, or of what is not built', async () => {
    const script = join(ROOT, 'etc/opt-litestream.mjs');
    const there = await run(process.execPath, [script, dir]);
    expect([there.code, there.stderr]).toEqual([
      1,
      `${dir} exists already: remove it, or name another folder\n`,
    ]);
    expect((await run(process.execPath, [script])).stderr).toMatch(/^usage: /);
    const empty = join(dir, 'checkout/etc');
    await fs.mkdir(empty, { recursive: true });
    await fs.copyFile(script, join(empty, 'opt-litestream.mjs'));
    const unbuilt = await run(process.execPath, [join(empty, 'opt-litestream.mjs'), join(dir, 'x')]);
    expect([unbuilt.code, unbuilt.stderr]).toEqual([1, 'not built yet: run npm ci, which builds\n']);
  });

  it('holds nothing that is for development', async () => {
    const names = await fs.readdir(join(opt, 'lib/node_modules')).catch(() => []);
    const own =
      chooseDriver(undefined).name === 'node:sqlite'
        ? []
        : ['better-sqlite3', 'bindings', 'file-uri-to-path'];
    expect(names.sort()).toEqual(own);
    const files = await fs.readdir(join(opt, 'lib'), { recursive: true });
    expect(files.filter((name) => /\.(map|d\.ts)$/.test(name))).toEqual([]);
    const native = new Set(
      files.filter((name) => name.endsWith('.node')).map((name) => name.replace(/.*\//, '')),
    );
    expect([...native]).toEqual(own.length === 0 ? [] : ['better_sqlite3.node']);
  });
});

describe('the entry point of the image', () => {
  const entry = (...args: string[]): Promise<Ran> => inImage(join(opt, 'bin/entrypoint'), args);

  it('takes the arguments of litestream, also after its name', async () => {
    const plain = await entry('databases');
    expect([plain.code, plain.stdout]).toEqual([0, expect.stringMatching(/^path +replicas\n/) as string]);
    for (const args of [
      ['litestream', 'databases'],
      ['--', 'litestream', 'databases'],
      ['/bin/sh', '-c', 'litestream databases'],
      ['sh', '-c', 'litestream databases || exit 1'],
    ]) {
      expect(await entry(...args), args.join(' ')).toEqual(plain);
    }
    expect((await entry('litestream')).stdout).toContain('Usage:');
  });

  it('passes on exit codes and signals', async () => {
    expect((await entry('sh', '-c', 'exit 7')).code).toBe(7);
    expect((await entry('nonsense')).code).toBe(1);
    const child = spawn(join(opt, 'bin/entrypoint'), ['replicate'], {
      env: { PATH: bare, LITESTREAM_CONFIG: join(dir, 'litestream.yml') },
    });
    const exited = once(child, 'exit');
    let log = '';
    child.stdout.on('data', (chunk: Buffer) => (log += chunk.toString()));
    await until(() => log.includes('replicating to'), { describe: () => log });
    child.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
    expect(log).toContain('litestream shut down');
  });
});

describe('the image', () => {
  it('has the entry point, the health check and the user that are documented', async () => {
    const dockerfile = await fs.readFile(join(ROOT, 'etc/docker/Dockerfile'), 'utf8');
    expect(dockerfile).toContain('ENTRYPOINT ["/opt/litestream/bin/entrypoint"]');
    expect(dockerfile).toContain('USER 1000:1000');
    expect(dockerfile).toContain('CMD ["litestream", "databases"]');
    // Each program that it runs from the checkout is there and can be run.
    expect(dockerfile).toContain('RUN etc/docker/build /opt/litestream');
    await fs.access(join(ROOT, 'etc/docker/build'), fs.constants.X_OK);
  });

  it.each(['docker/build', 'docker/entrypoint', 'deb/build', 'deb/postinst', 'deb/prerm', 'deb/postrm'])(
    'etc/%s is a script that a plain shell reads',
    async (name) => {
      expect(await run('/bin/sh', ['-n', join(ROOT, 'etc', name)])).toEqual({
        code: 0,
        stdout: '',
        stderr: '',
      });
    },
  );
});
