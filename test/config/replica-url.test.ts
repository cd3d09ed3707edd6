import { describe, expect, it } from 'vitest';
import { parseReplicaUrl as parse } from '../../src/config/parse-replica-url.ts';
import { isUrl } from '../../src/config/replica-url.ts';
import type { StoreConfig } from '../../src/storage/store-config.ts';
import { runLitestream } from '../support/process.ts';

const parseReplicaUrl = (url: string, env: Record<string, string> = {}): StoreConfig => parse(url, env);

const plain = { type: 's3', forcePathStyle: false, skipVerify: false };
const provider = { type: 's3', forcePathStyle: true, skipVerify: false };

describe('parseReplicaUrl', () => {
  it.each([
    ['s3://bucket/a//b/../c/', { ...plain, bucket: 'bucket', path: 'a/c' }],
    ['s3://bucket/../x', { ...plain, bucket: 'bucket', path: 'x' }],
    ['s3://bucket', { ...plain, bucket: 'bucket', path: '' }],
    ['S3://bucket/?x=1#y', { ...plain, bucket: 'bucket', path: '' }],
    ['s3://u:p@bucket:9000/a%20b/é', { ...plain, bucket: 'bucket', path: 'a b/é' }],
    [
      's3://mybkt.localhost:9000/',
      { ...provider, bucket: 'mybkt', path: '', region: 'us-east-1', endpoint: 'http://localhost:9000' },
    ],
    [
      's3://a.b.localhost/x/../y/',
      { ...provider, bucket: 'a.b', path: 'y', region: 'us-east-1', endpoint: 'http://localhost' },
    ],
    [
      's3://b.s3.us-west-1.backblazeb2.com/p',
      {
        ...provider,
        bucket: 'b',
        path: 'p',
        region: 'us-west-1',
        endpoint: 'https://s3.us-west-1.backblazeb2.com',
      },
    ],
    [
      's3://b.s3.filebase.com/p',
      { ...provider, bucket: 'b', path: 'p', endpoint: 'https://s3.filebase.com' },
    ],
    [
      's3://b.c.nyc3.digitaloceanspaces.com/p',
      {
        ...provider,
        bucket: 'b.c',
        path: 'p',
        region: 'nyc3',
        endpoint: 'https://nyc3.digitaloceanspaces.com',
      },
    ],
    [
      's3://b.s3.fr-par.scw.cloud/p',
      {
        ...provider,
        bucket: 'b',
        path: 'p',
        region: 'fr-par',
        endpoint: 'https://s3.fr-par.scw.cloud',
        maxParts: 1000,
      },
    ],
    [
      's3://b.abc.r2.cloudflarestorage.com/p',
      {
        ...plain,
        ...{ bucket: 'b', path: 'p', region: 'auto', forcePathStyle: true, uploadConcurrency: 2 },
        endpoint: 'https://abc.r2.cloudflarestorage.com',
      },
    ],
    [
      's3://b.c.abc.eu.r2.cloudflarestorage.com/p',
      {
        ...plain,
        ...{ bucket: 'b.c', path: 'p', region: 'auto', forcePathStyle: true, uploadConcurrency: 2 },
        endpoint: 'https://abc.eu.r2.cloudflarestorage.com',
      },
    ],
    [
      's3://b.t3.storage.dev/p',
      {
        ...plain,
        ...{ bucket: 'b', path: 'p', region: 'auto', forcePathStyle: false, contentMd5: 'none' },
        endpoint: 'https://t3.storage.dev',
      },
    ],
    [
      's3://b.us-east-1.linodeobjects.com:123/p',
      {
        ...provider,
        bucket: 'b',
        path: 'p',
        region: 'us-east-1',
        endpoint: 'https://us-east-1.linodeobjects.com:123',
      },
    ],
  ])('reads %s', (url, store) => {
    expect(parseReplicaUrl(url)).toEqual(store);
  });

  it.each([
    ['file:///tmp/a%20b/../c d/', '/tmp/c%20d'],
    ['file://./rel/x', '/rel/x'],
    ['file://rep', '/rep'],
    ['file:///tmp/é(x)[y]', '/tmp/%C3%A9%28x%29%5By%5D'],
    ['file:///tmp/(x)!*[y]', '/tmp/(x)!*[y]'],
    ['file:///tmp/a%2Fb', '/tmp/a%2Fb'],
    ['FILE:///tmp/u', '/tmp/u'],
  ])('reads %s as the folder %s', (url, path) => {
    expect(parseReplicaUrl(url)).toEqual({ type: 'file', path });
  });

  it.each([
    ['/a/b', 'replica url scheme required: /a/b'],
    ['wat://x/y', 'unknown replica type in config: "wat"'],
    ['s3:///x', 'bucket required for s3 replica'],
    ['s3://localhost:9000/x', 'bucket required for s3 replica'],
    ['file://', 'file replica path required'],
    ['abs:///x', 'bucket required for abs replica'],
    [
      'abs://container/x',
      'account-name required for abs replica: set it, or write the url as abs://ACCOUNT@CONTAINER/PATH',
    ],
    ['gcs:///x', 'bucket required for gcs replica'],
    ['sftp:///x', 'host required for sftp replica'],
    ['sftp://h/x', 'user required for sftp replica'],
    ['sftp://u:secret@h:70000/x', 'port of host must be 1 to 65535: h:70000'],
  ])('refuses %s', (url, message) => {
    expect(() => parseReplicaUrl(url)).toThrow(expect.objectContaining({ message }) as Error);
  });

  it.each([
    [
      'abs://acc@cont/x/../y/',
      { type: 'abs', bucket: 'cont', path: 'y', accountName: 'acc', accountKey: 'eHh4' },
    ],
    ['gcs://b/x//z/', { type: 'gcs', bucket: 'b', path: 'x/z' }],
    ['gs://b', { type: 'gcs', bucket: 'b', path: '' }],
    [
      'sftp://u:p%20w@h:2/x//y%20/',
      { type: 'sftp', host: 'h', port: 2, user: 'u', password: 'p w', path: '/x/y ' },
    ],
    ['sftp://u@[::1]/x', { type: 'sftp', host: '::1', port: 22, user: 'u', path: '/x' }],
    ['sftp://u:@h', { type: 'sftp', host: 'h', port: 22, user: 'u', path: '' }],
  ])('reads %s', (url, store) => {
    expect(parseReplicaUrl(url, { LITESTREAM_AZURE_ACCOUNT_KEY: 'eHh4' })).toEqual(store);
  });

  it('takes what has no key to be meant for the default credential', () => {
    expect(parseReplicaUrl('abs://a@c')).not.toHaveProperty('accountKey');
  });

  it('refuses an account key that is none without showing it', () => {
    const env = { LITESTREAM_AZURE_ACCOUNT_KEY: 'hunter2!' };
    expect(() => parseReplicaUrl('abs://a@c', env)).toThrow(
      /^LITESTREAM_AZURE_ACCOUNT_KEY is not base64: copy the account's key as Azure shows it$/,
    );
  });

  it.each([
    ['s3://b.localhost:90000/x', /^host of s3 url has no valid name or port: b\.localhost:90000$/],
    ['abs://a%2Fb@c', /^account-name must be letters and digits$/],
    ['sftp://u:hunter2/x@h', /^parse "sftp:\/\/u:xxxxx@h": invalid host: write \/ \? # in a password as/],
    ['sftp://u:x:22/hunter2@h', /^parse "sftp:\/\/u:xxxxx@h": invalid host/],
  ])('refuses %s', (url, message) => {
    expect(() => parseReplicaUrl(url)).toThrow(expect.objectContaining({ code: 'config' }) as Error);
    expect(() => parseReplicaUrl(url)).toThrow(message);
  });

  it('does not show a password', () => {
    expect(() => parseReplicaUrl('s3://me:hunter2@a b/')).toThrow(
      expect.objectContaining({
        message: 'parse "s3://me:xxxxx@a b/": invalid character " " in host name',
      }) as Error,
    );
  });

  it.each([
    's3://a b/%zz',
    's3://ab/%zz',
    's3://ab/x%2',
    's3://ab:x/y',
    's3://a%41/y',
    's3://[::1/x',
    's3://a^b/',
    's3://a\\b/',
    's3://u^@h/x',
    'sftp://u%zz@h/x',
    'sftp://h/x',
    'gcs:///x',
    'abs:///x',
    '1a://x',
    's3://a\u0001/x',
  ])('refuses %j in the words of v0.3.13', async (url) => {
    const { stderr } = await runLitestream({ binary: 'oracle', args: ['generations', url] });
    const quoted = /error=(".*")/.exec(stderr)?.[1] ?? '""';
    expect(() => parseReplicaUrl(url)).toThrow(
      expect.objectContaining({ message: JSON.parse(quoted) as string }) as Error,
    );
  });
});

it('tells a URL from a path', () => {
  expect(['s3://b', 'a1_://', '/a://b', 's3:b', '://x', ''].map(isUrl)).toEqual([
    true,
    true,
    false,
    false,
    false,
    false,
  ]);
});

it('takes the password of an sftp URL without one from the environment', () => {
  const env = { LITESTREAM_SFTP_PASSWORD: 'from env' };
  expect(parseReplicaUrl('sftp://u@h/x', env)).toMatchObject({ user: 'u', password: 'from env' });
  expect(parseReplicaUrl('sftp://u:own@h/x', env)).toMatchObject({ password: 'own' });
  expect(parseReplicaUrl('sftp://u@h/x')).not.toHaveProperty('password');
});
