/** The dashboard's handler: who is let in, what other sites cannot do, what a response must never hold. */

import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { LitestreamError } from '../../src/base/errors.ts';
import { createLogger } from '../../src/base/logger.ts';
import {
  type DashboardHandler,
  type HandlerOptions,
  createHandler,
} from '../../src/web/dashboard/handler.ts';
import { createDashboard } from '../../src/web/dashboard/dashboard.ts';
import { parseBindAddress } from '../../src/web/bind-address.ts';
import { LocalAccess } from '../../src/web/dashboard/local-access.ts';
import { serve } from '../../src/web/serve.ts';
import { FakeSource, database } from './dashboard-rig.ts';

const ORIGIN = 'http://app.example';
const logger = createLogger({ format: 'text', level: 'ERROR', write: () => undefined });
const open: DashboardHandler[] = [];

function handler(options: Partial<HandlerOptions> = {}): DashboardHandler {
  const made = createHandler({ source: new FakeSource(), auth: 'none', logger, ...options });
  open.push(made);
  return made;
}

afterEach(async () => {
  for (const made of open.splice(0)) await made.close();
});

function get(made: DashboardHandler, path: string, headers: Record<string, string> = {}): Promise<Response> {
  return made.fetch(new Request(ORIGIN + path, { headers: { host: 'app.example', ...headers } }));
}

interface Session {
  readonly token: string;
  readonly cookie: string;
}

async function session(made: DashboardHandler, path = '/'): Promise<Session> {
  const response = await get(made, path);
  const token = /name="litestream-token" content="([^"]+)"/.exec(await response.text())?.[1] ?? '';
  return { token, cookie: response.headers.get('set-cookie')?.split(';')[0] ?? '' };
}

function post(
  made: DashboardHandler,
  path: string,
  body: object | string,
  headers: Record<string, string> = {},
): Promise<Response> {
  return made.fetch(
    new Request(ORIGIN + path, {
      method: 'POST',
      headers: { host: 'app.example', 'content-type': 'application/json', ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    }),
  );
}

function own({ token, cookie }: Session): Record<string, string> {
  return { origin: ORIGIN, 'sec-fetch-site': 'same-origin', 'x-litestream-token': token, cookie };
}

describe('the page', () => {
  test('says it all without a script, and lets nothing in', async () => {
    const response = await get(handler(), '/');
    const text = await response.text();
    expect(text).toContain('The database is stored.');
    expect(text).toContain('Back to');
    expect(text).toContain('/data/app.db');
    const policy = response.headers.get('content-security-policy') ?? '';
    expect(policy).toContain("default-src 'none'");
    expect(policy).not.toMatch(/unsafe|\*|https?:/);
    expect(text).not.toMatch(/ style=|<style|\son\w+=|javascript:/i);
    expect(text.match(/<script(?![^>]*type="application\/json")(?![^>]*\ssrc=)/)).toBeNull();
    // Nothing from other hosts, and nothing that depends on the prefix.
    expect([...text.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1])).not.toContainEqual(
      expect.stringMatching(/^(\/|https?:)/),
    );
  });

  test('escapes what the world may write', async () => {
    const evil = '/data/<script>alert(1)</script>"\'&.db';
    const reason = '</script><img src=x onerror=alert(1)>';
    const source = new FakeSource([
      database(evil, { healthy: false, state: 'failing', reason, remedy: reason }),
    ]);
    const text = await (await get(handler({ source, title: '<b>', footer: '<i>' }), '/')).text();
    expect(text).not.toMatch(/<script>alert|<img src=x|<b>|<i>/);
    const data = /<script type="application\/json" id="overview">([\s\S]*?)<\/script>/.exec(text)?.[1] ?? '';
    expect(JSON.parse(data)).toMatchObject({ status: { databases: [{ path: evil, reason }] } });
  });

  test('is put at any prefix, and redirects to where relative addresses work', async () => {
    const made = handler({ basePath: '/admin/litestream' });
    const redirect = await get(made, '/admin/litestream');
    expect([redirect.status, redirect.headers.get('location')]).toEqual([308, './litestream/']);
    const text = await (await get(made, '/admin/litestream/')).text();
    const script = /src="(assets\/dashboard-[^"]+\.js)"/.exec(text)?.[1] ?? '';
    const asset = await get(made, `/admin/litestream/${script}`);
    expect([asset.status, asset.headers.get('content-type')]).toEqual([
      200,
      'text/javascript; charset=utf-8',
    ]);
    expect(asset.headers.get('cache-control')).toContain('immutable');
    expect((await get(made, '/admin')).status).toBe(404);
    expect((await get(made, '/admin/litestreamer/')).status).toBe(404);
  });

  test('has the title, logo, style sheet and footer that were asked for', async () => {
    const made = handler({
      title: 'Shop',
      logo: '<svg id="shop"/>',
      css: 'body{color:red}',
      footer: 'Ask Ann.',
    });
    const text = await (await get(made, '/')).text();
    expect(text).toMatch(/<span\s*>\s*Shop\s*<\/span/);
    expect(text).toContain('Ask Ann.');
    const names = [...text.matchAll(/assets\/((?:own|logo)-[^"]+)/g)].map((match) => match[1] ?? '');
    const bodies = await Promise.all(names.map(async (name) => (await get(made, `/assets/${name}`)).text()));
    expect(bodies).toEqual(['body{color:red}', '<svg id="shop"/>']);
  });

  test('is small', async () => {
    const made = handler();
    const text = await (await get(made, '/')).text();
    const script = /src="(assets\/[^"]+\.js)"/.exec(text)?.[1] ?? '';
    const code = await (await get(made, `/${script}`)).text();
    expect(Buffer.byteLength(code)).toBeLessThan(100_000);
    expect(code).toContain('The MIT License');
  });
});

describe('who is let in', () => {
  const auth = { username: 'frodo', password: 'ikeptmysecrets:always ü' };
  const basic = (text: string): Record<string, string> => ({
    authorization: `Basic ${Buffer.from(text).toString('base64')}`,
  });

  test.each([
    ['nothing', {}, 401],
    ['the right password', basic('frodo:ikeptmysecrets:always ü'), 200],
    ['a wrong password', basic('frodo:ikeptmysecrets'), 401],
    ['a wrong name', basic('sam:ikeptmysecrets:always ü'), 401],
    ['no password', basic('frodo:'), 401],
    ['another scheme', { authorization: 'Bearer x' }, 401],
  ])('with %s', async (_, headers, status) => {
    const made = handler({ auth });
    for (const path of ['/', '/api/status', '/events', '/assets/icon.svg', '/download?id=job&database=x']) {
      const response = await get(made, path, headers);
      expect([path, response.status]).toEqual([path, status]);
      if (status === 401) expect(response.headers.get('www-authenticate')).toMatch(/^Basic realm=/);
      await response.body?.cancel();
    }
  });

  test('metrics and health are open', async () => {
    const made = handler({ auth });
    expect(await (await get(made, '/metrics')).text()).toBe('litestream_x 1\n');
    expect((await get(made, '/healthz')).status).toBe(200);
    expect((await get(made, '/readyz')).status).toBe(200);
  });

  test('nobody, when nothing says who', async () => {
    const made = handler({ auth: undefined });
    expect((await get(made, '/')).status).toBe(403);
    expect((await get(made, '/metrics')).status).toBe(200);
  });

  test('whom a function of the application lets in', async () => {
    const made = handler({ auth: (request) => request.headers.get('x-user') === 'ann' });
    expect((await get(made, '/')).status).toBe(403);
    expect((await get(made, '/', { 'x-user': 'ann' })).status).toBe(200);
    const broken = handler({
      auth: () => {
        throw new Error('no session store');
      },
    });
    expect((await get(broken, '/')).status).toBe(500);
  });

  test('one variable alone is a mistake, and is said', () => {
    expect(() => createDashboard({ databases: [], env: { LITESTREAM_USERNAME: 'frodo' }, logger })).toThrow(
      'set both LITESTREAM_USERNAME and LITESTREAM_PASSWORD, or neither',
    );
  });
});

describe('what other sites cannot do', () => {
  const BODY = { database: '/data/app.db' };

  test('an action of the page itself is done', async () => {
    const source = new FakeSource();
    const made = handler({ source });
    const mine = await session(made);
    expect((await post(made, '/api/snapshot', BODY, own(mine))).status).toBe(202);
    expect(source.calls).toEqual([{ path: '/snapshot', body: BODY }]);
    // A second tab has the same cookie and token.
    const again = await get(made, '/', { cookie: mine.cookie });
    expect(again.headers.get('set-cookie')).toContain(mine.cookie);
    expect(again.headers.get('set-cookie')).toMatch(/HttpOnly; SameSite=Strict$/);
  });

  test.each([
    ['without a token', (mine: Session) => ({ cookie: mine.cookie })],
    ['without a cookie', (mine: Session) => ({ 'x-litestream-token': mine.token })],
    ['with a token of its own', (mine: Session) => ({ ...own(mine), 'x-litestream-token': 'A'.repeat(32) })],
    ['from another origin', (mine: Session) => ({ ...own(mine), origin: 'http://evil.example' })],
    ['from an origin that is none', (mine: Session) => ({ ...own(mine), origin: 'null' })],
    ['across sites', (mine: Session) => ({ ...own(mine), 'sec-fetch-site': 'cross-site' })],
    ['from a sister domain', (mine: Session) => ({ ...own(mine), 'sec-fetch-site': 'same-site' })],
  ])('%s', async (_, headers) => {
    const source = new FakeSource();
    const made = handler({ source });
    const mine = await session(made);
    for (const action of ['snapshot', 'verify', 'sync', 'plan', 'restore', 'cancel']) {
      expect((await post(made, `/api/${action}`, BODY, headers(mine))).status).toBe(403);
    }
    expect(source.calls).toEqual([]);
  });

  test('behind a proxy the origin is that of the outside', async () => {
    const made = handler();
    const headers = {
      ...own(await session(made)),
      origin: 'https://shop.example',
      'x-forwarded-host': 'shop.example',
    };
    expect((await post(made, '/api/sync', BODY, headers)).status).toBe(202);
  });

  test('nothing is done by GET', async () => {
    const source = new FakeSource();
    const made = handler({ source });
    for (const action of ['snapshot', 'restore'])
      expect((await get(made, `/api/${action}`)).status).toBe(404);
    const cross = await get(made, '/download?id=job&database=x', { 'sec-fetch-site': 'cross-site' });
    expect(cross.status).toBe(403);
  });
});

describe('actions', () => {
  test('what fails is told in the words of the other side', async () => {
    const source = new FakeSource();
    source.answer = () => Promise.reject(new LitestreamError('no-backup', 'no matching backups found'));
    const made = handler({ source });
    const response = await post(made, '/api/plan', { database: '/data/app.db' }, own(await session(made)));
    expect(await response.json()).toEqual({
      error: { code: 'no-backup', message: 'no matching backups found' },
    });
    expect(response.ok).toBe(false);
  });

  test('a bug is not told in detail', async () => {
    const source = new FakeSource();
    source.answer = () => Promise.reject(new TypeError('secret-key is not a function'));
    const made = handler({ source });
    const response = await post(made, '/api/plan', { database: '/data/app.db' }, own(await session(made)));
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('secret-key');
  });

  test.each([
    ['no JSON', 'database=1', 400],
    ['no database', {}, 400],
    ['another database', { database: '/etc/passwd' }, 404],
    ['too much', { database: 'x'.repeat(20_000) }, 413],
  ])('%s is refused', async (_, body, status) => {
    const made = handler();
    expect((await post(made, '/api/verify', body, own(await session(made)))).status).toBe(status);
  });

  test('a body without an end is refused before it is read, and so is what announces one', async () => {
    const made = handler();
    const mine = own(await session(made));
    const server = await serve({
      address: parseBindAddress('127.0.0.1:0'),
      fetch: (request) => made.fetch(request),
      logger,
    });
    try {
      const headers = { 'x-litestream-token': mine['x-litestream-token'], cookie: mine['cookie'] };
      for (const length of [{}, { 'content-length': '500000000' }]) {
        const request = httpRequest(`${server.url}api/verify`, {
          method: 'POST',
          headers: { ...headers, ...length },
        });
        request.on('error', () => undefined);
        const answered = once(request, 'response') as Promise<[IncomingMessage]>;
        // Written for as long as nothing is answered.
        const chunk = Buffer.alloc(16 * 1024, ' ');
        const write = (): void => {
          if (!request.destroyed) request.write(chunk, () => setImmediate(write));
        };
        write();
        const [response] = await answered;
        expect(response.statusCode).toBe(413);
        request.destroy();
      }
    } finally {
      await server.close();
    }
  });

  test('a restored copy is downloaded under its name', async () => {
    const response = await get(handler(), '/download?id=job&database=%2Fdata%2Fapp.db');
    expect(await response.text()).toBe('SQLite format 3');
    expect(response.headers.get('content-disposition')).toBe("attachment; filename*=UTF-8''a%20%22b%22.db");
    expect((await get(handler(), '/download?id=other&database=x')).status).toBe(404);
  });

  test('to show is not to do', async () => {
    const source = new FakeSource();
    const made = handler({ source, readOnly: true });
    const mine = await session(made);
    const text = await (await get(made, '/')).text();
    expect(text).not.toMatch(/data-action|data-restore|<dialog/);
    for (const action of ['snapshot', 'plan', 'restore']) {
      expect((await post(made, `/api/${action}`, { database: '/data/app.db' }, own(mine))).status).toBe(403);
    }
    expect((await get(made, '/download?id=job&database=x')).status).toBe(403);
    expect(source.calls).toEqual([]);
  });

  test('what runs is told to all viewers, and what came of it', async () => {
    let finish: (answer: object) => void = () => undefined;
    const source = new FakeSource();
    source.answer = () => new Promise((resolve) => (finish = resolve));
    const made = handler({ source });
    const events = await get(made, '/events');
    const reader = events.body?.getReader();
    const next = async (matches: RegExp): Promise<string> => {
      let text = '';
      while (!matches.test(text)) {
        const chunk = await reader?.read();
        if (!chunk?.value) throw new Error(`the stream ended before ${String(matches)}: ${text}`);
        text += Buffer.from(chunk.value).toString('utf8');
      }
      return text;
    };
    expect(events.headers.get('content-type')).toBe('text/event-stream');
    await next(/event: live/);
    await post(made, '/api/verify', { database: '/data/app.db' }, own(await session(made)));
    await next(/"action":"verify","state":"running"/);
    finish({ result: 'ok', message: 'restores to the database' });
    await next(/"action":"verify","state":"done".*ok: restores to the database/);
    await post(made, '/api/verify', { database: '/data/app.db' }, own(await session(made)));
    await next(/"action":"verify","state":"running"/);
    finish({ result: 'failed', message: 'page 3 differs' });
    await next(/"action":"verify","state":"failed".*failed: page 3 differs/);
    await made.close();
    await expect(next(/never/)).rejects.toThrow('the stream ended');
  });
});

describe('health', () => {
  const sick = (): FakeSource => {
    const source = new FakeSource([
      database('/data/app.db', {
        state: 'starting',
        healthy: false,
        reason: 'cannot reach u@host:22 sftp://u@host/p',
      }),
    ]);
    return source;
  };
  const texts = async (made: DashboardHandler, headers: Record<string, string> = {}): Promise<string[]> =>
    Promise.all(['/healthz', '/readyz'].map(async (path) => (await get(made, path, headers)).text()));

  test('is told to strangers as yes or no, and with the reason to who is logged in', async () => {
    const auth = { username: 'frodo', password: 'mellon' };
    const basic = (text: string): Record<string, string> => ({
      authorization: `Basic ${Buffer.from(text).toString('base64')}`,
    });
    const no = ['not healthy\n', 'not ready\n'];
    const why = [expect.stringContaining('cannot reach u@host:22'), '/data/app.db is starting\n'];
    const source = sick();
    expect(await texts(handler({ source, auth }))).toEqual(no);
    expect(await texts(handler({ source, auth }), basic('frodo:guess'))).toEqual(no);
    expect(await texts(handler({ source, auth }), basic('frodo:mellon'))).toEqual(why);
    expect(await texts(handler({ source, auth: undefined }))).toEqual(no);
    // An application may leave /healthz open in front of its own login.
    expect(await texts(handler({ source, auth: 'none' }))).toEqual(no);
    expect(await texts(handler({ source, auth: new LocalAccess({ hint: 'x' }) }))).toEqual(no);
    expect(await texts(handler({ source, auth: () => false }))).toEqual(no);
    expect(await texts(handler({ source, auth: () => true }))).toEqual(why);
    expect(await texts(handler({ source, auth: () => Promise.reject(new Error('down')) }))).toEqual(no);
    source.status = () => Promise.reject(new LitestreamError('io', 'cannot read /data/secret'));
    expect((await texts(handler({ source }))).join()).not.toContain('secret');
  });

  test.each([
    ['well', {}, [200, 200]],
    ['a database is at risk', { healthy: false, reason: '/data/app.db: failing' }, [503, 200]],
    ['nothing runs', { running: false, healthy: false }, [503, 503]],
  ])('%s', async (_, changes, statuses) => {
    const source = new FakeSource();
    source.report = { ...source.report, ...changes };
    const made = handler({ source });
    const codes = [(await get(made, '/healthz')).status, (await get(made, '/readyz')).status];
    expect(codes).toEqual(statuses);
  });
});
