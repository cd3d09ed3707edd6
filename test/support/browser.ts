/** A real browser, with a profile of its own. Tests of pages are skipped, visibly, where it is not installed. */

import { existsSync, promises as fs } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BrowserContext, type BrowserContextOptions, type Page, chromium } from 'playwright-core';

const EXECUTABLE = '/usr/bin/chromium';

const ARGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

export const hasBrowser: boolean = existsSync(EXECUTABLE);

export interface Visit {
  readonly context: BrowserContext;
  readonly page: Page;
  /** What the page complained of: exceptions, and what its policy forbids. */
  readonly complaints: string[];
}

/** Runs `body` with a fresh browser; what the page complains of fails it. */
export async function withBrowser(
  options: BrowserContextOptions,
  body: (visit: Visit) => Promise<void>,
): Promise<void> {
  const profile = await fs.mkdtemp(join(tmpdir(), 'litestream-browser-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: EXECUTABLE,
    headless: true,
    args: ARGS,
    viewport: { width: 1280, height: 900 },
    timezoneId: 'Europe/Berlin',
    ...options,
  });
  const complaints: string[] = [];
  context.on('weberror', (error) => complaints.push(String(error.error().stack)));
  context.on('console', (message) => {
    // That a request was refused, or a server has gone, is what some tests are about.
    if (message.type() === 'error' && !/Failed to load resource|ERR_/.test(message.text())) {
      complaints.push(message.text());
    }
  });
  try {
    await body({ context, page: context.pages()[0] ?? (await context.newPage()), complaints });
    if (complaints.length > 0) throw new Error(`the page complained:\n${complaints.join('\n')}`);
  } finally {
    await context.close();
    await fs.rm(profile, { recursive: true, force: true, maxRetries: 5 });
  }
}
