import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, readdir, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openSftpStore } from '../../src/storage/sftp/sftp-store.ts';
import { SftpServer } from '../support/sftp-server.ts';
import type { SftpServerOptions } from '../support/sftp-server.ts';
import { until } from '../support/process.ts';
import { chunked, getBytes, readAll } from './contract.ts';
import { configFor } from './sftp-support.ts';

const MIB = 1024 * 1024;
const bytes = (text: string): Uint8Array => Buffer.from(text);

describe('SftpStore requests', () => {
  let server: SftpServer;
  let store: ObjectStore;
  let root: string;

  const restart = async (options: SftpServerOptions): Promise<void> => {
    await store.close();
    await server.close();
    server = await SftpServer.start(options);
    store = openSftpStore(configFor(server));
    root = join(server.root, 'replicas/db');
  };

  beforeEach(async () => {
    server = await SftpServer.start();
    store = openSftpStore(configFor(server));
    root = join(server.root, 'replicas/db');
  });
  afterEach(async () => {
    await store.close();
    await server.close();
  });

  it('sends nothing when it is opened, and logs in once for calls at the same time', async () => {
    expect(store.location).toBe(`sftp://backup@127.0.0.1:${server.port}/replicas/db`);
    expect(server.logins).toEqual([]);
    await Promise.all(['a', 'b', 'c'].map((key) => store.put(key, bytes(key))));
    expect(server.logins).toEqual(['password']);
  });

  it('stores an object under its name, with a temporary one until it is whole', async () => {
    async function* source(): AsyncGenerator<Uint8Array> {
      yield randomBytes(100_000);
      await until(async () => (await stat(join(root, 'g', (await names('g'))[0] ?? ''))).size > 0);
      expect(await names('g')).toEqual([expect.stringMatching(/^x\.[0-9a-f]{16}\.tmp$/)]);
      expect(await readAll(store.list(''))).toEqual([]);
      yield bytes('end');
    }
    const names = (folder: string): Promise<string[]> => readdir(join(root, folder));
    const info = await store.put('g/x', source());
    expect(info.sizeBytes).toBe(100_003);
    expect(await names('g')).toEqual(['x']);
    const [listed] = await readAll(store.list(''));
    expect(listed).toEqual(info);
    expect(info.modifiedAt.getMilliseconds()).toBe(0);
    expect(server.counts()).toMatchObject({ 'posix-rename': 1, fsync: expect.any(Number) as number });
    expect(server.counts().RENAME).toBeUndefined();
  });

  it.each([true, false])('overwrites in steps that never lose both (extensions: %s)', async (extensions) => {
    await restart({ extensions });
    await store.put('x', bytes('old'));
    server.onRequest = ({ operation, path }) =>
      (operation === 'RENAME' || operation === 'posix-rename') && path.endsWith('.tmp')
        ? { status: 4, message: 'no' }
        : 'pass';
    // Aside, the old one has a temporary name as well, and so may go back.
    if (!extensions) {
      server.onRequest = (request) => {
        const isNew = request.operation === 'RENAME' && /x\.[0-9a-f]{16}\.tmp$/.test(request.path);
        return isNew ? { status: 4 } : 'pass';
      };
    }
    await expect(store.put('x', bytes('new'))).rejects.toMatchObject({ code: 'io' });
    expect(await readdir(root)).toEqual(['x']);
    expect((await getBytes(store, 'x')).toString()).toBe('old');
    server.onRequest = () => 'pass';
    await store.put('x', bytes('new'));
    expect(await readdir(root)).toEqual(['x']);
    expect((await getBytes(store, 'x')).toString()).toBe('new');
  });

  it('keeps many requests under way, so that a distant server is not waited for block by block', async () => {
    await restart({ latencyMs: 100 });
    const data = randomBytes(3 * MIB);
    await store.put('big', chunked(data, 300_000));
    expect(server.mostWaiting).toBeGreaterThan(60);
    server.mostWaiting = 0;
    expect((await getBytes(store, 'big')).equals(data)).toBe(true);
    expect(server.mostWaiting).toBeGreaterThan(60);
    expect(server.mostWaiting).toBeLessThan(80);
  });

  it('takes few round trips for a small object', async () => {
    await store.put('a/b', bytes('x'));
    await until(() => server.openHandles === 0);
    server.clearRequests();
    await store.put('a/c', bytes('x'));
    await until(() => server.openHandles === 0);
    expect(server.requests.map(({ operation }) => operation)).toEqual([
      ...['OPEN', 'OPEN'],
      ...['WRITE', 'fsync', 'FSTAT'],
      ...['CLOSE', 'posix-rename', 'fsync', 'CLOSE'],
    ]);
    server.clearRequests();
    await getBytes(store, 'a/c');
    await until(() => server.openHandles === 0);
    // The blocks behind the end are asked for before the size is known.
    expect(server.requests.map(({ operation }) => operation)).toEqual([
      ...['OPEN', 'READ', 'READ', 'READ', 'READ', 'FSTAT'],
      'CLOSE',
    ]);
  });

  it('asks for the rest when a server gives less than it was asked for', async () => {
    const data = randomBytes(200_000);
    await store.put('x', data);
    server.mostBytesRead = 1000;
    expect((await getBytes(store, 'x')).equals(data)).toBe(true);
    expect((await getBytes(store, 'x', { start: 999, end: 99_999 })).equals(data.subarray(999, 99_999))).toBe(
      true,
    );
  });

  it('leaves no handle open, whatever becomes of a call', async () => {
    await store.put('big', randomBytes(2 * MIB));
    await getBytes(store, 'big', { start: 5, end: 70_000 });
    for await (const chunk of (await store.get('big')).stream) {
      expect(chunk.length).toBeGreaterThan(0);
      break;
    }
    for await (const info of store.list('')) expect(info.key).toBe('big');
    await expect(store.get('absent')).rejects.toMatchObject({ code: 'not-found' });
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield bytes('x');
      await Promise.resolve();
      throw new Error('the source broke');
    }
    await expect(store.put('new', failing())).rejects.toThrow('the source broke');
    server.onRequest = ({ operation }) => (operation === 'WRITE' ? { status: 4 } : 'pass');
    await expect(store.put('new', bytes('x'))).rejects.toMatchObject({ code: 'io' });
    await until(() => server.openHandles === 0);
    expect(await readdir(root)).toEqual(['big']);
  });

  it('hides temporary files, and removes its own old ones with the next delete', async () => {
    await store.put('a/x', bytes('x'));
    const old = new Date(Date.now() - 2 * 86_400_000);
    const strays = {
      [`s.${'0'.repeat(16)}.tmp`]: old,
      [`t.${'1'.repeat(16)}.tmp`]: new Date(),
      'u.tmp': old,
    };
    for (const [name, at] of Object.entries(strays)) {
      await writeFile(join(root, 'a', name), 'partial');
      await utimes(join(root, 'a', name), at, at);
    }
    expect((await readAll(store.list(''))).map(({ key }) => key)).toEqual(['a/x']);
    expect(await readdir(join(root, 'a'))).toHaveLength(4);
    await store.delete(['a/absent']);
    expect((await readdir(join(root, 'a'))).sort()).toEqual([`t.${'1'.repeat(16)}.tmp`, 'u.tmp', 'x']);
  });

  it('removes what an upload left behind whose connection broke', async () => {
    server.onRequest = ({ operation }) => (operation === 'posix-rename' ? 'drop' : 'pass');
    await expect(store.put('x', bytes('x'))).rejects.toMatchObject({ code: 'unavailable' });
    expect(await readdir(root)).toEqual([expect.stringMatching(/\.tmp$/)]);
    server.onRequest = () => 'pass';
    await store.put('y', bytes('y'));
    expect(await readdir(root)).toEqual(['y']);
  });

  it('removes folders that a delete empties, but never the root', async () => {
    await store.put('generations/1/wal/0', bytes('x'));
    await store.put('generations/1/wal/1', bytes('x'));
    await store.delete(['generations/1/wal/0']);
    expect(await readdir(join(root, 'generations/1/wal'))).toEqual(['1']);
    await store.delete(['generations/1/wal/1']);
    expect(await readdir(root)).toEqual([]);
  });

  it('lists folders that vanish meanwhile, and files that are no objects', async () => {
    for (const key of ['a/1', 'b/1', 'c/1']) await store.put(key, bytes('x'));
    server.onRequest = ({ operation, path }) =>
      operation === 'OPENDIR' && path.endsWith('/b') ? { status: 2 } : 'pass';
    expect((await readAll(store.list(''))).map(({ key }) => key).sort()).toEqual(['a/1', 'c/1']);
    expect((await readAll(store.listPrefixes(''))).sort()).toEqual(['a', 'c']);
  });

  it.each<[string, SftpServerOptions]>([
    ['without', { extensions: false }],
    ['with', {}],
  ])('explains a full disk and a lack of permission, %s extensions', async (_name, options) => {
    await restart(options);
    await store.put('there', bytes('x'));
    server.space = { freeBytes: 0, freeFiles: 10, readOnly: false };
    const refuse = async (status: number, message = ''): Promise<unknown> => {
      server.onRequest = ({ operation }) => (operation === 'WRITE' ? { status, message } : 'pass');
      return store.put('x', bytes('x')).catch((error: unknown) => error);
    };
    const full = {
      code: 'disk-full',
      message: expect.stringMatching(/^put x: no space left on .*free some/) as string,
    };
    expect(await refuse(4, 'No space left on device')).toMatchObject(full);
    const code = options.extensions === false ? 'io' : 'disk-full';
    expect(await refuse(4)).toMatchObject({ code });
    server.space = { freeBytes: 1e9, freeFiles: 10, readOnly: true };
    expect(await refuse(4, 'Read-only file system')).toMatchObject({ code: 'permission' });
    server.space = { freeBytes: 1e9, freeFiles: 10, readOnly: false };
    expect(await refuse(4, 'Failure')).toMatchObject({
      code: 'io',
      message: expect.stringMatching(
        /put x: .*folder "\/replicas\/db" failed without a reason: a full quota/,
      ) as string,
    });
    expect(await refuse(3)).toMatchObject({
      code: 'permission',
      message: expect.stringMatching(
        /^put x: permission denied on .*allow user "backup" to make, rename and remove files and folders there$/,
      ) as string,
    });
    expect((await readAll(store.list(''))).map(({ key }) => key)).toEqual(['there']);
  });

  it('says what to do when a file stands where a folder should be', async () => {
    await mkdir(join(server.root, 'replicas'));
    await writeFile(root, 'a file');
    await expect(store.put('a/x', bytes('x'))).rejects.toThrow(/a file stands where the folder .* is needed/);
    expect(await readFile(root, 'utf8')).toBe('a file');
  });

  it('reports a file that shrinks while it is read', async () => {
    await store.put('x', randomBytes(3 * MIB));
    const body = await store.get('x');
    await writeFile(join(root, 'x'), 'short');
    await expect(readAll(body.stream)).rejects.toMatchObject({ code: 'unavailable' });
  });
});

describe('SftpStore connections', () => {
  it('connects again after the connection broke, and keeps it otherwise', async () => {
    const server = await SftpServer.start();
    const store = openSftpStore(configFor(server));
    try {
      await store.put('x', bytes('x'));
      server.drop();
      await until(async () => {
        const listed = await readAll(store.list('')).catch(() => undefined);
        return listed?.length === 1;
      });
      expect(server.logins).toHaveLength(2);
      await readAll(store.list(''));
      expect(server.logins).toHaveLength(2);
    } finally {
      await store.close();
      await server.close();
    }
  });

  it('notices a server that answers keepalives but no requests', async () => {
    const server = await SftpServer.start();
    const store = openSftpStore(configFor(server), {}, { idleMs: 300, keepaliveMs: 50 });
    try {
      await store.put('x', bytes('x'));
      server.onRequest = ({ operation }) => (operation === 'READ' ? 'stall' : 'pass');
      const get = store.get('x').then((body) => readAll(body.stream));
      await expect(get).rejects.toMatchObject({ code: 'timeout' });
      await expect(store.get('x').then((body) => readAll(body.stream))).rejects.toThrow(
        /does not answer: .*check the server/,
      );
      server.onRequest = () => 'pass';
      expect((await getBytes(store, 'x')).toString()).toBe('x');
    } finally {
      await store.close();
      await server.close();
    }
  });

  it('ends what is under way when it is closed, and takes no more', async () => {
    const server = await SftpServer.start();
    const store = openSftpStore(configFor(server));
    try {
      server.onRequest = () => 'stall';
      const failure = readAll(store.list('')).catch((error: unknown) => error);
      await until(() => server.requests.at(-1)?.operation === 'OPENDIR');
      await store.close();
      expect(await failure).toMatchObject({ code: 'aborted' });
      await expect(store.put('y', bytes('y'))).rejects.toMatchObject({ code: 'aborted' });
    } finally {
      await server.close();
    }
  });
});
