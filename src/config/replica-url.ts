/**
 * Replica URLs (`s3://bucket/path`, `file:///path`) as v0.3.13 reads them: by Go's rules rather than the web's, since
 * what may stand in a host or a path decides where old backups are.
 */

import { posix } from 'node:path';
import { LitestreamError } from '../base/errors.ts';
import { quoteGo } from '../base/logger.ts';
import { redactUrl } from '../base/redact-url.ts';

/** Whether an argument or value is meant as a URL: it starts with a scheme and `://`. */
export function isUrl(text: string): boolean {
  return /^\w+:\/\//.test(text);
}

export interface ReplicaUrl {
  /** In lower case; `gs` as `gcs`. */
  readonly scheme: string;
  /** With the port, if any. */
  readonly host: string;
  /** For `file` an absolute path in which %-escapes stay; else decoded, without a leading slash; empty: none. */
  readonly path: string;
  /** Decoded; undefined: none. */
  readonly user?: string | undefined;
  readonly password?: string | undefined;
}

/** The parts of a replica URL of any scheme. Throws 'config' in Go's words. */
export function splitReplicaUrl(text: string): ReplicaUrl {
  const fail = (message: string): LitestreamError =>
    new LitestreamError('config', `parse ${quoteGo(redactUrl(text))}: ${message}`);
  if (hasControl(text)) throw fail('net/url: invalid control character in URL');
  if (text.startsWith(':')) throw fail('missing protocol scheme');
  const scheme = /^([a-zA-Z][a-zA-Z0-9+.-]*):/.exec(text)?.[1];
  if (scheme === undefined) {
    if (/^[^/?#]*:/.test(text)) throw fail('first path segment in URL cannot contain colon');
    throw new LitestreamError('config', `replica url scheme required: ${redactUrl(text)}`);
  }
  const rest = /^(?:\/\/([^/?#]*))?([^?#]*)(.*)$/s.exec(text.slice(scheme.length + 1));
  const [authority = '', rawPath = '', suffix = ''] = [rest?.[1], rest?.[2], rest?.[3]];
  const at = authority.lastIndexOf('@');
  const userinfo = at === -1 ? '' : authority.slice(0, at);
  if (/[^A-Za-z0-9\-._:~!$&'()*+,;=%@]/.test(userinfo)) throw fail('net/url: invalid userinfo');
  checkEscapes(userinfo, fail);
  const host = authority.slice(at + 1);
  if (at < 0 && redactUrl(text) !== text)
    throw fail('invalid host: write / ? # in a password as %2F %3F %23');
  checkHost(host, fail);
  checkEscapes(rawPath, fail);

  const lowered = scheme.toLowerCase();
  if (lowered === 'file') {
    const prefix = authority === '' ? '' : `//${authority}`;
    const whole = `${prefix}${escapePath(rawPath)}${suffix}`;
    return { scheme: lowered, host: '', path: whole === '' ? '' : cleanPath(whole) };
  }
  return {
    scheme: lowered === 'gs' ? 'gcs' : lowered,
    host,
    path: cleanKeyPrefix(decodeText(rawPath)),
    ...decodeUserinfo(userinfo),
  };
}

function decodeUserinfo(userinfo: string): Pick<ReplicaUrl, 'user' | 'password'> {
  if (userinfo === '') return {};
  const colon = userinfo.indexOf(':');
  if (colon === -1) return { user: decodeText(userinfo) };
  return { user: decodeText(userinfo.slice(0, colon)), password: decodeText(userinfo.slice(colon + 1)) };
}

function checkEscapes(text: string, fail: (message: string) => LitestreamError): void {
  const bad = /%(?![0-9A-Fa-f]{2}).{0,2}/s.exec(text)?.[0];
  if (bad !== undefined) throw fail(`invalid URL escape "${bad}"`);
}

/** Go's characters of a host; `%` only as the escape of bytes beyond ASCII, which no bucket has. */
function checkHost(host: string, fail: (message: string) => LitestreamError): void {
  if (host.startsWith('[') && !host.includes(']')) throw fail("missing ']' in host");
  const port = /:[^\]]*$/.exec(host.slice(host.lastIndexOf(']') + 1))?.[0].replace(/^.*:/, ':');
  if (port !== undefined && !/^:[0-9]*$/.test(port)) throw fail(`invalid port ${quoteGo(port)} after host`);
  const escape = /%.{0,2}/s.exec(host)?.[0];
  if (escape !== undefined) throw fail(`invalid URL escape ${quoteGo(escape)}`);
  const bad = /[^A-Za-z0-9\-._~!$&'()*+,;=:[\]<>"\u0080-\u{10ffff}]/u.exec(host)?.[0];
  if (bad !== undefined) throw fail(`invalid character ${quoteGo(bad)} in host name`);
}

const CONTROL = /[\u0000-\u001f\u007f]/;

function hasControl(text: string): boolean {
  return CONTROL.test(text);
}

/** A file URL's path as v0.3.13 prints it into the file system: as it is when valid, else escaped anew as a whole. */
function escapePath(raw: string): string {
  if (/^[A-Za-z0-9\-._~!$&'()*+,;=:@[\]%/]*$/.test(raw)) return raw;
  const bytes = Buffer.from(decodeBytes(raw));
  return Array.from(bytes, (byte) => {
    const char = String.fromCharCode(byte);
    return /[A-Za-z0-9\-._~$&+,/:;=@]/.test(char)
      ? char
      : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }).join('');
}

function decodeText(raw: string): string {
  return Buffer.from(decodeBytes(raw)).toString('utf8');
}

/** The bytes that a percent-encoded text stands for; all escapes are known to be well formed. */
function decodeBytes(raw: string): Uint8Array {
  const parts = raw.split(/(%[0-9A-Fa-f]{2})/);
  return Buffer.concat(
    parts.map((part) =>
      /^%[0-9A-Fa-f]{2}$/.test(part) ? Buffer.from(part.slice(1), 'hex') : Buffer.from(part),
    ),
  );
}

/** `/a/../b/` to `/b`. */
function cleanPath(path: string): string {
  return posix.join('/', path).replace(/(?<=.)\/$/s, '');
}

/**
 * A key prefix without needless parts and outer slashes; empty for the bucket's root. v0.3.13 stores objects of the
 * prefix `/a` under `a` too: its S3 client drops the slash from requests.
 */
export function cleanKeyPrefix(path: string): string {
  return cleanPath(path).slice(1);
}

/**
 * A key prefix without needless parts and without a slash at its end, as v0.3.13 joins it before keys of Azure and
 * Google, where a slash at the start is a part of the name.
 */
export function joinKeyPrefix(path: string): string {
  const clean = posix.normalize(path).replace(/\/$/, '');
  return path === '' || clean === '.' ? '' : clean;
}
