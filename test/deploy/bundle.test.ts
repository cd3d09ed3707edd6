/**
 * The command as it is published, in a folder without any package but SQLite's: what the drivers and their SDKs load
 * when they are used must be in the bundle. The other tests of drivers run on the sources.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, promises as fs, realpathSync } from 'node:fs';
import { type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { generateKeyPairSync } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { newAgeKey } from '../support/age.ts';
import { GcsServer } from '../support/gcs-server.ts';
import { S3Server } from '../support/s3-server.ts';
import { SftpServer } from '../support/sftp-server.ts';
import { withSqlite } from '../support/sqlite.ts';
import { type Ran, ROOT, run } from './opt-folder.ts';

let dir: string;
let binary: string;
let database: string;

beforeAll(async () => {
  dir = await fs.mkdtemp(join(realpathSync(tmpdir()), 'litestream-bundle-'));
  for (const part of ['package.json', 'bin', 'dist/cli']) {
    await fs.cp(join(ROOT, part), join(dir, part), { recursive: true });
  }
  await fs.mkdir(join(dir, 'node_modules'));
  // Its own packages are found where it is.
  await fs.symlink(
    await fs.realpath(join(ROOT, 'node_modules/better-sqlite3')),
    join(dir, 'node_modules/better-sqlite3'),
  );
  binary = join(dir, 'bin/litestream');
  database = join(dir, 'app.db');
  await withSqlite({ path: database }, (sqlite) =>
    sqlite.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (42)'),
  );
});

afterAll(() => fs.rm(dir, { recursive: true, force: true }));

const litestream = (args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Ran> =>
  run(process.execPath, [binary, ...args], { cwd: dir, env });

async function configOf(name: string, keys: Record<string, unknown>): Promise<string> {
  const path = join(dir, `${name}.yml`);
  // JSON is YAML.
  const meta = join(dir, `${name}-meta`);
  await fs.writeFile(
    path,
    JSON.stringify({ dbs: [{ path: database, 'meta-path': meta, replicas: [keys] }] }),
  );
  return path;
}

/** Replicates and restores. */
async function roundTrip(name: string, keys: Record<string, unknown>): Promise<void> {
  const config = await configOf(name, keys);
  const replicated = await litestream(['replicate', '-config', config, '-exec', `${process.execPath} -e 0`]);
  expect(replicated.code, replicated.stdout + replicated.stderr).toBe(0);
  const copy = join(dir, `${name}.restored`);
  const restored = await litestream(['restore', '-config', config, '-o', copy, database]);
  expect(restored.code, restored.stdout + restored.stderr).toBe(0);
  const rows = await withSqlite({ path: copy, readonly: true }, (sqlite) => sqlite.all('SELECT x FROM t'));
  expect(rows).toEqual([{ x: 42 }]);
}

/** Starts a command, and ends it when the server has got a request that `wanted` takes. */
async function untilAsked(
  server: Server,
  wanted: (url: string) => boolean,
  args: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<void> {
  const child = spawn(process.execPath, [binary, ...args], {
    cwd: dir,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => (output += chunk.toString()));
  }
  const asked = new Promise<string>((resolve) => {
    const take = ({ url = '' }: { url?: string | undefined }): void => {
      if (wanted(url)) resolve('asked');
    };
    server.on('request', take).on('connect', take);
  });
  const ended = once(child, 'close').then(() => `ended: ${output}`);
  expect(await Promise.race([asked, ended])).toBe('asked');
  child.kill('SIGKILL');
  await ended;
}

async function withServer(serve: (server: Server, port: number) => Promise<void>): Promise<void> {
  const server = createServer();
  server.on('connect', (_, socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await serve(server, (server.address() as AddressInfo).port);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

describe('the bundle', () => {
  it('replicates to and restores from S3, encrypted', async () => {
    const server = await S3Server.start({ buckets: ['bucket'] });
    const { identity, recipient } = await newAgeKey();
    const { accessKeyId, secretAccessKey } = server.credentials;
    try {
      await roundTrip('s3', {
        ...{ type: 's3', bucket: 'bucket', path: 'db', endpoint: server.endpoint },
        ...{ 'access-key-id': accessKeyId, 'secret-access-key': secretAccessKey },
        age: { identities: [identity], recipients: [recipient] },
      });
    } finally {
      await server.close();
    }
  });

  it('replicates to and restores from SFTP', async () => {
    const server = await SftpServer.start();
    try {
      const { port, user, password, fingerprint } = server;
      await roundTrip('sftp', {
        ...{ type: 'sftp', host: `127.0.0.1:${port}`, user, password, path: '/db' },
        'host-key': fingerprint,
      });
    } finally {
      await server.close();
    }
  });

  it('replicates to and restores from Google Cloud Storage', async () => {
    const server = await GcsServer.start();
    try {
      await roundTrip('gcs', { type: 'gcs', bucket: server.bucket, path: 'db', endpoint: server.endpoint });
    } finally {
      await server.close();
    }
  });

  it("asks for a token of Google's: of the machine, or by a key, through a proxy", async () => {
    await withServer(async (server, port) => {
      const metadata = { GCE_METADATA_HOST: `127.0.0.1:${port}`, HOME: dir };
      server.on('request', (request, response) => {
        if (request.url?.includes('/token') === true) return;
        response.writeHead(200, { 'metadata-flavor': 'Google' }).end('{}');
      });
      const url = 'gcs://bucket/db';
      await untilAsked(server, (path) => path.includes('/token'), ['snapshots', url], metadata);

      const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
      const key = join(dir, 'key.json');
      await fs.writeFile(
        key,
        JSON.stringify({
          ...{ type: 'service_account', client_email: 'a@b.example', project_id: 'p' },
          private_key: privateKey.export({ type: 'pkcs8', format: 'pem' }),
        }),
      );
      const proxied = { GOOGLE_APPLICATION_CREDENTIALS: key, HTTPS_PROXY: `http://127.0.0.1:${port}` };
      await untilAsked(server, (path) => path.endsWith('.googleapis.com:443'), ['snapshots', url], proxied);
    });
  });

  it('lists a container of Azure with a key, and asks for a token without', async () => {
    await withServer(async (server, port) => {
      const authorizations: (string | undefined)[] = [];
      const answer = '<?xml version="1.0"?><EnumerationResults><Blobs/><NextMarker/></EnumerationResults>';
      server.on('request', (request, response) => {
        if (request.url?.startsWith('/token') === true) return;
        authorizations.push(request.headers.authorization);
        response.writeHead(200, { 'content-type': 'application/xml' }).end(answer);
      });
      const box = { type: 'abs', bucket: 'box', path: 'db', 'account-name': 'account' };
      const endpoint = `http://127.0.0.1:${port}/account`;
      const config = await configOf('abs', { ...box, endpoint, 'account-key': 'a2V5' });
      const listed = await litestream(['snapshots', '-json', '-config', config, database]);
      expect([listed.code, listed.stdout.trim()], listed.stdout + listed.stderr).toEqual([0, '[]']);
      expect(authorizations[0]).toMatch(/^SharedKey account:/);

      const withToken = await configOf('abs-token', { ...box, endpoint: 'https://127.0.0.1:1/account' });
      const env = {
        ...{ AZURE_TOKEN_CREDENTIALS: 'ManagedIdentityCredential', HOME: dir },
        ...{ IDENTITY_ENDPOINT: `http://127.0.0.1:${port}/token`, IDENTITY_HEADER: 'x' },
      };
      const args = ['snapshots', '-config', withToken, database];
      await untilAsked(server, (path) => path.startsWith('/token'), args, env);
    });
  });

  it('tells what is in it, with a license for each, and has no other package to load', async () => {
    const { stdout } = await litestream(['version', '-json']);
    const { version, packages } = JSON.parse(stdout) as {
      version: string;
      packages: { name: string; version: string; license: string }[];
    };
    expect((await litestream(['version'])).stdout).toBe(`${version}\n`);
    const names = packages.map(({ name }) => name);
    for (const name of ['@aws-sdk/client-s3', '@azure/storage-blob', '@azure/identity', 'ssh2', 'uplot']) {
      expect(names).toContain(name);
    }
    const notices = await fs.readFile(join(dir, 'dist/cli/THIRD-PARTY-NOTICES.txt'), 'utf8');
    for (const each of packages) {
      expect(notices).toContain(`${each.name} ${each.version} (${each.license})\n\n`);
      expect(each.license, each.name).toMatch(
        /^(MIT|0BSD|ISC|Apache-2\.0|BSD-[23]-Clause|Unlicense|BlueOak-1\.0\.0)/,
      );
    }
    const files = (await fs.readdir(join(dir, 'dist/cli'))).filter((name) => name.endsWith('.js'));
    const imported = new Set<string>();
    for (const file of files) {
      const text = await fs.readFile(join(dir, 'dist/cli', file), 'utf8');
      for (const [, name = ''] of text.matchAll(/^(?:import|export)\b[^'"\n]*["']([^'"\n]+)["'];?$/gm)) {
        imported.add(name);
      }
    }
    expect([...imported].filter((name) => !/^(node:|\.\/)/.test(name))).toEqual([]);
    expect(existsSync(join(dir, 'node_modules/yaml'))).toBe(false);
  });
});
