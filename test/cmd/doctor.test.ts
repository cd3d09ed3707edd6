/**
 * `litestream doctor` on configs with one thing wrong each: it must find it and name what to change. The seeded
 * misconfigurations are the names of the tests in `finds`.
 */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { checkPreset } from '../../src/cmd/doctor/preset-check.ts';
import { loadConfigText } from '../../src/config/index.ts';
import type { S3StoreConfig } from '../../src/storage/store-config.ts';
import { examine, type Host } from '../../src/cmd/doctor/examine.ts';
import { Report, formatFinding, type Level } from '../../src/cmd/doctor/report.ts';
import { sqliteDriver } from '../../src/sqlite/driver.ts';
import { preload, runLitestream, startLitestream, withTempDir } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { withSqlite } from '../support/sqlite.ts';

let dir: string;
let server: S3Server;
let leave: () => void;
let left: Promise<void>;

beforeEach(async () => {
  server = await S3Server.start();
  await new Promise<void>((entered) => {
    left = withTempDir(async (folder) => {
      dir = folder;
      entered();
      await new Promise<void>((resolve) => (leave = resolve));
    });
  });
  await makeDatabase(join(dir, 'app.db'));
});

afterEach(async () => {
  leave();
  await left;
  await server.close();
});

async function makeDatabase(path: string, mode = 'wal'): Promise<void> {
  await withSqlite({ path }, async (sqlite) => {
    await sqlite.exec(`PRAGMA journal_mode = ${mode}; CREATE TABLE t (x); INSERT INTO t VALUES (1)`);
  });
}

interface Options {
  readonly host?: Partial<Host>;
  readonly argument?: string;
  readonly signal?: AbortSignal;
}

/** Examines a config; gives the findings as lines. DIR, ENDPOINT, KEYS stand for what they say. */
async function doctor(config: string, options: Options = {}): Promise<{ lines: string[]; report: Report }> {
  const { accessKeyId, secretAccessKey } = server.credentials;
  const text = config
    .replaceAll('DIR', dir)
    .replaceAll('ENDPOINT', server.endpoint)
    .replaceAll('KEYS', `access-key-id: "${accessKeyId}", secret-access-key: "${secretAccessKey}"`);
  await fs.writeFile(join(dir, 'c.yml'), text);
  const report = new Report({ begin: () => undefined, add: () => undefined });
  const host = { cwd: dir, env: {}, freeBytes: () => Promise.resolve(1e12), now: Date.now, ...options.host };
  const { argument = '', signal = new AbortController().signal } = options;
  await examine({ argument, flags: { config: join(dir, 'c.yml') }, host, report, signal });
  return { lines: report.findings.map(formatFinding), report };
}

const S3 = 'type: s3, bucket: bucket, path: db, endpoint: "ENDPOINT", KEYS';
const db = (...replicas: string[]): string =>
  ['dbs:', '  - path: DIR/app.db', '    replicas:', ...replicas.map((keys) => `      - {${keys}}`), ''].join(
    '\n',
  );
const s3 = (changes: Record<string, string>): string => {
  const keys = S3.split(', ').filter(
    (key) => !Object.keys(changes).some((name) => key.startsWith(`${name}:`)),
  );
  return db([...keys, ...Object.entries(changes).map(([key, value]) => `${key}: ${value}`)].join(', '));
};

function expectFinding(lines: readonly string[], level: Level, pattern: RegExp): void {
  const found = lines.filter((line) => line.startsWith(level) && pattern.test(line));
  expect(found, `no ${level} ${String(pattern)} in\n${lines.join('\n')}`).not.toEqual([]);
}

/** Files and their sizes, times and modes, below a folder. */
async function inventory(folder: string): Promise<string[]> {
  const names = (await fs.readdir(folder, { recursive: true })).filter((name) => name !== 'c.yml').sort();
  return Promise.all(
    names.map(async (name) => {
      const { size, mtimeMs, mode } = await fs.stat(join(folder, name));
      return `${name} ${size} ${mtimeMs} ${mode}`;
    }),
  );
}

describe('a config without faults', () => {
  it('is all ok, and nothing is left behind', async () => {
    const before = await inventory(dir);
    const { lines, report } = await doctor(db(S3, 'path: DIR/made/backups'));
    // The SQLite of the tests is new enough.
    expect(lines.filter((line) => !line.startsWith('ok'))).toEqual([]);
    expect(report.failed).toBe(false);
    expect(report.summary()).toMatch(/^\d+ ok, 0 warnings, 0 failures\n$/);
    const checks = report.findings
      .filter(({ subject }) => subject.includes('s3://'))
      .map(({ check }) => check);
    expect(checks).toEqual([
      'sync-interval',
      'retention',
      'provider',
      'list',
      'put',
      'clock',
      'get',
      'ranged get',
      'overwrite',
      'conditional put',
      'delete',
      'multipart',
      'range across parts',
    ]);
    expect(server.counts()).toMatchObject({ CreateMultipartUpload: 1, CompleteMultipartUpload: 1 });
    expect(server.bucket().keys()).toEqual([]);
    expect(await inventory(dir)).toEqual(before);
  });

  it('shows SQLite as replicate would load it', async () => {
    const { name, version } = sqliteDriver();
    expect((await doctor(db(S3))).lines[0]).toBe(`ok       driver: ${name}, SQLite ${version}`);
  });

  it('writes where no generation is looked for', async () => {
    await doctor(db(S3));
    for (const { operation, key } of server.requests) {
      if (operation === 'PutObject') expect(key).toMatch(/^db\/litestream-doctor-[0-9a-f]{16}\//);
    }
  });

  it('of which one database or a URL is asked for', async () => {
    const config = `${db(S3)}  - path: DIR/missing/b.db\n`;
    expect((await doctor(config)).report.failed).toBe(true);
    expect((await doctor(config, { argument: 'app.db' })).report.failed).toBe(false);
    await expect(doctor(config, { argument: 'c.db' })).rejects.toThrow('database not found in config');
  });
});

describe('finds', () => {
  it.each<[what: string, config: string, level: Level, finding: RegExp]>([
    ['an unset variable', s3({ bucket: '"${NO_SUCH}"' }), 'failure', /NO_SUCH is not set.*set NO_SUCH where/],
    ['a missing database', db(S3).replace('app.db', 'b.db'), 'warning', /b\.db is not there.*check path/],
    [
      'a missing folder',
      db(S3).replace('app.db', 'x/b.db'),
      'failure',
      /folder \S+\/x is not there.*check path/,
    ],
    ['a wrong bucket', s3({ bucket: 'other' }), 'failure', /list: .*no bucket "other".*create it, or check/],
    [
      'a wrong secret',
      s3({ 'secret-access-key': 'x' }),
      'failure',
      /check access-key-id and secret-access-key/,
    ],
    [
      'a wrong access key',
      s3({ 'access-key-id': 'x' }),
      'failure',
      /check access-key-id and secret-access-key/,
    ],
    ['half of the credentials', s3({ 'secret-access-key': '""' }), 'failure', /secret-access-key required/],
    ['a wrong port', s3({ endpoint: '"http://127.0.0.1:1"' }), 'failure', /cannot reach .*check endpoint/],
    ['a wrong region', s3({ region: 'eu-x-1' }), 'failure', /set region: us-east-1/],
    ['https for http', s3({ endpoint: '"HTTPS"' }), 'failure', /check endpoint, http or https/],
    ['a shared location', db(S3, `${S3}, name: two`), 'failure', /share one location.*own path/],
    ['two names alike', db('path: DIR/a', 'path: DIR/b'), 'failure', /duplicate replica name/],
    ['a typo in a key', db(`${S3}, retenton: 24h`), 'warning', /did you mean "retention"/],
    ['a bare number', db(`${S3}, sync-interval: 5`), 'warning', /nanoseconds.*write "5s"/],
    [
      'a sync interval of ns',
      db(`${S3}, sync-interval: 5`),
      'failure',
      /5ns is far too short: write it with a unit/,
    ],
    ['a retention of ns', db(`${S3}, retention: 24`), 'failure', /24ns is far too short.*with a unit/],
    [
      'a retention below the snapshot interval',
      db(`${S3}, retention: 1h, snapshot-interval: 24h`),
      'warning',
      /shorter than snapshot-interval.*set snapshot-interval below/,
    ],
    [
      'a retention that is off',
      db(`${S3}, retention: 0s`),
      'warning',
      /nothing is ever deleted.*set retention/,
    ],
    ['no replicas', 'dbs: [{path: DIR/app.db}]', 'failure', /nothing is backed up: list one under replicas/],
    ['no databases', 'dbs: []', 'failure', /list databases/],
    ['a database that is a folder', 'dbs: [{path: DIR}]', 'failure', /is not a file: set path to/],
    ['an unknown type', db('type: wat'), 'failure', /unknown replica type.*c\.yml:4:16/],
    ['YAML that is none', 'dbs: [', 'failure', /yaml: line/],
  ])('%s', async (_, config, level, finding) => {
    const text = config.replace('HTTPS', server.endpoint.replace('http:', 'https:'));
    const { lines, report } = await doctor(text);
    expectFinding(lines, level, finding);
    expect(report.failed).toBe(lines.some((line) => line.startsWith('failure')));
    expect(server.bucket().keys()).toEqual([]);
  });

  it('a missing config file', async () => {
    const report = new Report({ begin: () => undefined, add: () => undefined });
    const host = { cwd: dir, env: {}, freeBytes: () => Promise.resolve(1e12), now: Date.now };
    const { signal } = new AbortController();
    await examine({ argument: '', flags: { config: join(dir, 'none.yml') }, host, report, signal });
    expectFinding(report.findings.map(formatFinding), 'failure', /config file not found/);
  });

  it('a file that is no database', async () => {
    await fs.writeFile(join(dir, 'app.db'), 'x'.repeat(4096));
    expectFinding((await doctor(db(S3))).lines, 'failure', /not a SQLite database.*check path/);
  });

  it('an empty file', async () => {
    await fs.writeFile(join(dir, 'app.db'), '');
    expectFinding((await doctor(db(S3))).lines, 'warning', /empty.*made a table/);
  });

  it('a rollback journal, and leaves it', async () => {
    await makeDatabase(join(dir, 'old.db'), 'delete');
    const config = db(S3).replace('app.db', 'old.db');
    const before = await fs.readFile(join(dir, 'old.db'));
    expectFinding(
      (await doctor(config)).lines,
      'warning',
      /journal mode: a rollback journal.*PRAGMA journal_mode = WAL/,
    );
    expect(await fs.readFile(join(dir, 'old.db'))).toEqual(before);
  });

  it('an old SQLite in the application', async () => {
    const file = await fs.open(join(dir, 'app.db'), 'r+');
    const version = Buffer.alloc(4);
    version.writeUInt32BE(3_045_001);
    await file.write(version, 0, 4, 96);
    await file.close();
    expectFinding(
      (await doctor(db(S3))).lines,
      'warning',
      /SQLite 3\.45\.1.*give the application SQLite 3\.51\.3/,
    );
  });

  it('exclusive locking', async () => {
    await fs.rm(join(dir, 'app.db-shm'));
    expectFinding((await doctor(db(S3))).lines, 'warning', /no -shm.*locking_mode/);
  });

  it('a meta directory that is a file', async () => {
    await fs.writeFile(join(dir, '.app.db-litestream'), '');
    expectFinding((await doctor(db(S3))).lines, 'failure', /is not a folder: move it away/);
  });

  it('a disk that is nearly full', async () => {
    const host = { freeBytes: () => Promise.resolve(1000) };
    expectFinding((await doctor(db(S3), { host })).lines, 'failure', /free disk: 1\.0 kB free.*larger disk/);
    const some = { freeBytes: () => Promise.resolve(1.5 * 20_000 * 4096) };
    expectFinding((await doctor(db(S3), { host: some })).lines, 'warning', /free disk.*larger disk/);
  });

  // Only a user whom permissions bind can tell: root may write anywhere.
  it.skipIf(process.getuid?.() === 0)('files that may not be read or written', async () => {
    await fs.chmod(join(dir, 'app.db'), 0o000);
    expectFinding((await doctor(db(S3))).lines, 'failure', /readable: .*let user \d+ read/);
    await fs.chmod(join(dir, 'app.db'), 0o400);
    await fs.mkdir(join(dir, '.app.db-litestream'), { mode: 0o500 });
    const { lines } = await doctor(db(S3));
    expectFinding(lines, 'ok', /writable: it can only be read: .*leaves checkpoints/);
    expectFinding(lines, 'failure', /meta directory: .*no place for the meta directory: mount a volume at/);
  });

  it.skipIf(process.getuid?.() === 0)('a rollback journal that cannot be switched', async () => {
    await fs.rm(join(dir, 'app.db'));
    await makeDatabase(join(dir, 'app.db'), 'delete');
    await fs.chmod(join(dir, 'app.db'), 0o400);
    expectFinding((await doctor(db(S3))).lines, 'failure', /writable: .*cannot switch it to WAL.*PRAGMA/);
  });

  it('a clock that is wrong', async () => {
    const behind = { now: () => Date.now() - 3600_000 };
    expectFinding(
      (await doctor(db(S3), { host: behind })).lines,
      'warning',
      /is (1h0m|59m5)\ds behind the store.*clock \(NTP\)/,
    );
    const ahead = { now: () => Date.now() + 60_000 };
    expectFinding(
      (await doctor(db(S3), { host: ahead })).lines,
      'warning',
      /is (1m0|5\d)s ahead of the store.*clock/,
    );
  });

  it('path style that is off', async () => {
    server.onRequest = ({ headers }) =>
      headers.host?.startsWith('bucket.') === true ? { status: 404, body: 'no such site' } : 'pass';
    const endpoint = `"http://localhost:${server.port}"`;
    const { lines } = await doctor(s3({ endpoint, 'force-path-style': 'false' }));
    expectFinding(lines, 'failure', /list: .*: set force-path-style: true$/);
  });

  it('a store that refuses the time', async () => {
    const body = '<Error><Code>RequestTimeTooSkewed</Code><Message>x</Message></Error>';
    server.onRequest = () => ({ status: 403, body });
    expectFinding((await doctor(db(S3))).lines, 'failure', /set this machine's clock/);
  });

  it('a key that may not delete, which is told once and no more written than can be helped', async () => {
    const body = '<Error><Code>AccessDenied</Code><Message>no</Message></Error>';
    server.onRequest = ({ operation }) => (operation === 'DeleteObjects' ? { status: 403, body } : 'pass');
    const { lines, report } = await doctor(db(S3));
    expectFinding(
      lines,
      'warning',
      /delete: .*allow s3:DeleteObject to this key.*replicating and restoring work without; allow deletes/,
    );
    expectFinding(lines, 'warning', /multipart: not checked/);
    expectFinding(lines, 'warning', /clean-up: cannot remove litestream-doctor-.*delete it by hand/);
    expect(report.failed).toBe(false);
    expect(server.bucket().keys()).toHaveLength(1);
  });

  it('a key that may not write', async () => {
    const body = '<Error><Code>AccessDenied</Code><Message>no</Message></Error>';
    server.onRequest = ({ operation }) => (operation === 'PutObject' ? { status: 403, body } : 'pass');
    expectFinding(
      (await doctor(db(S3))).lines,
      'failure',
      /put: .*denied: allow s3:PutObject to this key, .*; restoring works without, replicating does not/,
    );
  });

  it.each([
    [
      'https://fsn1.your-objectstorage.com',
      'region: us-east-1',
      /Hetzner wants the region fsn1.*leave it out/,
    ],
    ['https://abc.r2.cloudflarestorage.com', 'region: eu', /Cloudflare R2 wants the region auto, not eu/],
    [
      'https://t3.storage.dev',
      'force-path-style: true',
      /Tigris takes no path style: leave force-path-style out/,
    ],
  ])('what the provider at %s does not take: %s', async (endpoint, setting, finding) => {
    // No store is asked: only what is configured is looked at.
    const report = new Report({ begin: () => undefined, add: () => undefined });
    const text = db(`type: s3, bucket: b, endpoint: "${endpoint}", ${setting}, KEYS`);
    const source = text.replaceAll('DIR', dir).replaceAll('KEYS', 'access-key-id: a, secret-access-key: b');
    const options = { expandEnv: false, env: {}, cwd: dir };
    const { databases } = await loadConfigText(join(dir, 'c.yml'), source, options);
    checkPreset(databases[0]!.replicas[0]!.store as S3StoreConfig, report);
    expectFinding(report.findings.map(formatFinding), 'warning', finding);
  });

  it('a conditional put that a store does not take, which is no fault', async () => {
    const body = '<Error><Code>NotImplemented</Code><Message>no</Message></Error>';
    server.onRequest = ({ headers }) => (headers['if-none-match'] === '*' ? { status: 501, body } : 'pass');
    const { lines, report } = await doctor(db(S3));
    expectFinding(lines, 'ok', /conditional put: the store does not take it; it is not needed$/);
    expect(report.failed).toBe(false);
  });

  it('a store that ignores ranges', async () => {
    server.onRequest = (request) => {
      delete (request.headers as Record<string, unknown>).range;
      return 'pass';
    };
    // The signature covers no range.
    expectFinding(
      (await doctor(db(S3))).lines,
      'failure',
      /ranged get: .*need byte ranges: look for a proxy/,
    );
    expect(server.bucket().keys()).toEqual([]);
  });

  it('a store that has no multipart uploads', async () => {
    const body = '<Error><Code>NotImplemented</Code><Message>no</Message></Error>';
    server.onRequest = ({ operation }) =>
      operation === 'CreateMultipartUpload' ? { status: 501, body } : 'pass';
    expectFinding((await doctor(db(S3))).lines, 'failure', /multipart: .*cannot do this/);
  });

  it('a proxy that changes bytes', async () => {
    server.onRequest = ({ operation, key }) => {
      if (operation === 'GetObject' && key.endsWith('small')) server.bucket().put(key, Buffer.alloc(1000));
      return 'pass';
    };
    expectFinding((await doctor(db(S3))).lines, 'failure', /get: .*other bytes.*proxy or cache/);
  });
});

it('shows no secret', async () => {
  const { report } = await doctor(s3({ 'secret-access-key': 'hunter2hunter2' }));
  expect(JSON.stringify(report.findings)).not.toContain('hunter2');
});

it('removes what it wrote when it is stopped', async () => {
  const stop = new AbortController();
  server.onRequest = ({ operation, key }) => {
    if (operation === 'GetObject' && key.endsWith('small')) stop.abort();
    return 'pass';
  };
  await expect(doctor(db(S3), { signal: stop.signal })).rejects.toMatchObject({ code: 'aborted' });
  expect(server.counts().PutObject).toBe(1);
  expect(server.bucket().keys()).toEqual([]);
});

describe('the command', () => {
  const url = (): string => `s3://bucket.localhost:${server.port}/db`;
  const launch = (...args: string[]): Parameters<typeof startLitestream>[0] => ({
    binary: 'ours',
    args: ['doctor', ...args],
    cwd: dir,
    env: {
      AWS_ACCESS_KEY_ID: server.credentials.accessKeyId,
      AWS_SECRET_ACCESS_KEY: server.credentials.secretAccessKey,
    },
  });

  it('fails when LITESTREAM_SQLITE names nothing that is known', async () => {
    const { env, ...options } = launch('-json', `file://${dir}/backups`);
    const { code, stdout } = await runLitestream({
      ...options,
      env: { ...env, LITESTREAM_SQLITE: 'sqlite' },
    });
    expect(code).toBe(1);
    const [finding] = JSON.parse(stdout) as { level: string; message: string }[];
    expect(finding).toMatchObject({ level: 'failure', subject: 'sqlite', check: 'driver' });
    expect(finding?.message).toMatch(/^LITESTREAM_SQLITE=sqlite: unknown: set it to node or better-sqlite3/);
  });

  it('fails when there is no SQLite that can be used', async () => {
    // A better-sqlite3 whose native part is made for another Node.js.
    const change = `
      const load = process.dlopen;
      process.dlopen = (module, file, ...rest) => {
        if (file.includes('better_sqlite3')) throw new Error(file + ': invalid ELF header');
        return load(module, file, ...rest);
      }`;
    const { env, ...options } = launch('-json', `file://${dir}/backups`);
    const { code, stdout } = await runLitestream({
      ...options,
      env: { ...env, ...preload(change), LITESTREAM_SQLITE: 'better-sqlite3' },
    });
    expect(code).toBe(1);
    const [finding] = JSON.parse(stdout) as unknown[];
    expect(finding).toMatchObject({ level: 'failure', subject: 'sqlite', check: 'driver' });
    expect(finding).toMatchObject({
      message: expect.stringMatching(
        /invalid ELF header.*a newer Node\.js.*`npm install better-sqlite3`/,
      ) as string,
    });
  });

  it('prints a line for each check, and ends with 0 when none failed', async () => {
    const { code, stdout, stderr } = await runLitestream(launch(url()));
    expect(stderr).toBe('');
    expect(stdout).toMatch(
      /^sqlite\n {2}ok {7}driver: \S+, SQLite 3\.\S+\nreplica: s3:\/\/bucket\/db \(endpoint \S+\)\n {2}ok {7}provider: MinIO\n {2}ok {7}list: works\n/,
    );
    expect(stdout).toMatch(/\n12 ok, 0 warnings, 0 failures\n$/);
    expect(code).toBe(0);
    expect(server.bucket().keys()).toEqual([]);
  });

  it('ends with 1 when something failed, and prints JSON', async () => {
    await fs.writeFile(join(dir, 'litestream.yml'), 'dbs: [{path: app.db}]');
    const { code, stdout } = await runLitestream(launch('-json', '-config', 'litestream.yml'));
    expect(code).toBe(1);
    const findings = JSON.parse(stdout) as Record<string, string>[];
    expect(findings.at(-1)).toEqual({
      level: 'failure',
      subject: `database ${join(dir, 'app.db')}`,
      check: 'replicas',
      message: 'there are none: nothing is backed up',
      fix: 'list one under replicas',
    });
  });

  it('leaves nothing behind when it is interrupted', async () => {
    const reading = new Promise<void>((resolve) => {
      server.onRequest = ({ operation }) => {
        if (operation !== 'GetObject') return 'pass';
        resolve();
        return 'stall';
      };
    });
    const doctoring = startLitestream(launch(url()));
    await reading;
    expect(server.bucket().keys()).toHaveLength(1);
    process.kill(doctoring.pid, 'SIGINT');
    expect((await doctoring.exited).code).toBe(130);
    expect(server.bucket().keys()).toEqual([]);
  });
});
