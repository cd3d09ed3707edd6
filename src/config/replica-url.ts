/**
 * Replica URLs (`s3://bucket/path`, `file:///path`) as v0.3.13 reads them, with the hosts of the providers that it knows.
 * Parsed by Go's rules rather than the web's: what may stand in a host or a path decides where old backups are.
 */

import { posix } from 'node:path';
import { LitestreamError } from '../base/errors.ts';
import { quoteGo } from '../base/logger.ts';
import { redactUrl } from '../base/redact-url.ts';
import type { S3StoreConfig, StoreConfig } from '../storage/store-config.ts';
import { REPLICA_TYPES } from './schema.ts';

/** Whether an argument or value is meant as a URL: it starts with a scheme and `://`. */
export function isUrl(text: string): boolean {
  return /^\w+:\/\//.test(text);
}

/**
 * The store that a replica URL names, without credentials. Throws 'config' for what is no URL, has an unknown scheme
 * or lacks a part that its scheme needs, 'unsupported' for a scheme that v0.3.13 has and we do not.
 */
export function parseReplicaUrl(text: string): StoreConfig {
  const url = splitReplicaUrl(text);
  checkReplicaType(url.scheme);
  if (url.scheme === 'file') {
    if (url.path === '') throw new LitestreamError('config', 'file replica path required');
    return { type: 'file', path: url.path };
  }
  const { bucket, ...rest } = parseS3Host(url.host);
  if (bucket === '') throw new LitestreamError('config', 'bucket required for s3 replica');
  return { type: 's3', bucket, path: url.path, skipVerify: false, ...rest };
}

/** Throws unless replicas of this type can be used. */
export function checkReplicaType(type: string): void {
  const known = REPLICA_TYPES.find(({ name }) => name === type);
  if (known === undefined) {
    throw new LitestreamError('config', `unknown replica type in config: ${quoteGo(type)}`);
  }
  if (!known.supported)
    throw new LitestreamError('unsupported', `replica type "${type}" is not supported yet`);
}

export interface ReplicaUrl {
  readonly scheme: string;
  readonly host: string;
  /** For `file` an absolute path in which %-escapes stay; else decoded, without a leading slash; empty: none. */
  readonly path: string;
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
  if (at !== -1 && /[^A-Za-z0-9\-._:~!$&'()*+,;=%@]/.test(authority.slice(0, at))) {
    throw fail('net/url: invalid userinfo');
  }
  const host = authority.slice(at + 1);
  checkHost(host, fail);
  const badEscape = /%(?![0-9A-Fa-f]{2}).{0,2}/s.exec(rawPath)?.[0];
  if (badEscape !== undefined) throw fail(`invalid URL escape "${badEscape}"`);

  const lowered = scheme.toLowerCase();
  if (lowered === 'file') {
    const prefix = authority === '' ? '' : `//${authority}`;
    const whole = `${prefix}${escapePath(rawPath)}${suffix}`;
    return { scheme: lowered, host: '', path: whole === '' ? '' : cleanPath(whole) };
  }
  return { scheme: lowered, host, path: cleanKeyPrefix(decodePath(rawPath)) };
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

function decodePath(raw: string): string {
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
  return posix.join('/', path).replace(/(?<=.)\/$/, '');
}

/**
 * A key prefix without needless parts and outer slashes; empty for the bucket's root. v0.3.13 stores objects of the
 * prefix `/a` under `a` too: its S3 client drops the slash from requests.
 */
export function cleanKeyPrefix(path: string): string {
  return cleanPath(path).slice(1);
}

type S3Host = Pick<S3StoreConfig, 'bucket' | 'region' | 'endpoint' | 'forcePathStyle'>;

/** Providers by the end of the host name: what stands before it is the bucket, `region` the part captured. */
const PROVIDERS: readonly { host: RegExp; endpoint: (region: string) => string; region?: string }[] = [
  { host: /^(?:(.+)\.)?localhost$/, endpoint: () => 'http://localhost', region: 'us-east-1' },
  { host: /^(?:(.+)\.)?s3\.([^.]+)\.backblazeb2\.com$/, endpoint: (r) => `https://s3.${r}.backblazeb2.com` },
  { host: /^(?:(.+)\.)?s3\.filebase\.com$/, endpoint: () => 'https://s3.filebase.com' },
  {
    host: /^(?:(.+)\.)?([^.]+)\.digitaloceanspaces\.com$/,
    endpoint: (r) => `https://${r}.digitaloceanspaces.com`,
  },
  { host: /^(?:(.+)\.)?s3\.([^.]+)\.scw\.cloud$/, endpoint: (r) => `https://s3.${r}.scw.cloud` },
  { host: /^(?:(.+)\.)?([^.]+)\.linodeobjects\.com$/, endpoint: (r) => `https://${r}.linodeobjects.com` },
];

/** The bucket and, for a provider's host, its endpoint and region. A port goes to the endpoint. */
function parseS3Host(hostAndPort: string): S3Host {
  const split = /^(.*?)(?::([0-9]*))?$/s.exec(hostAndPort);
  const [host = '', port = ''] = [split?.[1], split?.[2]];
  for (const provider of PROVIDERS) {
    const match = provider.host.exec(host);
    if (match === null) continue;
    const region = provider.region ?? match[2];
    const endpoint = provider.endpoint(match[2] ?? '') + (port === '' ? '' : `:${port}`);
    return {
      bucket: match[1] ?? '',
      endpoint,
      forcePathStyle: true,
      ...(region === undefined ? {} : { region }),
    };
  }
  return { bucket: host, forcePathStyle: false };
}
