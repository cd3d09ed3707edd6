/** Requests to the dashboard: each has an answer, and what needs a login does nothing and tells nothing without one. */

import assert from 'node:assert/strict';
import { Logins } from '../../../src/web/dashboard/logins.ts';
import { LocalAccess } from '../../../src/web/dashboard/local-access.ts';
import { type DashboardHandler, createHandler } from '../../../src/web/dashboard/handler.ts';
import { answerUnder, baseOf, isHost, isMisleading } from '../../../src/web/fetch-handler.ts';
import { type LogLine, recordingLogger } from '../../engine/replica-rig.ts';
import { FakeSource } from '../../web/dashboard-rig.ts';
import { type FuzzTarget, bytesOf, checkLog, textOf, trait } from '../target.ts';

const TOKEN = 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA';
const CREDENTIALS = { username: 'admin', password: 'sEcReT' };
const BASIC = `Basic ${Buffer.from('admin:sEcReT').toString('base64')}`;
/** Told to everybody. */
const OPEN = ['metrics', 'healthz', 'readyz'];

interface Variant {
  readonly handler: DashboardHandler;
  readonly source: FakeSource;
  readonly base: string;
  /** Whether a request may act, by its headers. */
  readonly mayAct: (headers: Headers) => boolean;
  readonly maySee: (headers: Headers) => boolean;
}

const lines: LogLine[] = [];

function variant(
  options: Pick<Parameters<typeof createHandler>[0], 'auth' | 'readOnly' | 'basePath'>,
  may: Pick<Variant, 'mayAct' | 'maySee'>,
): Variant {
  const source = new FakeSource();
  const handler = createHandler({ ...options, source, logger: recordingLogger(lines) });
  return { handler, source, base: options.basePath ?? '', ...may };
}

function isRight(headers: Headers): boolean {
  const given = /^Basic +(\S+)$/i.exec(headers.get('authorization') ?? '')?.[1] ?? '';
  return Buffer.from(given, 'base64').toString() === 'admin:sEcReT';
}

let variants: readonly Variant[] | undefined;

function allVariants(): readonly Variant[] {
  const logins = new Logins(() => undefined);
  logins.offer();
  const [always, never] = [() => true, () => false];
  return (variants ??= [
    variant({ auth: 'none' }, { mayAct: always, maySee: always }),
    variant({ auth: 'none', readOnly: true, basePath: '/admin/x' }, { mayAct: never, maySee: always }),
    variant({ auth: CREDENTIALS }, { mayAct: isRight, maySee: isRight }),
    variant({ auth: new LocalAccess({ logins, hint: 'no' }) }, { mayAct: never, maySee: always }),
    variant({ auth: undefined }, { mayAct: never, maySee: never }),
  ]);
}

/** `METHOD ADDRESS`, headers, an empty line, the body; undefined for what no server makes a request of. */
function requestOf(text: string): { request: Request; address: string; host: string } | undefined {
  const [head = '', ...rest] = text.split('\n\n');
  const [first = '', ...fields] = head.split('\n');
  const [method = '', address = '/'] = first.split(' ');
  const headers = new Headers();
  try {
    for (const field of fields) {
      const colon = field.indexOf(':');
      headers.append(field.slice(0, colon), field.slice(colon + 1).trim());
    }
    const body = method === 'GET' || method === 'HEAD' ? null : rest.join('\n\n');
    const host = headers.get('host') ?? 'localhost';
    return { request: new Request(`http://${host}${address}`, { method, headers, body }), address, host };
  } catch {
    return undefined;
  }
}

async function checkAnswer(used: Variant, request: Request): Promise<void> {
  const { handler, source, base, mayAct, maySee } = used;
  const { headers, method } = request;
  const { pathname } = new URL(request.url);
  [lines.length, source.calls.length] = [0, 0];
  const response = await answerUnder(handler.fetch.bind(handler), request, '');
  assert(response instanceof Response);
  const { status } = response;
  trait(`${base} ${status}`);
  assert(status >= 200 && status < 600 && status !== 500, `status ${status}`);
  if (response.headers.get('content-type') === 'text/event-stream') await response.body?.cancel();
  else await response.text();
  checkLog(lines);
  assert.equal(response.headers.get('x-content-type-options'), 'nosniff');
  const isOpen = OPEN.some((name) => pathname === `${base}/${name}`);
  if (status < 300 && !isOpen) assert(maySee(headers), `${method} ${pathname} was answered`);
  if (source.calls.length === 0) return;
  assert(mayAct(headers) && method === 'POST', `${method} ${pathname} did something`);
  const cookie = headers.get('cookie') ?? '';
  const given = headers.get('x-litestream-token') ?? '';
  assert(given !== '' && cookie.includes(given), 'it did something without the token of the page');
}

/** A path that is not called misleading is the same path for who parses the whole address. */
function checkAddress(address: string, host: string, request: Request): void {
  if (!isHost(host) || isMisleading(address)) return;
  const url = new URL(`http://${host}${address}`);
  const [path = ''] = address.split('?', 1);
  assert.equal(url.pathname.split('/').length, path.split('/').length, url.pathname);
  assert.equal(decoded(url.pathname), decoded(path));
  const named = /^(.*?)(?::\d*)?$/.exec(host)?.[1] ?? '';
  // Of addresses there are many spellings.
  if (!/^[\d.x]+$|^\[|\.\d+$/i.test(named) && /^[\w.-]+$/.test(named))
    assert.equal(url.hostname, named.toLowerCase());
  assert(url.pathname.startsWith(baseOf(request, '/')));
}

function decoded(path: string): string {
  return Buffer.from(
    path.replaceAll(/%[0-9a-f]{2}/gi, (code) => String.fromCharCode(parseInt(code.slice(1), 16))),
  )
    .toString('latin1')
    .replaceAll(/[^!-~]/g, '');
}

export const target: FuzzTarget = {
  name: 'http',
  seeds: () => {
    const token = `Cookie: litestream_token=${TOKEN}\nX-Litestream-Token: ${TOKEN}`;
    return bytesOf(
      ...[
        'GET /',
        'GET /api/status\nHost: localhost',
        'HEAD /healthz',
        'GET /metrics?x=1',
        'GET /events',
        'GET /assets/icon.svg',
      ],
      ...[
        'GET /admin/x',
        'GET /admin/x/',
        'GET /download?database=/data/app.db&id=job\nOrigin: http://localhost',
      ],
      `GET /\nAuthorization: ${BASIC}`,
      `POST /api/restore\n${token}\n\n{"database":"/data/app.db"}`,
      `POST /api/sync\n${token}\nSec-Fetch-Site: same-origin\nOrigin: http://localhost\n\n{"database":"/data/app.db"}`,
      `POST /admin/x/api/plan\n${token}\n\n{"database":"/data/app.db","timestamp":"2024-01-01T00:00:00Z"}`,
      `POST /api/cancel\nAuthorization: ${BASIC}\n${token}\n\n{"database":"x"}`,
      ...[
        'GET /login?token=abc',
        'OPTIONS *',
        'DELETE /api/restore',
        'GET /\nX-Forwarded-Host: a\nForwarded: for=1',
      ],
    );
  },
  dictionary: [
    ...[
      'GET ',
      'POST ',
      'HEAD ',
      '/',
      '//',
      '/..',
      '/./',
      '%2e%2e',
      '%2f',
      '?',
      '#',
      '\\',
      '\n',
      '\n\n',
      ': ',
      'api/',
      'assets/',
    ],
    ...[
      'restore',
      'plan',
      'cancel',
      'sync',
      'snapshot',
      'verify',
      'status',
      'overview',
      'download',
      'events',
      'login',
      'metrics',
    ],
    ...[
      'Host: ',
      'Origin: ',
      'Cookie: ',
      'Authorization: ',
      'Content-Length: ',
      'Sec-Fetch-Site: ',
      'X-Litestream-Token: ',
    ],
    ...[
      `litestream_token=${TOKEN}`,
      BASIC,
      'Basic ',
      'null',
      '127.0.0.1',
      '[::1]',
      'localhost',
      'evil.example',
      '; ',
      '=',
    ],
    ...[
      '{',
      '}',
      '[]',
      '"database":',
      '"/data/app.db"',
      '"id":"job"',
      '"\\ud800"',
      '\u0000',
      '\t',
      '/admin/x',
    ],
  ],
  maxBytes: 2048,
  async run(data) {
    const made = requestOf(textOf(data));
    if (!made) return;
    const { request, address, host } = made;
    checkAddress(address, host, request);
    const all = allVariants();
    const used = all[data.byteLength % all.length];
    if (used) await checkAnswer(used, request);
  },
  close: async () => {
    for (const { handler } of variants ?? []) await handler.close();
  },
};
