/** Bytes on the control socket and on the web server's: they are answered or the connection is closed, and others are served. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { type NetConnectOpts, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isMainThread } from 'node:worker_threads';
import { LitestreamError } from '../../../src/base/errors.ts';
import { restoreRoutes } from '../../../src/control/dashboard-routes.ts';
import { DirectReader } from '../../../src/control/replica-reader.ts';
import { RestoreJobs } from '../../../src/control/restore-jobs.ts';
import { type ControlRequest, type Route, answer } from '../../../src/control/router.ts';
import { replicationRoutes } from '../../../src/control/routes.ts';
import { type ControlServer, startControlServer } from '../../../src/control/server.ts';
import { DATABASE_DEFAULTS } from '../../../src/engine/options.ts';
import { createHandler } from '../../../src/web/dashboard/handler.ts';
import { type WebServer, serve } from '../../../src/web/serve.ts';
import { type LogLine, recordingLogger } from '../../engine/replica-rig.ts';
import { FakeSource } from '../../web/dashboard-rig.ts';
import { type FuzzTarget, bytesOf, checkLog, textOf, trait } from '../target.ts';

const DATABASE = '/nowhere/app.db';
const lines: LogLine[] = [];
const logger = recordingLogger(lines);

const gone = (): never => {
  throw new LitestreamError('unavailable', 'the store is not there');
};

const jobs = new RestoreJobs({
  databases: [{ ...DATABASE_DEFAULTS, path: DATABASE, replicas: [] }],
  reader: new DirectReader(gone),
  logger,
});

const routes: readonly Route[] = [
  ...restoreRoutes(jobs),
  ...replicationRoutes(
    {
      status: () => [],
      sync: (path) =>
        path === DATABASE ? Promise.resolve() : Promise.reject(new LitestreamError('not-found', 'no')),
      release: () => Promise.resolve(),
      verify: () => Promise.resolve([]),
    },
    { version: 'v1', pid: 1, startedAt: '2024-01-01T00:00:00.000Z' },
  ),
];

interface Servers {
  readonly folder: string;
  readonly control: ControlServer;
  readonly web: WebServer;
}

let opened: Promise<Servers> | undefined;

async function open(): Promise<Servers> {
  // A thread must not change the umask of its process, and this one needs no other.
  if (!isMainThread) Object.assign(process, { umask: () => 0o022 });
  const folder = mkdtempSync(join(tmpdir(), 'fuzz-'));
  const control = await startControlServer({ path: join(folder, 's'), permissions: 0o600, routes, logger });
  const handler = createHandler({ source: new FakeSource(), auth: 'none', logger });
  const address = { host: '127.0.0.1', port: 0, text: '127.0.0.1:0' };
  const fetch = (request: Request): Promise<Response> => handler.fetch(request);
  return { folder, control, web: await serve({ address, fetch, logger }) };
}

/** What comes back for some bytes, until the other side hangs up. */
function raw(to: NetConnectOpts, bytes: Uint8Array): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const socket = connect(to, () => socket.end(bytes));
    socket.on('data', (data) => {
      text += data.toString('latin1');
      // Events never end.
      if (/content-type: text\/event-stream/i.test(text)) socket.destroy();
    });
    socket.on('error', () => resolve(text));
    socket.on('close', () => resolve(text));
  });
}

/** Each answer has a status that is no failure of ours. */
function checkText(text: string): void {
  trait(text.slice(0, 12));
  const first = /^HTTP\/1\.1 (\d{3}) /.exec(text)?.[1];
  assert(text === '' || first !== undefined, 'the answer is none');
  assert.notEqual(first, '500', text.slice(0, 600));
}

/** `METHOD PATH` and a body in JSON, past the server. */
async function checkRoutes(text: string): Promise<void> {
  const [, method = '', path = '', json = ''] = /^(\w*) ?(\S*)[^{]*(.*)$/s.exec(text) ?? [];
  let body: unknown;
  try {
    body = JSON.parse(json);
  } catch {
    return;
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return;
  const request = { body, signal: AbortSignal.timeout(600_000) } as ControlRequest;
  const { status, body: result } = await answer(routes, method, path, request);
  trait(`${routes.some((route) => route.path === path) ? path : ''} ${status}`);
  assert(status >= 200 && status < 600 && status !== 500, JSON.stringify(result));
  for (const { outputPath } of jobs.list()) {
    assert(/^\/nowhere\/app\.db[-._ ][^/]+$/.test(outputPath), outputPath);
    assert(!/-(wal|shm|journal)$/i.test(outputPath), outputPath);
  }
  await jobs.close();
}

export const target: FuzzTarget = {
  name: 'sockets',
  seeds: () => {
    const head = 'HTTP/1.1\r\nHost: localhost\r\n';
    const post = (path: string, body: string): string =>
      `POST ${path} ${head}Content-Length: ${body.length}\r\n\r\n${body}`;
    return bytesOf(
      ...[`GET /status ${head}\r\n`, `GET / ${head}Connection: close\r\n\r\n`, `HEAD /metrics ${head}\r\n`],
      post('/sync', `{"database":"${DATABASE}","wait":false,"timeoutMs":1000}`),
      post(
        '/restore',
        `{"database":"${DATABASE}","fileName":"app.db-copy.db","timestamp":"2024-01-01T00:00:00Z"}`,
      ),
      post('/verify', `{"database":"${DATABASE}","depth":"latest","replica":"r"}`),
      post('/plan', `{"database":"${DATABASE}","replica":"none"}`),
      post('/download', '{"id":"x"}'),
      post('/api/restore', '{"database":"x"}'),
      `POST /release ${head}Transfer-Encoding: chunked\r\n\r\n5\r\n{"dat\r\n0\r\n\r\n`,
      ...[
        `GET * ${head}\r\n`,
        `GET http://other/ ${head}\r\n`,
        'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
        '\u0016\u0003\u0001',
      ],
    );
  },
  dictionary: [
    ...[
      'GET ',
      'POST ',
      ' HTTP/1.1\r\n',
      ' HTTP/1.0\r\n',
      '\r\n',
      '\r\n\r\n',
      'Host: ',
      'Content-Length: 5',
      'Expect: 100-continue',
    ],
    ...[
      'Transfer-Encoding: chunked',
      'Connection: keep-alive',
      'Upgrade: h2c',
      '/status',
      '/sync',
      '/restore',
      '/plan',
      '/cancel',
    ],
    ...[
      '/jobs',
      '/download',
      '/verify',
      '/release',
      '"database":',
      `"${DATABASE}"`,
      '"fileName":',
      '"app.db-copy.db"',
      '"replica":',
    ],
    ...[
      '"timestamp":',
      '"2024-01-01T00:00:00Z"',
      '"+275760-09-13T00:00:00Z"',
      '"timeoutMs":',
      '1e999',
      'null',
      '{}',
      '[]',
      'true',
    ],
    ...[
      '.restored-1',
      '-wal',
      '../',
      '\\u0000',
      '\\ud800',
      '"__proto__":',
      '"wait":',
      '"depth":',
      '"all"',
      '%',
      '#',
      '?',
    ],
  ],
  maxBytes: 2048,
  async run(data) {
    lines.length = 0;
    await checkRoutes(textOf(data).replaceAll('\r\n', ' '));
    // A connection costs as much as many requests.
    if (data.byteLength % 4 !== 0) return;
    const { control, web } = await (opened ??= open());
    const to =
      data.byteLength % 8 === 0
        ? { path: control.path }
        : { host: '127.0.0.1', port: Number(new URL(web.url).port) };
    checkText(await raw(to, data));
    checkLog(lines);
  },
  close: async () => {
    if (!opened) return;
    const { folder, control, web } = await opened;
    await control.close();
    await web.close();
    rmSync(folder, { recursive: true });
  },
};
