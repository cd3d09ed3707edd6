/** Asks a running `replicate` on its control socket. */

import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import { type ErrorCode, LitestreamError, messageOf, systemCode } from '../base/errors.ts';
import type { ControlError } from './router.ts';

export interface ControlCall {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: object | undefined;
  /** When it fires, the call rejects with 'timeout' or 'aborted' and the other side is told by the lost connection. */
  readonly signal: AbortSignal;
}

/** Why the socket could not be asked. The other codes are those of what was asked for. */
export type Unreachable =
  /** There is no socket. */
  | 'absent'
  /** There is one, and nobody listens. */
  | 'dead'
  /** This user must not connect. */
  | 'forbidden'
  /** It does not answer in time. */
  | 'silent';

/** A socket that could not be asked. */
export class UnreachableError extends LitestreamError {
  readonly why: Unreachable;

  constructor(why: Unreachable, code: ErrorCode, message: string) {
    super(code, message);
    this.why = why;
  }
}

/**
 * One call; gives the decoded answer.
 * @throws UnreachableError, or LitestreamError with the code and message that the other side gave
 */
export async function callControl(socketPath: string, call: ControlCall): Promise<unknown> {
  const { status, text } = await exchange(socketPath, call);
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch (error) {
    throw new LitestreamError(
      'io',
      `${socketPath} answers with something that is not JSON: ${messageOf(error)}`,
    );
  }
  if (status === 200) return body;
  const { error } = body as Partial<ControlError>;
  const code = error?.code === undefined || error.code === 'internal' ? 'io' : error.code;
  throw new LitestreamError(code, error?.message ?? `${socketPath} answers ${status}`);
}

function exchange(
  socketPath: string,
  { method, path, body, signal }: ControlCall,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => reject(translate(error, socketPath, signal));
    const request = httpRequest({ socketPath, method, path, signal, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => (text += chunk));
      response.on('error', fail);
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    request.on('error', fail);
    if (body === undefined) request.end();
    else request.setHeader('content-type', 'application/json').end(JSON.stringify(body));
  });
}

function translate(error: Error, path: string, signal: AbortSignal): LitestreamError {
  if (signal.aborted) {
    const timedOut = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError';
    return timedOut
      ? new UnreachableError('silent', 'timeout', `no answer in time on ${path}`)
      : new LitestreamError('aborted', `the question on ${path} was given up`);
  }
  switch (systemCode(error)) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new UnreachableError('absent', 'not-found', `there is no socket at ${path}`);
    case 'ECONNREFUSED':
      return new UnreachableError('dead', 'unavailable', `nobody listens on ${path}`);
    case 'EACCES':
    case 'EPERM':
      return new UnreachableError('forbidden', 'permission', `this user must not use ${path}`);
    default:
      return new UnreachableError('silent', 'unavailable', `${path}: ${messageOf(error)}`);
  }
}

/** Whether somebody listens on a socket. */
export function connects(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    // Refused: its process is dead. Anything else is not for us to take away.
    socket.on('error', (error) => resolve(!['ECONNREFUSED', 'ENOENT'].includes(systemCode(error) ?? '')));
  });
}
