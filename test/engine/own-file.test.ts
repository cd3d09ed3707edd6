/** Files of ours in a folder where somebody else can put links. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  chmodSync,
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
import { makeDirectoryDurably } from '../../src/base/made-folders.ts';
import { openFolder, openOwnFile, writeOwnFile } from '../../src/base/own-file.ts';
import { CommitLog } from '../../src/engine/commit-log.ts';
import { DatabaseLock } from '../../src/engine/database-lock.ts';

const ROOT_ON_LINUX = process.platform === 'linux' && process.getuid?.() === 0;
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

describe('the file of the lock', () => {
  const modeOf = (path: string): number => statSync(path).mode & 0o777;

  it('is for nobody else', () => {
    const lock = new DatabaseLock(dir, join(dir, 'db'));
    expect(modeOf(join(dir, 'lock.sqlite'))).toBe(0o600);
    lock.release();
  });

  it('becomes so when an older version made it, without letting go of a lock that this process has', () => {
    const lock = new DatabaseLock(dir, join(dir, 'db'));
    chmodSync(join(dir, 'lock.sqlite'), 0o644);
    expect(() => new DatabaseLock(dir, join(dir, 'db'))).toThrow(/another process already \(pid/);
    expect(modeOf(join(dir, 'lock.sqlite'))).toBe(0o600);
    const other = (): Buffer =>
      execFileSync('sqlite3', [join(dir, 'lock.sqlite'), 'BEGIN EXCLUSIVE'], { stdio: 'pipe' });
    expect(other).toThrow(/locked/);
    lock.release();
  });

  it.skipIf(!ROOT_ON_LINUX)(
    'cannot be locked by who may only read it (needs root: changes users)',
    async () => {
      chmodSync(dir, 0o755);
      const path = join(dir, 'lock.sqlite');
      writeFileSync(path, '', { mode: 0o644 });
      const reader = spawn(
        'setpriv',
        ['--reuid', '12345', '--clear-groups', 'sqlite3', '-interactive', `file:${path}?mode=ro`],
        { stdio: ['pipe', 'pipe', 'ignore'] },
      );
      reader.stdin.write("BEGIN;\nSELECT 'locked' || count(*) FROM sqlite_schema;\n");
      for await (const chunk of reader.stdout) if (String(chunk).includes('locked0')) break;
      expect(() => new DatabaseLock(dir, join(dir, 'db'))).toThrow(
        expect.objectContaining({
          code: 'busy',
          message: expect.stringContaining(`pid ${reader.pid} reads ${path}`) as string,
        }) as Error,
      );
      reader.kill('SIGKILL');
      await once(reader, 'exit');
      const lock = new DatabaseLock(dir, join(dir, 'db'));
      const again = ['--reuid', '12345', '--clear-groups', 'cat', path];
      expect(() => execFileSync('setpriv', again, { stdio: 'pipe' })).toThrow(/Permission denied/);
      lock.release();
    },
  );

  it('says nothing of a file that a link in the place of its owner leads to', () => {
    const lock = new DatabaseLock(dir, join(dir, 'db'));
    rmSync(join(dir, 'lock.owner'));
    symlinkSync(victim, join(dir, 'lock.owner'));
    expect(() => new DatabaseLock(dir, join(dir, 'db'))).toThrow(/owner unknown/);
    lock.release();
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
