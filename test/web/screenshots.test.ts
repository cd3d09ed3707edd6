/** Makes the pictures of docs/screenshots from a month that was made up: `LITESTREAM_SCREENSHOTS=docs/screenshots npx vitest run ...`. */

import { join } from 'node:path';
import type { Page } from 'playwright-core';
import { describe, test } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import type { DatabaseHistory, HistoryReport } from '../../src/control/history.ts';
import type { ReportedDatabase } from '../../src/control/status-report.ts';
import type { TimelineReport } from '../../src/control/timeline-report.ts';
import { parseBindAddress } from '../../src/web/bind-address.ts';
import { createHandler } from '../../src/web/dashboard/handler.ts';
import { serve } from '../../src/web/serve.ts';
import { hasBrowser, withBrowser } from '../support/browser.ts';
import { generator } from '../support/workload.ts';
import { FakeSource, database, report } from './dashboard-rig.ts';

const folder = process.env['LITESTREAM_SCREENSHOTS'];
const HOUR = 3600_000;
const DAY = 24 * HOUR;

const random = generator(1);
const ago = (ms: number): string => new Date(Date.now() - ms).toISOString();
const hex = (): string => Array.from({ length: 16 }, () => Math.floor(random() * 16).toString(16)).join('');

interface Story {
  readonly name: string;
  readonly bytes: number;
  readonly retention: number;
  readonly every: number;
  readonly verified: number;
  readonly replicas: readonly string[];
  /** Where generations end, and what is missing after that. */
  readonly breaks?: readonly (readonly [at: number, gap: number])[];
}

const STORIES: readonly Story[] = [
  {
    name: 'production',
    bytes: 412e6,
    retention: 30 * DAY,
    every: DAY,
    verified: 5 * HOUR,
    replicas: ['s3', 'archive'],
    breaks: [[17.3 * DAY, 0.9 * DAY]],
  },
  {
    name: 'production_queue',
    bytes: 38e6,
    retention: 3 * DAY,
    every: 4 * HOUR,
    verified: 2 * HOUR,
    replicas: ['s3'],
    breaks: [[31 * HOUR, 0]],
  },
  {
    name: 'production_cache',
    bytes: 255e6,
    retention: DAY,
    every: 6 * HOUR,
    verified: 9 * HOUR,
    replicas: ['s3'],
  },
  {
    name: 'production_cable',
    bytes: 4e6,
    retention: DAY,
    every: 6 * HOUR,
    verified: 9.2 * HOUR,
    replicas: ['s3'],
  },
];

interface Told {
  readonly status: ReportedDatabase;
  readonly timeline: TimelineReport;
  readonly history: DatabaseHistory;
}

function tell({ name, bytes, retention, every, verified, replicas, breaks = [] }: Story): Told {
  const path = `/rails/storage/${name}.sqlite3`;
  const start = retention + every * 0.6;
  const edges = [start, ...breaks.map(([at]) => at), 0];
  const generations = edges.slice(1).map(() => hex());
  const timeline: TimelineReport = {
    path,
    at: ago(0),
    retentionMs: retention,
    replicas: replicas.map((replica) => ({
      name: replica,
      error: null,
      spans: generations.map((generation, i) => ({
        generation,
        from: ago((edges[i] ?? 0) - (i === 0 ? 0 : (breaks[i - 1]?.[1] ?? 0))),
        to: ago(edges[i + 1] ?? 0),
        objectCount: Math.round(2000 + random() * 30_000),
        sizeBytes: Math.round(bytes * (2 + 5 * random())),
      })),
      gaps: breaks
        .filter(([, gap]) => gap > 0)
        .map(([at, gap]) => ({ from: ago(at), to: ago(at - gap), reason: 'nobody followed the database' })),
      snapshots: Array.from({ length: Math.floor(start / every) }, (_, i) => ({
        generation: generations.at(-1) ?? '',
        index: 400 - i * 7,
        at: ago((i + 0.4) * every),
        sizeBytes: Math.round(bytes * (0.31 - i * 0.002)),
      })),
    })),
  };
  const first = database(path).replicas[0];
  const status = database(path, {
    sizeBytes: bytes,
    walSizeBytes: Math.round(1e6 + random() * 3e6),
    replicas: replicas.map((replica) => ({
      ...first,
      name: replica,
      location: `s3://shop-${replica === 's3' ? 'backups' : 'archive'}/${name}`,
      position: { generation: generations.at(-1) ?? '', index: 402, offset: 90_672 },
      lagMs: 0,
      lastUploadAt: ago(4000),
      requests: [
        { type: 's3', operation: 'PUT' as const, count: 48_211, bytes: 812e6 },
        { type: 's3', operation: 'LIST' as const, count: 1204, bytes: 0 },
      ],
      lastSnapshot: {
        generation: generations.at(-1) ?? '',
        index: 400,
        at: ago(0.4 * every),
        sizeBytes: bytes * 0.31,
      },
      restorable: { from: ago(start), to: ago(0) },
      lastVerification: {
        at: ago(verified),
        result: 'ok' as const,
        message: 'restores to the database: 100,586 pages are equal, integrity ok',
      },
    })),
  } as unknown as Partial<ReportedDatabase>);
  const row = (make: (i: number) => number): number[] =>
    Array.from({ length: 120 }, (_, i) => Math.round(make(i)));
  const wave = random() * 60;
  const history: DatabaseHistory = {
    path,
    lagMs: row((i) => 300 + random() * 900 + (i > 70 && i < 78 ? 4200 * random() : 0)),
    walSizeBytes: row((i) => 6e5 + ((i * 2.7e5 + wave * 1e5) % 3.6e6)),
    uploadedBytes: row((i) => (1 + Math.sin((i + wave) / 14)) * bytes * 0.0007 + random() * 4e4),
    requests: row(() => 20 + random() * 10),
  };
  return { status, timeline, history };
}

class Month extends FakeSource {
  readonly told: readonly Told[] = STORIES.map(tell);

  constructor() {
    super();
    this.report = report(
      this.told.map(({ status }) => status),
      { version: 'v0.1.0', pid: 214, startedAt: ago(12 * DAY) },
    );
  }

  override history(): Promise<HistoryReport> {
    const databases = this.told.map(({ history }) => history);
    const events = [
      { at: ago(11 * HOUR), state: 'ok', healthy: true, reason: null },
      {
        at: ago(11.2 * HOUR),
        state: 'failing',
        healthy: false,
        reason: 'replica s3: monitor error: no answer in time',
      },
    ].map((event) => ({ path: '/rails/storage/production.sqlite3', ...event }));
    return Promise.resolve({ bucketMs: 30_000, lastBucketAt: ago(0), databases, events });
  }

  override async call(path: string, body: { readonly database: string }): Promise<object> {
    if (path === '/timeline')
      return this.told.find((one) => one.timeline.path === body.database)?.timeline ?? {};
    return Promise.resolve({
      replica: 's3',
      generation: hex(),
      snapshot: { index: 400, at: ago(3.3 * DAY), sizeBytes: 127e6 },
      segmentCount: 812,
      bytesTotal: 164e6,
      warnings: [],
    });
  }
}

async function withPage(
  source: FakeSource,
  options: Parameters<typeof withBrowser>[0],
  body: (page: Page) => Promise<void>,
): Promise<void> {
  const logger = createLogger({ format: 'text', level: 'ERROR', write: (line) => console.error(line) });
  const handler = createHandler({ source, auth: 'none', logger });
  const address = parseBindAddress('127.0.0.1:0');
  const server = await serve({ address, fetch: (request) => handler.fetch(request), logger });
  try {
    await withBrowser({ timezoneId: 'UTC', ...options }, async ({ page }) => {
      await page.goto(server.url);
      await page.locator('.live').waitFor();
      await body(page);
    });
  } finally {
    await handler.close();
    await server.close();
  }
}

describe.skipIf(!hasBrowser || folder === undefined)('pictures', () => {
  const save = async (page: Page, name: string): Promise<void> => {
    await page.screenshot({ path: join(folder ?? '', `${name}.png`) });
  };
  const desktop = { viewport: { width: 1200, height: 900 } };

  test('a good day, light and dark', async () => {
    for (const colorScheme of ['light', 'dark'] as const) {
      await withPage(new Month(), { ...desktop, colorScheme }, async (page) => {
        const bar = await page.locator('.bar').first().boundingBox();
        if (bar) await page.mouse.move(bar.x + bar.width * 0.62, bar.y + 20);
        await save(page, `overview-${colorScheme}`);
      });
    }
  });

  test('restore and details', async () => {
    await withPage(new Month(), desktop, async (page) => {
      await page.locator('.more > summary').first().click();
      await page.locator('.uplot').first().waitFor();
      await page.locator('.more > summary').first().scrollIntoViewIfNeeded();
      await page.evaluate('scrollTo(0, 480)');
      await save(page, 'details');
    });
    await withPage(new Month(), desktop, async (page) => {
      await page.locator('[data-restore]').first().click();
      await page.fill('#restore-moment', '3d4h ago');
      await page.getByText('Fetches the snapshot').waitFor();
      await page.locator('#restore-title').click();
      await save(page, 'restore');
    });
  });

  test('a bad day on a phone', async () => {
    const source = new Month();
    const [good, queue, ...others] = source.report.databases;
    if (!good || !queue) throw new Error('there are four databases');
    const reason = 'replica s3: monitor error: the credentials are refused (403)';
    const remedy = 'check the key and its rights on the bucket';
    const replicas = queue.replicas.map((replica) => ({
      ...replica,
      state: 'failing',
      healthy: false,
      lagMs: 38_000,
    }));
    const bad = { ...queue, state: 'failing', healthy: false, reason, remedy, since: ago(38_000), replicas };
    source.report = report([good, bad as ReportedDatabase, ...others], { startedAt: ago(DAY), pid: 214 });
    await withPage(source, { viewport: { width: 390, height: 844 } }, (page) => save(page, 'phone'));
  });

  test('fifty databases', async () => {
    const one = new Month().told[1];
    if (!one) throw new Error('there are four databases');
    const databases = Array.from({ length: 50 }, (_, i) => ({
      ...one.status,
      path: `/srv/tenants/tenant-${String(i).padStart(2, '0')}.sqlite3`,
    }));
    const ill = databases[37];
    if (ill) {
      const reason = 'a reader keeps the WAL from being started over';
      databases[37] = { ...ill, state: 'blocked', healthy: false, reason } as ReportedDatabase;
    }
    const source = new Month();
    source.report = report(databases, { startedAt: ago(DAY), pid: 214 });
    source.call = (_, { database: path }) => Promise.resolve({ ...one.timeline, path });
    await withPage(source, desktop, async (page) => {
      await page.locator('.mini-bar .span').nth(40).waitFor({ state: 'attached' });
      await save(page, 'fifty');
    });
  });
});
