/** URLs of replicas, endpoints and proxies: no password gets out of one, whatever stands around it. */

import assert from 'node:assert/strict';
import { basicAuthorization } from '../../../src/base/basic-authorization.ts';
import { redactUrl, withoutCredentials } from '../../../src/base/redact-url.ts';
import { messageOf } from '../../../src/base/errors.ts';
import { describeLocation } from '../../../src/config/check.ts';
import { parseReplicaUrl } from '../../../src/config/parse-replica-url.ts';
import { cleanKeyPrefix, joinKeyPrefix, splitReplicaUrl } from '../../../src/config/replica-url.ts';
import { proxyAddress, proxyFor } from '../../../src/storage/proxy.ts';
import { type FuzzTarget, bytesOf, checkNatural, checkRefusal, textOf } from '../target.ts';

const SECRET = 'sEcReTwOrD';
const CODES = ['config'] as const;

/** What is shown of `work`, or of its failure, has no secret. */
function checkShown(work: () => string): void {
  let shown: string;
  try {
    shown = work();
  } catch (error) {
    checkRefusal(error, CODES);
    shown = messageOf(error);
  }
  assert(!shown.includes(SECRET), `the password is shown: ${shown}`);
}

/** `%XX` of every character, as a browser's address bar gives it. */
function escaped(text: string): string {
  return Array.from(Buffer.from(text), (byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
}

/**
 * Whether a URL can be meant to have the secret in its password: a slash in it should have been escaped, but neither may it
 * be what follows a port or a host.
 */
function isPassword(credentials: string): boolean {
  const authority = /^[^/?#]*/.exec(credentials)?.[0] ?? '';
  if (authority.includes('@')) return authority.slice(0, authority.lastIndexOf('@')).includes(SECRET);
  return !/^[^:]*:\d*$/.test(authority);
}

/** One input is scheme, user, what stands around the password, and the rest, with blanks between. */
function checkPassword(text: string): void {
  const [scheme = '', user = '', before = '', after = '', ...rest] = text.split(' ');
  if (!/^[A-Za-z][\w+.-]*$/.test(scheme)) return;
  // Control characters, blanks and double quotes are in no URL; who has a user name with a colon writes %3A.
  if (/[\s"\p{Cc}]/u.test(user + before + after) || /[:/?#]/.test(user)) return;
  for (const password of [before + SECRET + after, before + SECRET, SECRET + after]) {
    if (!isPassword(`${user}:${password}@`)) continue;
    const url = `${scheme}://${user}:${password}@${rest.join(' ')}`;
    assert(!redactUrl(url).includes(SECRET), `redactUrl leaves ${redactUrl(url)}`);
    for (const line of [`url: ${url}`, `url: '${url}'`, `{a: "${url}", b: ${url}}`, `(${url})`])
      assert(!redactUrl(line).includes(SECRET), `redactUrl leaves ${redactUrl(line)}`);
    assert(!withoutCredentials(url).includes(SECRET), `withoutCredentials leaves ${withoutCredentials(url)}`);
    // All of a file URL is a path.
    if (scheme.toLowerCase() !== 'file') {
      checkShown(() => describeLocation(parseReplicaUrl(url, {})));
      checkShown(() => JSON.stringify({ ...splitReplicaUrl(url), password: '', user: '' }));
    }
    checkShown(() => JSON.stringify(proxyAddress(proxyOf(url) ?? new URL('http://none'))));
  }
  assert(!redactUrl(`${scheme}://u:${escaped(SECRET)}@h`).includes(escaped(SECRET)));
}

function proxyOf(url: string, exceptions = ''): URL | undefined {
  const target = { protocol: 'https:', host: 'storage.example.com', port: 443 } as const;
  return proxyFor(target, { HTTPS_PROXY: url, NO_PROXY: exceptions });
}

function checkProxy(text: string): void {
  const [url = '', exceptions = ''] = text.split(' ');
  let proxy: URL | undefined;
  try {
    proxy = proxyOf(url, exceptions);
    if (!proxy) return;
    checkNatural(proxyAddress(proxy).port, 'port', 65_535);
    const header = basicAuthorization(proxy);
    assert(header === undefined || /^Basic [A-Za-z0-9+/=]*$/.test(header));
  } catch (error) {
    checkRefusal(error, CODES);
  }
}

function checkReplicaUrl(text: string): void {
  try {
    const { path, scheme } = splitReplicaUrl(text);
    const parts = path.split('/');
    assert(!parts.includes('..') && !parts.includes('.'), path);
    assert.equal(scheme, scheme.toLowerCase());
    const store = parseReplicaUrl(text, {});
    if (store.type === 'sftp') checkNatural(store.port, 'port', 65_535);
    assert.notEqual(describeLocation(store), '');
  } catch (error) {
    checkRefusal(error, CODES);
  }
  assert(!cleanKeyPrefix(text).endsWith('/') && !cleanKeyPrefix(text).split('/').includes('..'));
  assert.equal(cleanKeyPrefix(cleanKeyPrefix(text)), cleanKeyPrefix(text));
  assert.equal(joinKeyPrefix(joinKeyPrefix(text)), joinKeyPrefix(text));
  // What has no user and no password stays.
  if (!text.includes('@')) assert.equal(redactUrl(text), text);
  assert.equal(redactUrl(redactUrl(text)), redactUrl(text));
}

export const target: FuzzTarget = {
  name: 'urls',
  seeds: () =>
    bytesOf(
      ...['sftp user a b host:22/path', 's3 key p@ss w%40rd bucket.s3.eu-west-1.amazonaws.com/db?x#y'],
      ...['http u :: // proxy:3128', 'abs a + ? account.blob.core.windows.net', 'sftp user $ @ [::1]:22/~/x'],
      ...[
        's3://bucket.localhost:9000/path',
        'file:///a/../b',
        'gs://bucket/a%20b/',
        'abs://account@container/x',
      ],
      ...['http://u:p@proxy:8080 localhost,.example.org,10.0.0.0/8,[::1]:443', 'proxy:3128 *', 'gcs://b'],
      ...['sftp://u:p@h:99999/x', 'sftp://u@[fe80::1%25eth0]/x', 's3://', '://x', 'a:b', '/plain/path'],
    ),
  dictionary: [
    ...[
      '://',
      ':',
      '@',
      '/',
      '//',
      '?',
      '#',
      '%',
      '%40',
      '%2F',
      "'",
      '"',
      '..',
      '[',
      ']',
      '::1',
      ' ',
      '\\',
      '&',
      '\u00e4',
    ],
    ...[
      's3',
      'sftp',
      'file',
      'abs',
      'gs',
      'http',
      'https',
      'localhost',
      '127.0.0.1',
      ':22',
      ':65536',
      '%zz',
      '%ff',
      '~',
    ],
    ...[
      '10.0.0.0/8',
      '::/0',
      '*.',
      'NO',
      '.s3.amazonaws.com',
      '.blob.core.windows.net',
      '{',
      '}',
      ',',
      '<',
      '>',
      '|',
    ],
  ],
  maxBytes: 512,
  run(data) {
    const text = textOf(data);
    checkReplicaUrl(text);
    checkProxy(text);
    checkPassword(text);
  },
};
