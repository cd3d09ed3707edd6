/**
 * What `doctor` says of stores that are named, addressed or entered wrongly, and what it leaves in them: nothing,
 * whenever it is stopped and whatever fails. More seeded misconfigurations are in doctor.test.ts.
 */

import { promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { examine } from '../../src/cmd/doctor/examine.ts';
import { Report, formatFinding } from '../../src/cmd/doctor/report.ts';
import { checkSettings } from '../../src/cmd/doctor/setting-checks.ts';
import { suggestSetting } from '../../src/cmd/doctor/suggest.ts';
import { parseReplicaUrl } from '../../src/config/index.ts';
import { openStore } from '../../src/storage/registry.ts';
import { runLitestream, withTempDir } from '../support/process.ts';
import { S3Server, type Fault, type S3Operation } from '../support/s3-server.ts';
import { SftpServer, type SftpRequest } from '../support/sftp-server.ts';
import { withSqlite } from '../support/sqlite.ts';

interface Findings {
  readonly lines: readonly string[];
  readonly report: Report;
}

/** Examines a database that is well, with one replica. */
async function doctor(keys: string, signal = new AbortController().signal): Promise<Findings> {
  return withTempDir(async (dir) => {
    const path = join(dir, 'app.db');
    await withSqlite({ path }, (sqlite) => sqlite.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (x)'));
    const config = join(dir, 'c.yml');
    await fs.writeFile(config, `dbs: [{path: app.db, replicas: [{${keys}}]}]\n`);
    const report = new Report({ begin: () => undefined, add: () => undefined });
    const host = { cwd: dir, env: {}, freeBytes: () => Promise.resolve(1e12), now: Date.now };
    await examine({ argument: '', flags: { config }, host, report, signal });
    return { lines: report.findings.map(formatFinding), report };
  });
}

/** The lines that are not ok. */
const complaints = ({ lines }: Findings): string[] => lines.filter((line) => !line.startsWith('ok'));

describe('in an S3 store', () => {
  let server: S3Server;
  beforeEach(async () => {
    server = await S3Server.start({ buckets: ['bucket', 'My_Bucket'] });
  });
  afterEach(() => server.close());

  const keysOf = (changes: Record<string, string> = {}): string => {
    const keys = {
      ...{ type: 's3', bucket: 'bucket', path: 'db', endpoint: server.endpoint },
      ...{ 'access-key-id': server.credentials.accessKeyId },
      ...{ 'secret-access-key': server.credentials.secretAccessKey },
      ...changes,
    };
    return Object.entries(keys)
      .map(([key, value]) => `${key}: ${JSON.stringify(value)}`)
      .join(', ');
  };

  it.each<[what: string, changes: Record<string, string>, first: RegExp]>([
    [
      'a bucket with capitals, which this server has',
      { bucket: 'My_Bucket' },
      /^warning {2}settings: no new bucket can be named "My_Bucket" \(small letters, .*: check bucket$/,
    ],
    [
      'a bucket with a path',
      { bucket: 'bucket/db' },
      /^warning {2}settings: bucket "bucket\/db" holds a slash.* write what is behind the first slash into path$/,
    ],
    [
      'a secret with a line break',
      { 'secret-access-key': 'secret\n' },
      /^warning {2}settings: secret-access-key begins or ends with a space or a line break: take it out/,
    ],
    [
      'a region with a space',
      { region: ' us-east-1' },
      /^warning {2}settings: region begins or ends with a space/,
    ],
  ])('finds %s', async (_, changes, first) => {
    const [line] = complaints(await doctor(keysOf(changes)));
    expect(line).toMatch(first);
  });

  it('says nothing of a path with slashes around it', async () => {
    const found = await doctor(keysOf({ path: '/db/', endpoint: `${server.endpoint}/` }));
    expect(complaints(found)).toEqual([]);
    expect(server.requests.every(({ key }) => key === '' || /^db\/[^/]/.test(key))).toBe(true);
  });

  it.each([
    ['path', (): string => `${server.endpoint}/bucket`, 'take /bucket out of endpoint'],
    ['host', (): string => `http://bucket.localhost:${server.port}`, 'take bucket. out of endpoint'],
  ])('finds the bucket in the %s of the endpoint', async (_, endpoint, fix) => {
    // The server answers any host; one that does as providers do finds no bucket of this name in its bucket.
    server.onRequest = ({ headers }) =>
      headers.host?.startsWith('bucket.') === true
        ? { status: 404, body: '<Error><Code>NoSuchKey</Code><Message>no</Message></Error>' }
        : 'pass';
    const [line] = complaints(await doctor(keysOf({ endpoint: endpoint() })));
    expect(line).toMatch(/^failure {2}list: /);
    expect(line).toContain(`: ${fix}: it is added by itself`);
  });

  it('shows its reasons without names of its own and without those of a library', async () => {
    const endpoint = server.endpoint.replace('http:', 'https:');
    const [line] = complaints(await doctor(keysOf({ endpoint })));
    expect(line).toBe(
      `failure  list: bucket "bucket" at ${endpoint} does not speak the endpoint's protocol: check endpoint, http or https (EPROTO wrong version number)`,
    );
  });

  it('stops asking what would help when it is stopped', async () => {
    const stop = new AbortController();
    server.onRequest = () => {
      stop.abort();
      return 'stall';
    };
    const config = {
      ...{ type: 's3' as const, bucket: 'bucket', path: '', endpoint: server.endpoint },
      ...{ ...server.credentials, forcePathStyle: true, skipVerify: false },
    };
    await expect(suggestSetting(config, openStore, stop.signal)).rejects.toMatchObject({ code: 'aborted' });
  });

  const STEPS: S3Operation[] = ['PutObject', 'GetObject', 'CreateMultipartUpload', 'UploadPart'];
  STEPS.push('CompleteMultipartUpload', 'DeleteObjects');

  it.each(STEPS)('leaves nothing when it is stopped during %s', async (step) => {
    const stop = new AbortController();
    server.onRequest = ({ operation }) => {
      if (operation === step) stop.abort();
      return 'pass';
    };
    await expect(doctor(keysOf(), stop.signal)).rejects.toMatchObject({ code: 'aborted' });
    expect(server.bucket().keys()).toEqual([]);
    expect(server.bucket().uploads.size).toBe(0);
  });

  const FAULTS: Fault[] = [{ status: 403 }, 'reset', 'lose-answer'];
  const failing = STEPS.filter((step) => step !== 'DeleteObjects').flatMap((step) =>
    FAULTS.map((fault): [S3Operation, Fault] => [step, fault]),
  );

  it.each(failing)('leaves nothing when %s always fails with %j', async (step, fault) => {
    server.onRequest = ({ operation }) => (operation === step ? fault : 'pass');
    const { report } = await doctor(keysOf());
    expect(report.failed).toBe(true);
    expect(server.bucket().keys()).toEqual([]);
    expect(server.bucket().uploads.size).toBe(0);
  });
});

describe('with a key that may only read', () => {
  it('says what it lacks, and nothing of traces that there are none of', async () => {
    const server = await S3Server.start();
    const body = '<Error><Code>AccessDenied</Code><Message>no</Message></Error>';
    server.onRequest = ({ operation }) =>
      /^(Put|Delete|Create)/.test(operation) ? { status: 403, body } : 'pass';
    const { accessKeyId, secretAccessKey } = server.credentials;
    const keys = `access-key-id: "${accessKeyId}", secret-access-key: "${secretAccessKey}"`;
    try {
      const found = await doctor(`type: s3, bucket: bucket, endpoint: "${server.endpoint}", ${keys}`);
      expect(complaints(found)).toEqual([
        expect.stringMatching(/^failure {2}put: access to bucket .* denied/),
      ]);
    } finally {
      await server.close();
    }
  });
});

describe('in an SFTP store', () => {
  let server: SftpServer;
  let state: string;
  beforeEach(async () => {
    state = await fs.mkdtemp(join(tmpdir(), 'sftp-state-'));
    vi.stubEnv('STATE_DIRECTORY', state);
    server = await SftpServer.start();
  });
  afterEach(async () => {
    await server.close();
    vi.unstubAllEnvs();
    await fs.rm(state, { recursive: true });
  });

  const keysOf = (changes: Record<string, string> = {}): string => {
    const keys = {
      ...{ type: 'sftp', host: `127.0.0.1:${server.port}`, user: server.user, password: server.password },
      ...{ path: '/replica', 'host-key': server.fingerprint, ...changes },
    };
    return Object.entries(keys)
      .map(([key, value]) => `${key}: ${JSON.stringify(value)}`)
      .join(', ');
  };

  it.each<[what: string, changes: () => Record<string, string>, level: string, pattern: RegExp]>([
    [
      'a host key that is not pinned, and says what to write',
      () => ({ 'host-key': '' }),
      'warning',
      /^warning {2}store: the host key of .* is not checked: .* pin it .*"host-key: ssh-ed25519 AAAA[^"]+"$/,
    ],
    [
      'a host key that changed',
      () => ({ 'host-key': `SHA256:${'A'.repeat(43)}` }),
      'failure',
      /^failure {2}list: .* shows the host key .*: if the server was given a new key, change host-key/,
    ],
    [
      'a wrong password',
      () => ({ password: 'hunter2hunter2' }),
      'failure',
      /^failure {2}list: .* refused the login: check user, password and key-path/,
    ],
    [
      'a wrong port',
      () => ({ host: '127.0.0.1:1' }),
      'failure',
      /^failure {2}list: cannot reach .*: check host, port and the network/,
    ],
    [
      'a key file that is not there',
      () => ({ password: '', 'key-path': '/no/such/key' }),
      'failure',
      /^failure {2}list: cannot read the private key \/no\/such\/key: check key-path/,
    ],
    [
      'a url for a host, without showing its password',
      () => ({ host: 'sftp://x:hunter2hunter2@h/db' }),
      'failure',
      /^failure {2}config: host must be NAME or NAME:PORT: write a url into url/,
    ],
    [
      'a user with a line break',
      () => ({ user: `${server.user}\n` }),
      'failure',
      /^warning {2}settings: user begins or ends with a space/,
    ],
  ])('finds %s', async (_, changes, level, pattern) => {
    const found = await doctor(keysOf(changes()));
    const lines = complaints(found);
    expect(lines[0]).toMatch(pattern);
    expect(found.report.failed).toBe(level === 'failure');
    expect(JSON.stringify(found.report.findings)).not.toContain('hunter2');
  });

  it.each<[what: string, refused: (request: SftpRequest) => boolean, first: RegExp]>([
    [
      'where files cannot be removed',
      ({ operation }) => operation === 'REMOVE',
      /^failure {2}delete: permission denied .*: allow user "\w+" to remove files and folders there$/,
    ],
    [
      'where files cannot be renamed',
      ({ operation }) => operation === 'posix-rename' || operation === 'RENAME',
      /^failure {2}put: permission denied .*: allow user "\w+" to make, rename and remove files and folders there; restoring/,
    ],
    [
      'where nothing can be written',
      ({ operation, path }) => operation === 'MKDIR' || (operation === 'OPEN' && path.endsWith('.tmp')),
      /^failure {2}put: permission denied .*; restoring works without, replicating does not$/,
    ],
    [
      'that cannot be read',
      ({ operation }) => operation === 'OPENDIR',
      /^failure {2}list: permission denied .*: allow user "\w+" to read there$/,
    ],
  ])('refuses a folder %s', async (_, refused, first) => {
    const permissionDenied = 3;
    server.onRequest = (request) => (refused(request) ? { status: permissionDenied } : 'pass');
    const found = await doctor(keysOf());
    expect(complaints(found)[0]).toMatch(first);
    expect(found.report.failed).toBe(true);
  });

  it.each(['OPEN', 'WRITE', 'CLOSE', 'posix-rename', 'READ', 'REMOVE'])(
    'leaves nothing but its folder when it is stopped during %s',
    async (step) => {
      const stop = new AbortController();
      server.onRequest = ({ operation }) => {
        if (operation === step) stop.abort();
        return 'pass';
      };
      await expect(doctor(keysOf({ path: '/replica/' }), stop.signal)).rejects.toMatchObject({
        code: 'aborted',
      });
      const left = (await fs.readdir(server.root, { recursive: true })).filter((name) => name !== 'replica');
      expect(left).toEqual([]);
    },
  );
});

it.each([
  ['s3', 'bucket: b, access-key-id: hunter1hunter1, secret-access-key: hunter2hunter2, endpoint: "ENDPOINT"'],
  ['abs', 'bucket: con, account-name: a, account-key: aHVudGVyMmh1bnRlcjI=, endpoint: "ENDPOINT/a"'],
  ['abs', 'bucket: con, account-name: a, sas-token: "sv=1&sig=hunter2hunter2", endpoint: "ENDPOINT/a"'],
  ['sftp', 'host: "127.0.0.1:1", user: u, password: hunter2hunter2'],
  ['sftp', 'host: "127.0.0.1:1", user: u, key-path: c.yml, key-passphrase: hunter2hunter2'],
])('shows no secret of %s{%s}', async (type, keys) => {
  const server = await S3Server.start();
  try {
    const { report } = await doctor(`type: ${type}, ${keys.replace('ENDPOINT', server.endpoint)}`);
    expect(report.failed).toBe(true);
    expect(JSON.stringify(report.findings)).not.toMatch(/hunter2|aHVudGVyMmh1bnRlcjI/);
  } finally {
    await server.close();
  }
});

it.each([
  ['s3://mybkt.s3.amazonaws.com/db', 'write bucket: mybkt'],
  ['s3://my.bkt.s3.eu-central-1.amazonaws.com/db', 'write bucket: my.bkt'],
  [
    's3://mybkt.fsn1.your-objectstorage.com/db',
    'write bucket: mybkt and endpoint: https://fsn1.your-objectstorage.com',
  ],
  ['s3://minio.backups.example/db', undefined],
])('%s: %s', (url, fix) => {
  const report = new Report({ begin: () => undefined, add: () => undefined });
  checkSettings(parseReplicaUrl(url, {}), report);
  expect(report.findings.map((finding) => finding.fix)).toEqual(fix === undefined ? [] : [fix]);
});

it.each([
  ['type: S3', /unknown replica type in config: "S3" \(.*\): use file, s3, abs, gcs, sftp, or a url/],
  ['url: "https://s3.example/b"', /unknown replica type.*: use file, s3/],
  ['type: s3', /bucket required for s3 replica \(.*\): set bucket, or write it into the url$/],
  ['type: sftp, host: h', /user required for sftp replica \(.*\): set user, or/],
  ['url: "s3://b/p", path: x', /cannot specify url & path.*: take one of them out: the url holds the path$/],
  [
    'type: s3}]}]\nexec: [x] #',
    /cannot unmarshal !!seq into string \(.*: write one value there, not a list$/,
  ],
  ['type: file', /file replica path required \(.*\): set path, or url$/],
  ['type: s3}]}]\nexec: "x #', /^failure {2}config: yaml: .*: look at indentation, quotes and brackets/],
  ['type: s3}]}]\n\texec: x #', /^failure {2}config: yaml: .*: indent with spaces, not with tabs$/],
])('says what to change in {%s}', async (keys, pattern) => {
  expect(complaints(await doctor(keys))[0]).toMatch(pattern);
});

it('names what an Azure URL has in the wrong place', async () => {
  const found = await doctor('url: "abs://con@acct.blob.core.windows.net/db", account-key: YWFh');
  expect(complaints(found)[0]).toMatch(
    /^warning {2}settings: "acct\.blob\.core\.windows\.net" is the name of a server.*abs:\/\/ACCOUNT@CONTAINER\/PATH$/,
  );
});

it.runIf(process.getuid?.() === 0)('says what another user may not do', async () => {
  await withTempDir(async (dir) => {
    const path = join(dir, 'app.db');
    await withSqlite({ path }, (sqlite) => sqlite.exec('PRAGMA journal_mode = WAL; CREATE TABLE t (x)'));
    const config = join(dir, 'c.yml');
    const write = (more: string): Promise<void> =>
      fs.writeFile(config, `dbs: [{path: app.db, ${more}replicas: [{path: /no/place}]}]\n`, { mode: 0o644 });
    const userId = 65_534;
    const say = async (): Promise<string> => {
      const args = ['doctor', '-config', config];
      const env = { HOME: dir, LITESTREAM_STATE: dir };
      const { code, stdout } = await runLitestream({ binary: 'ours', args, cwd: dir, userId, env });
      expect(code).toBe(1);
      return stdout;
    };
    await write('');
    await fs.chmod(dir, 0o755);
    await fs.chmod(path, 0o600);
    expect(await say()).toMatch(/failure {2}readable: .*: let user 65534 read and write the file/);
    await fs.chmod(path, 0o644);
    await fs.mkdir(join(dir, 'meta'), { mode: 0o700 });
    await write('meta-path: meta, ');
    const shown = await say();
    expect(shown).toMatch(/ok {7}writable: it can only be read/);
    expect(shown).toMatch(/failure {2}meta directory: cannot write in .*\/meta: let user 65534 write there/);
    expect(shown).toMatch(/failure {2}put: .*\/no/);
    expect((await fs.readdir(dir)).filter((name) => name.includes('doctor'))).toEqual([]);
  });
});
