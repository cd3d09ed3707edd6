/** Makes a connection: TCP, the server's key, login, the SFTP channel; all of it within one time limit. */

import ssh2 from 'ssh2';
import type { AnyAuthMethod, Client, ConnectConfig, SFTPWrapper } from 'ssh2';
import { abortedError, throwIfAborted } from '../../base/concurrency.ts';
import type { LitestreamError } from '../../base/errors.ts';
import type { SftpStoreConfig } from '../store-config.ts';
import { ConnectTimeout, connectError } from './errors.ts';
import type { Attempt, SftpTarget } from './errors.ts';
import { changedKey, fingerprintOf, hostKeyLine, parseHostKey, preferredAlgorithms } from './host-key.ts';
import { findKnownHost, hostName, rememberHost } from './known-hosts.ts';
import { loginMethods, offerInTurn } from './login.ts';

export interface ConnectTimeouts {
  /** Until the SFTP channel is open. */
  readonly connectMs: number;
  /** Between signs of life on a quiet connection; the third that is missing ends it. */
  readonly keepaliveMs: number;
}

export interface ConnectOptions {
  /** Told of a server whose key is not pinned, once per process. */
  readonly warn: ((message: string) => void) | undefined;
  /** Gives up. */
  readonly signal: AbortSignal;
}

export interface Connected {
  readonly client: Client;
  readonly sftp: SFTPWrapper;
}

/** Keys that were warned of, with their servers: one warning each, however many replicas are there. */
const warnedOf = new Set<string>();

/** @throws LitestreamError 'permission', 'config', 'unavailable', 'timeout' or 'unsupported', with advice; 'aborted'. */
export async function connect(
  config: SftpStoreConfig,
  target: SftpTarget,
  timeouts: ConnectTimeouts,
  { warn, signal }: ConnectOptions,
): Promise<Connected> {
  const methods = await loginMethods(config);
  const host = hostName(config.host, config.port);
  const known = config.hostKey === undefined ? await findKnownHost(host) : undefined;
  throwIfAborted(signal);
  const pin = config.hostKey === undefined ? known?.pin : parseHostKey(config.hostKey);
  const attempt: Attempt = {
    connectMs: timeouts.connectMs,
    offered: methods.map((method) => method.type),
    accepted: undefined,
    agentFailure: undefined,
  };
  let refused: LitestreamError | undefined;
  let unknown: Buffer | undefined;
  const offer = offerInTurn(methods, (accepted) => (attempt.accepted = accepted));
  const settings: ConnectConfig = {
    host: config.host,
    port: config.port,
    username: config.user,
    // Our own limit covers more than the library's.
    readyTimeout: 0,
    keepaliveInterval: timeouts.keepaliveMs,
    keepaliveCountMax: 3,
    hostVerifier: (key: Buffer) => {
      if (pin === undefined) unknown = key;
      else if (fingerprintOf(key) !== pin.fingerprint)
        refused = changedKey(target.server, pin, key, known?.path);
      return refused === undefined;
    },
    // The library's types leave out the `false` that says there is nothing more.
    authHandler: (left, _partial, next) => next(offer(left) as AnyAuthMethod),
  };
  const first = preferredAlgorithms(pin);
  if (first.length > 0) {
    settings.algorithms = { serverHostKey: { remove: first, prepend: first, append: [] } };
  }
  try {
    const connected = await establish(settings, attempt, signal);
    if (unknown !== undefined) await remember(host, unknown, target, warn);
    return connected;
  } catch (error) {
    throw refused ?? connectError(error, target, attempt);
  }
}

/** Rejects with the library's errors, or 'aborted'. Notes in `attempt` what an agent says. */
function establish(settings: ConnectConfig, attempt: Attempt, signal: AbortSignal): Promise<Connected> {
  const client = new ssh2.Client();
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    };
    const fail = (error: Error): void => {
      settle();
      client.destroy();
      reject(error);
    };
    const onAbort = (): void => fail(abortedError(signal));
    const timer = setTimeout(() => fail(new ConnectTimeout()), attempt.connectMs);
    signal.addEventListener('abort', onAbort);
    client.on('error', (error) => {
      // A failing agent is not the end: the server has yet to refuse.
      if ('level' in error && error.level === 'agent') attempt.agentFailure = error.message;
      else fail(error);
    });
    client.on('close', () => fail(new Error('the server closed the connection')));
    client.on('ready', () => {
      client.sftp((error, sftp) => {
        if (error) {
          fail(error);
          return;
        }
        settle();
        resolve({ client, sftp });
      });
    });
    try {
      client.connect(settings);
      client.setNoDelay(true);
    } catch (error) {
      fail(error as Error);
    }
  });
}

/** The next login meets the same server, or none. */
async function remember(
  host: string,
  key: Buffer,
  { server }: SftpTarget,
  warn: ((message: string) => void) | undefined,
): Promise<void> {
  const remembered = await rememberHost(host, key);
  const fingerprint = fingerprintOf(key);
  const name = `${server} ${fingerprint}`;
  if (warn === undefined || warnedOf.has(name)) return;
  warnedOf.add(name);
  const fate =
    'path' in remembered
      ? `which is remembered in ${remembered.path}: another one will be refused`
      : `which cannot be remembered (${remembered.reason})`;
  warn(
    `the host key of ${server} is not checked: it is ${fingerprint}, ${fate}; ` +
      `if that is right, pin it in the replica's config with "host-key: ${hostKeyLine(key)}"`,
  );
}
