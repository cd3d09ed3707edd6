import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chmod, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeDirectories, syncDirectory, writeFileDurably } from '../../src/base/durable-file.ts';
import { makeDirectoryDurably } from '../../src/base/made-folders.ts';

let folder: string;
let path: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'durable-'));
  path = join(folder, 'file');
});
afterEach(() => rm(folder, { recursive: true, force: true }));

async function* chunks(...texts: string[]): AsyncGenerator<Uint8Array> {
  for (const text of texts) yield await Promise.resolve(Buffer.from(text));
}

describe('writeFileDurably', () => {
  it('writes text, bytes and streams, and gives their size and time', async () => {
    for (const data of ['größer', Buffer.from('größer'), chunks('grö', '', 'ßer')]) {
      const written = await writeFileDurably(path, data);
      const stats = await stat(path);
      expect(written).toEqual({ sizeBytes: 8, modifiedAt: stats.mtime });
      expect(stats.mode & 0o777).toBe(0o600);
      expect(await readFile(path, 'utf8')).toBe('größer');
    }
    expect(await readdir(folder)).toEqual(['file']);
  });

  it('gives the mode that is asked for, also over a left-over temporary file', async () => {
    await writeFile(`${path}.tmp`, 'left by a crash, longer than the new text');
    await chmod(`${path}.tmp`, 0o400);
    const umask = process.umask(0o077);
    try {
      await writeFileDurably(path, 'new', { mode: 0o664 });
    } finally {
      process.umask(umask);
    }
    expect((await stat(path)).mode & 0o777).toBe(0o664);
    expect(await readFile(path, 'utf8')).toBe('new');
    expect(await readdir(folder)).toEqual(['file']);
  });

  it('leaves the old file, and nothing else, when it fails or is aborted', async () => {
    await writeFileDurably(path, 'old');
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield* chunks('new');
      throw new Error('broken');
    }
    await expect(writeFileDurably(path, failing())).rejects.toThrow('broken');
    const controller = new AbortController();
    async function* aborting(): AsyncGenerator<Uint8Array> {
      yield* chunks('new');
      controller.abort();
    }
    const { signal } = controller;
    await expect(writeFileDurably(path, aborting(), { signal })).rejects.toMatchObject({ code: 'aborted' });
    await expect(writeFileDurably(path, 'new', { signal })).rejects.toMatchObject({ code: 'aborted' });
    expect(await readdir(folder)).toEqual(['file']);
    expect(await readFile(path, 'utf8')).toBe('old');
    await expect(writeFileDurably(join(folder, 'no', 'file'), 'x')).rejects.toMatchObject({ code: 'ENOENT' });
  });

  it('keeps two writers of one path apart', async () => {
    async function* slowly(): AsyncGenerator<Uint8Array> {
      yield* chunks('slow ');
      await writeFileDurably(path, 'quick and much longer');
      expect(await readFile(path, 'utf8')).toBe('quick and much longer');
      yield* chunks('writer');
    }
    await writeFileDurably(path, slowly());
    expect(await readFile(path, 'utf8')).toBe('slow writer');
    expect(await readdir(folder)).toEqual(['file']);
  });
});

describe('makeDirectoryDurably', () => {
  it('makes missing parents alike and leaves what exists', async () => {
    await chmod(folder, 0o755);
    await makeDirectoryDurably(join(folder, 'a', 'b'), { mode: 0o770 });
    await makeDirectoryDurably(join(folder, 'a', 'b', 'c'));
    const modes = ['', 'a', 'a/b', 'a/b/c'].map(
      async (name) => (await stat(join(folder, name))).mode & 0o777,
    );
    expect(await Promise.all(modes)).toEqual([0o755, 0o770, 0o770, 0o700]);
    await makeDirectoryDurably(folder);
    await syncDirectory(folder);
  });
});

describe('makeDirectories', () => {
  it('gives the first folder that it made', async () => {
    expect(await makeDirectories(join(folder, 'x', 'y', 'z'), 0o700)).toBe(join(folder, 'x'));
    expect(await makeDirectories(join(folder, 'x', 'y', 'z'), 0o700)).toBeUndefined();
  });

  it('makes the same folders for several at once', async () => {
    await Promise.all(Array.from({ length: 8 }, () => makeDirectories(join(folder, 'a', 'b', 'c'), 0o700)));
    expect(await makeDirectories(join(folder, 'a', 'b', 'c'), 0o700)).toBeUndefined();
  });

  it('rejects where a file stands', async () => {
    await writeFileDurably(join(folder, 'file'), '');
    await expect(makeDirectories(join(folder, 'file'), 0o700)).rejects.toThrow(/EEXIST/);
    await expect(makeDirectories(join(folder, 'file', 'below'), 0o700)).rejects.toThrow(/ENOTDIR/);
  });

  it.skipIf(process.platform !== 'linux')(
    'rejects where nothing can be made, instead of trying for ever',
    async () => {
      await expect(makeDirectories('/proc/nope/a/b', 0o700)).rejects.toThrow(/ENOENT/);
    },
  );
});
