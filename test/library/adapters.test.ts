/** One fetch-style handler under every framework: prefixes, bodies, streams, disconnects, errors; and the real dashboard. */

import { type AddressInfo, connect } from 'node:net';
import {
  type IncomingMessage,
  type RequestListener,
  type Server,
  createServer,
  request as httpRequest,
} from 'node:http';
import { once } from 'node:events';
import express from 'express';
import fastify from 'fastify';
import { Hono } from 'hono';
import Koa from 'koa';
import { afterEach, describe, expect, it } from 'vitest';
import * as expressAdapter from '../../src/library/adapters/express.ts';
import { dashboard as fastifyDashboard, toFastifyPlugin } from '../../src/library/adapters/fastify.ts';
import type { FetchHandler } from '../../src/web/fetch-handler.ts';
import { dashboard as honoDashboard, toHonoHandler } from '../../src/library/adapters/hono.ts';
import { dashboard as koaDashboard, toKoaMiddleware } from '../../src/library/adapters/koa.ts';
import * as nextAdapter from '../../src/library/adapters/next.ts';
import {
  createDashboard,
  dashboard as nodeDashboard,
  toNodeHandler,
} from '../../src/library/adapters/node.ts';
import { until } from '../support/process.ts';

const CHUNK = Buffer.alloc(64 * 1024, 'x');
/** An end also for what is read without regard to its reader. */
const MOST_CHUNKS = 2000;

/** What the handler was asked, and how its streams fared. */
interface Seen {
  cancelled: number;
  chunks: number;
  aborted: number;
}

function echo(seen: Seen): FetchHandler {
  return async (request) => {
    const { pathname, search } = new URL(request.url);
    request.signal.addEventListener('abort', () => seen.aborted++);
    switch (pathname) {
      case '/fail':
        throw new Error('secret detail');
      case '/endless':
        return stream(seen, 'application/octet-stream', () => CHUNK);
      case '/events':
        return stream(seen, 'text/event-stream', async () => {
          await new Promise((resolve) => setTimeout(resolve, 20));
          return Buffer.from('data: tick\n\n');
        });
      default: {
        const body = request.method === 'POST' ? await request.text() : '';
        const headers = new Headers({ 'x-method': request.method, 'content-type': 'text/plain' });
        headers.append('set-cookie', 'a=1');
        headers.append('set-cookie', 'b=2');
        return new Response(`${pathname}${search} ${body}`, { status: 201, headers });
      }
    }
  };
}

function stream(seen: Seen, contentType: string, next: () => Uint8Array | Promise<Uint8Array>): Response {
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      seen.chunks++;
      if (seen.chunks > MOST_CHUNKS) controller.close();
      else controller.enqueue(await next());
    },
    cancel: () => {
      seen.cancelled++;
    },
  });
  return new Response(body, { headers: { 'content-type': contentType } });
}

const servers: Server[] = [];

afterEach(() => {
  for (const server of servers.splice(0)) {
    server.close();
    server.closeAllConnections();
  }
});

async function listen(listener: RequestListener | Server): Promise<{ server: Server; url: string }> {
  const server = typeof listener === 'function' ? createServer(listener) : listener;
  servers.push(server);
  if (!server.listening) server.listen(0, '127.0.0.1');
  if (!server.listening) await once(server, 'listening');
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** The answer to a request as it is written here, which no client would send. */
async function raw(server: Server, target: string, host: string, more = ''): Promise<string> {
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  socket.write(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\n${more}Connection: close\r\n\r\n`);
  let answer = '';
  socket.on('data', (data: Buffer) => (answer += data.toString()));
  await once(socket, 'close');
  return answer;
}

/** What makes another address of `http://HOST/admin/board/open`. */
const MOVING_HOSTS = [
  'x/admin/board/secret?',
  'x?/admin/board/secret',
  'x#/admin/board/secret',
  'x/admin/board/secret#',
  'y@x',
  'x\\admin\\board\\secret?',
  '',
];

const MOVING_TARGETS = ['open/../secret', 'open/%2e%2E/secret', 'open\\..\\secret', 'secret#/open'];

/** Express tells an error handler by its four parameters. */
const answer500: express.ErrorRequestHandler = (_error, _request, response, next) => {
  if (response.headersSent) next();
  else response.status(500).send('internal server error');
};

/** Mounted at /admin/board, in front of a route of the application's own. */
const FRAMEWORKS: Record<string, (handler: FetchHandler) => Promise<{ server: Server; url: string }>> = {
  'node:http': (handler) => listen(toNodeHandler(handler, { base: '/admin/board' })),
  Express: (handler) => {
    const app = express();
    const admin = express.Router();
    admin.use('/board', expressAdapter.toNodeHandler(handler));
    app.use('/admin', admin);
    app.use(answer500);
    return listen(createServer(app));
  },
  'Express with a body parser': (handler) => {
    const app = express();
    app.use(express.json(), express.urlencoded());
    app.use('/admin/board', expressAdapter.toNodeHandler(handler));
    app.use(answer500);
    return listen(createServer(app));
  },
  Fastify: async (handler) => {
    const app = fastify();
    await app.register(toFastifyPlugin(handler), { prefix: '/admin/board' });
    await app.listen({ port: 0, host: '127.0.0.1' });
    return listen(app.server);
  },
  Hono: (handler) => {
    const app = new Hono();
    const admin = new Hono();
    admin.all('/board/*', toHonoHandler(handler, '/board'));
    app.route('/admin', admin);
    app.onError((_error, context) => context.text('internal server error', 500));
    return listen(toNodeHandler(async (request) => await app.fetch(request)));
  },
  Koa: (handler) => {
    const app = new Koa();
    app.silent = true;
    app.use(toKoaMiddleware(handler, '/admin/board'));
    return listen(createServer((request, response) => void app.callback()(request, response)));
  },
  'Next.js': (handler) =>
    listen(toNodeHandler((request) => nextAdapter.toRouteHandler(handler, '/board')(request))),
};

describe.each(Object.entries(FRAMEWORKS))('%s', (_name, open) => {
  it('gives the handler what stands under the prefix, and sends what it answers', async () => {
    const { url } = await open(echo({ cancelled: 0, chunks: 0, aborted: 0 }));
    const response = await fetch(`${url}/admin/board/a%20b?c=d&e`);
    expect(response.status).toBe(201);
    expect(await response.text()).toBe('/a%20b?c=d&e ');
    expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
    expect(await (await fetch(`${url}/admin/board/?x`)).text()).toBe('/?x ');
    const head = await fetch(`${url}/admin/board/`, { method: 'HEAD' });
    expect(head.headers.get('x-method')).toBe('HEAD');
  });

  it('redirects the prefix without its slash, relatively', async () => {
    const { url } = await open(echo({ cancelled: 0, chunks: 0, aborted: 0 }));
    const response = await fetch(`${url}/admin/board?q=1`, { redirect: 'manual' });
    expect(response.status).toBe(308);
    expect(response.headers.get('location')).toBe('./board/?q=1');
    expect(new URL('./board/?q=1', `${url}/admin/board?q=1`).href).toBe(`${url}/admin/board/?q=1`);
  });

  it('hands bodies on, also those that something has parsed', async () => {
    const { url } = await open(echo({ cancelled: 0, chunks: 0, aborted: 0 }));
    const json = {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"database":"x"}',
    };
    expect(await (await fetch(`${url}/admin/board/act`, json)).text()).toBe('/act {"database":"x"}');
    const form = { method: 'POST', body: new URLSearchParams({ a: '1', b: 'ä' }) };
    expect(await (await fetch(`${url}/admin/board/act`, form)).text()).toBe('/act a=1&b=%C3%A4');
  });

  it('stops a stream whose reader has gone, and reads no faster than it', async () => {
    const seen = { cancelled: 0, chunks: 0, aborted: 0 };
    const { url } = await open(echo(seen));
    const abort = new AbortController();
    const response = await fetch(`${url}/admin/board/endless`, { signal: abort.signal });
    await response.body!.getReader().read();
    // What nobody reads is soon no longer made.
    let before = -1;
    await until(async () => {
      const same = seen.chunks === before;
      before = seen.chunks;
      await new Promise((resolve) => setTimeout(resolve, 100));
      return same && seen.chunks === before;
    });
    expect(seen.chunks).toBeLessThan(MOST_CHUNKS / 2);
    abort.abort();
    await until(() => seen.cancelled === 1, { describe: () => JSON.stringify(seen) });
  });

  it('ends live streams when the server closes', async () => {
    const seen = { cancelled: 0, chunks: 0, aborted: 0 };
    const { url, server } = await open(echo(seen));
    const response = await fetch(`${url}/admin/board/events`);
    const reader = response.body!.getReader();
    expect(Buffer.from((await reader.read()).value ?? '').toString()).toContain('data: tick');
    const closed = once(server, 'close');
    server.close();
    server.closeIdleConnections();
    for (;;) if ((await reader.read()).done) break;
    server.closeIdleConnections();
    await closed;
  });

  it('lets neither a Host nor a target show the handler another path than the application', async () => {
    const paths: string[] = [];
    const { server } = await open((request) => {
      paths.push(new URL(request.url).pathname);
      return Promise.resolve(new Response('seen'));
    });
    for (const host of MOVING_HOSTS)
      expect(await raw(server, '/admin/board/open', host), host).toMatch(/^HTTP\/1.1 400/);
    for (const target of MOVING_TARGETS)
      expect(await raw(server, `/admin/board/${target}`, 'x'), target).toMatch(/^HTTP\/1.1 40[04]/);
    expect(paths).toEqual([]);
    for (const host of ['x', 'a-b_c.example:8080', '127.0.0.1:1', '[::1]:1'])
      expect(await raw(server, '/admin/board/open?a=\\', host), host).toContain('seen');
    expect(paths).toEqual(['/open', '/open', '/open', '/open']);
  });

  it('answers 500 without details when the handler throws, and goes on', async () => {
    const { url } = await open(echo({ cancelled: 0, chunks: 0, aborted: 0 }));
    const response = await fetch(`${url}/admin/board/fail`);
    expect(response.status).toBe(500);
    expect(await response.text()).not.toContain('secret');
    expect((await fetch(`${url}/admin/board/`)).status).toBe(201);
  });
});

it('a request that is none is answered, not thrown', async () => {
  const { server } = await listen(toNodeHandler(echo({ cancelled: 0, chunks: 0, aborted: 0 })));
  for (const line of [
    'GET //evil HTTP/1.1\r\nHost: [',
    'GET http:// HTTP/1.1\r\nHost: x',
    'TRACE / HTTP/1.1\r\nHost: x',
  ]) {
    const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
    socket.write(`${line}\r\nConnection: close\r\n\r\n`);
    let answer = '';
    socket.on('data', (data: Buffer) => (answer += data.toString()));
    await once(socket, 'close');
    expect(answer).toMatch(/^HTTP\/1.1 400/);
  }
});

describe('the dashboard', () => {
  const options = { databases: ['/nowhere/app.db'], bucket: 'bucket', auth: 'none' } as const;

  async function expectDashboard(url: string): Promise<void> {
    const response = await fetch(`${url}/litestream`);
    expect(response.url).toBe(`${url}/litestream/`);
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text).toContain('/nowhere/app.db');
    const script = /src="([^"]+\.js)"/.exec(text)?.[1] ?? '';
    expect((await fetch(new URL(script, response.url))).status).toBe(200);
  }

  it.each<[string, () => Promise<{ url: string }>]>([
    ['node:http', () => listen(nodeDashboard({ ...options, path: '/litestream' }))],
    [
      'Express',
      () => listen(express().use('/litestream', expressAdapter.dashboard(options)) as RequestListener),
    ],
    [
      'Fastify',
      async () => {
        const app = fastify();
        await app.register(fastifyDashboard, { ...options, prefix: '/litestream' });
        await app.listen({ port: 0, host: '127.0.0.1' });
        return listen(app.server);
      },
    ],
    [
      'Hono',
      () => {
        const app = new Hono().all('/litestream/*', honoDashboard({ ...options, path: '/litestream' }));
        return listen(toNodeHandler(async (request) => await app.fetch(request)));
      },
    ],
    [
      'Koa',
      () => {
        const app = new Koa().use(koaDashboard({ ...options, path: '/litestream' }));
        return listen((request, response) => void app.callback()(request, response));
      },
    ],
    [
      'Next.js',
      () => {
        const { GET } = nextAdapter.dashboard({ ...options, path: '/litestream' });
        return listen(toNodeHandler(GET));
      },
    ],
  ])('is mounted in %s by one line', async (_name, open) => {
    const { url } = await open();
    await expectDashboard(url);
  });

  it('refuses what a server has made of a Host that is none', async () => {
    const { fetch: ask, close } = createDashboard(options);
    // What Bun, Deno and others make of `GET /metrics` with that Host.
    for (const host of ['x/api/overview?', 'x#', 'y@x', 'x\\api', 'x, y']) {
      const request = new Request(`http://x/api/overview?/metrics`, { headers: { host } });
      expect((await ask(request)).status, host).toBe(400);
    }
    await close();
  });

  it('shows itself to nobody without a word about who may see it', async () => {
    const { url } = await listen(
      expressAdapter.dashboard({ databases: ['/nowhere/app.db'], bucket: 'bucket', env: {} }),
    );
    const response = await fetch(url);
    expect(response.status).toBe(403);
    expect(await response.text()).not.toContain('/nowhere');
  });

  // Other systems have no second loopback address.
  it.skipIf(process.platform !== 'linux')(
    'counts wrong passwords by the address that they come from',
    async () => {
      const auth = { username: 'ann', password: 'right' };
      const { server } = await listen(
        express().use('/litestream', expressAdapter.dashboard({ ...options, auth })) as RequestListener,
      );
      const status = async (password: string, localAddress: string): Promise<number | undefined> => {
        const request = httpRequest({
          ...{ host: '127.0.0.1', port: (server.address() as AddressInfo).port, localAddress, agent: false },
          path: '/litestream/api/status',
          headers: { authorization: `Basic ${btoa(`ann:${password}`)}`, 'x-forwarded-for': '127.0.0.3' },
        });
        request.end();
        const [response] = (await once(request, 'response')) as [IncomingMessage];
        response.resume();
        return response.statusCode;
      };
      for (let i = 0; i < 10; i++) expect(await status('wrong', '127.0.0.1')).toBe(401);
      expect([await status('wrong', '127.0.0.1'), await status('right', '127.0.0.2')]).toEqual([429, 200]);
    },
  );

  it('answers with what is wrong with the config', async () => {
    const { url } = await listen(nodeDashboard({ config: '/nowhere/litestream.yml', auth: 'none' }));
    const response = await fetch(url);
    expect(response.status).toBe(409);
    expect(await response.text()).toContain('config file not found: /nowhere/litestream.yml');
    const auth = { username: 'ann', password: 'right' };
    const closed = await listen(nodeDashboard({ config: '/nowhere/litestream.yml', auth }));
    const stranger = await fetch(closed.url);
    expect([stranger.status, (await stranger.text()).includes('/nowhere')]).toEqual([401, false]);
    const headers = { authorization: `Basic ${btoa('ann:right')}` };
    expect((await fetch(closed.url, { headers })).status).toBe(409);
  });
});

describe("Next.js' register()", () => {
  function registerWith(env: Record<string, string>): { state: string; said: string[] } {
    const said: string[] = [];
    const replication = nextAdapter.register({
      enabled: 'REPLICATE_HERE',
      env,
      logger: ({ attributes }) => said.push(String(attributes['reason'])),
    });
    return { state: replication.state, said };
  }

  it.each([
    ['the Edge runtime', { NEXT_RUNTIME: 'edge' }],
    ['a build', { NEXT_RUNTIME: 'nodejs', NEXT_PHASE: 'phase-production-build' }],
  ])('starts nothing in %s, and says so', (name, env) => {
    const { state, said } = registerWith({ ...env, REPLICATE_HERE: 'yes' });
    expect(state).toBe('off');
    expect(said).toEqual([expect.stringMatching(`^this is ${name} of Next.js$`)]);
  });

  // Both servers, of which the standalone one sets no NEXT_RUNTIME.
  it.each([{}, { NEXT_RUNTIME: 'nodejs' }])('does what any application does in a server with %o', (env) => {
    expect(registerWith(env).said).toEqual(['the variable REPLICATE_HERE does not say yes']);
  });
});
