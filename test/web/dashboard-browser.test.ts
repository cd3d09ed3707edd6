/** The dashboard in a real browser, before a real `replicate`: what a person sees and does, and what must not work. */

import { promises as fs } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import type { HistoryReport } from '../../src/control/history.ts';
import { parseBindAddress } from '../../src/web/bind-address.ts';
import { createHandler } from '../../src/web/dashboard/handler.ts';
import { serve } from '../../src/web/serve.ts';
import { s3Environment, s3Replica } from '../e2e/s3-rig.ts';
import { hasBrowser, withBrowser } from '../support/browser.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { type LitestreamProcess, until } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { type SqliteProcess, withSqlite } from '../support/sqlite.ts';
import { FakeSource, database } from './dashboard-rig.ts';

const TIMEOUT_MS = 120_000;
const CREDENTIALS = { LITESTREAM_USERNAME: 'frodo', LITESTREAM_PASSWORD: 'ikeptmysecrets' };
const LOGIN = { httpCredentials: { username: 'frodo', password: 'ikeptmysecrets' } };

if (!hasBrowser) console.warn('no /usr/bin/chromium: the dashboard is not tested in a browser');

interface Scene {
  readonly rig: Rig;
  readonly s3: S3Server;
  readonly url: string;
  readonly application: SqliteProcess;
  readonly litestream: LitestreamProcess;
}

/** A database with a commit, replicated to S3, with the dashboard behind a password. */
async function withScene(body: (scene: Scene) => Promise<void>): Promise<void> {
  const s3 = await S3Server.start();
  try {
    await withRig(async (rig) => {
      const application = await rig.application();
      await application.exec('CREATE TABLE notes (id INTEGER PRIMARY KEY, text TEXT)');
      await application.exec("INSERT INTO notes (text) VALUES ('first')");
      const litestream = await rig.replicate({
        replica: s3Replica(s3.endpoint),
        global: ['addr: 127.0.0.1:0'],
        env: { ...s3Environment(s3), ...CREDENTIALS },
      });
      const line = await litestream.waitForLine(/serving dashboard on/);
      const url = /url=(\S+)/.exec(line)?.[1] ?? '';
      await litestream.waitForLine(/snapshot written/);
      await body({ rig, s3, url, application, litestream });
    });
  } finally {
    await s3.close();
  }
}

async function title(page: Page): Promise<string> {
  return page.locator('#summary-title').innerText();
}

async function showsStored(page: Page): Promise<void> {
  await until(async () => (await title(page)) === 'The database is stored.' || undefined, {
    describe: () => 'the page never said that the database is stored',
  });
}

describe.skipIf(!hasBrowser)('a running replicate', () => {
  test(
    'is shown, and lag is live while nothing can be stored',
    async () => {
      await withScene(async ({ url, s3, application }) => {
        await withBrowser(LOGIN, async ({ page }) => {
          await page.goto(url);
          await page.locator('.live').waitFor();
          await showsStored(page);
          expect(await page.locator('.card h2').allInnerTexts()).toEqual(['db']);
          s3.onRequest = () => ({ status: 503 });
          await application.exec("INSERT INTO notes (text) VALUES ('waits')");
          const lag = page.locator('.facts .value').first();
          await until(async () => /^[3-9] s|^\d\d s/.test(await lag.innerText()), {
            describe: () => 'the lag did not grow on the page',
            timeoutMs: 40_000,
          });
          await until(async () => (await page.locator('html').getAttribute('data-tone')) === 'bad');
          expect(await title(page)).toMatch(/^db: .+ of commits not stored\.$/);
          expect(await page.locator('.problems').innerText()).toMatch(/What to do/);
          s3.onRequest = () => 'pass';
          await until(async () => (await title(page)) === 'The database is stored.', { timeoutMs: 60_000 });
        });
      });
    },
    TIMEOUT_MS,
  );

  test(
    'gives back a past moment: picked, restored, downloaded',
    async () => {
      await withScene(async ({ rig, url, application }) => {
        await storedBy(url);
        const moment = new Date().toISOString();
        // Commits have times in milliseconds.
        await until(() => Date.now() > Date.parse(moment) + 5);
        await application.exec("INSERT INTO notes (text) VALUES ('second')");
        await storedBy(url);
        await withBrowser({ ...LOGIN, acceptDownloads: true }, async ({ page }) => {
          await page.goto(url);
          await page.locator('.live').waitFor();
          await page.locator('[data-restore]').click();
          await page.fill('#restore-moment', moment);
          await page.fill('#restore-file', 'db-yesterday.db');
          await until(async () =>
            /^Fetches the snapshot/.test(await page.locator('#restore-plan').innerText()),
          );
          expect(await page.locator('#restore-command').innerText()).toContain(`-timestamp ${moment}`);
          await page.keyboard.press('Enter');
          await page.locator('.job.done').waitFor();
          expect(await texts(join(rig.dir, 'db-yesterday.db'))).toEqual(['first']);
          const downloading = page.waitForEvent('download');
          await page.locator('.job a[download]').click();
          const copy = join(rig.dir, 'downloaded.db');
          await (await downloading).saveAs(copy);
          expect(await fs.readFile(copy)).toEqual(await fs.readFile(join(rig.dir, 'db-yesterday.db')));
          // The same name again is refused: nothing is ever overwritten.
          await page.locator('[data-restore]').click();
          await page.fill('#restore-file', 'db-yesterday.db');
          await page.locator('#restore-start').click();
          await page.locator('.job.failed').waitFor();
          expect(await texts(join(rig.dir, 'db-yesterday.db'))).toEqual(['first']);
          expect(await texts(rig.database)).toEqual(['first', 'second']);
        });
      });
    },
    TIMEOUT_MS,
  );

  test(
    'is verified, and takes a snapshot when it is asked to',
    async () => {
      await withScene(async ({ url, application }) => {
        await withBrowser(LOGIN, async ({ page }) => {
          await page.goto(url);
          await page.locator('.live').waitFor();
          await page.locator('[data-action=verify]').click();
          await until(async () => /Verify\s+ok/.test(await page.locator('.databases').innerText()), {
            timeoutMs: 60_000,
          });
          await page.locator('.verified-words.ok').waitFor();
          await page.locator('[data-action=snapshot]').click();
          await page.getByText('Taking a snapshot').waitFor();
          const taken = async (): Promise<boolean> => {
            await application.exec("INSERT INTO notes (text) VALUES ('more')");
            return /Snapshot\s+is stored/.test(await page.locator('.databases').innerText());
          };
          await until(taken, { timeoutMs: 60_000 });
        });
      });
    },
    TIMEOUT_MS,
  );

  test(
    'is hidden from who has no password, and tells no secret to who has',
    async () => {
      await withScene(async ({ url, s3 }) => {
        const wrong = { httpCredentials: { username: 'frodo', password: 'guess' } };
        await withBrowser(wrong, async ({ page }) => {
          const response = await page.goto(url).catch(() => null);
          expect(response?.status() ?? 401).toBe(401);
          expect(await page.content()).not.toContain('notes');
        });
        await withBrowser(LOGIN, async ({ page }) => {
          const bodies: string[] = [];
          page.on('response', (response) => {
            if (response.url().endsWith('/events')) return;
            void response.text().then(
              (text) => bodies.push(text + JSON.stringify(response.headers())),
              () => undefined,
            );
          });
          s3.onRequest = () => ({
            status: 403,
            body: `<Error><Message>${s3.credentials.secretAccessKey}</Message></Error>`,
          });
          await page.goto(url);
          await page.locator('.live').waitFor();
          await page.locator('.more > summary').click();
          for (const path of ['metrics', 'api/status', 'api/overview', 'healthz', 'readyz']) {
            await page.goto(url + path);
          }
          const all = bodies.join('\n');
          expect(bodies.length).toBeGreaterThan(6);
          expect(all).toContain('s3://bucket/db');
          expect(all).not.toContain(s3.credentials.accessKeyId);
          expect(all).not.toContain(CREDENTIALS.LITESTREAM_PASSWORD);
        });
      });
    },
    TIMEOUT_MS,
  );

  test(
    'does nothing for a page of another site',
    async () => {
      await withScene(async ({ rig, url }) => {
        const action = `${url}api/restore`;
        const body = JSON.stringify({ database: rig.database, fileName: 'db-stolen.db' });
        const evil = createServer((_, response) => {
          response.setHeader('content-type', 'text/html');
          response.end(`<form method="post" enctype="text/plain" action="${action}">
            <input name='${body.slice(0, -1)},"x":"' value='"}'></form>
            <script>
              const tries = ['cors', 'no-cors'].map((mode) => fetch('${action}', {
                method: 'POST', mode, credentials: 'include', body: '${body}' }).then((r) => r.status, () => 'failed'));
              Promise.all(tries).then((results) => { document.title = results.join(); });
            </script>`);
        });
        await new Promise<void>((resolve) => evil.listen(0, '127.0.0.1', resolve));
        try {
          await withBrowser(LOGIN, async ({ page, context, complaints }) => {
            await page.goto(url);
            await page.locator('.live').waitFor();
            const attacker = await context.newPage();
            await attacker.goto(`http://127.0.0.1:${(evil.address() as AddressInfo).port}/`);
            await until(async () => (await attacker.title()) !== '');
            expect(await attacker.title()).toBe('failed,failed');
            const [answer] = await Promise.all([
              attacker.waitForResponse((response) => response.url() === action),
              attacker.evaluate('document.forms[0].submit()'),
            ]);
            expect(answer.status()).toBe(403);
            expect(await (await page.request.get(`${url}api/overview`)).json()).toMatchObject({ jobs: [] });
            // What the browser says of the attacker's page is not ours.
            complaints.length = 0;
          });
          await expect(fs.stat(join(rig.dir, 'db-stolen.db'))).rejects.toThrow('ENOENT');
        } finally {
          evil.close();
        }
      });
    },
    TIMEOUT_MS,
  );

  test(
    'is marked as stale when it is gone',
    async () => {
      await withScene(async ({ url, litestream }) => {
        await withBrowser(LOGIN, async ({ page }) => {
          await page.goto(url);
          await page.locator('.live').waitFor();
          await litestream.stop();
          await page.locator('.stale').waitFor();
          expect(await page.locator('.stale').innerText()).toMatch(/^Connection lost: as of/);
        });
      });
    },
    TIMEOUT_MS,
  );
});

/** Resolves when everything that is committed is stored. */
async function storedBy(url: string): Promise<void> {
  const authorization = `Basic ${Buffer.from('frodo:ikeptmysecrets').toString('base64')}`;
  const page = await fetch(url, { headers: { authorization } });
  const token = /name="litestream-token" content="([^"]+)"/.exec(await page.text())?.[1] ?? '';
  const headers = {
    authorization,
    'x-litestream-token': token,
    cookie: page.headers.get('set-cookie')?.split(';')[0] ?? '',
  };
  const overview = async (): Promise<{
    status: { databases: { path: string }[] };
    activities: { state: string }[];
  }> =>
    (await (await fetch(`${url}api/overview`, { headers })).json()) as Awaited<ReturnType<typeof overview>>;
  const path = (await overview()).status.databases[0]?.path ?? '';
  const begun = await fetch(`${url}api/sync`, {
    method: 'POST',
    headers,
    body: JSON.stringify({ database: path }),
  });
  expect(begun.status).toBe(202);
  await until(async () => (await overview()).activities[0]?.state === 'done');
}

async function texts(path: string): Promise<unknown[]> {
  return withSqlite({ path, readonly: true }, async (sqlite) =>
    (await sqlite.all('SELECT text FROM notes ORDER BY id')).map(({ text }) => text),
  );
}

const logger = createLogger({ format: 'text', level: 'ERROR', write: (line) => console.error(line) });

class SourceWithHistory extends FakeSource {
  override history(): Promise<HistoryReport> {
    const row = [1e6, 2e6, 3e6, null];
    const rows = { lagMs: row, walSizeBytes: row, uploadedBytes: row, requests: row };
    const lastBucketAt = '2026-01-15T10:01:30.000Z';
    return Promise.resolve({
      bucketMs: 30_000,
      lastBucketAt,
      databases: [{ path: '/data/app.db', ...rows }],
      events: [],
    });
  }
}

test.skipIf(!hasBrowser)('charts say their newest values, and those under the pointer', async () => {
  const handler = createHandler({ source: new SourceWithHistory(), auth: 'none', logger });
  const address = parseBindAddress('127.0.0.1:0');
  const server = await serve({ address, fetch: (request) => handler.fetch(request), logger });
  try {
    await withBrowser({ timezoneId: 'UTC' }, async ({ page }) => {
      await page.goto(server.url);
      await page.locator('.live').waitFor();
      await page.getByText('Replicas, snapshots, events').click();
      const chart = page.locator('.charts figure').nth(1);
      let legend = '';
      const reads = (wanted: string): Promise<unknown> =>
        until(
          async () => {
            legend = (await chart.locator('.u-legend').innerText()).replaceAll(/\s+/g, ' ');
            return legend === wanted;
          },
          { describe: () => `the legend reads ${legend}` },
        );
      const newest = 'Time10:01:00WAL size3.0 MB';
      await reads(newest);
      const over = await chart.locator('.u-over').boundingBox();
      await page.mouse.move((over?.x ?? 0) + 1, (over?.y ?? 0) + 5);
      await reads('Time10:00:00WAL size1.0 MB');
      await page.mouse.move(0, 0);
      await reads(newest);
    });
  } finally {
    await handler.close();
    await server.close();
  }
});

describe.skipIf(!hasBrowser)('fifty databases', () => {
  let url: string;
  let close: () => Promise<void>;

  beforeEach(async () => {
    const databases = Array.from({ length: 50 }, (_, i) =>
      database(`/data/tenant-${String(i).padStart(2, '0')}.db`),
    );
    databases[37] = database('/data/tenant-37.db', {
      state: 'failing',
      healthy: false,
      reason: 'replica s3: denied',
    });
    const handler = createHandler({ source: new FakeSource(databases), auth: 'none', logger });
    const address = parseBindAddress('127.0.0.1:0');
    const server = await serve({ address, fetch: (request) => handler.fetch(request), logger });
    ({ url } = server);
    close = async () => {
      await handler.close();
      await server.close();
    };
  });

  afterEach(() => close());

  test('are a list with the one at risk first, filtered and opened by keys', async () => {
    await withBrowser({}, async ({ page }) => {
      await page.goto(url);
      await page.locator('.live').waitFor();
      expect(await page.locator('.row').count()).toBe(50);
      expect(await title(page)).toBe('tenant-37.db: failing.');
      expect(await page.locator('.row-name').first().innerText()).toBe('tenant-37.db');
      await page.locator('#filter').focus();
      await page.keyboard.type('tenant-1');
      await until(async () => (await page.locator('.row').count()) === 10);
      expect(await page.locator('.count').innerText()).toBe('10 of 50 databases');
      await page.keyboard.press('Tab');
      await page.keyboard.press('Tab');
      await page.keyboard.press('Enter');
      await page.locator('.row .bar').waitFor();
      // Opened by a key, the focus is where it was although the page draws itself each second.
      expect(await page.locator('.row-head').first().getAttribute('aria-expanded')).toBe('true');
      const focused = await page.evaluate('document.activeElement.getAttribute("data-toggle")');
      expect(focused).toBe('/data/tenant-10.db');
      await page.locator('.row .bar').focus();
      await page.keyboard.press('Home');
      const said = await page.locator('.row .bar').getAttribute('aria-valuetext');
      await page.keyboard.press('Enter');
      await page.locator('#restore[open]').waitFor();
      expect(await page.locator('#restore-moment-said').innerText()).toContain(said);
      await page.keyboard.press('Escape');
      expect(await page.locator('#restore[open]').count()).toBe(0);
      await page.fill('#filter', 'nothing like it');
      await page.getByText('No database matches').waitFor();
      await page.locator('[data-clear]').click();
      await until(async () => (await page.locator('.row').count()) === 50);
    });
  });

  test.each(['light', 'dark'] as const)('fit a phone, %s', async (colorScheme) => {
    await withBrowser(
      { viewport: { width: 360, height: 740 }, colorScheme, hasTouch: true },
      async ({ page }) => {
        await page.goto(url);
        await page.locator('.live').waitFor();
        const overflow = 'document.documentElement.scrollWidth - innerWidth';
        expect(await page.evaluate(overflow)).toBeLessThanOrEqual(0);
        await page.locator('.row-head').first().tap();
        await page.locator('.row .bar').first().waitFor();
        expect(await page.evaluate(overflow)).toBeLessThanOrEqual(0);
        await page.locator('[data-restore]').first().tap();
        await page.locator('#restore[open]').waitFor();
        expect(await page.evaluate(overflow)).toBeLessThanOrEqual(0);
      },
    );
  });

  test('read without a script', async () => {
    await withBrowser({ javaScriptEnabled: false }, async ({ page }) => {
      await page.goto(url);
      expect(await title(page)).toBe('tenant-37.db: failing.');
      expect(await page.locator('.row').count()).toBe(50);
      expect(await page.locator('button:visible').count()).toBe(50);
    });
  });
});
