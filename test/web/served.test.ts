/** The pages as processes serve them: addresses and passwords, no replicate at all, snapshots on demand, streams. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, promises as fs } from 'node:fs';
import { type Server, createServer, request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { callControl } from '../../src/control/client.ts';
import { toNodeHandler } from '../../src/web/node-http.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { type LitestreamProcess, runLitestream, startLitestream, until } from '../support/process.ts';

const PASSWORD = { LITESTREAM_USERNAME: 'ann', LITESTREAM_PASSWORD: 'secret word' };

async function urlOf(litestream: LitestreamProcess, what = 'dashboard'): Promise<string> {
  const line = await litestream.waitForLine(new RegExp(`serving ${what} on`));
  return /url=(\S+)/.exec(line)?.[1] ?? '';
}

/** GET with a Host header of choice, which fetch() does not let one send. */
async function get(
  url: string,
  headers: Record<string, string> = {},
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const request = httpRequest(url, { headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
    });
    request.on('error', reject).end();
  });
}

/** Of the page's own requests. */
function headersOf(page: Response, text: string): Record<string, string> {
  return {
    'x-litestream-token': /name="litestream-token" content="([^"]+)"/.exec(text)?.[1] ?? '',
    cookie: page.headers.get('set-cookie')?.split(';')[0] ?? '',
  };
}

async function withRow(rig: Rig): Promise<void> {
  const application = await rig.application();
  await application.exec('CREATE TABLE t (x)');
  await application.exec('INSERT INTO t VALUES (1)');
}

describe('replicate at addr', () => {
  test('on this machine shows itself to this machine, by its own names only', async () => {
    await withRig(async (rig) => {
      await withRow(rig);
      const url = await urlOf(await rig.replicate({ global: ['addr: 127.0.0.1:0'] }));
      expect((await get(url)).text).toContain('litestream-token');
      expect((await get(url, { host: 'localhost:1' })).status).toBe(200);
      // A name that a hostile site has pointed here.
      const rebound = await get(url, { host: 'evil.example' });
      expect([rebound.status, rebound.text.includes('litestream-token')]).toEqual([421, false]);
      expect((await get(`${url}metrics`, { host: 'prometheus.internal' })).status).toBe(200);
      expect(await get(`${url}healthz`)).toEqual({ status: 200, text: 'ok\n' });
    });
  });

  test('on this machine without a password shows state and does nothing, and nothing at all through a proxy', async () => {
    await withRig(async (rig) => {
      await withRow(rig);
      const url = await urlOf(await rig.replicate({ global: ['addr: 127.0.0.1:0'] }));
      await rig.snapshotStored();
      const page = await fetch(url);
      const text = await page.text();
      expect(text).toMatch(
        /To restore, download, verify or take a snapshot, log in:\s+run `litestream dashboard`/,
      );
      expect(text).not.toMatch(/data-action|data-restore=|<dialog/);
      expect(await (await fetch(`${url}api/overview`)).json()).toMatchObject({ readOnly: true });
      const headers = headersOf(page, text);
      for (const action of ['restore', 'plan', 'verify', 'snapshot', 'sync', 'cancel']) {
        const body = JSON.stringify({ database: rig.database, id: 'x' });
        const refused = await fetch(`${url}api/${action}`, { method: 'POST', headers, body });
        expect([action, refused.status]).toEqual([action, 403]);
        expect(await refused.text()).toMatch(/that needs a login: run `litestream dashboard` in a terminal/);
      }
      const download = await get(`${url}download?database=${encodeURIComponent(rig.database)}&id=x`);
      expect([download.status, download.text]).toEqual([403, expect.stringContaining('needs a login')]);
      for (const header of ['X-Forwarded-For', 'x-forwarded-host', 'Forwarded', 'Via', 'X-Real-IP']) {
        for (const path of ['', 'api/status', 'api/overview', 'events', 'login?token=x', 'assets/icon.svg'])
          expect((await get(url + path, { [header]: '192.0.2.1' })).status, header + path).toBe(421);
        // As v0.3.13 serves it, at any address.
        expect((await get(`${url}metrics`, { [header]: '192.0.2.1' })).status).toBe(200);
      }
      expect((await fs.readdir(rig.dir)).filter((name) => name.includes('restored'))).toEqual([]);
    });
  });

  test('beyond this machine has no page without a password, but metrics and health', async () => {
    await withRig(async (rig) => {
      await withRow(rig);
      const litestream = await rig.replicate({ global: ["addr: ':0'"] });
      await litestream.waitForLine(/no dashboard beyond this machine without a password/);
      const metrics = await urlOf(litestream, 'metrics');
      expect((await get(metrics)).status).toBe(200);
      expect((await get(metrics.replace('metrics', ''))).status).toBe(403);
      expect((await get(metrics.replace('metrics', 'api/status'))).status).toBe(403);
      await until(async () => (await get(metrics.replace('metrics', 'readyz'))).status === 200);
    });
  });

  test('with a password asks for it, wherever it listens', async () => {
    await withRig(async (rig) => {
      await withRow(rig);
      const url = await urlOf(await rig.replicate({ global: ["addr: ':0'"], env: PASSWORD }));
      expect((await get(url)).status).toBe(401);
      const authorization = `Basic ${Buffer.from('ann:secret word').toString('base64')}`;
      expect((await get(url, { authorization, host: 'backups.example' })).status).toBe(200);
    });
  });
});

describe('litestream dashboard', () => {
  test.each([
    [
      ['-addr', '0.0.0.0:0'],
      {},
      /can be reached by others: set LITESTREAM_USERNAME and LITESTREAM_PASSWORD first/,
    ],
    [['-addr', ':0'], {}, /can be reached by others/],
    [
      ['-addr', '127.0.0.1:0'],
      { LITESTREAM_USERNAME: 'ann' },
      /set both LITESTREAM_USERNAME and LITESTREAM_PASSWORD/,
    ],
    [['-addr', '127.0.0.1'], {}, /must specify port/],
    [['extra'], {}, /too many arguments/],
    [['-css', 'none.css'], {}, /read none\.css/],
  ])('%j %j is refused', async (args, env, message) => {
    await withRig(async (rig) => {
      const config = await rig.config();
      const { code, stdout, stderr } = await runLitestream({
        binary: 'ours',
        args: ['dashboard', '-config', config, ...args],
        env,
      });
      expect(code).toBe(1);
      expect(stdout + stderr).toMatch(message);
    });
  });

  test('gives the data back when nothing runs, and speaks with who begins to', async () => {
    await withRig(async (rig) => {
      await withRow(rig);
      const first = await rig.replicate();
      await rig.snapshotStored();
      await first.stop();
      const config = await rig.config();
      const args = ['dashboard', '-config', config, '-addr', '127.0.0.1:0', '-title', 'Shop'];
      const dashboard = startLitestream({ binary: 'ours', args, env: PASSWORD });
      try {
        const url = await urlOf(dashboard);
        const authorization = `Basic ${Buffer.from('ann:secret word').toString('base64')}`;
        const page = await fetch(url, { headers: { authorization } });
        const text = await page.text();
        expect(text).toContain('Nothing is replicating.');
        expect(text).toMatch(/<span\s*>\s*Shop\s*<\/span/);
        expect((await get(`${url}healthz`)).status).toBe(503);
        expect((await get(`${url}metrics`)).status).toBe(503);
        const headers = { ...headersOf(page, text), authorization };
        const body = JSON.stringify({ database: rig.database, fileName: 'db-back.db' });
        const begun = await fetch(`${url}api/restore`, { method: 'POST', headers, body });
        expect(begun.status).toBe(200);
        const jobs = async (): Promise<{ state: string }[]> =>
          ((await (await fetch(`${url}api/overview`, { headers })).json()) as { jobs: { state: string }[] })
            .jobs;
        await until(async () => (await jobs())[0]?.state === 'done');
        expect((await fs.stat(join(rig.dir, 'db-back.db'))).size).toBeGreaterThan(0);
        await rig.replicate();
        await until(async () => (await get(`${url}healthz`)).status === 200);
        expect((await get(`${url}metrics`)).text).toContain('litestream_healthy');
        // What was begun here is still known here.
        expect(await jobs()).toHaveLength(1);
      } finally {
        expect(await dashboard.stop()).toEqual({ code: 0, signal: null });
      }
    });
  });
});

/** Of util-linux: runs a command before a terminal of its own. */
const SCRIPT = '/usr/bin/script';

describe('litestream dashboard without a password', () => {
  test('tells no address to log in at to what is no terminal', async () => {
    await withRig(async (rig) => {
      const args = ['dashboard', '-config', await rig.config(), '-addr', '127.0.0.1:0'];
      const dashboard = startLitestream({ binary: 'ours', args });
      try {
        await dashboard.waitForLine(/without a terminal there is no login/);
        expect(dashboard.lines.join('\n')).not.toContain('token');
        expect((await get(`${await urlOf(dashboard)}login?token=`)).status).toBe(403);
      } finally {
        await dashboard.stop();
      }
    });
  });

  test.skipIf(process.platform !== 'linux' || !existsSync(SCRIPT))(
    'shows its terminal an address to log in at, which is good for one login',
    async () => {
      await withRig(async (rig) => {
        await withRow(rig);
        const first = await rig.replicate();
        await rig.snapshotStored();
        await first.stop();
        const log = join(rig.dir, 'log');
        const config = await rig.config();
        const command = `exec ${process.execPath} bin/litestream dashboard -config ${config} -addr 127.0.0.1:0 >${log}`;
        const terminal = spawn(SCRIPT, ['-qefc', command, '/dev/null'], {
          stdio: ['pipe', 'pipe', 'ignore'],
        });
        const ended = once(terminal, 'close');
        let shown = '';
        terminal.stdout.setEncoding('utf8').on('data', (text: string) => (shown += text));
        try {
          const addresses = (): string[] => shown.match(/http:\S+token=\S+/g) ?? [];
          const address = await until(() => addresses()[0], { describe: () => shown });
          const url = address.replace(/login\?.*/, '');
          const entered = await fetch(address, { redirect: 'manual' });
          expect([entered.status, entered.headers.get('location')]).toEqual([303, './']);
          const [session = ''] = entered.headers.get('set-cookie')?.split(';') ?? [];
          const again = await fetch(address, { redirect: 'manual' });
          expect([again.status, again.headers.get('set-cookie')]).toEqual([403, null]);
          const page = await fetch(url, { headers: { cookie: session } });
          const text = await page.text();
          expect(text).toContain('<dialog');
          expect(await (await fetch(url)).text()).toContain(
            'open the address that litestream dashboard shows',
          );
          const own = headersOf(page, text);
          const headers = { ...own, cookie: `${own['cookie'] ?? ''}; ${session}` };
          const body = JSON.stringify({ database: rig.database });
          const restore = (sent: Record<string, string>): Promise<Response> =>
            fetch(`${url}api/restore`, { method: 'POST', headers: sent, body });
          expect((await restore(own)).status).toBe(403);
          expect((await restore(headers)).status).toBe(200);
          await until(() => addresses()[1], { describe: () => shown });
          expect(addresses()[1]).not.toBe(address);
          // Where the log goes, the address does not.
          expect(await fs.readFile(log, 'utf8')).not.toContain('token');
        } finally {
          terminal.kill();
          await ended;
        }
      });
    },
  );
});

test('a snapshot is taken when it is asked for, as soon as it would hold something new', async () => {
  await withRig(async (rig) => {
    const application = await rig.application();
    await application.exec('CREATE TABLE t (x)');
    // Without the wish there would be no second snapshot for a day.
    await rig.replicate({ database: ['checkpoint-interval: 1h'] });
    const socket = join(rig.metaDir, 'control.sock');
    // Else the first one would be the answer.
    await until(async () => {
      const request = { method: 'GET', path: '/status', signal: AbortSignal.timeout(60_000) } as const;
      return JSON.stringify(await callControl(socket, request).catch(() => '')).includes('"lastSnapshot":{');
    });
    const taken = callControl(socket, {
      method: 'POST',
      path: '/snapshot',
      body: { database: rig.database },
      signal: AbortSignal.timeout(60_000),
    });
    let answer: unknown;
    void taken.then((value) => (answer = value));
    await until(async () => {
      await application.exec('INSERT INTO t VALUES (1)');
      return answer !== undefined;
    });
    expect(await taken).toEqual({
      replicas: [{ name: 'file', at: expect.stringMatching(/^\d{4}-.*Z$/) as string }],
    });
    const snapshots = (await rig.replicaFiles()).filter((name) => name.endsWith('.snapshot.lz4'));
    expect(snapshots.length).toBe(2);
    const unknown = {
      method: 'POST',
      path: '/snapshot',
      body: { database: '/other' },
      signal: AbortSignal.timeout(5000),
    };
    await expect(callControl(socket, unknown as Parameters<typeof callControl>[1])).rejects.toMatchObject({
      code: 'not-found',
    });
  });
});

describe('a handler behind node:http', () => {
  let server: Server | undefined;
  const errors: unknown[] = [];

  afterEach(() => {
    server?.closeAllConnections();
    server?.close();
    errors.length = 0;
  });

  async function listen(handler: (request: Request) => Promise<Response>): Promise<string> {
    server = createServer(toNodeHandler(handler, { onError: (error) => errors.push(error) }));
    await new Promise<void>((resolve) => server?.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  test('passes everything on, in both directions', async () => {
    const url = await listen(async (request) => {
      const headers = new Headers({ 'x-path': new URL(request.url).pathname });
      headers.append('set-cookie', 'a=1');
      headers.append('set-cookie', 'b=2');
      return new Response(`${request.method} ${await request.text()} ${request.headers.get('x-a') ?? ''}`, {
        status: 201,
        headers,
      });
    });
    const response = await fetch(`${url}/x/y?z=1`, { method: 'POST', body: 'body', headers: { 'x-a': 'b' } });
    expect(await response.text()).toBe('POST body b');
    expect(response.status).toBe(201);
    expect(response.headers.get('x-path')).toBe('/x/y');
    expect(response.headers.getSetCookie()).toEqual(['a=1', 'b=2']);
  });

  test('tells the handler when the other side has gone, and stops its stream', async () => {
    let cancelled = false;
    let aborted = false;
    const url = await listen((request) => {
      request.signal.addEventListener('abort', () => (aborted = true));
      const stream = new ReadableStream({
        start: (controller) => controller.enqueue(new TextEncoder().encode('first')),
        cancel: () => {
          cancelled = true;
        },
      });
      return Promise.resolve(new Response(stream));
    });
    const leaving = new AbortController();
    const response = await fetch(url, { signal: leaving.signal });
    await response.body?.getReader().read();
    leaving.abort();
    await until(() => cancelled && aborted);
    expect(errors).toEqual([]);
  });

  test('waits for who reads slowly', async () => {
    let produced = 0;
    const chunk = new Uint8Array(1 << 20);
    const url = await listen(() => {
      const stream = new ReadableStream({
        pull(controller) {
          produced++;
          if (produced > 64) controller.close();
          else controller.enqueue(chunk);
        },
      });
      return Promise.resolve(new Response(stream));
    });
    await new Promise<void>((resolve, reject) => {
      httpRequest(url, { agent: false }, (response) => {
        response.once('readable', () => {
          // Nothing more is read: the producer comes to rest long before its end.
          let seen = 0;
          let polls = 0;
          const rests = (): boolean => {
            polls = produced === seen ? polls + 1 : 0;
            seen = produced;
            return produced > 1 && polls > 20;
          };
          void until(rests).then(() => {
            expect(produced).toBeLessThan(40);
            response.destroy();
            resolve();
          }, reject);
        });
      })
        .on('error', reject)
        .end();
    });
  });

  test('a handler that throws is a 500, and is told', async () => {
    const url = await listen(() => Promise.reject(new Error('bug')));
    const response = await fetch(url);
    expect([response.status, await response.text()]).toEqual([500, 'internal server error\n']);
    expect(errors).toEqual([new Error('bug')]);
  });
});
