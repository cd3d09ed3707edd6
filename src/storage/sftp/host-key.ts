/** The server's key: how a config pins it, and whether a server shows the pinned one. */

import { createHash } from 'node:crypto';
import type { ServerHostKeyAlgorithm } from 'ssh2';
import { LitestreamError } from '../../base/errors.ts';

export interface HostKeyPin {
  /** `SHA256:…` as OpenSSH prints it. */
  readonly fingerprint: string;
  /** `ssh-ed25519`, ...; undefined when only the fingerprint is known. */
  readonly type: string | undefined;
}

/**
 * Reads a pinned key: `SHA256:…`, a public key (`ssh-ed25519 AAAA…`), or a line of known_hosts.
 * @throws LitestreamError 'config'.
 */
export function parseHostKey(text: string): HostKeyPin {
  for (const word of text.trim().split(/\s+/)) {
    const digest = /^SHA256:([A-Za-z0-9+/]{43})=?$/.exec(word)?.[1];
    if (digest !== undefined) return { fingerprint: `SHA256:${digest}`, type: undefined };
    if (!/^AAAA[A-Za-z0-9+/]+={0,2}$/.test(word)) continue;
    const key = Buffer.from(word, 'base64');
    const type = keyType(key);
    if (type !== undefined) return { fingerprint: fingerprintOf(key), type };
  }
  throw new LitestreamError(
    'config',
    `host-key ${JSON.stringify(text)} is no key: give the server's public key as in known_hosts (ssh-ed25519 AAAA…) or its fingerprint (SHA256:…)`,
  );
}

/** The fingerprint of a public key as SSH sends it, in OpenSSH's form. */
export function fingerprintOf(key: Buffer): string {
  return `SHA256:${createHash('sha256').update(key).digest('base64').replace(/=+$/, '')}`;
}

/** A public key as SSH sends it, as a config pins it. */
export function hostKeyLine(key: Buffer): string {
  return `${keyType(key) ?? 'unknown'} ${key.toString('base64')}`;
}

/** The name that a public key begins with; undefined when it is none. */
function keyType(key: Buffer): string | undefined {
  if (key.length < 4) return undefined;
  const length = key.readUInt32BE(0);
  const name = key.subarray(4, 4 + length).toString('latin1');
  return name.length === length && /^[a-z0-9@.-]+$/.test(name) ? name : undefined;
}

/**
 * Why a server with this key must not be talked to.
 * @param remembered the file that says what the key was; undefined: the config does
 */
export function changedKey(
  server: string,
  pin: HostKeyPin,
  key: Buffer,
  remembered: string | undefined,
): LitestreamError {
  const shown = `${keyType(key) ?? 'unknown'} ${fingerprintOf(key)}`;
  const pinned = `${pin.type === undefined ? '' : `${pin.type} `}${pin.fingerprint}`;
  const [known, remedy] =
    remembered === undefined
      ? [`host-key pins ${pinned}`, 'change host-key']
      : [`${remembered} remembers ${pinned}`, 'remove its line there or set host-key'];
  return new LitestreamError(
    'permission',
    `${server} shows the host key ${shown}, but ${known}: ` +
      `if the server was given a new key, ${remedy}; else somebody may be posing as it`,
  );
}

const OF_TYPE: Readonly<Record<string, ServerHostKeyAlgorithm[]>> = {
  'ssh-ed25519': ['ssh-ed25519'],
  'ecdsa-sha2-nistp256': ['ecdsa-sha2-nistp256'],
  'ecdsa-sha2-nistp384': ['ecdsa-sha2-nistp384'],
  'ecdsa-sha2-nistp521': ['ecdsa-sha2-nistp521'],
  'ssh-rsa': ['rsa-sha2-512', 'rsa-sha2-256', 'ssh-rsa'],
};

/** The algorithms to ask for first, so that a server with several keys shows the pinned one. */
export function preferredAlgorithms(pin: HostKeyPin | undefined): ServerHostKeyAlgorithm[] {
  return pin?.type === undefined ? [] : (OF_TYPE[pin.type] ?? []);
}
