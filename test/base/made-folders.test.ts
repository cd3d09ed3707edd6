/** Folders that are made where somebody else can put others in their place at any moment. */

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
} from 'node:fs';
import type * as FsPromises from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { closeFolders, makeDirectoryDurably, makeFolders } from '../../src/base/made-folders.ts';

const ROOT_ON_LINUX = process.platform === 'linux' && process.getuid?.() === 0;
const NEIGHBOUR = 12345;

/** Called before and when a folder was made. */
let onMaking: () => void = () => undefined;
let onMade: () => void = () => undefined;

vi.mock('node:fs/promises', async (original) => {
  const real = await original<typeof FsPromises>();
  const mkdir = async (...args: Parameters<typeof real.mkdir>): Promise<void> => {
    onMaking();
    await real.mkdir(...args);
    onMade();
  };
  return { ...real, mkdir };
});

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'litestream-made-'));
});
afterEach(() => {
  onMaking = onMade = () => undefined;
  rmSync(dir, { recursive: true });
});

describe.skipIf(!ROOT_ON_LINUX)('a folder that root makes (needs root: gives files away)', () => {
  it('is given away, and not the one that was put in its place', async () => {
    const theirs = join(dir, 'theirs');
    mkdirSync(theirs, { mode: 0o700 });
    chownSync(theirs, NEIGHBOUR, NEIGHBOUR);
    onMade = () => {
      renameSync(join(dir, 'new'), join(dir, 'away'));
      renameSync(theirs, join(dir, 'new'));
    };
    await makeDirectoryDurably(join(dir, 'new'), { mode: 0o777, owner: { uid: 777, gid: 777 } });
    const { uid, mode } = statSync(join(dir, 'new'));
    expect([uid, mode & 0o777]).toEqual([NEIGHBOUR, 0o700]);
  });

  it('gets its own folders, wherever its name leads by then', async () => {
    const victim = join(dir, 'victim');
    mkdirSync(victim);
    onMaking = () => {
      if (!existsSync(join(dir, 'new'))) return;
      renameSync(join(dir, 'new'), join(dir, 'away'));
      symlinkSync(victim, join(dir, 'new'));
    };
    await makeDirectoryDurably(join(dir, 'new', 'deeper'), { owner: { uid: NEIGHBOUR, gid: NEIGHBOUR } });
    expect(readdirSync(victim)).toEqual([]);
    expect(statSync(victim).uid).toBe(0);
    expect(statSync(join(dir, 'away', 'deeper')).uid).toBe(NEIGHBOUR);
  });
});

it('folders that were made are told, the outermost first', async () => {
  const made = await makeFolders(join(dir, 'a', 'b'), 0o700);
  expect(made.map(({ path }) => path)).toEqual([join(dir, 'a'), join(dir, 'a', 'b')]);
  await closeFolders(made);
  expect(await makeFolders(join(dir, 'a', 'b'), 0o700)).toEqual([]);
});
