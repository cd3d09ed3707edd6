/** `litestream init` as a command: the config that it writes must be what this program and v0.3.13 read. */

import { spawn } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { configText } from '../../src/cmd/init/config-text.ts';
import { planDatabases } from '../../src/cmd/init/plan.ts';
import { PROVIDERS, providerOf } from '../../src/cmd/init/providers.ts';
import { type Ask, chooseProvider, completeAnswers } from '../../src/cmd/init/questions.ts';
import { loadConfig } from '../../src/config/index.ts';
import { findPreset } from '../../src/config/stores/s3-presets.ts';
import { until, withTempDir } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { withSqlite } from '../support/sqlite.ts';
import { runOracle, runOurs, type Output } from './compare.ts';

const ACCOUNT = '0123456789abcdef0123456789ABCDEF';
const BIN = new URL('../../bin/litestream', import.meta.url).pathname;
/** What a provider must be told. */
const TOLD: Readonly<Record<string, readonly string[]>> = {
  r2: ['-account-id', ACCOUNT],
  hetzner: ['-region', 'fsn1'],
  b2: ['-region', 'us-west-002'],
  spaces: ['-region', 'nyc3'],
  scaleway: ['-region', 'fr-par'],
  linode: ['-region', 'eu-central-1'],
  wasabi: ['-region', 'eu-central-1'],
  s3: ['-endpoint', 'https://storage.example.com'],
};
/** What has to be set where litestream runs. */
const VARIABLES = {
  LITESTREAM_REPLICA_BUCKET: 'mybkt',
  LITESTREAM_ACCESS_KEY_ID: 'key',
  LITESTREAM_SECRET_ACCESS_KEY: 'se/cr+et=',
  LITESTREAM_AZURE_ACCOUNT_NAME: 'account',
  LITESTREAM_AZURE_ACCOUNT_KEY: 'a2V5',
  LITESTREAM_SFTP_HOST: 'backup.example.com:2222',
  LITESTREAM_SFTP_USER: 'backup',
  LITESTREAM_SFTP_KEY_PATH: '/etc/key',
  LITESTREAM_REPLICA_FOLDER: '/mnt/backups',
};

let dir: string;
let leave: () => void;
let left: Promise<void>;

beforeEach(async () => {
  await new Promise<void>((entered) => {
    left = withTempDir(async (folder) => {
      dir = join(folder, 'my_shop');
      await fs.mkdir(join(dir, 'config'), { recursive: true });
      entered();
      await new Promise<void>((resolve) => (leave = resolve));
    });
  });
});

afterEach(async () => {
  leave();
  await left;
});

async function rails(): Promise<void> {
  const names = ['', '_cache', '_queue', '_cable'];
  const entries = names.map(
    (name) =>
      `  ${name === '' ? 'primary' : name.slice(1)}: {adapter: sqlite3, database: storage/production${name}.sqlite3}\n`,
  );
  await fs.writeFile(join(dir, 'config/database.yml'), `production:\n${entries.join('')}`);
}

function init(...args: string[]): Promise<Output> {
  return runOurs(['init', ...args], { cwd: dir });
}

function read(path: string): Promise<string> {
  return fs.readFile(join(dir, path), 'utf8');
}

describe('in a Rails project', () => {
  beforeEach(rails);

  it('writes config/litestream.yml with the intervals of each role and variables for secrets', async () => {
    const { code, stdout, stderr } = await init('-provider', 'r2', '-account-id', ACCOUNT);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toMatch(/^wrote config\/litestream.yml\n/);
    expect(stdout).toContain(
      'set LITESTREAM_REPLICA_BUCKET, LITESTREAM_ACCESS_KEY_ID, LITESTREAM_SECRET_ACCESS_KEY\n',
    );
    const options = { cwd: dir, env: VARIABLES, expandEnv: true };
    const { databases, warnings } = await loadConfig(join(dir, 'config/litestream.yml'), options);
    expect(warnings).toEqual([]);
    const seconds = databases.map(({ replicas: [replica] }) =>
      [replica!.syncIntervalMs, replica!.snapshotIntervalMs, replica!.retentionMs].map((ms) => ms / 1000),
    );
    const hour = 3600;
    expect(seconds).toEqual([
      [5, hour, 720 * hour],
      [10, 6 * hour, 24 * hour],
      [5, hour, 72 * hour],
      [10, 6 * hour, 24 * hour],
    ]);
    expect(databases.map(({ replicas: [replica] }) => replica!.store)).toEqual(
      ['production', 'cache', 'queue', 'cable'].map(
        (name) =>
          expect.objectContaining({
            type: 's3',
            bucket: 'mybkt',
            path: `my-shop/${name}`,
            endpoint: `https://${ACCOUNT.toLowerCase()}.r2.cloudflarestorage.com`,
            region: 'auto',
            forcePathStyle: true,
            accessKeyId: 'key',
            secretAccessKey: 'se/cr+et=',
          }) as unknown,
      ),
    );
    // `databases` needs no -config here, as the file is where it looks.
    const ours = await runOurs(['databases'], { cwd: dir, env: VARIABLES });
    const args = ['databases', '-config', 'config/litestream.yml'];
    const theirs = await runOracle(args, { cwd: dir, env: VARIABLES });
    expect(ours).toEqual({ code: 0, stdout: theirs.stdout, stderr: '' });
    expect(theirs.stdout.trimEnd().split('\n').slice(1)).toEqual(
      ['', '_cache', '_queue', '_cable'].map(
        (name) => expect.stringMatching(`^${dir}/storage/production${name}\\.sqlite3 +s3$`) as string,
      ),
    );
  });

  it('never replaces a file without -force', async () => {
    await fs.writeFile(join(dir, 'config/litestream.yml'), 'mine');
    const { code, stdout, stderr } = await init();
    expect([code, stdout]).toEqual([1, '']);
    expect(stderr).toContain('config file is there already: config/litestream.yml: -force replaces it');
    expect(await read('config/litestream.yml')).toBe('mine');
    expect((await init('-o', 'other.yml')).code).toBe(0);
    expect((await init('-force')).code).toBe(0);
    expect(await read('config/litestream.yml')).toBe(await read('other.yml'));
    expect(await fs.readdir(join(dir, 'config'))).toEqual(['database.yml', 'litestream.yml']);
  });

  it('keeps a config that is there when it prints a deployment file, and writes one for containers otherwise', async () => {
    const first = await init('-kamal');
    expect(first.stdout).toContain('- "my-shop_storage:/rails/storage"');
    expect(await read('config/litestream.yml')).toContain(
      '- path: /rails/storage/production_cable.sqlite3\n',
    );
    const second = await init('-k8s');
    expect([second.code, second.stderr]).toEqual([
      0,
      expect.stringMatching(/^kept config\/litestream.yml/) as string,
    ]);
  });

  it('prints the config, an object, or a deployment file, one of them', async () => {
    const { code, stdout } = await init('-o', '-');
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^# Written by litestream init/) as string]);
    const json = JSON.parse((await init('-json', '-o', 'x.yml', '-size', '10MB')).stdout) as {
      databases: Record<string, unknown>[];
    };
    expect(json).toMatchObject({ config: 'x.yml', written: true, provider: 'aws' });
    expect(json.databases[1]).toEqual({
      path: 'storage/production_cache.sqlite3',
      role: 'cache',
      replicaPath: 'my-shop/cache',
      sizeBytes: 10e6,
      snapshots: 5,
      storageBytes: 50e6,
    });
    const both = await init('-kamal', '-json');
    expect([both.code, both.stderr]).toEqual([
      1,
      expect.stringContaining('cannot print several things at once: -kamal, -json') as string,
    ]);
  });

  it('prints nothing secret, also when the variables are set', async () => {
    const { stdout } = await runOurs(['init', '-o', '-'], { cwd: dir, env: VARIABLES });
    for (const secret of ['se/cr+et=', 'a2V5']) expect(stdout).not.toContain(secret);
  });
});

describe('elsewhere', () => {
  it('writes litestream.yml with the size of the files in its estimate', async () => {
    await withSqlite({ path: join(dir, 'app.db') }, (sqlite) => sqlite.exec('CREATE TABLE t (x)'));
    const { code, stdout } = await init();
    expect([code, stdout]).toEqual([0, expect.stringContaining('wrote litestream.yml') as string]);
    expect(stdout).toMatch(/app\.db +primary +5s +720h +721 +5\.9 MB\n/);
    expect(stdout).toContain('storage is an estimate, 5.9 MB in all');
    expect(await read('litestream.yml')).toContain(
      '721 snapshots are kept: about 5.9 MB at 8.2 kB each (an estimate',
    );
  });

  it.each([
    [[], /no SQLite database found in /],
    [['-provider', 'nope', 'a.db'], /unknown provider \\"nope\\": one of aws, r2, hetzner/],
    [['-provider', 'hetzner', 'a.db'], /-region required for hetzner: such as fsn1/],
    [['-provider', 'r2', '-account-id', 'x', 'a.db'], /account-id must be the 32 hexadecimal digits/],
    [['-provider', 's3', 'a.db'], /-endpoint required for s3/],
    [['-size', 'big', 'a.db'], /size must be bytes or such as 64MB/],
    [['-o', 'nowhere/l.yml', 'a.db'], /write config .*nowhere\/l\.yml: ENOENT/],
  ])('init %j is refused', async (args, message) => {
    const { code, stdout, stderr } = await init(...args);
    expect([code, stdout, stderr]).toEqual([1, '', expect.stringMatching(message) as string]);
    expect(await fs.readdir(dir)).toEqual(['config']);
  });
});

describe('each provider', () => {
  it.each(PROVIDERS.map(({ name }) => name))('%s: read alike by this program and v0.3.13', async (name) => {
    const told = TOLD[name] ?? [];
    expect((await init('-provider', name, ...told, 'a.db', 'b_queue.db')).code).toBe(0);
    const args = ['databases', '-config', 'litestream.yml'];
    const ours = await runOurs(args, { cwd: dir, env: VARIABLES });
    const theirs = await runOracle(args, { cwd: dir, env: VARIABLES });
    expect(theirs.code, theirs.stderr).toBe(0);
    expect(ours.stdout).toBe(theirs.stdout);
    expect([ours.code, ours.stderr]).toEqual([0, '']);

    const around = { cwd: dir, env: VARIABLES, expandEnv: true };
    const { databases } = await loadConfig(join(dir, 'litestream.yml'), around);
    const store = databases[1]!.replicas[0]!.store;
    expect(store.path).toMatch(/my-shop\/queue$/);
    if (store.type !== 's3' || store.endpoint === undefined || name === 's3') return;
    // The settings of the provider apply, and what the file says is what they say.
    const preset = findPreset(store.endpoint);
    expect(providerOf(name).title).toContain(preset?.preset.name.replace(/ .*/, '') ?? 'no preset');
    expect([store.region, store.forcePathStyle]).toEqual([
      preset!.region,
      preset!.preset.forcePathStyle ?? true,
    ]);
  });

  it('takes any path, bucket and region for what they are', async () => {
    const name = fc
      .string({ unit: 'grapheme', minLength: 1 })
      .map((text) => text.replace(/[$\0\r\n\u0085\u2028\u2029/]/g, ''));
    const word = name.filter((text) => text.trim() === text && text !== '' && !/^\.+$/.test(text));
    await fc.assert(
      fc.asyncProperty(word, word, word, async (path, bucket, region) => {
        const found = [{ path: join('/data', path), role: 'primary', sizeBytes: undefined } as const];
        const databases = planDatabases(found, { root: '', prefix: 'p', assumedSizeBytes: undefined });
        const text = configText(databases, providerOf('aws'), { bucket: `b${bucket}`, region });
        await fs.writeFile(join(dir, 'c.yml'), text);
        const config = await loadConfig(join(dir, 'c.yml'), { cwd: dir, env: VARIABLES, expandEnv: true });
        expect(config.databases[0]).toMatchObject({
          path: join('/data', path),
          replicas: [{ store: { bucket: `b${bucket}`, region } }],
        });
      }),
    );
  });
});

describe('questions', () => {
  /** Answers in order; what was asked is kept. */
  function person(answers: string[]): { ask: Ask; asked: string[] } {
    const asked: string[] = [];
    const ask: Ask = (question) => {
      asked.push(question);
      return Promise.resolve(answers.shift() ?? '');
    };
    return { ask, asked };
  }

  it('ask again after an answer that makes no sense, and take the default for none', async () => {
    const { ask, asked } = person(['dropbox', 'R2', 'x', ACCOUNT, '']);
    const provider = await chooseProvider(undefined, ask);
    expect(provider.name).toBe('r2');
    expect(await completeAnswers(provider, {}, ask)).toEqual({ 'account-id': ACCOUNT });
    expect(asked).toHaveLength(5);
    expect(asked[1]).toMatch(/^unknown provider "dropbox"/);
    expect(asked[3]).toMatch(/^account-id must be/);
    expect((await chooseProvider(undefined, person(['']).ask)).name).toBe('aws');
  });

  it('are not asked when flags say it, or when nobody is there', async () => {
    const { ask, asked } = person([]);
    const given = { bucket: 'b', region: 'nyc3' };
    expect(await completeAnswers(await chooseProvider('spaces', ask), given, ask)).toEqual(given);
    expect(asked).toEqual([]);
    expect((await chooseProvider(undefined, undefined)).name).toBe('aws');
    await expect(completeAnswers(providerOf('b2'), {}, undefined)).rejects.toMatchObject({ code: 'usage' });
  });

  it('end with the error when no right answer comes', async () => {
    await expect(completeAnswers(providerOf('r2'), {}, person(['a', 'b', 'c']).ask)).rejects.toThrow(
      'account-id',
    );
  });

  it('are asked on a terminal', async (test) => {
    // util-linux: gives the command a terminal.
    const script = await fs.access('/usr/bin/script').then(
      () => '/usr/bin/script',
      () => undefined,
    );
    if (script === undefined) return test.skip('no script command for a terminal');
    const child = spawn(script, ['-qefc', `${process.execPath} ${BIN} init a.db`, '/dev/null'], { cwd: dir });
    try {
      let screen = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => (screen += text));
      const exited = new Promise<number | null>((resolve) => child.on('close', resolve));
      for (const [question, answer] of [
        ['Provider [aws]: ', 'hetzner'],
        ['Region (such as fsn1): ', 'nbg1'],
        ['Bucket (empty: from LITESTREAM_REPLICA_BUCKET): ', 'backups'],
      ] as const) {
        await until(() => screen.includes(question), { describe: () => screen });
        child.stdin.write(`${answer}\n`);
      }
      expect(await exited, screen).toBe(0);
      expect(await read('litestream.yml')).toMatch(
        /bucket: backups\n.*\n +endpoint: https:\/\/nbg1\.your-objectstorage\.com\n/,
      );
    } finally {
      child.kill('SIGKILL');
    }
  });
});

describe('afterwards', () => {
  it('doctor finds all in order', async () => {
    const server = await S3Server.start({ buckets: ['mybkt'] });
    try {
      await withSqlite({ path: join(dir, 'app.db'), pragmas: ['journal_mode=WAL'] }, (sqlite) =>
        sqlite.exec('CREATE TABLE t (x)'),
      );
      const { code } = await init('-provider', 's3', '-endpoint', server.endpoint, '-region', server.region);
      expect(code).toBe(0);
      const { accessKeyId, secretAccessKey } = server.credentials;
      const env = {
        ...VARIABLES,
        LITESTREAM_ACCESS_KEY_ID: accessKeyId,
        LITESTREAM_SECRET_ACCESS_KEY: secretAccessKey,
      };
      const doctor = await runOurs(['doctor'], { cwd: dir, env });
      expect(doctor.code, doctor.stdout + doctor.stderr).toBe(0);
      expect(doctor.stdout).toContain('s3://mybkt/my-shop/app');
    } finally {
      await server.close();
    }
  });
});
