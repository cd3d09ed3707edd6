/** What a config offers to log in with. Files are read anew for each connection, so that a changed key is taken up. */

import { readFile } from 'node:fs/promises';
import ssh2 from 'ssh2';
import type { AnyAuthMethod, AuthenticationType, ParsedKey } from 'ssh2';
import { LitestreamError, messageOf, systemCode } from '../../base/errors.ts';
import type { SftpStoreConfig } from '../store-config.ts';

/** @throws LitestreamError 'config' or 'permission': nothing to offer, or a key that cannot be read. */
export async function loginMethods(config: SftpStoreConfig): Promise<AnyAuthMethod[]> {
  const { user: username, password, keyPath } = config;
  const methods: AnyAuthMethod[] = [];
  if (keyPath !== undefined) {
    methods.push({ type: 'publickey', username, key: await readKey(keyPath, config.keyPassphrase) });
  }
  if (password !== undefined) {
    methods.push({ type: 'password', username, password });
    methods.push({
      type: 'keyboard-interactive',
      username,
      prompt: (_name, _instructions, _language, prompts, finish) => finish(prompts.map(() => password)),
    });
  }
  if (methods.length > 0) return methods;
  const agent = process.env['SSH_AUTH_SOCK'];
  if (agent === undefined || agent === '') {
    throw new LitestreamError(
      'config',
      `nothing to log in with as "${username}": set password or key-path, or run an ssh-agent (SSH_AUTH_SOCK)`,
    );
  }
  return [{ type: 'agent', username, agent }];
}

async function readKey(path: string, passphrase: string | undefined): Promise<ParsedKey> {
  let text: Buffer;
  try {
    text = await readFile(path);
  } catch (error) {
    const refused = ['EACCES', 'EPERM'].includes(systemCode(error) ?? '');
    throw new LitestreamError(
      refused ? 'permission' : 'config',
      `cannot read the private key ${path}: check key-path (${messageOf(error)})`,
      { cause: error },
    );
  }
  const key = ssh2.utils.parseKey(text, passphrase);
  if (key instanceof Error) throw keyError(path, passphrase, key);
  // An OpenSSH file could hold several keys; in practice it holds one.
  const [first] = Array.isArray(key) ? (key as ParsedKey[]) : [key];
  if (first?.isPrivateKey() !== true) {
    throw new LitestreamError('config', `key-path ${path} holds a public key: name the private one`);
  }
  return first;
}

function keyError(path: string, passphrase: string | undefined, error: Error): LitestreamError {
  if (/no passphrase given/.test(error.message)) {
    return new LitestreamError('permission', `the private key ${path} is encrypted: set key-passphrase`);
  }
  if (passphrase !== undefined && /passphrase|decrypt|integrity/i.test(error.message)) {
    return new LitestreamError('permission', `cannot decrypt the private key ${path}: check key-passphrase`);
  }
  // The parser's text is about the format, never about the contents.
  return new LitestreamError(
    'config',
    `key-path ${path} is no private key that can be used (${error.message}): ssh-keygen -t ed25519 makes one`,
  );
}

/**
 * Offers the methods in turn, leaving out what the server said it does not take.
 * @param onAccepted - learns what the server takes.
 */
export function offerInTurn(
  methods: readonly AnyAuthMethod[],
  onAccepted: (accepted: readonly string[]) => void,
): (accepted: AuthenticationType[] | null) => AnyAuthMethod | false {
  const left = [...methods];
  return (accepted) => {
    if (accepted !== null) onAccepted(accepted);
    for (;;) {
      const method = left.shift();
      if (method === undefined) return false;
      const asked = method.type === 'agent' ? 'publickey' : method.type;
      if (accepted === null || accepted.includes(asked)) return method;
    }
  };
}
