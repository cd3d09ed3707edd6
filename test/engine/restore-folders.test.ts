/** Folders that a restore makes for its output: whose they become, and that they are there after a power loss. */

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { chownSync, mkdirSync, mkdtempSync, renameSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type * as DurableFile from '../../src/base/durable-file.ts';
import { createLogger } from '../../src/base/logger.ts';
import { RestoreOutput } from '../../src/engine/restore-output.ts';

const ROOT_ON_LINUX = process.platform === 'linux' && process.getuid?.() === 0;
const NEIGHBOUR = 12345;

const synced: string[] = [];
vi.mock('../../src/base/durable-file.ts', async (original) => {
  const real = await original<typeof DurableFile>();
  const syncDirectory = async (path: string): Promise<void> => {
    synced.push(path);
    await real.syncDirectory(path);
  };
  return { ...real, syncDirectory };
});

let home: string;
beforeEach(() => {
  home = mkdtempSync(join(tmpdir(), 'litestream-folders-'));
  synced.length = 0;
});
afterEach(() => rmSync(home, { recursive: true }));

const logger = createLogger({ level: 'ERROR', format: 'default', write: () => undefined });

describe.skipIf(!ROOT_ON_LINUX)('a restore by root (needs root: gives files away)', () => {
  it('gives away no folder that takes the place of one of its own', async () => {
    const victim = join(home, 'victim');
    mkdirSync(join(victim, 'deeper'), { recursive: true });
    chownSync(home, NEIGHBOUR, NEIGHBOUR);
    const output = new RestoreOutput(join(home, 'new', 'deeper', 'app.db'), { force: false, logger });
    await output.check();
    await output.open();
    renameSync(join(home, 'new'), join(home, 'away'));
    symlinkSync(victim, join(home, 'new'));
    await expect(output.prepare(true)).rejects.toMatchObject({ code: 'busy' });
    expect([victim, join(victim, 'deeper')].map((path) => statSync(path).uid)).toEqual([0, 0]);
    expect(statSync(join(home, 'away', 'deeper')).uid).toBe(NEIGHBOUR);
    await output.discard().catch(() => undefined);
  });
});

it('the name of each folder that a restore has made is durable, up to the first that was there', async () => {
  const output = new RestoreOutput(join(home, 'a', 'b', 'app.db'), { force: false, logger });
  await output.check();
  await output.open();
  await output.prepare(true);
  await output.place();
  expect(synced).toEqual([join(home, 'a', 'b'), join(home, 'a'), home]);
});
