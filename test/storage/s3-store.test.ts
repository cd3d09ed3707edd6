import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openS3Store } from '../../src/storage/s3/s3-store.ts';
import type { S3StoreConfig } from '../../src/storage/store-config.ts';
import { S3Server } from '../support/s3-server.ts';
import type { Fault, S3Request } from '../support/s3-server.ts';
import { ODD_PATH, chunked, describeStore, getBytes, readAll } from './contract.ts';

const MIB = 1024 * 1024;

const BASE = { type: 's3', bucket: 'bucket', path: 'db', forcePathStyle: true, skipVerify: false } as const;

function configFor(server: S3Server, changes: Partial<S3StoreConfig> = {}): S3StoreConfig {
  return { ...BASE, endpoint: server.endpoint, ...server.credentials, ...changes };
}

describeStore(
  'S3Store',
  async ({ through, wrongSecret, timeouts }) => {
    const server = await S3Server.start();
    // A neighbour whose name begins alike must never show.
    server.bucket().put(`${ODD_PATH}-other/key`, Buffer.from('x'));
    const { host, port } = await through({ host: '127.0.0.1', port: server.port });
    const endpoint = `http://${host}:${port}`;
    const secret = wrongSecret === undefined ? {} : { secretAccessKey: wrongSecret };
    const store = openS3Store(configFor(server, { endpoint, path: ODD_PATH, ...secret }), timeouts);
    return { store, cleanup: () => server.close() };
  },
  { protocol: 'http' },
);

async function using(store: ObjectStore, use: (store: ObjectStore) => Promise<void>): Promise<void> {
  try {
    await use(store);
  } finally {
    await store.close();
  }
}

describe('S3Store requests', () => {
  let server: S3Server;
  let store: ObjectStore;

  beforeEach(async () => {
    server = await S3Server.start();
    store = openS3Store(configFor(server));
  });
  afterEach(async () => {
    await store.close();
    await server.close();
  });

  it('sends nothing when it is opened', () => {
    expect(server.requests).toEqual([]);
    expect(store.location).toBe(`s3://bucket/db (endpoint ${server.endpoint})`);
  });

  it('puts a small object in one request, signed and with its length, without chunked framing', async () => {
    await store.put('a', Buffer.from('abc'));
    await store.put('b', chunked(Buffer.from('abc'), 1));
    expect(server.counts()).toEqual({ PutObject: 2 });
    for (const { headers } of server.requests) {
      expect(headers['content-length']).toBe('3');
      expect(headers['x-amz-content-sha256']).toMatch(/^[0-9a-f]{64}$/);
      expect(headers['content-encoding']).toBeUndefined();
      expect(headers['transfer-encoding']).toBeUndefined();
      expect(headers.expect).toBeUndefined();
      expect(Object.keys(headers).filter((name) => name.startsWith('x-amz-checksum'))).toEqual([]);
    }
    expect(server.bucket().keys()).toEqual(['db/a', 'db/b']);
  });

  it('lists the root of a bucket when it has no path', async () => {
    server.bucket().put('folder-marker/', Buffer.from(''));
    await using(openS3Store(configFor(server, { path: '' })), async (root) => {
      await root.put('a/b', Buffer.from('x'));
      expect((await readAll(root.list(''))).map((info) => info.key)).toEqual(['a/b']);
      expect((await readAll(root.listPrefixes(''))).sort()).toEqual(['a', 'folder-marker']);
    });
    expect(server.bucket().keys()).toEqual(['a/b', 'folder-marker/']);
  });

  it('deletes a thousand keys a request, with Content-MD5 alone', async () => {
    await store.delete(Array.from({ length: 2001 }, (_, number) => `k${number}`));
    expect(server.counts()).toEqual({ DeleteObjects: 3 });
    const { headers } = server.requests[0]!;
    expect(headers['content-md5']).toBeDefined();
    expect(Object.keys(headers).filter((name) => name.includes('checksum'))).toEqual([]);
  });

  /** Counts the parts that have come and are not stored, at most. */
  function watchParts(): { readonly most: number } {
    const counts = { running: 0, most: 0 };
    server.onRequest = ({ operation }) => {
      if (operation === 'UploadPart') counts.most = Math.max(counts.most, ++counts.running);
      return 'pass';
    };
    const buckets = server.bucket();
    const putPart = buckets.putPart.bind(buckets);
    buckets.putPart = (...args) => {
      counts.running--;
      return putPart(...args);
    };
    return counts;
  }

  it('uploads in parts of equal size, at most twelve at once, and dates the object by its beginning', async () => {
    const parts = watchParts();
    // None is answered before twelve are there.
    server.beforeAnswer = async ({ operation }) => {
      while (operation === 'UploadPart' && parts.most < 12)
        await new Promise((resolve) => setTimeout(resolve, 5));
    };
    const buckets = server.bucket();
    const data = randomBytes(63 * MIB);
    const info = await store.put('big', chunked(data, 777_777));
    expect(server.counts()).toEqual({ CreateMultipartUpload: 1, UploadPart: 13, CompleteMultipartUpload: 1 });
    expect(parts.most).toBe(12);
    expect(buckets.get('db/big').data.equals(data)).toBe(true);
    const listed = (await readAll(store.list('')))[0]!;
    expect(Math.abs(info.modifiedAt.getTime() - listed.modifiedAt.getTime())).toBeLessThan(1000);
    for (const { headers, operation } of server.requests.filter(
      (request) => request.operation === 'UploadPart',
    )) {
      expect([operation, headers['content-length']]).toEqual([
        'UploadPart',
        expect.stringMatching(/^(5242880|3145728)$/),
      ]);
    }
  });

  it('reads ahead while the upload is made, and sends nothing when it is refused', async () => {
    let read = 0;
    let ended = false;
    async function* body(): AsyncGenerator<Uint8Array> {
      try {
        for (; read < 63; read++) yield await Promise.resolve(Buffer.alloc(MIB, read));
      } finally {
        ended = true;
      }
    }
    server.beforeAnswer = async ({ operation }) => {
      // As much as parts may be under way, and one more.
      while (operation === 'CreateMultipartUpload' && read < 61)
        await new Promise((resolve) => setTimeout(resolve, 5));
    };
    server.onRequest = ({ operation }) => (operation === 'CreateMultipartUpload' ? { status: 403 } : 'pass');
    await expect(store.put('big', body())).rejects.toMatchObject({ code: 'permission' });
    expect(server.counts()).toEqual({ CreateMultipartUpload: 1 });
    expect(ended).toBe(true);
    server.onRequest = () => 'pass';
    read = 0;
    await store.put('big', body());
    expect(server.bucket().get('db/big').data.length).toBe(63 * MIB);
  });

  it('has no more than 24 parts of all uploads under way, and one of each beyond', async () => {
    const parts = watchParts();
    // None is answered before 24 are there; those wait whether more come.
    let waited: Promise<void> | undefined;
    server.beforeAnswer = async ({ operation }) => {
      while (operation === 'UploadPart' && parts.most < 24)
        await new Promise((resolve) => setTimeout(resolve, 5));
      if (operation === 'UploadPart') await (waited ??= new Promise((resolve) => setTimeout(resolve, 300)));
    };
    const buckets = server.bucket();
    const data = randomBytes(63 * MIB);
    await Promise.all(['a', 'b', 'c'].map((key) => store.put(key, data)));
    expect(server.counts().UploadPart).toBe(39);
    expect(parts.most).toBeGreaterThanOrEqual(24);
    expect(parts.most).toBeLessThanOrEqual(26);
    for (const key of ['a', 'b', 'c']) expect(buckets.get(`db/${key}`).data.equals(data)).toBe(true);
  });

  it('takes the region from the bucket when neither region nor endpoint is set', async () => {
    const frankfurt = await S3Server.start({ region: 'eu-central-1' });
    vi.stubEnv('AWS_ENDPOINT_URL_S3', frankfurt.endpoint);
    const config = { ...BASE, ...frankfurt.credentials };
    const regional = openS3Store(config);
    try {
      await regional.put('a', Buffer.from('x'));
      await getBytes(regional, 'a');
      expect(frankfurt.counts()).toEqual({ GetBucketLocation: 1, PutObject: 1, GetObject: 1 });
      expect(regional.location).toBe('s3://bucket/db');
      frankfurt.clearRequests();
      const given = openS3Store({ ...config, region: 'eu-central-1' });
      await given.put('b', Buffer.from('x'));
      await given.close();
      expect(frankfurt.counts()).toEqual({ PutObject: 1 });
    } finally {
      vi.unstubAllEnvs();
      await regional.close();
      await frankfurt.close();
    }
  });

  it('asks for the region again after a failure', async () => {
    vi.stubEnv('AWS_ENDPOINT_URL_S3', server.endpoint);
    const regional = openS3Store({ ...BASE, ...server.credentials });
    try {
      server.onRequest = () => ({ status: 503 });
      await expect(regional.put('a', Buffer.from('x'))).rejects.toMatchObject({ code: 'unavailable' });
      server.onRequest = () => 'pass';
      await regional.put('a', Buffer.from('x'));
    } finally {
      vi.unstubAllEnvs();
      await regional.close();
    }
  });

  it('takes credentials from the environment when none are given', async () => {
    vi.stubEnv('AWS_ACCESS_KEY_ID', server.credentials.accessKeyId);
    vi.stubEnv('AWS_SECRET_ACCESS_KEY', server.credentials.secretAccessKey);
    const fromEnvironment = openS3Store({ ...BASE, endpoint: server.endpoint });
    try {
      await fromEnvironment.put('a', Buffer.from('x'));
    } finally {
      vi.unstubAllEnvs();
      await fromEnvironment.close();
    }
    expect(server.bucket().keys()).toEqual(['db/a']);
  });

  it('asks for credentials again before they expire', async () => {
    const first = { accessKeyId: 'first', secretAccessKey: 'first-secret' };
    const second = { accessKeyId: 'second', secretAccessKey: 'second-secret' };
    let asked = 0;
    const provider = createServer((_, response) => {
      const { accessKeyId: AccessKeyId, secretAccessKey: SecretAccessKey } = asked++ === 0 ? first : second;
      // The first ones last two minutes more: they are used, and others are asked for.
      const Expiration = new Date(Date.now() + (asked === 1 ? 2 : 60) * 60_000).toISOString();
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify({ AccessKeyId, SecretAccessKey, Token: 'token', Expiration }));
    });
    await new Promise<void>((resolve) => provider.listen(0, '127.0.0.1', resolve));
    const { port } = provider.address() as AddressInfo;
    for (const name of ['AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'AWS_PROFILE'])
      vi.stubEnv(name, undefined);
    for (const name of ['AWS_SHARED_CREDENTIALS_FILE', 'AWS_CONFIG_FILE']) vi.stubEnv(name, '/dev/null');
    vi.stubEnv('AWS_CONTAINER_CREDENTIALS_FULL_URI', `http://127.0.0.1:${port}/`);
    const refreshing = openS3Store({ ...BASE, endpoint: server.endpoint });
    try {
      server.credentials = first;
      await refreshing.put('a', Buffer.from('x'));
      await refreshing.put('b', Buffer.from('x'));
      await vi.waitFor(() => expect(asked).toBe(2), { timeout: 20_000 });
      server.credentials = second;
      // The answer may still be on its way.
      await vi.waitFor(() => refreshing.put('c', Buffer.from('x')), { timeout: 20_000 });
      expect(asked).toBe(2);
    } finally {
      vi.unstubAllEnvs();
      await refreshing.close();
      await new Promise((resolve) => provider.close(resolve));
    }
  });

  it('reports the keys of a batch that were not deleted', async () => {
    const body =
      '<DeleteResult><Error><Key>db/a</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>' +
      '<Error><Key>db/b</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error></DeleteResult>';
    server.onRequest = () => ({ status: 200, body });
    const deleted = store.delete(['a', 'b', 'c']);
    await expect(deleted).rejects.toMatchObject({ code: 'permission' });
    await expect(deleted).rejects.toThrow(/^delete a and 1 more: access to bucket "bucket" at http.* denied/);
  });
});

describe('S3Store failures', () => {
  let server: S3Server;
  let store: ObjectStore;
  const stores: ObjectStore[] = [];

  const open = (changes: Partial<S3StoreConfig> = {}, idleMs = 300): ObjectStore => {
    const opened = openS3Store(configFor(server, changes), { connectMs: 30_000, idleMs });
    stores.push(opened);
    return opened;
  };

  beforeEach(async () => {
    server = await S3Server.start();
    store = open();
  });
  afterEach(async () => {
    for (const opened of stores.splice(0)) await opened.close();
    await server.close();
  });

  /** Fails the first `times` requests of `operation`. */
  function failFirst(operation: S3Request['operation'], fault: Fault, times = 1): void {
    let left = times;
    server.onRequest = (request) => (request.operation === operation && left-- > 0 ? fault : 'pass');
  }

  const operations: [string, () => Promise<unknown>][] = [
    ['put', () => store.put('k', Buffer.from('x'))],
    ['get', () => store.get('k')],
    ['list', () => readAll(store.list(''))],
    ['listPrefixes', () => readAll(store.listPrefixes(''))],
    ['delete', () => store.delete(['k'])],
  ];

  it.each(operations)('%s names a missing bucket', async (_, call) => {
    store = open({ bucket: 'absent' });
    const message = `no bucket "absent" at ${server.endpoint}: create it, or check bucket, region and endpoint`;
    await expect(call()).rejects.toThrow(message);
    await expect(call()).rejects.toMatchObject({ code: 'not-found' });
  });

  it.each(operations)('%s names refused credentials and never shows them', async (_, call) => {
    for (const changes of [{ secretAccessKey: 'wrong-but-secret' }, { accessKeyId: 'nobody' }]) {
      store = open(changes);
      const error = await call().catch((failure: unknown) => failure);
      expect(error).toMatchObject({ code: 'permission' });
      expect((error as Error).message).toContain(
        `bucket "bucket" at ${server.endpoint} refused the credentials: check access-key-id and secret-access-key`,
      );
      const everything = inspect(error, { depth: 10, showHidden: true });
      expect(everything).not.toContain('wrong-but-secret');
      expect(everything).not.toMatch(/StringToSign|authorization|x-amz-date/i);
    }
  });

  it('says which region is right', async () => {
    store = open({ region: 'eu-west-3' });
    const put = store.put('k', Buffer.from('x'));
    await expect(put).rejects.toMatchObject({ code: 'config' });
    await expect(put).rejects.toThrow(
      /wrong region or endpoint for bucket "bucket" at .*set region: us-east-1/,
    );
  });

  it('says that nobody listens at the endpoint', async () => {
    await server.close();
    const put = store.put('k', Buffer.from('x'));
    await expect(put).rejects.toMatchObject({ code: 'unavailable' });
    await expect(put).rejects.toThrow(/cannot reach bucket "bucket" at http.*check endpoint.*ECONNREFUSED/);
    server = await S3Server.start();
  });

  it('says that the endpoint is no S3, or speaks no TLS', async () => {
    server.onRequest = () => ({
      status: 404,
      body: '<html>not here</html>',
      headers: { 'content-type': 'text/html' },
    });
    await expect(store.get('k')).rejects.toMatchObject({ code: 'io' });
    await expect(store.get('k')).rejects.toThrow(/not S3's: check endpoint/);
    server.onRequest = () => ({ status: 200, body: 'welcome', headers: { 'content-type': 'text/html' } });
    await expect(readAll(store.list(''))).rejects.toThrow(/not S3's: check endpoint/);
    for (const body of ['', '<html><body>welcome</body></html>']) {
      server.onRequest = () => ({ status: 200, body, headers: { 'content-type': 'text/html' } });
      for (const call of [
        () => readAll(store.list('')),
        () => readAll(store.listPrefixes('')),
        () => store.put('k', Buffer.from('x')),
        () => store.putIfAbsent!('k', Buffer.from('x')),
      ]) {
        await expect(call()).rejects.toMatchObject({ code: 'io' });
        await expect(call()).rejects.toThrow(/not S3's: check endpoint/);
      }
    }
    store = open({ endpoint: 'no url' });
    await expect(store.get('k')).rejects.toMatchObject({ code: 'config' });
    store = open({ endpoint: server.endpoint.replace('http:', 'https:') });
    const put = store.put('k', Buffer.from('x'));
    await expect(put).rejects.toMatchObject({ code: 'config' });
    await expect(put).rejects.toThrow(/check endpoint, http or https/);
  });

  it('puts again what Swift let pass, since an object of this name seemed to be newer', async () => {
    let passed = 0;
    server.onRequest = ({ method }) =>
      method === 'PUT' && passed++ < 2
        ? { status: 200, body: '', headers: { 'x-amz-request-id': 'tx1' } }
        : 'pass';
    await store.put('k', chunked(Buffer.from('x'), 1));
    expect(passed).toBe(3);
    expect((await getBytes(store, 'k')).toString()).toBe('x');
    passed = Number.NEGATIVE_INFINITY;
    const put = store.put('k', Buffer.from('y'));
    await expect(put).rejects.toMatchObject({ code: 'unavailable' });
    await expect(put).rejects.toThrow(/did not store it: .*same time or a later one.*check the clocks/);
  });

  it('hides credentials that stand in the endpoint', async () => {
    store = open({ endpoint: server.endpoint.replace('http://', 'http://user:passw0rd@') });
    await server.close();
    expect(store.location).not.toContain('passw0rd');
    const error = await store.put('k', Buffer.from('x')).catch((failure: unknown) => failure);
    expect(inspect(error)).not.toContain('passw0rd');
    server = await S3Server.start();
  });

  it.each([
    [408, undefined, undefined],
    [429, '7', 7000],
    [500, undefined, undefined],
    [502, 'nonsense', undefined],
    [503, '0', 0],
  ])('%i with Retry-After %s is unavailable', async (status, retryAfter, retryAfterMs) => {
    const headers: Record<string, string> = retryAfter === undefined ? {} : { 'retry-after': retryAfter };
    server.onRequest = () => ({ status, headers, body: '' });
    for (const [, call] of operations)
      await expect(call()).rejects.toMatchObject({ code: 'unavailable', retryAfterMs });
    expect(server.requests).toHaveLength(operations.length);
  });

  it('understands a Retry-After that is a date', async () => {
    const headers = { 'retry-after': new Date(Date.now() + 3_600_000).toUTCString() };
    server.onRequest = () => ({ status: 503, headers });
    const error = (await store.get('k').catch((failure: unknown) => failure)) as { retryAfterMs: number };
    expect(error.retryAfterMs).toBeGreaterThan(3_000_000);
  });

  it.each<[string, Fault]>([
    ['a connection that breaks', 'reset'],
    ['a server that never answers', 'stall'],
  ])('%s is unavailable', async (_, fault) => {
    server.onRequest = () => fault;
    for (const [, call] of operations) await expect(call()).rejects.toMatchObject({ code: 'unavailable' });
  });

  it.each<[string, Fault]>([
    ['is cut', { truncateAt: 100_000 }],
    ['stalls', { truncateAt: 100_000, stall: true }],
  ])('a body that %s is unavailable, after the bytes that came', async (_, fault) => {
    await store.put('k', randomBytes(MIB));
    server.onRequest = () => fault;
    const { stream, sizeBytes } = await store.get('k');
    expect(sizeBytes).toBe(MIB);
    let received = 0;
    const reading = (async () => {
      for await (const chunk of stream) received += chunk.length;
    })();
    await expect(reading).rejects.toMatchObject({ code: 'unavailable' });
    await expect(reading).rejects.toThrow(/^get k \(at byte 100000 of 1048576\)/);
    expect(received).toBe(100_000);
  });

  it('ends a list that is cut after a page', async () => {
    for (let number = 0; number < 1500; number++) server.bucket().put(`db/${number}`, Buffer.from('x'));
    server.onRequest = ({ query }) => (query.has('continuation-token') ? 'reset' : 'pass');
    await expect(readAll(store.list(''))).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('answers an abort while the server is silent', async () => {
    store = openS3Store(configFor(server), { connectMs: 600_000, idleMs: 600_000 });
    stores.push(store);
    for (const [, call] of [
      ['put', (signal: AbortSignal) => store.put('k', Buffer.from('x'), { signal })],
      ['get', (signal: AbortSignal) => store.get('k', { signal })],
      ['delete', (signal: AbortSignal) => store.delete(['k'], { signal })],
      ['list', (signal: AbortSignal) => readAll(store.list('', { signal }))],
    ] as [string, (signal: AbortSignal) => Promise<unknown>][]) {
      const controller = new AbortController();
      server.onRequest = () => {
        setImmediate(() => controller.abort());
        return 'stall';
      };
      await expect(call(controller.signal)).rejects.toMatchObject({ code: 'aborted' });
    }
  });

  describe('in the middle of an upload', () => {
    const data = randomBytes(17 * MIB);
    const put = (): Promise<unknown> => store.put('big', chunked(data, MIB));

    it.each<[S3Request['operation'], Fault]>([
      ['CreateMultipartUpload', { status: 503, headers: { 'retry-after': '0' } }],
      ['UploadPart', { status: 500 }],
      ['UploadPart', 'reset'],
      ['UploadPart', 'lose-answer'],
      ['CompleteMultipartUpload', { status: 503 }],
      ['CompleteMultipartUpload', 'lose-answer'],
      ['CompleteMultipartUpload', 'stall'],
      [
        'CompleteMultipartUpload',
        { status: 200, body: '<Error><Code>InternalError</Code><Message>Try again</Message></Error>' },
      ],
    ])('%s that fails once with %j is tried again', async (operation, fault) => {
      // Parts that a busy machine is late to answer would be sent twice.
      store = open({}, fault === 'stall' ? 3000 : 30_000);
      failFirst(operation, fault);
      await put();
      expect(server.bucket().get('db/big').data.equals(data)).toBe(true);
      // What had arrived is not sent again.
      expect(server.counts().UploadPart).toBe(operation === 'UploadPart' ? 5 : 4);
    });

    it('a streamed object of one part is tried again too', async () => {
      failFirst('PutObject', { status: 503 }, 2);
      await store.put('small', chunked(Buffer.from('small'), 1));
      expect(server.bucket().get('db/small').data.toString()).toBe('small');
    });

    it('a part that is refused ends the upload and removes the other parts', async () => {
      server.onRequest = ({ operation, query }) =>
        operation === 'UploadPart' && query.get('partNumber') === '2' ? { status: 403 } : 'pass';
      await expect(put()).rejects.toMatchObject({ code: 'permission' });
      expect(server.counts().AbortMultipartUpload).toBe(1);
      expect(server.bucket().uploads.size).toBe(0);
      expect(server.bucket().keys()).toEqual([]);
    });

    it('says so when parts may be left behind', async () => {
      server.onRequest = ({ operation }) =>
        operation === 'UploadPart' || operation === 'AbortMultipartUpload' ? { status: 403 } : 'pass';
      await expect(put()).rejects.toThrow(
        /denied.*\(parts of the upload may be left in the store: abort the upload/,
      );
    });

    it('an abort leaves no parts', async () => {
      const controller = new AbortController();
      server.onRequest = ({ operation, query }) => {
        if (operation !== 'UploadPart' || query.get('partNumber') !== '3') return 'pass';
        setImmediate(() => controller.abort());
        return 'stall';
      };
      const { signal } = controller;
      await expect(store.put('big', chunked(data, MIB), { signal })).rejects.toMatchObject({
        code: 'aborted',
      });
      expect(server.bucket().uploads.size).toBe(0);
      expect(server.bucket().keys()).toEqual([]);
    });
  });
});
