/** The keys of abs, gcs and sftp replicas, against what v0.3.13 makes of the same file. */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError, describeLocation, loadConfig } from '../../src/config/index.ts';
import type { StoreConfig } from '../../src/storage/store-config.ts';
import { runLitestream, withTempDir } from '../support/process.ts';

const file = (...replicas: string[]): string =>
  ['dbs:', '  - path: a.db', '    replicas:', ...replicas.map((keys) => `      - {${keys}}`), ''].join('\n');

async function load(
  text: string,
  env: Record<string, string> = {},
): Promise<{ stores: StoreConfig[]; warnings: string[] }> {
  return withTempDir(async (dir) => {
    const path = join(dir, 'c.yml');
    await writeFile(path, text.replaceAll('DIR', dir));
    const config = await loadConfig(path, { expandEnv: true, env, cwd: '/cwd' });
    return {
      stores: config.databases.flatMap(({ replicas }) => replicas.map(({ store }) => store)),
      warnings: config.warnings.map(({ message }) => message),
    };
  });
}

const storeOf = async (keys: string, env?: Record<string, string>): Promise<StoreConfig> =>
  (await load(file(keys), env)).stores[0]!;

async function headline(keys: string): Promise<string> {
  try {
    await load(file(keys));
  } catch (error) {
    if (error instanceof ConfigError) return error.headline;
    throw error;
  }
  return '';
}

const abs = { type: 'abs', bucket: 'c', path: '', accountName: 'a' };
const sftp = { type: 'sftp', host: 'h', port: 22, user: 'u', path: '' };

it.each<[string, Record<string, unknown>]>([
  ['type: abs, bucket: c, path: /x//y/, account-name: a', { ...abs, path: '/x/y' }],
  ['type: abs, bucket: c, path: x//y/, account-name: a', { ...abs, path: 'x/y' }],
  ['url: "abs://a@c/x", account-name: b', { ...abs, accountName: 'b', path: 'x' }],
  ['url: "abs://a:pw@c", account-key: eHh4', { ...abs, accountKey: 'eHh4' }],
  ['url: "abs://a@c", sas-token: "?sv=1&sig=x"', { ...abs, sasToken: 'sv=1&sig=x' }],
  [
    'type: abs, bucket: c, endpoint: "http://127.0.0.1:1/a", sas-token: s',
    { ...abs, accountName: '', sasToken: 's', endpoint: 'http://127.0.0.1:1/a' },
  ],
  ['type: gcs, bucket: b, path: /x', { type: 'gcs', bucket: 'b', path: '/x' }],
  ['type: gs, bucket: b, path: ./', { type: 'gcs', bucket: 'b', path: '' }],
  [
    'url: "gs://b/x", endpoint: "http://127.0.0.1:1"',
    { type: 'gcs', bucket: 'b', path: 'x', endpoint: 'http://127.0.0.1:1' },
  ],
  ['type: sftp, host: h, user: u, path: x//y/../', { ...sftp, path: 'x' }],
  ['type: sftp, host: "h:2222", user: u, password: p', { ...sftp, port: 2222, password: 'p' }],
  ['url: "sftp://u:p@h/x", user: v, password: q', { ...sftp, user: 'v', password: 'q', path: '/x' }],
  [
    'type: sftp, host: h, user: u, key-path: id, key-passphrase: s',
    { ...sftp, keyPath: '/cwd/id', keyPassphrase: 's' },
  ],
  [
    `type: sftp, host: h, user: u, host-key: " ssh-ed25519 AAAAC3Nz/+== me@h"`,
    { ...sftp, hostKey: 'ssh-ed25519 AAAAC3Nz/+== me@h' },
  ],
  [
    `type: sftp, host: h, user: u, host-key: SHA256:${'x'.repeat(43)}`,
    { ...sftp, hostKey: `SHA256:${'x'.repeat(43)}` },
  ],
])('reads {%s}', async (keys, store) => {
  expect(await storeOf(keys)).toEqual(store);
});

it('takes the key of the environment only for a replica that has no other', async () => {
  const env = { LITESTREAM_AZURE_ACCOUNT_KEY: 'eHh4' };
  expect(await storeOf('url: "abs://a@c"', env)).toEqual({ ...abs, accountKey: 'eHh4' });
  expect(await storeOf('url: "abs://a@c", account-key: eXl5', env)).toMatchObject({ accountKey: 'eXl5' });
  expect(await storeOf('url: "abs://a@c", sas-token: s', env)).not.toHaveProperty('accountKey');
});

describe('refuses in the words of v0.3.13', () => {
  it.each([
    'type: abs',
    'url: "abs://c/x", path: p',
    'url: "abs://c/x", bucket: p',
    'url: "abs:///x"',
    'type: gcs',
    'url: "gcs://b/x", path: z',
    'url: "gcs://b/x", bucket: z',
    'type: sftp',
    'type: sftp, host: h',
    'url: "sftp://h/x"',
    'url: "sftp://u@h/x", path: y',
    'url: "sftp://u@h/x", host: y',
    'url: "sftp://u:p@h:x/y"',
  ])('{%s}', async (keys) => {
    const theirs = await withTempDir(async (dir) => {
      await writeFile(join(dir, 'c.yml'), file(keys));
      const args = ['databases', '-config', join(dir, 'c.yml')];
      return (await runLitestream({ binary: 'oracle', args })).stdout;
    });
    const quoted = /error=(".*")/.exec(theirs)?.[1] ?? '""';
    // v0.3.13 shows the password here.
    const expected = (JSON.parse(quoted) as string).replace(':p@', ':xxxxx@');
    expect(expected).not.toBe('');
    expect(await headline(keys)).toBe(expected);
  });
});

it.each([
  ['url: "abs://c"', /^account-name required for abs replica: set it, or/],
  ['url: "abs://a@c", account-key: "%%%"', /^account-key is not base64: copy/],
  ['url: "abs://a@c", account-key: eHh4, sas-token: s', /^cannot specify account-key & sas-token/],
  ['type: abs, bucket: c, account-key: eHh4, endpoint: "http://h"', /^account-name required/],
  ['url: "gs://b", endpoint: "ftp://h"', /^endpoint is not a url of http or https: ftp:\/\/h$/],
  ['type: sftp, host: "h:0", user: u', /^port of host must be 1 to 65535: h:0$/],
  ['type: sftp, host: h, user: u, key-passphrase: s', /^key-passphrase is for key-path/],
  ['type: sftp, host: h, user: u, host-key: wat', /^host-key must be a public key such as/],
  ['path: "sftp://u:hunter2@h/x"', /please use the 'url' field instead: sftp:\/\/u:xxxxx@h\/x$/],
])('refuses {%s}', async (keys, message) => {
  expect(await headline(keys)).toMatch(message);
});

it('masks the new secrets in the lines that it shows, but not a public key', async () => {
  const show = async (keys: string): Promise<string> =>
    load(file(keys)).then(
      () => '',
      (error: unknown) => (error as Error).message,
    );
  for (const key of ['account-key', 'sas-token', 'key-passphrase', 'password']) {
    expect(await show(`${key}: hunter2, type: wat`)).not.toContain('hunter2');
  }
  expect(await show('host-key: abc, type: wat')).toContain('host-key: abc');
});

it('warns of keys of other types', async () => {
  expect((await load(file('type: gcs, bucket: b, host-key: x, sas-token: y'))).warnings).toEqual([
    'host-key has no effect on a replica of type gcs',
    'sas-token has no effect on a replica of type gcs',
  ]);
});

describe('two replicas at one place', () => {
  it.each([
    ['url: "abs://a@c/x"', 'type: abs, bucket: c, path: x/, account-name: a, name: two'],
    ['url: "abs://a@c/x", endpoint: "http://h/a/"', 'url: "abs://a@c/x", endpoint: "http://H/a", name: two'],
    ['url: "gs://b/x"', 'type: gcs, bucket: b, path: x, name: two'],
    ['url: "sftp://u@h/x"', 'type: sftp, host: "H:22", user: v, path: /x/, name: two'],
    ['type: sftp, host: h, user: u, path: x', 'type: sftp, host: h, user: u, path: ./x, name: two'],
  ])('{%s} and {%s}', async (one, two) => {
    await expect(load(file(one, two))).rejects.toThrow('share one location');
  });

  it.each([
    ['url: "abs://a@c/x"', 'url: "abs://b@c/x", name: two'],
    ['type: gcs, bucket: b, path: /x', 'type: gcs, bucket: b, path: x, name: two'],
    ['type: sftp, host: h, user: u, path: x', 'type: sftp, host: h, user: v, path: x, name: two'],
    ['type: sftp, host: h, user: u, path: x', 'type: sftp, host: "h:23", user: u, path: x, name: two'],
  ])('but not {%s} and {%s}', async (one, two) => {
    expect((await load(file(one, two))).stores).toHaveLength(2);
  });
});

it.each([
  ['url: "sftp://u:hunter2@h/x"', 'sftp://u@h/x'],
  ['type: sftp, host: "[::1]:23", user: u, path: x', 'sftp://u@[::1]:23/~/x'],
  ['url: "abs://a@c/x", account-key: eHh4', 'abs://a@c/x'],
  ['url: "gs://b/x", endpoint: "http://u:hunter2@h"', 'gcs://b/x (endpoint http://u:xxxxx@h)'],
])('describes {%s} without secrets', async (keys, text) => {
  expect(describeLocation(await storeOf(keys))).toBe(text);
});
