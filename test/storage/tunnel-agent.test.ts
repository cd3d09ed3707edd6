import { createServer } from 'node:http';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openGcsStore } from '../../src/storage/gcs/gcs-store.ts';
import { proxyFor } from '../../src/storage/tunnel-agent.ts';

describe('proxyFor', () => {
  it.each<[string, Record<string, string>, string | undefined]>([
    ['a.example', {}, undefined],
    ['a.example', { HTTPS_PROXY: 'http://p:3128' }, 'http://p:3128/'],
    ['a.example', { https_proxy: 'p:3128' }, 'http://p:3128/'],
    ['a.example', { ALL_PROXY: 'https://p' }, 'https://p/'],
    ['a.example', { HTTP_PROXY: 'http://p' }, undefined],
    ['localhost', { HTTPS_PROXY: 'http://p' }, undefined],
    ['127.0.0.1', { HTTPS_PROXY: 'http://p' }, undefined],
    ['a.example', { HTTPS_PROXY: 'http://p', NO_PROXY: 'b.example, .example' }, undefined],
    ['a.example', { HTTPS_PROXY: 'http://p', NO_PROXY: '*' }, undefined],
    ['an.example', { HTTPS_PROXY: 'http://p', NO_PROXY: 'n.example' }, 'http://p/'],
  ])('for %s with %j is %s', (host, env, proxy) => {
    expect(proxyFor(host, env)?.href).toBe(proxy);
  });

  it('refuses what is no URL, without showing it', () => {
    const find = (): unknown => proxyFor('a.example', { HTTPS_PROXY: 'socks5://me:hunter2@p' });
    expect(find).toThrow('check HTTPS_PROXY');
    expect(find).not.toThrow(/hunter2/);
  });
});

describe('the driver of Google Cloud Storage', () => {
  let proxy: Server;
  let seen: { url: string | undefined; login: string | undefined; firstByte: number | undefined }[];
  let status: number;

  beforeEach(async () => {
    seen = [];
    status = 200;
    proxy = createServer();
    proxy.on('connect', (request, socket) => {
      const note = { url: request.url, login: request.headers['proxy-authorization'], firstByte: undefined };
      seen.push(note);
      socket.write(`HTTP/1.1 ${status} Whatever\r\n\r\n`);
      socket.on('error', () => undefined);
      socket.on('end', () => socket.end());
      socket.once('data', (data: Buffer) => {
        Object.assign(note, { firstByte: data[0] });
        socket.destroy();
      });
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    const { port } = proxy.address() as AddressInfo;
    for (const name of ['https_proxy', 'NO_PROXY', 'no_proxy']) vi.stubEnv(name, undefined);
    vi.stubEnv('HTTPS_PROXY', `http://me:secret@127.0.0.1:${port}`);
  });

  afterEach(async () => {
    vi.unstubAllEnvs();
    proxy.closeAllConnections();
    await new Promise((resolve) => proxy.close(resolve));
  });

  const put = async (): Promise<unknown> => {
    const config = { type: 'gcs', bucket: 'b', path: '', endpoint: 'https://storage.example' } as const;
    const store = openGcsStore(config, { connectMs: 5000, idleMs: 5000 });
    try {
      return await store.put('k', Buffer.from('x'));
    } finally {
      await store.close();
    }
  };

  it('speaks TLS through the proxy that the environment names', async () => {
    // The tunnel ends after the first bytes, which are those of a handshake.
    await expect(put()).rejects.toMatchObject({ code: 'unavailable' });
    const login = `Basic ${Buffer.from('me:secret').toString('base64')}`;
    expect(seen).toEqual([{ url: 'storage.example:443', login, firstByte: 0x16 }]);
  });

  it('says that the proxy refuses, and no password', async () => {
    status = 407;
    const failed = put();
    await expect(failed).rejects.toMatchObject({ code: 'unavailable' });
    await expect(failed).rejects.toThrow(/the proxy 127\.0\.0\.1:\d+ refused the connection \(407\)/);
    await expect(failed).rejects.not.toThrow(/secret/);
  });
});
