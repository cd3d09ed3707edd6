/** Replicas on an SFTP server: `sftp://USER:PASSWORD@HOST:PORT/PATH`. */

import { posix } from 'node:path';
import { LitestreamError } from '../../base/errors.ts';
import type { SftpStoreConfig } from '../../storage/store-config.ts';
import type { Section } from '../decode.ts';
import type { Env } from '../expand-env.ts';
import { expandPath } from '../paths.ts';
import { located, refuseBesideUrl, type ReplicaContext } from '../replica-context.ts';
import { splitReplicaUrl, type ReplicaUrl } from '../replica-url.ts';

const DEFAULT_PORT = 22;

type Server = Pick<SftpStoreConfig, 'host' | 'port'>;

/** A password that stands in an argument is seen by every user of the machine for a moment. */
const PASSWORD_VARIABLE = 'LITESTREAM_SFTP_PASSWORD';

/** With the password of the environment where the URL has none. Throws 'config' when a part is missing. */
export function sftpFromUrl(url: ReplicaUrl, env: Env): SftpStoreConfig {
  const { user = '' } = url;
  const password = (url.password ?? '') === '' ? env[PASSWORD_VARIABLE] : url.password;
  const server = serverOf(url.host);
  return {
    type: 'sftp',
    ...server,
    user: requireUser(user),
    ...(password === undefined || password === '' ? {} : { password }),
    path: pathOfUrl(url),
  };
}

/** Throws what `context.fail` makes of the first problem. */
export function sftpFromSection(section: Section, context: ReplicaContext): SftpStoreConfig {
  refuseBesideUrl(section, context, 'sftp', ['path', 'host']);
  const text = section.string('url');
  const url = text === '' ? undefined : located(context, section.startOf('url'), () => splitReplicaUrl(text));
  const own = (name: string, fromUrl?: string): string =>
    section.string(name) === '' ? (fromUrl ?? '') : section.string(name);
  const server = located(context, section.startOf(url === undefined ? 'host' : 'url'), () =>
    serverOf(own('host', url?.host)),
  );
  const user = located(context, section.startOf('user'), () => requireUser(own('user', url?.user)));
  const password = own('password', url?.password);
  const keyPath = section.string('key-path');
  const keyPassphrase = section.string('key-passphrase');
  if (keyPassphrase !== '' && keyPath === '') {
    throw context.fail('key-passphrase is for key-path, which is not set', section.startOf('key-passphrase'));
  }
  return {
    type: 'sftp',
    ...server,
    user,
    ...(password === '' ? {} : { password }),
    ...(keyPath === '' ? {} : { keyPath: expandPath(keyPath, context) }),
    ...(keyPassphrase === '' ? {} : { keyPassphrase }),
    ...hostKeyOf(section, context),
    path: url === undefined ? cleanRoot(section.string('path')) : pathOfUrl(url),
  };
}

function serverOf(hostAndPort: string): Server {
  // Not shown: a URL may hold a password.
  if (hostAndPort.includes('/')) {
    throw new LitestreamError(
      'config',
      'host must be NAME or NAME:PORT: write a url into url, a folder into path',
    );
  }
  const match = /^(?:\[([^\]]*)\]|([^:]*))(?::([0-9]*))?$/.exec(hostAndPort);
  // More colons than one: an IPv6 address without brackets.
  const host = match === null ? hostAndPort : (match[1] ?? match[2] ?? '');
  if (host === '') throw new LitestreamError('config', 'host required for sftp replica');
  const port = (match?.[3] ?? '') === '' ? DEFAULT_PORT : Number(match?.[3]);
  if (port < 1 || port > 65_535) {
    throw new LitestreamError('config', `port of host must be 1 to 65535: ${hostAndPort}`);
  }
  return { host, port };
}

function requireUser(user: string): string {
  if (user === '') throw new LitestreamError('config', 'user required for sftp replica');
  return user;
}

/** From the server's root: only the path key can be relative to the user's home. */
function pathOfUrl({ path }: ReplicaUrl): string {
  return path === '' ? '' : `/${path}`;
}

function cleanRoot(path: string): string {
  return path === '' ? '' : posix.normalize(path).replace(/(?<=.)\/$/, '');
}

const HOST_KEY = /^(?:SHA256:[A-Za-z0-9+/]{43}=?|[a-z][\w@.-]* AAAA[A-Za-z0-9+/]+=*(?: .*)?)$/;

function hostKeyOf(section: Section, context: ReplicaContext): Pick<SftpStoreConfig, 'hostKey'> {
  const hostKey = section.string('host-key').trim();
  if (hostKey === '') return {};
  if (HOST_KEY.test(hostKey)) return { hostKey };
  throw context.fail(
    'host-key must be a public key such as "ssh-ed25519 AAAA…" or a fingerprint "SHA256:…": see ssh-keyscan HOST',
    section.startOf('host-key'),
  );
}
