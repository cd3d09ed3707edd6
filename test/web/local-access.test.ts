/** The page on this machine without a password: who logs in, for how long, and what the others get. */

import { afterEach, expect, test } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import { type DashboardHandler, createHandler } from '../../src/web/dashboard/handler.ts';
import { LocalAccess } from '../../src/web/dashboard/local-access.ts';
import { Logins } from '../../src/web/dashboard/logins.ts';
import { parseBindAddress } from '../../src/web/bind-address.ts';
import { serve } from '../../src/web/serve.ts';
import { hasBrowser, withBrowser } from '../support/browser.ts';
import { FakeSource } from './dashboard-rig.ts';

const PAGE = 'http://127.0.0.1:9091';
const logger = createLogger({ format: 'text', level: 'ERROR', write: () => undefined });
const open: DashboardHandler[] = [];

afterEach(async () => {
  for (const made of open.splice(0)) await made.close();
});

function scene(): {
  tokens: string[];
  ask: (path: string, init?: RequestInit) => Promise<Response>;
  pass: (ms: number) => void;
} {
  let nowMs = 0;
  const tokens: string[] = [];
  const logins = new Logins(
    (token) => tokens.push(token),
    () => nowMs,
  );
  const auth = new LocalAccess({ logins, hint: 'look at the terminal.' });
  const handler = createHandler({ source: new FakeSource(), auth, logger });
  open.push(handler);
  logins.offer();
  return {
    tokens,
    ask: (path, init) => handler.fetch(new Request(PAGE + path, init)),
    pass: (ms) => (nowMs += ms),
  };
}

async function mayAct({ ask }: Pick<ReturnType<typeof scene>, 'ask'>, cookie: string): Promise<boolean> {
  const response = await ask('/', { headers: { cookie } });
  const acts = (await response.text()).includes('<dialog');
  const overview = (await (await ask('/api/overview', { headers: { cookie } })).json()) as {
    readOnly: boolean;
  };
  const download = await ask('/download?id=job&database=x', { headers: { cookie } });
  expect([overview.readOnly, download.status]).toEqual(acts ? [false, 200] : [true, 403]);
  await download.body?.cancel();
  return acts;
}

async function login({ ask, tokens }: ReturnType<typeof scene>): Promise<string> {
  const response = await ask(`/login?token=${tokens.at(-1) ?? ''}`);
  expect(response.status).toBe(303);
  return response.headers.get('set-cookie')?.split(';')[0] ?? '';
}

test('a token is good for one login, and the next one is shown', async () => {
  const page = scene();
  const [token = ''] = page.tokens;
  expect(token).toMatch(/^[\w-]{43}$/);
  // What looks ahead, as previews do, uses nothing up.
  expect((await page.ask(`/login?token=${token}`, { method: 'HEAD' })).status).not.toBe(303);
  const response = await page.ask(`/login?token=${token}`);
  expect(response.headers.get('set-cookie')).toMatch(
    /^litestream_session=[\w-]{43}; HttpOnly; SameSite=Strict$/,
  );
  expect(response.headers.get('location')).toBe('./');
  expect(page.tokens).toHaveLength(2);
  expect(await mayAct(page, response.headers.get('set-cookie') ?? '')).toBe(true);
  for (const used of [token, '', 'x', `${page.tokens[1] ?? ''}x`]) {
    const refused = await page.ask(`/login?token=${used}`);
    expect([refused.status, refused.headers.get('set-cookie')]).toEqual([403, null]);
    expect(await refused.text()).toContain('look at the terminal.');
  }
  expect(page.tokens).toHaveLength(2);
});

test('without a session, or with one that is none, the page only shows', async () => {
  const page = scene();
  for (const cookie of ['', 'litestream_session=', `litestream_session=${page.tokens[0] ?? ''}`])
    expect(await mayAct(page, cookie)).toBe(false);
});

test('a session ends after twelve hours, and the oldest of too many', async () => {
  const page = scene();
  const first = await login(page);
  page.pass(12 * 3600_000 - 1);
  expect(await mayAct(page, first)).toBe(true);
  const second = await login(page);
  page.pass(1);
  expect([await mayAct(page, first), await mayAct(page, second)]).toEqual([false, true]);
  for (let i = 0; i < 20; i++) await login(page);
  expect(await mayAct(page, second)).toBe(false);
  expect(await mayAct(page, await login(page))).toBe(true);
});

test('a session does nothing through a proxy', async () => {
  const page = scene();
  const cookie = await login(page);
  expect((await page.ask('/', { headers: { cookie, via: '1.1 nginx' } })).status).toBe(421);
});

test.skipIf(!hasBrowser)('in a browser the page says what to do, and acts after a login', async () => {
  const tokens: string[] = [];
  const logins = new Logins((token) => tokens.push(token));
  const auth = new LocalAccess({ logins, hint: 'open the address that litestream dashboard shows.' });
  const handler = createHandler({ source: new FakeSource(), auth, logger });
  open.push(handler);
  const fetch = (request: Request): Promise<Response> => handler.fetch(request);
  const server = await serve({ address: parseBindAddress('127.0.0.1:0'), fetch, logger });
  logins.offer();
  try {
    await withBrowser({ viewport: { width: 360, height: 740 } }, async ({ page }) => {
      await page.goto(server.url);
      await page.locator('.live').waitFor();
      expect(await page.locator('.login').innerText()).toBe(
        'This page only shows. To restore, download, verify or take a snapshot, log in: open the address that litestream dashboard shows.',
      );
      expect(await page.locator('[data-restore], [data-action], #restore').count()).toBe(0);
      expect(await page.evaluate('document.documentElement.scrollWidth - innerWidth')).toBeLessThanOrEqual(0);
      await page.goto(`${server.url}login?token=${tokens[0] ?? ''}`);
      expect(page.url()).toBe(server.url);
      await page.locator('.live').waitFor();
      expect(await page.locator('.login').count()).toBe(0);
      await page.locator('[data-action=snapshot]').click();
      await page.getByText('is stored').first().waitFor();
    });
  } finally {
    await server.close();
  }
});
