/** Files of ours in a folder where somebody else can put links. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeDirectoryDurably } from '../../src/base/durable-file.ts';
import { openFolder, openOwnFile, writeOwnFile } from '../../src/base/own-file.ts';
import { CommitLog } from '../../src/engine/commit-log.ts';
import { DatabaseLock } from '../../src/engine/database-lock.ts';

const SECRET = 'only root may read this';
let dir: string;
let victim: string;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'litestream-own-'));
  victim = join(dir, 'victim');
  writeFileSync(victim, SECRET, { mode: 0o600 });
});
afterEach(() => rmSync(dir, { recursive: true }));

const FOREIGN = {
  code: 'permission',
  message: expect.stringMatching(/is a link or no file.*: remove it/) as string,
};

describe('a file of ours', () => {
  it.each([true, false])('is not written through a link (fresh: %s)', (fresh) => {
    symlinkSync(victim, join(dir, 'ours'));
    expect(() => openOwnFile(join(dir, 'ours'), { fresh })).toThrow(
      expect.objectContaining(FOREIGN) as Error,
    );
    expect(readFileSync(victim, 'utf8')).toBe(SECRET);
  });

  it('is not made in a folder that is a link', () => {
    mkdirSync(join(dir, 'theirs'));
    symlinkSync(join(dir, 'theirs'), join(dir, 'wal'));
    const open = (): number => openOwnFile(join(dir, 'wal', '0'), { fresh: true, root: dir });
    expect(open).toThrow(expect.objectContaining(FOREIGN) as Error);
    expect(statSync(join(dir, 'theirs', '0'), { throwIfNoEntry: false })).toBeUndefined();
  });

  it('is no pipe, which would be waited for', () => {
    execFileSync('mkfifo', [join(dir, 'pipe')]);
    expect(() => openOwnFile(join(dir, 'pipe'), { fresh: true })).toThrow(
      expect.objectContaining(FOREIGN) as Error,
    );
  });

  it('is emptied when it is to be fresh, and else stays', () => {
    writeOwnFile(join(dir, 'ours'), 'a longer text');
    closeSync(openOwnFile(join(dir, 'ours'), {}));
    expect(readFileSync(join(dir, 'ours'), 'utf8')).toBe('a longer text');
    writeOwnFile(join(dir, 'ours'), 'short');
    expect(readFileSync(join(dir, 'ours'), 'utf8')).toBe('short');
    expect(statSync(join(dir, 'ours')).mode & 0o777).toBe(0o600);
  });
});

describe('the lock', () => {
  it.each(['lock.owner', 'lock.sqlite'])('does not follow a link in the place of %s', (name) => {
    symlinkSync(victim, join(dir, name));
    expect(() => new DatabaseLock(dir, join(dir, 'db'))).toThrow(expect.objectContaining(FOREIGN) as Error);
    expect(readFileSync(victim, 'utf8')).toBe(SECRET);
    rmSync(join(dir, name));
    new DatabaseLock(dir, join(dir, 'db')).release();
  });
});

it('times of commits are not written through a link', () => {
  mkdirSync(join(dir, 'times'));
  symlinkSync(victim, join(dir, 'times', '00000000'));
  const log = new CommitLog(dir);
  log.note(0, 4152);
  log.close();
  expect(readFileSync(victim, 'utf8')).toBe(SECRET);
});

it('a folder is opened, and given away, itself', async () => {
  mkdirSync(join(dir, 'theirs'));
  symlinkSync(join(dir, 'theirs'), join(dir, 'link'));
  await expect(openFolder(join(dir, 'link'))).rejects.toMatchObject({ code: 'ENOTDIR' });
  await makeDirectoryDurably(join(dir, 'made', 'deeper'), { mode: 0o750 });
  expect(statSync(join(dir, 'made', 'deeper')).mode & 0o777).toBe(0o750);
});
