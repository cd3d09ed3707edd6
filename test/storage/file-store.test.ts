import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { openFileStore } from '../../src/storage/file/file-store.ts';
import { fileError } from '../../src/storage/file/errors.ts';
import { ODD_PATH, chunked, describeStore, getBytes, readAll } from './contract.ts';

async function newFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'file-store-'));
}

const remove = (folder: string): Promise<void> => rm(folder, { recursive: true, force: true });
const modeOf = async (path: string): Promise<number> => (await stat(path)).mode & 0o777;

describeStore('FileStore', async () => {
  const folder = await newFolder();
  const store = openFileStore({ type: 'file', path: join(folder, 'not', 'there', ODD_PATH) });
  return { store, cleanup: () => remove(folder) };
});

describe('FileStore on disk', () => {
  let folder: string;
  let root: string;

  beforeEach(async () => {
    folder = await newFolder();
    root = join(folder, 'replica');
  });
  afterEach(() => remove(folder));

  it('gives 0600 and 0700 without a database to copy from, also with a lax umask', async () => {
    const umask = process.umask(0);
    try {
      await openFileStore({ type: 'file', path: root }).put('a/b/c', Buffer.from('x'));
    } finally {
      process.umask(umask);
    }
    for (const path of [root, join(root, 'a'), join(root, 'a/b')]) expect(await modeOf(path)).toBe(0o700);
    expect(await modeOf(join(root, 'a/b/c'))).toBe(0o600);
  });

  it("copies the database's mode for files and its folder's for folders", async () => {
    const ownerLike = join(folder, 'data', 'app.db');
    await mkdir(dirname(ownerLike));
    await chmod(dirname(ownerLike), 0o750);
    const store = openFileStore({ type: 'file', path: root, ownerLike });
    await store.put('before/x', Buffer.from('x'));
    expect(await modeOf(join(root, 'before/x'))).toBe(0o600);
    await writeFile(ownerLike, '');
    await chmod(ownerLike, 0o664);
    await chmod(dirname(ownerLike), 0o775);
    await store.put('after/x', Buffer.from('x'));
    expect(await modeOf(join(root, 'after/x'))).toBe(0o664);
    expect(await modeOf(join(root, 'after'))).toBe(0o775);
    expect(await modeOf(join(root, 'before'))).toBe(0o750);
  });

  it.runIf(process.getuid?.() === 0)("copies the database's owner when it may", async () => {
    const { chown } = await import('node:fs/promises');
    const ownerLike = join(folder, 'app.db');
    await writeFile(ownerLike, '');
    await chown(ownerLike, 4321, 4322);
    await openFileStore({ type: 'file', path: root, ownerLike }).put('a/x', Buffer.from('x'));
    expect(await stat(join(root, 'a/x'))).toMatchObject({ uid: 4321, gid: 4322 });
    expect(await stat(join(root, 'a'))).toMatchObject({ uid: process.getuid?.(), gid: process.getgid?.() });
  });

  it('does not list temporary files, links and empty folders, and overwrites what a crash left', async () => {
    const store = openFileStore({ type: 'file', path: root });
    await mkdir(join(root, 'wal', 'empty', 'deeper'), { recursive: true });
    await mkdir(join(root, 'only-left-overs'));
    await writeFile(join(root, 'only-left-overs', 'x.tmp'), 'half');
    await writeFile(join(root, 'wal', 'x.tmp'), 'half, and longer than the whole');
    await symlink('/etc', join(root, 'wal', 'link'));
    await store.put('wal/x', Buffer.from('whole'));
    expect((await readAll(store.list(''))).map((info) => info.key)).toEqual(['wal/x']);
    expect(await readAll(store.listPrefixes(''))).toEqual(['wal']);
    expect(await readAll(store.listPrefixes('wal/'))).toEqual([]);
    expect(await readFile(join(root, 'wal', 'x'), 'utf8')).toBe('whole');
    expect((await readdir(join(root, 'wal'))).sort()).toEqual(['empty', 'link', 'x']);
  });

  it('removes the folder of a put that was given up when its object is deleted', async () => {
    const store = openFileStore({ type: 'file', path: root });
    await store.put('stays', Buffer.from('x'));
    const stop = new AbortController();
    async function* source(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('x');
      stop.abort();
      await new Promise(() => undefined);
    }
    await expect(store.put('a/b/c', source(), { signal: stop.signal })).rejects.toMatchObject({
      code: 'aborted',
    });
    await store.delete(['a/b/c', 'never/was']);
    expect(await readdir(root)).toEqual(['stays']);
  });

  it('shows only a temporary file during a put, and nothing of it after a failure', async () => {
    const store = openFileStore({ type: 'file', path: root });
    await store.put('x', Buffer.from('before'));
    async function* source(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('after');
      expect((await readdir(root)).sort()).toEqual(['x', 'x.tmp']);
      expect(await readFile(join(root, 'x'), 'utf8')).toBe('before');
      throw new Error('broken');
    }
    await expect(store.put('x', source())).rejects.toThrow('broken');
    expect(await readdir(root)).toEqual(['x']);
    expect(await readFile(join(root, 'x'), 'utf8')).toBe('before');
  });

  it('removes folders that a delete empties, but never the root', async () => {
    const store = openFileStore({ type: 'file', path: root });
    await store.put('generations/1/wal/0', Buffer.from('x'));
    await store.put('generations/1/wal/1', Buffer.from('x'));
    await store.delete(['generations/1/wal/0']);
    expect(await readdir(join(root, 'generations/1/wal'))).toEqual(['1']);
    await store.delete(['generations/1/wal/1']);
    expect(await readdir(root)).toEqual([]);
  });

  it('reports a body that shrinks while it is read', async () => {
    const store = openFileStore({ type: 'file', path: root });
    await store.put('x', Buffer.alloc(1024 * 1024));
    const body = await store.get('x');
    await writeFile(join(root, 'x'), 'short');
    await expect(readAll(body.stream)).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('says what to do when a file stands where the root should be', async () => {
    await writeFile(root, 'a file');
    const store = openFileStore({ type: 'file', path: root });
    const message = /a file stands where a folder is needed/;
    await expect(store.put('x', chunked(Buffer.from('x'), 1))).rejects.toThrow(message);
    await expect(readAll(store.list(''))).rejects.toThrow(message);
    await expect(getBytes(store, 'x')).rejects.toMatchObject({ code: 'not-found' });
  });

  it.skipIf(process.getuid?.() === 0)('names an unwritable folder and what to do', async () => {
    await mkdir(root, { mode: 0o500 });
    const put = openFileStore({ type: 'file', path: root }).put('x', Buffer.from('x'));
    await expect(put).rejects.toMatchObject({ code: 'permission' });
    await expect(put).rejects.toThrow(`cannot write ${join(root, 'x')}: permission denied; allow the user`);
  });
});

describe('fileError', () => {
  it.each([
    ['EACCES', 'permission', /allow the user that runs litestream/],
    ['EROFS', 'permission', /mounted read-only; mount it writable/],
    ['ENOSPC', 'disk-full', /no space left.*free some/],
    ['EDQUOT', 'disk-full', /quota/],
    ['ENOENT', 'not-found', /no such file: \/r\/x/],
    ['EIO', 'io', /cannot write \/r\/x: disk fault/],
  ])('translates %s to %s', (systemCode, code, message) => {
    const error = fileError(Object.assign(new Error('disk fault'), { code: systemCode }), 'write', '/r/x');
    expect(error.code).toBe(code);
    expect(error.message).toMatch(message);
  });
});
