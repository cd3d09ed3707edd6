/** Passwords in URLs: none is shown, whatever characters it or its surroundings have. */

import { describe, expect, it } from 'vitest';
import { basicAuthorization } from '../../src/base/basic-authorization.ts';
import { redactUrl, withoutCredentials } from '../../src/base/redact-url.ts';

describe('redactUrl', () => {
  it.each([
    ['sftp://user:secret@host/path', 'sftp://user:xxxxx@host/path'],
    ['sftp://user:p@ss:w@host/path', 'sftp://user:xxxxx@host/path'],
    ["sftp://user:it's@host/path", 'sftp://user:xxxxx@host/path'],
    ['sftp://me@example.com:secret@host/path', 'sftp://me@example.com:xxxxx@host/path'],
    ["sftp://o'hara:secret@host", "sftp://o'hara:xxxxx@host"],
    ['sftp://user:a/b?c#d@host/path', 'sftp://user:xxxxx@host/path'],
    ['sftp://user:/b@host', 'sftp://user:/b@host'],
    ['x: "sftp://u:a@h", y: http://v:b@i', 'x: "sftp://u:xxxxx@h", y: http://v:xxxxx@i'],
    ['http://h/x?to=sftp://u:a@h', 'http://h/x?to=sftp://u:xxxxx@h'],
    // A port and a path are no password.
    ['s3://bucket.localhost:9000/db@2', 's3://bucket.localhost:9000/db@2'],
    ['sftp://user@host/a:b@c', 'sftp://user@host/a:b@c'],
    ['mail to user@host', 'mail to user@host'],
  ])('%s', (text, shown) => {
    expect(redactUrl(text)).toBe(shown);
  });

  it('takes no time for a line without end', () => {
    for (const part of ['a', '://', '://a:', '://a:@', 'a:b@'])
      expect(redactUrl(part.repeat(50_000)).length).toBeGreaterThan(0);
  });
});

describe('withoutCredentials', () => {
  it.each([
    ['http://user:secret@host/path', 'http://host/path'],
    ['http://key@host', 'http://host'],
    ['http://user:a/b@host', 'http://host'],
    ['user:secret@host:9000', 'host:9000'],
    ['http://host:9000/a@b', 'http://host:9000/a@b'],
  ])('%s', (text, shown) => {
    expect(withoutCredentials(text)).toBe(shown);
  });
});

describe('basicAuthorization', () => {
  const basic = (login: string): string => `Basic ${Buffer.from(login).toString('base64')}`;

  it.each([
    ['http://u:p@h', basic('u:p')],
    ['http://a%40b:c%3Ad@h', basic('a@b:c:d')],
    // No escape: what stands there is meant.
    ['http://u:50%zz%@h', basic('u:50%zz%')],
    ['http://h', undefined],
  ])('%s', (url, header) => {
    expect(basicAuthorization(new URL(url))).toBe(header);
  });
});
