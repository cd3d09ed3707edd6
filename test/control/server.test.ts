/** The control socket against clients of every kind: it answers or hangs up, and nothing else comes of it. */

import {
  chmodSync,
  linkSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { type Server, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { UnreachableError, callControl } from '../../src/control/client.ts';
import { type ControlRequest, type Route, stringField } from '../../src/control/router.ts';
import { replicationRoutes } from '../../src/control/routes.ts';
import { type ControlServer, startControlServer } from '../../src/control/server.ts';
import { recordingLogger, until } from '../engine/replica-rig.ts';

let directory: string;
let path: string;
let server: ControlServer;
let others: Server[];
let held: ControlRequest[];

const ROUTES: Route[] = [
  { method: 'GET', path: '/status', handle: () => ({ fine: true }) },
  { method: 'POST', path: '/echo', handle: ({ body }) => ({ name: stringField(body, 'name') ?? null }) },
  {
    method: 'POST',
    path: '/hold',
    handle(request) {
      held.push(request);
      return new Promise(() => undefined);
    },
  },
  {
    method: 'POST',
    path: '/fail',
    handle() {
      throw new LitestreamError('busy', 'not now');
    },
  },
  {
    method: 'POST',
    path: '/bug',
    handle() {
      throw new TypeError('x is not a function');
    },
  },
];

const start = (): Promise<ControlServer> =>
  startControlServer({ path, permissions: 0o600, routes: ROUTES, logger: recordingLogger([]) });

function call(method: 'GET' | 'POST', to: string, body?: object): Promise<unknown> {
  return callControl(path, { method, path: to, body, signal: AbortSignal.timeout(5000) });
}

/** Sends bytes and gives what comes back until the other side hangs up. */
function raw(bytes: string | Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(path, () => socket.end(bytes));
    socket.on('data', (data) => (text += data.toString('latin1')));
    socket.on('error', () => resolve(text));
    socket.on('close', () => resolve(text));
  });
}

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'control-'));
  path = join(directory, 'control.sock');
  [held, others] = [[], []];
  server = await start();
});

afterEach(async () => {
  await server.close();
  for (const other of others) other.close();
  rmSync(directory, { recursive: true });
});

describe('the socket', () => {
  it('has its permissions from the first moment, without a umask for all threads', async () => {
    const umask = vi.spyOn(process, 'umask');
    const other = await startControlServer({
      path: join(directory, 'other.sock'),
      permissions: 0o660,
      routes: ROUTES,
      logger: recordingLogger([]),
    });
    expect(umask).not.toHaveBeenCalled();
    umask.mockRestore();
    expect(statSync(other.path).mode & 0o777).toBe(0o660);
    expect(readdirSync(directory).sort()).toEqual(['control.sock', 'other.sock']);
    await other.close();
  });
});

describe('a question', () => {
  it('is answered, or refused with a code and a message', async () => {
    expect(await call('GET', '/status')).toEqual({ fine: true });
    expect(await call('POST', '/echo', { name: 'a' })).toEqual({ name: 'a' });
    expect(await call('POST', '/echo')).toEqual({ name: null });
    const refused = async (method: 'GET' | 'POST', to: string, body?: object): Promise<string[]> => {
      const error = (await call(method, to, body).catch((thrown: unknown) => thrown)) as LitestreamError;
      return [error.code, error.message];
    };
    expect(await refused('POST', '/fail')).toEqual(['busy', 'not now']);
    expect(await refused('POST', '/bug')).toEqual(['io', 'x is not a function']);
    expect(await refused('POST', '/echo', { name: 1 })).toEqual(['usage', 'name must be a string']);
    expect(await refused('POST', '/status')).toEqual(['unsupported', '/status does not take POST']);
    expect((await refused('GET', '/nothing'))[1]).toContain(
      'no /nothing here: there is GET /status, POST /echo',
    );
    expect(await refused('POST', '/echo', { name: 'x'.repeat(70_000) })).toEqual([
      'usage',
      'the request is too large',
    ]);
  });

  it.each([
    ['POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n{x}', /^HTTP\/1\.1 400 .*not JSON/s],
    [
      'POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]',
      /^HTTP\/1\.1 400 .*must be a JSON object/s,
    ],
    ['nonsense\r\n\r\n', /^HTTP\/1\.1 400 /],
    [`GET / HTTP/1.1\r\nX: ${'x'.repeat(100_000)}\r\n\r\n`, /^HTTP\/1\.1 400 |^$/],
    ['POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{', /^HTTP\/1\.1 \d00 |^$/],
  ])('that is malformed gets a clear answer, %#', async (bytes, answer) => {
    expect(await raw(bytes)).toMatch(answer);
    expect(await call('GET', '/status')).toEqual({ fine: true });
  });

  it('of any bytes does no harm', async () => {
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (bytes) => {
        await raw(bytes);
      }),
      { numRuns: 50 },
    );
    expect(await call('GET', '/status')).toEqual({ fine: true });
  });

  it('whose asker has gone is over', async () => {
    const asker = new AbortController();
    const asked = callControl(path, { method: 'POST', path: '/hold', signal: asker.signal });
    await until('it is asked', () => held.length === 1);
    asker.abort();
    await expect(asked).rejects.toMatchObject({ code: 'aborted' });
    await until('it is told', () => held[0]?.signal.aborted === true);
  });

  it('is given up after its time', async () => {
    const signal = AbortSignal.timeout(50);
    await expect(callControl(path, { method: 'POST', path: '/hold', signal })).rejects.toMatchObject({
      code: 'timeout',
      why: 'silent',
    });
  });
});

describe('the socket', () => {
  it('is for its user alone', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  it('that a dead process has left is replaced; one that is in use, or no socket, is not', async () => {
    await expect(start()).rejects.toMatchObject({ code: 'busy' });
    await server.close();
    // What a killed process leaves behind: bound, and nobody listens.
    const dead = join(directory, 'dead.sock');
    const other = createServer().listen(dead);
    others.push(other);
    await until('it listens', () => other.listening);
    linkSync(dead, path);
    other.close();
    expect(statSync(path).isSocket()).toBe(true);
    server = await start();
    expect(await call('GET', '/status')).toEqual({ fine: true });
    await server.close();
    expect(statSync(path, { throwIfNoEntry: false })).toBeUndefined();
    writeFileSync(path, 'a file');
    await expect(start()).rejects.toMatchObject({ code: 'exists' });
    unlinkSync(path);
  });

  it('is left alone at the end when it is another one by now', async () => {
    rmSync(path);
    const newer = await start();
    await server.close();
    expect(await call('GET', '/status')).toEqual({ fine: true });
    server = newer;
  });

  it('that is absent is told from one that is dead', async () => {
    // A socket that outlives its server.
    linkSync(path, `${path}.kept`);
    await server.close();
    await expect(call('GET', '/status')).rejects.toMatchObject({ why: 'absent' });
    path = `${path}.kept`;
    const error: unknown = await call('GET', '/status').catch((thrown: unknown) => thrown);
    expect(error).toBeInstanceOf(UnreachableError);
    expect(error).toMatchObject({ why: 'dead' });
  });

  it.skipIf(process.getuid?.() === 0)('that is not for this user is told', async () => {
    chmodSync(path, 0);
    await expect(call('GET', '/status')).rejects.toMatchObject({ why: 'forbidden' });
  });
});

describe('POST /sync', () => {
  it('waits, or begins; says what is missing; ends when the asker goes', async () => {
    const calls: { path: string | undefined; signal: AbortSignal }[] = [];
    let end: (error?: Error) => void = () => undefined;
    const routes = replicationRoutes(
      {
        status: () => [],
        sync: (database, signal) =>
          new Promise((resolve, reject) => {
            calls.push({ path: database, signal });
            end = (error) => (error ? reject(error) : resolve());
          }),
        verify: () => Promise.resolve([]),
        release: () => Promise.resolve(),
      },
      { version: 'v1', pid: 1, startedAt: '2026-01-01T00:00:00.000Z' },
    );
    const sync = async (body: object, signal = new AbortController().signal): Promise<unknown> =>
      routes.find((route) => route.path === '/sync')?.handle({ body: { ...body }, signal });
    const waiting = sync({ database: '/a' });
    end();
    expect(await waiting).toEqual({ stored: true });
    expect(await sync({ wait: false })).toEqual({ stored: false });
    end(new LitestreamError('timeout', 'too late for anybody'));
    const failing = sync({});
    end(new LitestreamError('timeout', 'wal from x is not stored'));
    await expect(failing).rejects.toThrow('wal from x is not stored');
    const asker = new AbortController();
    void sync({}, asker.signal);
    expect(calls.at(-1)?.signal.aborted).toBe(false);
    asker.abort();
    expect(calls.at(-1)?.signal.aborted).toBe(true);
    await expect(sync({ timeoutMs: 0 })).rejects.toMatchObject({ code: 'usage' });
    await expect(sync({ timeoutMs: '1s' })).rejects.toMatchObject({ code: 'usage' });
    expect(calls.map(({ path: database }) => database)).toEqual(['/a', undefined, undefined, undefined]);
  });
});
