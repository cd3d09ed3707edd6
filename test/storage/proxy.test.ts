import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openAbsStore } from '../../src/storage/abs/abs-store.ts';
import { openGcsStore } from '../../src/storage/gcs/gcs-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { proxyFor } from '../../src/storage/proxy.ts';
import type { ProxyTarget } from '../../src/storage/proxy.ts';
import { openS3Store } from '../../src/storage/s3/s3-store.ts';
import { GcsServer } from '../support/gcs-server.ts';
import { startProxy, startTls, type ConnectProxy, type Listener } from '../support/proxy.ts';
import { S3Server } from '../support/s3-server.ts';
import { getBytes, readAll } from './contract.ts';

describe('proxyFor', () => {
  const target = (url: string): ProxyTarget => {
    const { protocol, hostname: host, port } = new URL(url);
    return { protocol: protocol as 'http:', host, port: Number(port || (protocol === 'http:' ? 80 : 443)) };
  };
  const both = { HTTPS_PROXY: 'http://p', HTTP_PROXY: 'http://q' };

  it.each<[string, Record<string, string>, string | undefined]>([
    ['https://a.example', {}, undefined],
    ['https://a.example', { HTTPS_PROXY: 'http://p:3128' }, 'http://p:3128/'],
    ['https://a.example', { https_proxy: 'p:3128' }, 'http://p:3128/'],
    ['https://a.example', { ALL_PROXY: 'https://p' }, 'https://p/'],
    ['https://a.example', { HTTP_PROXY: 'http://p' }, undefined],
    ['http://a.example', { HTTPS_PROXY: 'http://p' }, undefined],
    ['http://a.example', both, 'http://q/'],
    ['http://a.example', { http_proxy: '10.0.0.1:3128' }, 'http://10.0.0.1:3128/'],
    ['https://localhost', both, undefined],
    ['https://127.0.0.1', both, undefined],
    ['http://[::1]:9000', both, undefined],
    ['https://a.example', { ...both, NO_PROXY: 'b.example, .example' }, undefined],
    ['https://a.example', { ...both, no_proxy: '*' }, undefined],
    ['https://A.Example', { ...both, NO_PROXY: 'a.EXAMPLE' }, undefined],
    ['https://an.example', { ...both, NO_PROXY: 'n.example' }, 'http://p/'],
    ['https://a.example:9000', { ...both, NO_PROXY: 'a.example:9000' }, undefined],
    ['https://a.example', { ...both, NO_PROXY: 'a.example:9000' }, 'http://p/'],
    ['http://10.1.2.3:9000', { ...both, NO_PROXY: '10.0.0.0/8' }, undefined],
    ['http://10.1.2.3:9000', { ...both, NO_PROXY: '10.1.2.3' }, undefined],
    ['http://11.1.2.3:9000', { ...both, NO_PROXY: '10.0.0.0/8,1.2.3,nonsense/7,10.0.0.0/99' }, 'http://q/'],
    ['http://[fd00::7]', { ...both, NO_PROXY: 'fd00::/8' }, undefined],
    ['http://[fd00::7]:9000', { ...both, NO_PROXY: '[fd00::7]:9000' }, undefined],
    ['http://[fe00::7]', { ...both, NO_PROXY: 'fd00::/8,fd00::7' }, 'http://q/'],
  ])('for %s with %j is %s', (url, env, proxy) => {
    expect(proxyFor(target(url), env)?.href).toBe(proxy);
  });

  it('refuses what is no URL, without showing it', () => {
    const find = (): unknown =>
      proxyFor(target('https://a.example'), { HTTPS_PROXY: 'socks5://me:hunter2@p' });
    expect(find).toThrow('check HTTPS_PROXY');
    expect(find).not.toThrow(/hunter2/);
  });
});

describe('behind a proxy', () => {
  const timeouts = { connectMs: 5000, idleMs: 5000 };
  const login = `Basic ${Buffer.from('me:secret').toString('base64')}`;
  let server: S3Server;
  let secured: Listener;
  let gcs: GcsServer;
  let proxy: ConnectProxy;
  let stores: ObjectStore[];

  beforeEach(async () => {
    stores = [];
    server = await S3Server.start();
    gcs = await GcsServer.start();
    secured = await startTls(server);
    proxy = await startProxy({
      's3.example.test': secured,
      'plain.example.test': server,
      'gcs.example.test': gcs,
    });
    for (const name of ['HTTPS_PROXY', 'HTTP_PROXY', 'ALL_PROXY', 'NO_PROXY']) {
      vi.stubEnv(name, undefined);
      vi.stubEnv(name.toLowerCase(), undefined);
    }
  });

  afterEach(async () => {
    vi.unstubAllEnvs();
    for (const store of stores) await store.close();
    for (const listener of [proxy, secured, gcs, server]) await listener.close();
  });

  const use = (name: string): unknown => vi.stubEnv(name, `http://me:secret@127.0.0.1:${proxy.port}`);

  function s3(endpoint: string, skipVerify = false): ObjectStore {
    const config = { type: 's3', bucket: 'bucket', path: '', forcePathStyle: true } as const;
    const store = openS3Store({ ...config, endpoint, skipVerify, ...server.credentials }, timeouts);
    stores.push(store);
    return store;
  }

  async function roundTrip(store: ObjectStore): Promise<void> {
    const body = Buffer.alloc(6 << 20, 'some bytes ');
    await store.put('a name', body);
    expect((await getBytes(store, 'a name')).equals(body)).toBe(true);
    expect(await readAll(store.list(''))).toHaveLength(1);
    await store.delete(['a name']);
    expect(await readAll(store.list(''))).toEqual([]);
  }

  it('S3 goes through a tunnel, kept open, that the proxy cannot look into', async () => {
    use('HTTPS_PROXY');
    await roundTrip(s3('https://s3.example.test', true));
    expect(new Set(proxy.requests)).toEqual(new Set(['CONNECT s3.example.test:443']));
    expect(new Set(proxy.logins)).toEqual(new Set([login]));
    expect(proxy.requests.length).toBeLessThan(server.requests.length);
  });

  it('the certificate is looked at, by the name of the store', async () => {
    use('HTTPS_PROXY');
    const failed = s3('https://s3.example.test').put('k', Buffer.from('x'));
    await expect(failed).rejects.toMatchObject({ code: 'config' });
    await expect(failed).rejects.toThrow(/certificate of https:\/\/s3\.example\.test .*not trusted/);
    expect(server.requests).toEqual([]);
  });

  it('S3 without TLS is asked for through the proxy', async () => {
    use('HTTP_PROXY');
    await roundTrip(s3('http://plain.example.test:9000'));
    expect(proxy.requests).toContain('GET http://plain.example.test:9000/bucket/a%20name?x-id=GetObject');
    expect(proxy.requests).toHaveLength(server.requests.length);
    expect(new Set(proxy.logins)).toEqual(new Set([login]));
  });

  it.each<[string, () => ObjectStore]>([
    ['S3', () => s3('https://s3.example.test', true)],
    ['Azure', () => abs('https://abs.example.test')],
    ['Google', () => openGcs('https://gcs.example.test')],
  ])('%s says that the proxy refuses, and no password', async (_, open) => {
    use('HTTPS_PROXY');
    proxy.refusal = 407;
    const failed = open().put('k', Buffer.from('x'));
    await expect(failed).rejects.toMatchObject({ code: 'unavailable' });
    await expect(failed).rejects.toThrow(/the proxy 127\.0\.0\.1:\d+ refused the connection \(407\)/);
    await expect(failed).rejects.not.toThrow(/secret/);
  });

  it.each<[string, () => ObjectStore]>([
    ['S3', () => s3('https://127.0.0.1:1', true)],
    ['Azure', () => abs('https://127.0.0.1:1')],
    ['Google', () => openGcs('https://127.0.0.1:1')],
  ])('%s on this machine is not looked for there', async (_, open) => {
    use('HTTPS_PROXY');
    await expect(open().put('k', Buffer.from('x'))).rejects.toMatchObject({ code: 'unavailable' });
    expect(proxy.requests).toEqual([]);
  });

  it.each<[string, () => ObjectStore]>([
    ['S3', () => s3('https://s3.example.test', true)],
    ['Azure', () => abs('https://abs.example.test')],
    ['Google', () => openGcs('https://gcs.example.test')],
  ])('%s says what is wrong with a proxy that is none', async (_, open) => {
    vi.stubEnv('HTTPS_PROXY', 'socks5://me:secret@p');
    const failed = (async () => await open().put('k', Buffer.from('x')))();
    await expect(failed).rejects.toThrow(/check HTTPS_PROXY/);
    await expect(failed).rejects.not.toThrow(/secret/);
  });

  function abs(endpoint: string): ObjectStore {
    const accountKey = Buffer.from('key').toString('base64');
    const config = { type: 'abs', bucket: 'b', path: '', accountName: 'account', accountKey } as const;
    const store = openAbsStore({ ...config, endpoint }, timeouts);
    stores.push(store);
    return store;
  }

  function openGcs(endpoint: string): ObjectStore {
    const store = openGcsStore({ type: 'gcs', bucket: 'bucket', path: '', endpoint }, timeouts);
    stores.push(store);
    return store;
  }

  it('Google without TLS is asked for through the proxy', async () => {
    use('HTTP_PROXY');
    await roundTrip(openGcs('http://gcs.example.test'));
    expect(proxy.requests.every((line) => line.includes(' http://gcs.example.test/'))).toBe(true);
    expect(proxy.requests).toHaveLength(gcs.requests.length);
  });
});
