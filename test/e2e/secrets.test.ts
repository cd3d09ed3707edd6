/**
 * Every kind of secret in one config, and everything that the commands, the page, the socket, the library and a crash print: no secret
 * stands in it. The servers answer with what they know of the secrets, as hostile ones or careless proxies do.
 */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { promises as fs } from 'node:fs';
import { type IncomingMessage, type Server, createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callControl } from '../../src/control/client.ts';
import { createDashboard, status, timeline, verify } from '../../src/library/index.ts';
import { newAgeKey } from '../support/age.ts';
import {
  type LitestreamProcess,
  preload,
  runLitestream,
  startLitestream,
  until,
} from '../support/process.ts';
import { type Rig, withRig } from '../support/process-rig.ts';

const TIMEOUT_MS = 240_000;
const base64 = (text: string): string => Buffer.from(text).toString('base64');

const SECRETS = {
  globalKey: 'hush-global-secret-access-key',
  s3: 'hush-s3/secret+access=key',
  endpoint: 'hush-endpoint',
  abs: base64('hush-abs-account-key'),
  sas: 'hush-sas-signature',
  sftp: 'hush-sftp@password',
  passphrase: 'hush-passphrase',
  key: 'hush-private-key',
  heartbeat: 'hush-heartbeat',
  heartbeatPassword: 'hush-beat',
  dashboard: 'hush-dashboard',
  argument: 'hush-argument',
  fromEnvironment: 'hush-from-environment',
};

let age: { identity: string; recipient: string };
let server: Server;
let endpoint: string;
let secrets: string[];

/** Says all that it was sent and what the store of this replica knows, refusing. */
function answer({ url = '', headers }: IncomingMessage): string {
  const stores = { bucket: SECRETS.s3, other: SECRETS.globalKey, container: SECRETS.abs, sas: SECRETS.sas };
  const known = Object.entries(stores).filter(([name]) => url.startsWith(`/${name}`));
  const said = [...known.map(([, secret]) => secret), url, JSON.stringify(headers)].join(' ');
  const text = said.replaceAll('&', '&amp;').replaceAll('<', '');
  return `<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>${text}</Message></Error>`;
}

beforeAll(async () => {
  age = await newAgeKey();
  server = createServer((request, response) => {
    request.resume();
    response.writeHead(403, { 'content-type': 'application/xml' }).end(answer(request));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  endpoint = `http://user:${SECRETS.endpoint}@127.0.0.1:${(server.address() as AddressInfo).port}`;
  const plain = [...Object.values(SECRETS), age.identity];
  secrets = plain.flatMap((secret) => [
    secret,
    encodeURIComponent(secret),
    base64(secret).replace(/=+$/, ''),
  ]);
});

afterAll(() => {
  server.closeAllConnections();
  server.close();
});

/** The replicas as options of the library; in YAML they are the same. */
function replicas(rig: Rig): object[] {
  const store = { path: 'db', 'sync-interval': '100ms', endpoint };
  return [
    {
      path: rig.replica,
      'sync-interval': '20ms',
      age: { identities: [age.identity], recipients: [age.recipient] },
    },
    {
      ...{ ...store, name: 's3', type: 's3', bucket: 'bucket', region: 'us-east-1' },
      ...{ 'access-key-id': 'AKIA', 'secret-access-key': SECRETS.s3 },
    },
    { ...store, name: 's3-global', type: 's3', bucket: 'other', region: 'us-east-1' },
    {
      ...store,
      name: 'abs',
      type: 'abs',
      bucket: 'container',
      'account-name': 'me',
      'account-key': SECRETS.abs,
    },
    {
      ...store,
      name: 'sas',
      type: 'abs',
      bucket: 'sas',
      'account-name': 'me',
      'sas-token': `sv=1&sig=${SECRETS.sas}`,
    },
    { name: 'sftp', url: `sftp://user:${encodeURIComponent(SECRETS.sftp)}@127.0.0.1:9/backups` },
    {
      ...{ name: 'sftp-key', type: 'sftp', host: '127.0.0.1:9', user: 'user', path: '/b' },
      ...{ 'key-path': join(rig.dir, 'id'), 'key-passphrase': SECRETS.passphrase },
    },
  ];
}

/** JSON is YAML. */
async function writeConfig(rig: Rig): Promise<string> {
  const path = join(rig.dir, 'litestream.yml');
  const config = {
    ...{ addr: '127.0.0.1:0', logging: { level: 'debug' }, 'shutdown-timeout': '1s' },
    ...{ 'access-key-id': 'AKIA2', 'secret-access-key': SECRETS.globalKey, 'heartbeat-interval': '1s' },
    'heartbeat-url': `http://beat:${SECRETS.heartbeatPassword}@127.0.0.1:9/${SECRETS.heartbeat}`,
    dbs: [{ path: rig.database, 'monitor-interval': '20ms', replicas: replicas(rig) }],
  };
  await fs.writeFile(path, JSON.stringify(config, null, 1));
  const key = '-----BEGIN OPENSSH PRIVATE KEY-----\n';
  await fs.writeFile(join(rig.dir, 'id'), `${key}${base64(SECRETS.key)}\n${key.replace('BEGIN', 'END')}`);
  return path;
}

const ENVIRONMENT = {
  LITESTREAM_USERNAME: 'ann',
  LITESTREAM_PASSWORD: SECRETS.dashboard,
  LITESTREAM_AZURE_ACCOUNT_KEY: SECRETS.abs,
  AWS_EC2_METADATA_DISABLED: 'true',
};

function expectNoSecret(where: string, text: string): void {
  for (const secret of secrets) {
    const at = text.indexOf(secret);
    expect(at < 0 ? '' : text.slice(Math.max(0, at - 200), at + 80), `${secret} in ${where}`).toBe('');
  }
}

type StartReplicate = (env?: Record<string, string>) => LitestreamProcess;

async function withSecrets(
  body: (rig: Rig, config: string, replicate: StartReplicate) => Promise<void>,
): Promise<void> {
  await withRig(async (rig) => {
    const application = await rig.application();
    await application.exec('CREATE TABLE t (x)');
    const config = await writeConfig(rig);
    const started: LitestreamProcess[] = [];
    const replicate: StartReplicate = (env = {}) => {
      const args = ['replicate', '-config', config];
      const litestream = startLitestream({ binary: 'ours', args, env: { ...ENVIRONMENT, ...env } });
      started.push(litestream);
      return litestream;
    };
    try {
      await body(rig, config, replicate);
    } finally {
      await Promise.all(started.map((litestream) => litestream.kill()));
    }
  });
}

/** What some of these stores make of a command takes minutes; what it prints is known long before. */
const PATIENCE_MS = 20_000;

async function printed(args: readonly string[], env: Record<string, string> = {}): Promise<string> {
  const options = { binary: 'ours', args, timeoutMs: PATIENCE_MS, env: { ...ENVIRONMENT, ...env } } as const;
  // The error of one that takes longer holds what it has printed.
  return runLitestream(options).then(({ stdout, stderr }) => stdout + stderr, String);
}

test(
  'commands, replicate, its page and its socket print no secret',
  async () => {
    await withSecrets(async (rig, config, replicate) => {
      const litestream = replicate();
      const url = /url=(\S+)/.exec(await litestream.waitForLine(/serving dashboard on/))?.[1] ?? '';
      await litestream.waitForLine(/AccessDenied/);
      const authorization = `Basic ${base64(`ann:${SECRETS.dashboard}`)}`;
      for (const headers of [{}, { authorization }]) {
        for (const path of [
          '',
          'api/status',
          'api/overview',
          'metrics',
          'healthz',
          'readyz',
          'download',
          'x',
        ]) {
          const response = await fetch(url + path, { headers });
          expectNoSecret(`/${path}`, (await response.text()) + JSON.stringify([...response.headers]));
        }
      }
      const signal = AbortSignal.timeout(TIMEOUT_MS);
      const socket = join(rig.metaDir, 'control.sock');
      for (const path of ['/status', '/history', '/jobs', '/metrics'])
        expectNoSecret(path, JSON.stringify(await callControl(socket, { method: 'GET', path, signal })));
      for (const path of ['/timeline', '/plan', '/snapshot', '/restore', '/verify', '/sync', '/nothing']) {
        const body = { database: rig.database, replica: 's3', timeoutMs: 2000 };
        const soon = AbortSignal.timeout(PATIENCE_MS);
        const told = await callControl(socket, { method: 'POST', path, body, signal: soon }).catch(String);
        expectNoSecret(path, JSON.stringify(told));
      }
      const database = ['-config', config, rig.database];
      const names = ['generations', 'snapshots', 'wal', 'timeline', 'verify', 'retention', 'sync'];
      const lines = [
        ...names.map((name) => [name, ...database]),
        ...['s3', 's3-global', 'abs', 'sas', 'sftp', 'sftp-key'].map((replica) => [
          ...['restore', '-o', join(rig.dir, `restored-${replica}`), '-replica', replica, ...database],
        ]),
        ...['databases', 'status', 'doctor'].flatMap((name) => [
          [name, '-config', config],
          [name, '-json', '-config', config],
        ]),
        ['replicate', ...database],
        ['generations', `sftp://user:${SECRETS.argument}@127.0.0.1:9/backups`],
        ['generations', `sftp://user:${SECRETS.argument}@/backups`],
      ];
      const waiting = [...lines];
      const next = async (): Promise<void> => {
        for (let line = waiting.shift(); line; line = waiting.shift())
          expectNoSecret(line.join(' '), await printed(line));
      };
      await Promise.all(Array.from({ length: 6 }, next));
      const fromEnvironment = { LITESTREAM_SFTP_PASSWORD: SECRETS.fromEnvironment };
      const told = await printed(['generations', 'sftp://user@127.0.0.1:9/backups'], fromEnvironment);
      expectNoSecret('an argument', told);
      await litestream.stop();
      expectNoSecret('the log', litestream.lines.join('\n'));
    });
  },
  TIMEOUT_MS,
);

test(
  'a heartbeat that fails tells nothing of its URL',
  async () => {
    await withSecrets(async (_rig, config, replicate) => {
      const { dbs, ...rest } = JSON.parse(await fs.readFile(config, 'utf8')) as {
        dbs: { replicas: object[] }[];
      };
      const healthy = dbs.map((database) => ({ ...database, replicas: database.replicas.slice(0, 1) }));
      await fs.writeFile(config, JSON.stringify({ ...rest, dbs: healthy }));
      const litestream = replicate();
      await litestream.waitForLine(/heartbeat failed/);
      await litestream.stop();
      expectNoSecret('the log', litestream.lines.join('\n'));
    });
  },
  TIMEOUT_MS,
);

test(
  'what is wrong with a config is told without its secrets',
  async () => {
    await withSecrets(async (rig, config) => {
      const good = await fs.readFile(config, 'utf8');
      const wrong: Record<string, [string | RegExp, string]> = {
        'a key that is misspelt': [/"secret-access-key"/g, '"secret-acces-key"'],
        'a key that is misspelt otherwise': [/"sas-token"/g, '"sas-tokn"'],
        'a value of another type': [/"key-passphrase": (.*)/, '"key-passphrase": [$1]'],
        'a URL without a host': [/@127.0.0.1:9/g, '@'],
        'no age key': [age.identity, 'AGE-SECRET-KEY-1HUSH'],
        'a quote that does not end': [`${SECRETS.globalKey}"`, SECRETS.globalKey],
        'an account key that is not base64': [SECRETS.abs, `${SECRETS.endpoint}!`],
        'a duration': ['"1s"', `"${SECRETS.endpoint}"`],
        'an endpoint that is none': [/http:\/\/user/, 'http:/user'],
      };
      for (const [what, [from, to]] of Object.entries(wrong)) {
        const path = join(rig.dir, 'wrong.yml');
        const text = good.replace(from, to);
        expect(text, what).not.toBe(good);
        await fs.writeFile(path, text);
        const told = await printed(['generations', '-config', path, '-replica', 'file', rig.database]);
        // A value that is no secret by its key is the user's own.
        if (what !== 'a duration') expectNoSecret(what, told);
      }
    });
  },
  TIMEOUT_MS,
);

test(
  'a crash prints no secret',
  async () => {
    await withSecrets(async (_rig, _config, replicate) => {
      for (const crash of ['throw new Error("boom")', 'Promise.reject(new Error("boom"))']) {
        const litestream = replicate(preload(`process.on("SIGUSR2", () => { ${crash} })`));
        await litestream.waitForLine(/serving dashboard on/);
        litestream.signal('SIGUSR2');
        expect((await litestream.exited).code).not.toBe(0);
        expect(litestream.lines.join('\n')).toContain('boom');
        expectNoSecret('a crash', litestream.lines.join('\n'));
      }
    });
  },
  TIMEOUT_MS,
);

const PROGRAM = `
import { readFileSync } from 'node:fs';
const { startReplication } = await import(process.argv[1]);
const options = JSON.parse(readFileSync(0, 'utf8'));
const replication = startReplication({ ...options, enabled: true, logger: (line) => console.log(JSON.stringify(line)) });
replication.on('start', ({ pid }) => console.log('child=' + pid + '.'));
replication.on('ready', () => console.log('ready'));
process.once('SIGTERM', () => void replication.stop().then(() => process.exit(0)));
setInterval(() => undefined, 1000);
`;

test(
  "the library prints no secret, and its child's environment and arguments hold none",
  async () => {
    await withSecrets(async (rig) => {
      const databases = [{ path: rig.database, replicas: replicas(rig) }];
      const keys = { accessKeyId: 'AKIA3', secretAccessKey: SECRETS.globalKey };
      const options = { databases, ...keys } as Parameters<typeof status>[0];
      const environment = { ...process.env, AWS_EC2_METADATA_DISABLED: 'true' };
      const entry = new URL('../../dist/library/index.js', import.meta.url).href;
      const child = spawn(process.execPath, ['--input-type=module', '-e', PROGRAM, entry], {
        ...{ env: environment, stdio: ['pipe', 'pipe', 'pipe'] },
      });
      let said = '';
      for (const stream of [child.stdout, child.stderr])
        stream.setEncoding('utf8').on('data', (text: string) => (said += text));
      const ended = once(child, 'close');
      try {
        child.stdin.end(JSON.stringify(options));
        const pid = await until(() => /child=(\d+)\./.exec(said)?.[1], { describe: () => said });
        if (process.platform === 'linux') {
          expectNoSecret('the environment of the child', await fs.readFile(`/proc/${pid}/environ`, 'utf8'));
          expectNoSecret('the arguments of the child', await fs.readFile(`/proc/${pid}/cmdline`, 'utf8'));
        }
        await until(() => said.includes('ready') && said.includes('AccessDenied'), { describe: () => said });
        const results = [
          await status(options).catch(String),
          await timeline({ ...options, replica: 's3' }).catch(String),
          await verify({ ...options, replica: 'abs', timeoutMs: 2000 }).catch(String),
        ];
        expectNoSecret('results', JSON.stringify(results));
        const board = createDashboard({
          ...options,
          auth: 'none',
          logger: (line) => (said += JSON.stringify(line)),
        });
        for (const path of ['/', '/api/overview', '/healthz', '/metrics'])
          expectNoSecret(path, await (await board.fetch(new Request(`http://x${path}`))).text());
        await board.close();
      } finally {
        child.kill();
        await ended;
      }
      expectNoSecret('what it says', said);
    });
  },
  TIMEOUT_MS,
);
