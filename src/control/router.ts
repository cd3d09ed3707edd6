/** What the control socket can be asked: a table of routes. Requests and answers are JSON; errors have a code and a message. */

import { type ErrorCode, LitestreamError, hasCode, messageOf } from '../base/errors.ts';

export interface ControlRequest {
  /** The decoded JSON object; empty without a body. */
  readonly body: Readonly<Record<string, unknown>>;
  /** Fires when whoever asked has gone. */
  readonly signal: AbortSignal;
}

export interface Route {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  /** What it gives is sent as JSON, or as a file. What it throws becomes an error with the code. */
  readonly handle: (request: ControlRequest) => Promise<object> | object;
}

/** The content type of a file, by which it is told from an answer in JSON. */
export const FILE_TYPE = 'application/octet-stream';

/** A file as the answer, sent as it is in place of JSON. */
export class FileAnswer {
  readonly path: string;
  /** What it is to be called by who saves it. */
  readonly name: string;

  constructor(path: string, name: string) {
    this.path = path;
    this.name = name;
  }
}

export interface ControlError {
  readonly error: { readonly code: ErrorCode | 'internal'; readonly message: string };
}

const STATUS_OF_CODE: Partial<Record<ErrorCode, number>> = {
  usage: 400,
  config: 409,
  'not-found': 404,
  'no-backup': 404,
  exists: 409,
  permission: 403,
  busy: 409,
  unsupported: 405,
  unavailable: 503,
  timeout: 504,
  aborted: 503,
};

/** The answer to a request that was read. Never rejects. */
export async function answer(
  routes: readonly Route[],
  method: string,
  path: string,
  request: ControlRequest,
): Promise<{ status: number; body: object }> {
  try {
    return { status: 200, body: await findRoute(routes, method, path).handle(request) };
  } catch (error) {
    return errorAnswer(error);
  }
}

export function errorAnswer(error: unknown): { status: number; body: ControlError } {
  const code = error instanceof LitestreamError ? error.code : 'internal';
  const status = hasCode(error, 'usage') && /too large/.test(error.message) ? 413 : undefined;
  return {
    status: status ?? (code === 'internal' ? 500 : (STATUS_OF_CODE[code] ?? 500)),
    body: { error: { code, message: messageOf(error) } },
  };
}

/** @throws LitestreamError 'not-found' or 'unsupported' */
export function findRoute(routes: readonly Route[], method: string, path: string): Route {
  const there = routes.filter((route) => route.path === path);
  const route = there.find((candidate) => candidate.method === method);
  if (route) return route;
  if (there.length > 0) throw new LitestreamError('unsupported', `${path} does not take ${method}`);
  const known = routes.map((candidate) => `${candidate.method} ${candidate.path}`).join(', ');
  throw new LitestreamError('not-found', `no ${path} here: there is ${known}`);
}

/** A field of the body. @throws LitestreamError 'usage' when it is of another type */
export function stringField(body: ControlRequest['body'], name: string): string | undefined {
  return field(body, name, 'string') as string | undefined;
}

export function booleanField(body: ControlRequest['body'], name: string): boolean | undefined {
  return field(body, name, 'boolean') as boolean | undefined;
}

export function numberField(body: ControlRequest['body'], name: string): number | undefined {
  return field(body, name, 'number') as number | undefined;
}

function field(body: ControlRequest['body'], name: string, type: 'string' | 'boolean' | 'number'): unknown {
  const value = body[name];
  if (value === undefined || typeof value === type) return value;
  throw new LitestreamError('usage', `${name} must be a ${type}`);
}
