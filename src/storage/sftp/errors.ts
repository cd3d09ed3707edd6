/**
 * Translates what ssh2 and SFTP servers answer into our errors: one message each that names the server and says what
 * to check. Passwords and passphrases never get through.
 */

import { LitestreamError, messageOf, systemCode } from '../../base/errors.ts';
import type { ErrorCode } from '../../base/errors.ts';
import { redacted } from '../http-failure.ts';

/** What messages say of a store. */
export interface SftpTarget {
  /** `user@host:port`. */
  readonly server: string;
  readonly user: string;
  /** The root folder on the server, as it is configured. */
  readonly root: string;
  /** Texts that must never be shown. */
  readonly secrets: readonly string[];
}

/** Status codes of SFTP version 3, and those of later versions that some servers send all the same. */
export const STATUS = {
  endOfFile: 1,
  noSuchFile: 2,
  permissionDenied: 3,
  failure: 4,
  noConnection: 6,
  connectionLost: 7,
  unsupported: 8,
  writeProtected: 12,
  noSpace: 14,
  quotaExceeded: 15,
} as const;

/** The status with which a server answered a request; undefined when something else failed. */
export function statusOf(error: unknown): number | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'number') return error.code;
  return undefined;
}

/**
 * @param what - the operation and its object, for example `put generations/…`.
 * @param signal - the caller's: when it has fired, the failure is its doing.
 */
export function sftpError(
  error: unknown,
  what: string,
  target: SftpTarget,
  signal?: AbortSignal,
): LitestreamError {
  if (signal?.aborted === true) return new LitestreamError('aborted', `${what}: the operation was aborted`);
  if (error instanceof LitestreamError) {
    return new LitestreamError(error.code, `${what}: ${error.message}`, { cause: error });
  }
  const [code, advice] = explainStatus(error, what, target);
  return new LitestreamError(code, `${what}: ${advice}`, { cause: error });
}

function explainStatus(error: unknown, what: string, target: SftpTarget): [ErrorCode, string] {
  const text = redacted(messageOf(error), target.secrets);
  const place = `${target.server}, folder "${target.root}"`;
  switch (statusOf(error)) {
    case STATUS.noSuchFile:
      return ['not-found', `no such file on ${place}`];
    case STATUS.permissionDenied:
      return [
        'permission',
        `permission denied on ${place}: allow user "${target.user}" to ${neededFor(what)}`,
      ];
    case STATUS.noSpace:
    case STATUS.quotaExceeded:
      return ['disk-full', noSpace(target)];
    case STATUS.writeProtected:
      return ['permission', readOnly(target)];
    case STATUS.noConnection:
    case STATUS.connectionLost:
      return ['unavailable', `${target.server} lost its connection (${text})`];
    case STATUS.unsupported:
      return ['unsupported', `${target.server} cannot do this (${text})`];
    case STATUS.failure:
      break;
    default:
      return ['io', `request to ${target.server} failed (${text})`];
  }
  // Servers other than OpenSSH's put the reason into the text.
  if (/no space|quota|disk full/i.test(text)) return ['disk-full', noSpace(target)];
  if (/read-only/i.test(text)) return ['permission', readOnly(target)];
  const causes = 'a full quota, a read-only file system or a file where a folder is needed are usual causes';
  return ['io', `${place} failed without a reason: ${causes} (${text})`];
}

/** What to allow. */
function neededFor(what: string): string {
  if (what.startsWith('put ')) return 'make, rename and remove files and folders there';
  if (what.startsWith('delete ')) return 'remove files and folders there';
  return 'read there';
}

/** The advice for a server without space. */
export function noSpace(target: SftpTarget): string {
  return `no space left on ${target.server}, folder "${target.root}", or in the user's quota: free some`;
}

/** The advice for a server that cannot be written to. */
export function readOnly(target: SftpTarget): string {
  return `the file system of ${target.server}, folder "${target.root}", is read-only: mount it writable or choose another path`;
}

/** What is known of an attempt to connect, for the message of its failure. */
export interface Attempt {
  readonly connectMs: number;
  /** What was offered to log in with, for example `password`. */
  readonly offered: readonly string[];
  /** What the server takes, once it said so. */
  accepted: readonly string[] | undefined;
  /** What the agent answered, when it failed. */
  agentFailure: string | undefined;
}

/** The time for a connection was over. */
export class ConnectTimeout extends Error {}

/** The error of a connection that could not be made. */
export function connectError(error: unknown, target: SftpTarget, attempt: Attempt): LitestreamError {
  if (error instanceof LitestreamError) return error;
  const text = redacted(messageOf(error), target.secrets);
  const cause = { cause: error };
  const { server } = target;
  const level = error instanceof Error && 'level' in error ? error.level : undefined;
  if (level === 'client-authentication') {
    return new LitestreamError('permission', loginRefused(target, attempt), cause);
  }
  if (error instanceof ConnectTimeout) {
    const advice = 'check host, port, firewall and the network';
    const message = `cannot reach ${server}: no login within ${attempt.connectMs / 1000} s; ${advice}`;
    return new LitestreamError('timeout', message);
  }
  if (/subsystem/i.test(text)) {
    const advice = 'enable the sftp subsystem on the server (Subsystem sftp internal-sftp)';
    return new LitestreamError('unsupported', `${server} offers no SFTP: ${advice} (${text})`, cause);
  }
  if (/no matching/i.test(text)) {
    const advice = 'its ssh settings share no algorithm with this client: allow current ones on the server';
    return new LitestreamError('unsupported', `cannot talk to ${server}: ${advice} (${text})`, cause);
  }
  if (/identification|protocol version|bad packet|packet length/i.test(text)) {
    const advice = 'no SSH server answers there: check host and port';
    return new LitestreamError('config', `cannot talk to ${server}: ${advice} (${text})`, cause);
  }
  const detail = text === '' ? (systemCode(error) ?? 'no reason given') : text;
  const message = `cannot reach ${server}: check host, port and the network (${detail})`;
  return new LitestreamError('unavailable', message, cause);
}

function loginRefused(target: SftpTarget, { offered, accepted, agentFailure }: Attempt): string {
  const takes = accepted === undefined || accepted.length === 0 ? '' : `; it takes ${accepted.join(', ')}`;
  const agent =
    agentFailure === undefined ? '' : `; the agent failed: ${redacted(agentFailure, target.secrets)}`;
  return (
    `${target.server} refused the login: check user, password and key-path ` +
    `(offered ${offered.join(', ')}${takes}${agent})`
  );
}
