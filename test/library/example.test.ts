/** examples/express: started, signed, killed, robbed of its data, and started again. */

import { type ChildProcess, spawn } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { expect, it } from 'vitest';
import { type ConfigOptions, waitForSync } from '../../src/library/index.ts';
import { until, withTempDir } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';

const SERVER = fileURLToPath(new URL('../../examples/express/server.mjs', import.meta.url));

/** Starts the example and gives it to `body` with its address, and kills it. */
async function withExample(
  env: Readonly<Record<string, string>>,
  body: (url: string) => Promise<void>,
): Promise<void> {
  const inherited = Object.entries(process.env).filter(
    ([name]) => !/^(AWS_|LITESTREAM_|VITEST|NODE_)/.test(name),
  );
  const child: ChildProcess = spawn(process.execPath, [SERVER], {
    env: { ...Object.fromEntries(inherited), PORT: '0', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let log = '';
  let url: string | undefined;
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (log += text));
  createInterface({ input: child.stdout! }).on('line', (line) => (url = /http:\S+/.exec(line)?.[0] ?? url));
  try {
    await body(
      await until(() => url, { timeoutMs: 40_000, describe: () => `the example does not start\n${log}` }),
    );
  } finally {
    child.kill('SIGKILL');
    await once(child, 'close');
  }
}

/** Whether nobody replicates the database of that meta directory. */
function isReleased(metaPath: string): boolean {
  const lock = new Database(join(metaPath, 'lock.sqlite'), { timeout: 0 });
  try {
    lock.exec('BEGIN EXCLUSIVE; ROLLBACK');
    return true;
  } catch {
    return false;
  } finally {
    lock.close();
  }
}

const LOGIN = { LITESTREAM_USERNAME: 'ann', LITESTREAM_PASSWORD: 'secret' };

async function survives(
  dir: string,
  env: Readonly<Record<string, string>>,
  options: ConfigOptions,
): Promise<void> {
  const data = join(dir, 'data');
  const here = { DATA: data, BACKUP: join(dir, 'backup'), ...LOGIN, ...env };
  await withExample(here, async (url) => {
    for (const name of ['Ada', '<Grace>']) {
      await fetch(url, { method: 'POST', body: new URLSearchParams({ name }) });
    }
    await waitForSync(options);
    expect((await fetch(`${url}/litestream`)).status).toBe(401);
    const headers = { authorization: `Basic ${btoa('ann:secret')}` };
    const board = await fetch(`${url}/litestream/`, { headers });
    expect(board.status).toBe(200);
    expect(await board.text()).toContain('guests.db');
  });
  // Its child has still the folder open for a moment, and would make files in it.
  await until(() => isReleased(join(data, '.guests.db-litestream')), { timeoutMs: 40_000 });
  // With the lock it has let go of the database, and removes its socket after that.
  await fs.rm(data, { recursive: true, maxRetries: 20 });
  await withExample(here, async (url) => {
    const page = await (await fetch(url)).text();
    expect(page).toContain('Ada');
    expect(page).toContain('&#60;Grace&#62;');
    await fetch(url, { method: 'POST', body: new URLSearchParams({ name: 'Hedy' }) });
    await waitForSync(options);
  });
}

it('examples/express survives the loss of its data, with a folder as backup', async () => {
  await withTempDir(async (dir) => {
    const path = join(dir, 'data', 'guests.db');
    await survives(dir, {}, { databases: [{ path, replicas: [{ path: join(dir, 'backup') }] }] });
  });
});

it('examples/express survives the loss of its data, with a bucket as backup', async () => {
  const server = await S3Server.start();
  const { accessKeyId, secretAccessKey } = server.credentials;
  try {
    await withTempDir(async (dir) => {
      const env = {
        LITESTREAM_REPLICA_BUCKET: 'bucket',
        LITESTREAM_REPLICA_ENDPOINT: server.endpoint,
        LITESTREAM_REPLICA_REGION: 'us-east-1',
        LITESTREAM_ACCESS_KEY_ID: accessKeyId,
        LITESTREAM_SECRET_ACCESS_KEY: secretAccessKey,
      };
      const where = { bucket: 'bucket', endpoint: server.endpoint, region: 'us-east-1' };
      const databases = [join(dir, 'data', 'guests.db')];
      await survives(dir, env, { databases, ...where, accessKeyId, secretAccessKey });
      await expect(fs.stat(join(dir, 'backup'))).rejects.toThrow('ENOENT');
    });
  } finally {
    await server.close();
  }
});
