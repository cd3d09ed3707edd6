/** Asks a running `replicate` on its control socket. */

import { request as httpRequest } from 'node:http';
import { connect } from 'node:net';
import type { Readable } from 'node:stream';
import { isTimeout } from '../base/concurrency.ts';
import { type ErrorCode, LitestreamError, messageOf, systemCode } from '../base/errors.ts';
import type { ControlError } from './router.ts';

/** The status of many thousand databases fits. */
const MAX_ANSWER_LENGTH = 64 * 1024 * 1024;

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
  if (status === 200) return decode(text, socketPath);
  throw errorOf(status, text, socketPath);
}

/** A file that the other side sends. */
export interface ControlFile {
  readonly sizeBytes: number;
  /** To be read to its end, or destroyed. */
  readonly stream: Readable;
}

/** A call that is answered with a file. @throws as callControl() */
export function fetchFile(socketPath: string, call: ControlCall): Promise<ControlFile> {
  const { method, path, body, signal } = call;
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => reject(translate(error, socketPath, signal));
    const request = httpRequest({ socketPath, method, path, signal, agent: false }, (response) => {
      if (response.statusCode === 200) {
        resolve({ sizeBytes: Number(response.headers['content-length'] ?? 0), stream: response });
        return;
      }
      collect(response).then((text) => reject(errorOf(response.statusCode ?? 0, text, socketPath)), fail);
    });
    request.on('error', fail);
    request.setHeader('content-type', 'application/json').end(JSON.stringify(body ?? {}));
  });
}

async function collect(response: Readable): Promise<string> {
  let text = '';
  for await (const chunk of response.setEncoding('utf8') as AsyncIterable<string>) {
    text += chunk;
    if (text.length > MAX_ANSWER_LENGTH)
      throw new Error(`an answer of more than ${MAX_ANSWER_LENGTH} characters`);
  }
  return text;
}

function errorOf(status: number, text: string, socketPath: string): LitestreamError {
  const { error } = decode(text, socketPath) as Partial<ControlError>;
  const code = error?.code === undefined || error.code === 'internal' ? 'io' : error.code;
  return new LitestreamError(code, error?.message ?? `${socketPath} answers ${status}`);
}

function decode(text: string, socketPath: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new LitestreamError(
      'io',
      `${socketPath} answers with something that is not JSON: ${messageOf(error)}`,
    );
  }
}

function exchange(
  socketPath: string,
  { method, path, body, signal }: ControlCall,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error): void => reject(translate(error, socketPath, signal));
    const request = httpRequest({ socketPath, method, path, signal, agent: false }, (response) => {
      collect(response).then((text) => resolve({ status: response.statusCode ?? 0, text }), fail);
    });
    request.on('error', fail);
    if (body === undefined) request.end();
    else request.setHeader('content-type', 'application/json').end(JSON.stringify(body));
  });
}

function translate(error: Error, path: string, signal: AbortSignal): LitestreamError {
  if (signal.aborted) {
    return isTimeout(signal)
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
