/** A damaged database is replaced where the file system has no hard links: its copy is all that is left of it. */

import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import {
  chownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type * as Fs from 'node:fs';
import type * as FsPromises from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '../../src/base/logger.ts';
import { restore } from '../../src/engine/restore.ts';
import { openStore } from '../../src/storage/registry.ts';
import { RestoreSource } from './restore-source.ts';

const IS_ROOT = process.getuid?.() === 0;
const [UID, GID] = IS_ROOT ? [12345, 12346] : [process.getuid?.() ?? 0, process.getgid?.() ?? 0];

/** What was done, in order. */
const calls: string[] = [];

vi.mock('node:fs', async (original) => {
  const real = await original<typeof Fs>();
  const fsync = (fd: number, done: (error: Error | null) => void): void => {
    const path = readlinkSync(`/proc/self/fd/${fd}`);
    const { uid, gid } = real.fstatSync(fd);
    calls.push(`fsync ${path} of ${uid}:${gid}`);
    real.fsync(fd, done);
  };
  return { ...real, fsync };
});
vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof FsPromises>();
  const link = (): Promise<void> => Promise.reject(Object.assign(new Error('EPERM'), { code: 'EPERM' }));
  const open = async (...args: Parameters<typeof real.open>): Promise<FsPromises.FileHandle> => {
    if (args[1] === 'wx' && typeof args[0] === 'string') {
      const handle = await real.open(...args);
      onCopy(args[0]);
      return handle;
    }
    return real.open(...args);
  };
  const copyFile = async (...args: Parameters<typeof real.copyFile>): Promise<void> => {
    await real.copyFile(...args);
    onCopy(String(args[1]));
  };
  const rename = async (from: string, to: string): Promise<void> => {
    calls.push(`rename to ${to}`);
    await real.rename(from, to);
  };
  return { ...real, link, rename, open, copyFile };
});

/** Called when a file with a new name was made. */
let onCopy: (path: string) => void = () => undefined;

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'litestream-no-links-'));
});
afterEach(() => {
  onCopy = () => undefined;
  rmSync(dir, { recursive: true, force: true });
});

async function replaceDamaged(): Promise<string> {
  const source = new RestoreSource(dir);
  source.commit();
  source.close();
  const out = join(dir, 'out', 'app.db');
  mkdirSync(join(dir, 'out'));
  writeFileSync(out, 'a database that is damaged'.repeat(500));
  chownSync(out, UID, GID);
  const store = await openStore({ type: 'file', path: join(dir, 'replica') });
  const logger = createLogger({ format: 'default', level: 'ERROR', write: () => undefined });
  const replicas = [{ name: 'file', store }];
  calls.length = 0;
  const { keptPath } = await restore({ replicas, outputPath: out, parallelism: 1, force: true, logger });
  return keptPath ?? '';
}

it.skipIf(process.platform !== 'linux')(
  'the copy has its owner and is on the disk before the new one takes its name (Linux: /proc)',
  async () => {
    const keptPath = await replaceDamaged();
    const out = join(dir, 'out', 'app.db');
    expect(readFileSync(keptPath, 'utf8')).toMatch(/^a database that is damaged/);
    const stats = statSync(keptPath);
    expect([stats.uid, stats.gid]).toEqual([UID, GID]);
    const copied = calls.indexOf(`fsync ${keptPath} of ${UID}:${GID}`);
    const renamed = calls.indexOf(`rename to ${out}`);
    expect(calls[copied]).toBeDefined();
    const between = calls.slice(copied, renamed);
    expect(between).toContainEqual(expect.stringContaining(`fsync ${join(dir, 'out')} of`));
  },
);

it.skipIf(!IS_ROOT)('no file that takes the place of the copy is given away (needs root)', async () => {
  const victim = join(dir, 'victim');
  writeFileSync(victim, 'only root may read this', { mode: 0o600 });
  onCopy = (path) => {
    rmSync(path);
    symlinkSync(victim, path);
  };
  await replaceDamaged().catch(() => undefined);
  expect(statSync(victim).uid).toBe(0);
});
