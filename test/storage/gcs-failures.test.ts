/** What GcsStore sends, and what it makes of servers, credentials and uploads that fail. */

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { crc32c, encodeCrc32c } from '../../src/storage/gcs/crc32c.ts';
import { openGcsStore } from '../../src/storage/gcs/gcs-store.ts';
import type { GcsSettings } from '../../src/storage/gcs/session.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openStore } from '../../src/storage/registry.ts';
import type { GcsStoreConfig } from '../../src/storage/store-config.ts';
import { GcsServer, refusal } from '../support/gcs-server.ts';
import type { GcsFault, GcsOperation } from '../support/gcs-server.ts';
import { chunked, getBytes, readAll } from './contract.ts';

const KIB = 1024;
const CHUNK = 256 * KIB;
const SETTINGS = { connectMs: 1000, idleMs: 300, chunkBytes: CHUNK };
const TOKEN = 'an-access-token-that-must-not-show';

let server: GcsServer;
let store: ObjectStore;
const stores: ObjectStore[] = [];

function open(changes: Partial<GcsStoreConfig> = {}, settings: Partial<GcsSettings> = {}): ObjectStore {
  const config: GcsStoreConfig = { type: 'gcs', bucket: 'bucket', path: 'db', endpoint: server.endpoint };
  const opened = openGcsStore({ ...config, ...changes }, { ...SETTINGS, ...settings });
  stores.push(opened);
  return opened;
}

beforeEach(async () => {
  vi.stubEnv('STORAGE_EMULATOR_HOST', undefined);
  server = await GcsServer.start();
  store = open();
});
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const opened of stores.splice(0)) await opened.close();
  await server.close();
});

const operations: [string, () => Promise<unknown>][] = [
  ['put', () => store.put('k', Buffer.from('x'))],
  ['get', () => store.get('k')],
  ['list', () => readAll(store.list(''))],
  ['listPrefixes', () => readAll(store.listPrefixes(''))],
  ['delete', () => store.delete(['k'])],
];

async function failureOf(call: () => Promise<unknown>): Promise<Error> {
  const outcome = await call().then(
    () => new Error('it succeeded'),
    (error: unknown) => ({ error: error as Error }),
  );
  if ('error' in outcome) return outcome.error;
  throw outcome;
}

describe('GcsStore requests', () => {
  it('sends nothing when it is opened', async () => {
    expect(store).toMatchObject({ type: 'gcs', location: `gcs://bucket/db (endpoint ${server.endpoint})` });
    const given = { type: 'gcs', bucket: 'bucket', path: '', endpoint: server.endpoint } as const;
    const opened = await openStore(given);
    expect(opened.location).toBe(`gcs://bucket (endpoint ${server.endpoint})`);
    await opened.close();
    expect(server.requests).toEqual([]);
  });

  it.each([
    ['host:port', (port: number) => `127.0.0.1:${port}`],
    ['a URL', (port: number) => `http://127.0.0.1:${port}`],
    ['a URL with a path', (port: number) => `http://127.0.0.1:${port}/storage/v1/`],
  ])('honours STORAGE_EMULATOR_HOST as %s, without credentials', async (_, host) => {
    vi.stubEnv('STORAGE_EMULATOR_HOST', host(server.port));
    const emulated = open({ endpoint: undefined });
    expect(emulated.location).toBe(`gcs://bucket/db (endpoint ${server.endpoint})`);
    await emulated.put('k', Buffer.from('x'));
    expect([...server.objects.keys()]).toEqual(['db/k']);
    expect(server.requests[0]!.headers.authorization).toBeUndefined();
  });

  it('lists the root of a bucket when it has no path', async () => {
    server.put('folder-marker/', Buffer.from(''));
    const root = open({ path: '' });
    await root.put('a/b', Buffer.from('x'));
    expect((await readAll(root.list(''))).map((info) => info.key)).toEqual(['a/b']);
    expect((await readAll(root.listPrefixes(''))).sort()).toEqual(['a', 'folder-marker']);
    expect([...server.objects.keys()].sort()).toEqual(['a/b', 'folder-marker/']);
  });

  it('puts an object of a chunk in one request, a larger one in chunks whose number it may not know', async () => {
    await store.put('small', chunked(randomBytes(CHUNK), 1000));
    expect(server.counts()).toEqual({ whole: 1 });
    const data = randomBytes(3 * CHUNK);
    await store.put('exact', chunked(data, 1000));
    await store.put('whole', Buffer.concat([data, Buffer.from('x')]));
    expect(server.counts()).toEqual({ whole: 1, begin: 2, chunk: 7 });
    expect(server.objects.get('db/exact')!.data.equals(data)).toBe(true);
    const chunks = server.requests.filter(({ operation }) => operation === 'chunk');
    expect(chunks.map(({ headers }) => headers['content-range']).slice(0, 3)).toEqual([
      `bytes 0-${CHUNK - 1}/*`,
      `bytes ${CHUNK}-${2 * CHUNK - 1}/*`,
      `bytes ${2 * CHUNK}-${3 * CHUNK - 1}/${3 * CHUNK}`,
    ]);
    const expected = `crc32c=${encodeCrc32c(crc32c(data))}`;
    expect(chunks.map(({ headers }) => headers['x-goog-hash']).slice(0, 3)).toEqual([
      undefined,
      undefined,
      expected,
    ]);
  });

  it('asks for the bytes as they are, and refuses an object that would be unpacked on the way', async () => {
    server.put('db/plain', Buffer.from('x'));
    server.put('db/packed', Buffer.from('x'), 'gzip');
    await getBytes(store, 'plain');
    expect(server.requests[0]!.headers['accept-encoding']).toBe('identity');
    const error = await failureOf(() => store.get('packed'));
    expect(error).toMatchObject({ code: 'unsupported' });
    expect(error.message).toContain('without Content-Encoding');
  });

  it('gives nothing of an empty object, and refuses a server that ignores ranges', async () => {
    server.put('db/empty', Buffer.from(''));
    expect(await getBytes(store, 'empty', { start: 0 })).toHaveLength(0);
    server.onRequest = () => ({ status: 200, body: '0123456789' });
    await expect(store.get('k', { range: { start: 3, end: 5 } })).rejects.toMatchObject({
      code: 'unsupported',
    });
    expect(await getBytes(store, 'k', { start: 10 })).toHaveLength(0);
  });

  it('deletes a few at once, and stops after a failure', async () => {
    const keys = Array.from({ length: 200 }, (_, number) => `k${number}`);
    await store.delete(keys);
    expect(server.counts()).toEqual({ delete: 200 });
    expect(server.mostAtOnce).toBeLessThanOrEqual(16);
    server.requests.length = 0;
    server.onRequest = ({ url }) => (url.pathname.endsWith('k3') ? { status: 403 } : 'pass');
    await expect(store.delete(keys)).rejects.toThrow(
      /^delete k3: access to bucket "bucket" at http.* denied/,
    );
    expect(server.requests.length).toBeLessThan(50);
  });
});

describe('GcsStore failures', () => {
  it.each(operations)('%s names a missing bucket', async (_, call) => {
    store = open({ bucket: 'absent' });
    const error = await failureOf(call);
    expect(error).toMatchObject({ code: 'not-found' });
    expect(error.message).toContain(
      `no bucket "absent" at ${server.endpoint}: create it, or check bucket and endpoint`,
    );
  });

  it.each<[string, GcsFault, string, RegExp]>([
    [
      'a 403',
      refusal(403, 'forbidden', 'no storage.objects.get'),
      'permission',
      /denied.*no storage\.objects/,
    ],
    [
      'a retention policy',
      refusal(403, 'retentionPolicyNotMet', 'cannot be deleted or overwritten until 2030'),
      'permission',
      /a policy of bucket .* keeps the object as it is \(403 cannot be deleted/,
    ],
    [
      'a rate limit',
      refusal(403, 'rateLimitExceeded', 'slow down'),
      'unavailable',
      /is unavailable \(403 slow/,
    ],
    ['a bad name', refusal(400, 'invalid', "Invalid bucket name: 'B'"), 'config', /not a valid bucket name/],
    ['a 501', { status: 501 }, 'unsupported', /cannot do this/],
    ['a 412', refusal(412, 'conditionNotMet', 'no'), 'io', /refused the request \(412 no\)/],
    [
      'a redirect',
      { status: 302, headers: { location: '/' } },
      'io',
      /not Google Cloud Storage's: check endpoint/,
    ],
    ['a page', { status: 404, body: '<html>no</html>' }, 'io', /not Google Cloud Storage's: check endpoint/],
  ])('%s is understood', async (_, fault, code, message) => {
    server.onRequest = () => fault;
    for (const [, call] of operations) {
      const error = await failureOf(call);
      expect(error).toMatchObject({ code });
      expect(error.message).toMatch(message);
    }
  });

  it('says that an answer is not the API’s', async () => {
    server.onRequest = () => ({ status: 200, body: '<html>welcome</html>' });
    await expect(readAll(store.list(''))).rejects.toThrow(/not Google Cloud Storage's: check endpoint/);
    await expect(store.put('k', Buffer.from('x'))).rejects.toThrow(
      /not Google Cloud Storage's: check endpoint/,
    );
    server.onRequest = () => ({ status: 200, body: '{}' });
    await expect(store.put('k', Buffer.from('x'))).rejects.toMatchObject({ code: 'io' });
    await expect(store.put('k', randomBytes(2 * CHUNK))).rejects.toThrow(/no address for the upload/);
  });

  it('sends an upload to no other host than its own', async () => {
    const other = await GcsServer.start();
    try {
      const { port } = new URL(server.endpoint);
      const foreign = [
        `${other.endpoint}/upload`,
        `https://127.0.0.1:${port}/u`,
        'http://x.googleapis.com/u',
      ];
      for (const location of [...foreign, 'https://evilgoogleapis.com/u']) {
        server.onRequest = () => ({ status: 200, headers: { location }, body: '{}' });
        const error = await failureOf(() => store.put('k', randomBytes(2 * CHUNK)));
        expect(error).toMatchObject({ code: 'io' });
        expect(error.message).toContain(
          `on ${new URL(location).origin}, which is not its own: check endpoint`,
        );
      }
      expect(other.requests).toEqual([]);
    } finally {
      await other.close();
    }
  });

  it('says that nobody listens, that there is no TLS, and that the endpoint is no URL', async () => {
    store = open({ endpoint: server.endpoint.replace('http:', 'https:') });
    await expect(store.get('k')).rejects.toMatchObject({ code: 'config' });
    await expect(store.get('k')).rejects.toThrow(/check endpoint, http or https/);
    for (const endpoint of ['no url', 'ftp://host']) {
      store = open({ endpoint });
      await expect(store.get('k')).rejects.toMatchObject({ code: 'config' });
    }
    const gone = await GcsServer.start();
    store = open({ endpoint: gone.endpoint.replace('http://', 'http://user:passw0rd@') });
    await gone.close();
    const error = await failureOf(() => store.get('k'));
    expect(error).toMatchObject({ code: 'unavailable' });
    expect(error.message).toMatch(/cannot reach bucket "bucket" at http.*check endpoint.*ECONNREFUSED/);
    expect(store.location + inspect(error)).not.toContain('passw0rd');
  });

  it('understands a Retry-After that is a date', async () => {
    const headers = { 'retry-after': new Date(Date.now() + 3_600_000).toUTCString() };
    server.onRequest = () => ({ status: 503, headers });
    const error = (await failureOf(() => store.get('k'))) as Error & { retryAfterMs: number };
    expect(error.retryAfterMs).toBeGreaterThan(3_000_000);
  });

  it('notices bytes that changed on the way or in the store', async () => {
    server.put('db/k', Buffer.from('12345'));
    server.corrupt = (data) => Buffer.from(data).fill('!', 0, 1);
    await expect(getBytes(store, 'k')).rejects.toMatchObject({ code: 'corrupt' });
    await expect(store.put('k', Buffer.from('abc'))).rejects.toMatchObject({ code: 'unavailable' });
    await expect(store.put('k', Buffer.from('abc'))).rejects.toThrow(/received other bytes than were sent/);
    const changed = JSON.stringify({ size: '3', crc32c: 'AAAAAA==', generation: '1' });
    server.onRequest = ({ operation }) => (operation === 'whole' ? { status: 200, body: changed } : 'pass');
    await expect(store.put('k', Buffer.from('abc'))).rejects.toThrow(/stored other bytes.*they were removed/);
    expect(server.requests.at(-1)!.url.searchParams.get('generation')).toBe('1');
  });

  it('waits for a reader that takes his time longer than for a server that does', async () => {
    server.put('db/k', randomBytes(8 * 1024 * KIB));
    const { stream } = await store.get('k');
    let received = 0;
    for await (const chunk of stream) {
      if (received === 0) await new Promise((resolve) => setTimeout(resolve, 3 * SETTINGS.idleMs));
      received += chunk.length;
    }
    expect(received).toBe(8 * 1024 * KIB);
  });
});

describe('GcsStore uploads', () => {
  const data = randomBytes(4 * CHUNK + 1000);
  const put = (): Promise<unknown> => store.put('big', chunked(data, 10_000));

  /** Fails the requests of `operation` that are numbered, from 0. */
  function failSome(operation: GcsOperation, fault: GcsFault, ...numbers: number[]): void {
    let number = 0;
    server.onRequest = (request) =>
      request.operation === operation && numbers.includes(number++) ? fault : 'pass';
  }

  it.each<[GcsOperation, GcsFault, number[]]>([
    ['begin', { status: 503, headers: { 'retry-after': '0' } }, [0]],
    ['chunk', { status: 500 }, [0]],
    ['chunk', 'reset', [1, 2]],
    ['chunk', 'stall', [2]],
    ['chunk', 'lose-answer', [0]],
    ['chunk', 'lose-answer', [4]],
    ['chunk', { status: 308 }, [0]],
  ])('%s that meets %j is tried again', async (operation, fault, numbers) => {
    failSome(operation, fault, ...numbers);
    await put();
    expect(server.objects.get('db/big')!.data.equals(data)).toBe(true);
  });

  it('gives up when the store has lost bytes that it had', async () => {
    failSome('chunk', { status: 308, headers: { range: `bytes=0-${CHUNK - 1}` } }, 4);
    await expect(put()).rejects.toMatchObject({ code: 'io' });
    expect(server.uploads.size).toBe(0);
  });

  it('sends only the bytes of a chunk that the store has not got', async () => {
    store = open({}, { chunkBytes: 4 * CHUNK });
    failSome('chunk', { takeOnly: 3 * CHUNK }, 0);
    await put();
    expect(server.objects.get('db/big')!.data.equals(data)).toBe(true);
    const ranges = server.requests.flatMap(({ operation, headers }) =>
      operation === 'chunk' || operation === 'ask' ? headers['content-range'] : [],
    );
    expect(ranges).toEqual([
      `bytes 0-${4 * CHUNK - 1}/*`,
      'bytes */*',
      `bytes ${3 * CHUNK}-${4 * CHUNK - 1}/*`,
      `bytes ${4 * CHUNK}-${data.length - 1}/${data.length}`,
    ]);
  });

  it('a streamed object of one chunk is tried again too', async () => {
    failSome('whole', { status: 503 }, 0, 1);
    await store.put('small', chunked(Buffer.from('small'), 1));
    expect(server.objects.get('db/small')!.data.toString()).toBe('small');
  });

  it('may be repeated without the right to overwrite, when it is the same', async () => {
    server.onRequest = ({ operation }) => {
      if (operation !== 'whole') return 'pass';
      if (server.objects.size === 0) return 'lose-answer';
      return refusal(403, 'forbidden', 'no storage.objects.delete access to the object');
    };
    const data = randomBytes(1000);
    await expect(store.put('k', data)).rejects.toMatchObject({ code: 'unavailable' });
    const info = await store.put('k', data);
    expect(info).toEqual((await readAll(store.list('')))[0]);
    await expect(store.put('k', randomBytes(1000))).rejects.toMatchObject({ code: 'permission' });
    await expect(store.put('other', data)).rejects.toMatchObject({ code: 'permission' });
    expect(await store.putIfAbsent!('k', randomBytes(10)).catch((error: unknown) => error)).toMatchObject({
      code: 'permission',
    });
  });

  it('a chunk that is refused ends the upload, and its address never shows', async () => {
    for (const fault of [
      { status: 403, body: 'denied for upload_id=secret-1' },
      { status: 404 },
      { status: 410 },
    ]) {
      failSome('chunk', fault, 1);
      const error = await failureOf(put);
      expect(error).toMatchObject({ code: fault.status === 403 ? 'permission' : 'io' });
      expect(inspect(error, { depth: 10 })).not.toContain('secret-');
    }
    expect(server.counts().cancel).toBe(3);
    expect(server.uploads.size).toBe(0);
    expect(server.objects.size).toBe(0);
  });

  it('an abort ends the upload, also when the store says nothing any more', async () => {
    const controller = new AbortController();
    let chunks = 0;
    server.onRequest = ({ operation }) => {
      if (operation !== 'chunk' || ++chunks < 3) return 'pass';
      setImmediate(() => controller.abort());
      return 'stall';
    };
    const { signal } = controller;
    await expect(store.put('big', chunked(data, 10_000), { signal })).rejects.toMatchObject({
      code: 'aborted',
    });
    expect(server.uploads.size).toBe(0);
    expect(server.objects.size).toBe(0);
  });

  it('leaves nothing behind on a server that takes the first chunk for the whole', async () => {
    server.endsUploadsEarly = true;
    const error = await failureOf(put);
    expect(error).toMatchObject({ code: 'unsupported' });
    expect(error.message).toContain(`objects larger than ${CHUNK} bytes need`);
    expect(server.objects.size).toBe(0);
  });
});

describe('GcsStore credentials', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gcs-'));
    vi.stubEnv('HOME', folder);
    vi.stubEnv('GOOGLE_APPLICATION_CREDENTIALS', undefined);
    vi.stubEnv('GCE_METADATA_HOST', `127.0.0.1:${server.port}`);
    vi.stubEnv('METADATA_SERVER_DETECTION', 'ping-only');
    server.token = TOKEN;
    // The library is loaded within the limit, on a busy machine too.
    store = open({ endpoint: undefined }, { apiUrl: server.endpoint, idleMs: 10_000 });
  });
  afterEach(async () => {
    await rm(folder, { recursive: true });
  });

  it('come from the metadata server, once, and are sent to the API but not to the addresses of uploads', async () => {
    await Promise.all([store.put('a', Buffer.from('x')), store.put('b', Buffer.from('x'))]);
    await store.put('big', randomBytes(2 * CHUNK));
    expect(server.objects.size).toBe(3);
    expect(store.location).toBe('gcs://bucket/db');
    const sent = (operation: GcsOperation): (string | undefined)[] =>
      server.requests
        .filter((request) => request.operation === operation)
        .map((r) => r.headers.authorization);
    expect(sent('begin')).toEqual([`Bearer ${TOKEN}`]);
    expect(sent('chunk')).toEqual([undefined, undefined]);
    expect(server.counts().token).toBeLessThanOrEqual(2);
  });

  it('are asked for again before they expire', async () => {
    const given: string[] = [];
    server.token = undefined;
    server.onToken = () => {
      // The first one has two minutes left.
      const expires_in = given.length === 0 ? 120 : 3600;
      given.push(`token-${given.length + 1}`);
      return { status: 200, body: JSON.stringify({ access_token: given.at(-1), expires_in }) };
    };
    const borne = (): (string | undefined)[] =>
      server.requests.filter(({ operation }) => operation === 'whole').map((r) => r.headers.authorization);
    await store.put('a', Buffer.from('x'));
    await vi.waitFor(async () => {
      await store.put('b', Buffer.from('x'));
      expect(borne().at(-1)).toBe('Bearer token-2');
    });
    await store.put('c', Buffer.from('x'));
    expect(borne()[0]).toBe('Bearer token-1');
    expect(given).toHaveLength(2);
  });

  it('are asked for again when the API refuses them', async () => {
    await store.put('a', Buffer.from('x'));
    server.token = 'the-next-one';
    await store.put('b', Buffer.from('x'));
    expect(server.counts()).toMatchObject({ whole: 3, token: 2 });
  });

  it.each(operations)('%s says that they are refused, and never shows them', async (_, call) => {
    server.onToken = () => ({ status: 200, body: JSON.stringify({ access_token: TOKEN, expires_in: 3600 }) });
    server.token = 'another';
    server.onRequest = ({ operation }) =>
      operation === 'token' ? 'pass' : refusal(401, 'authError', `bad ${TOKEN}, or ya29.abc-def`);
    const error = await failureOf(call);
    expect(error).toMatchObject({ code: 'permission' });
    expect(error.message).toContain(
      'bucket "bucket" at Google Cloud Storage refused the credentials: check GOOGLE_APPLICATION_CREDENTIALS',
    );
    expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/must-not-show|ya29/);
  });

  it('that are nowhere are advised on, and found when they come', async () => {
    vi.stubEnv('GCE_METADATA_HOST', '127.0.0.1:1');
    const error = await failureOf(() => store.get('k'));
    expect(error).toMatchObject({ code: 'permission' });
    expect(error.message).toBe(
      'get k: no credentials for bucket "bucket" at Google Cloud Storage: set GOOGLE_APPLICATION_CREDENTIALS to a key file, or run where a service account is attached',
    );
    vi.stubEnv('GCE_METADATA_HOST', `127.0.0.1:${server.port}`);
    await store.put('k', Buffer.from('x'));
  });

  it.each([
    ['no file', undefined, /does not exist/],
    ['no JSON', '-----BEGIN PRIVATE KEY-----\nc2VjcmV0', /the file is not JSON/],
    ['no key', '{"type":"service_account","client_email":"a@b","secret":"c2VjcmV0"}', /private_key/],
    [
      'a broken key',
      JSON.stringify({ type: 'service_account', client_email: 'a@b', private_key: 'c2VjcmV0' }),
      /.*/,
    ],
  ])('from a file that is %s are told, without what is in it', async (_, text, message) => {
    const path = join(folder, 'key.json');
    if (text !== undefined) await writeFile(path, text);
    vi.stubEnv('GOOGLE_APPLICATION_CREDENTIALS', path);
    const error = await failureOf(() => store.get('k'));
    expect(error).toMatchObject({ code: 'permission' });
    expect(error.message).toMatch(
      /^get k: the credentials for bucket "bucket" .* do not work: check GOOGLE_APPLICATION_CREDENTIALS/,
    );
    expect(error.message).toMatch(message);
    expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/c2VjcmV0|-----BEGIN/);
  });

  it('are worth another try when their server fails or says nothing', async () => {
    await store.put('a', Buffer.from('x'));
    const fresh = (idleMs = 10_000): ObjectStore =>
      open({ endpoint: undefined }, { apiUrl: server.endpoint, idleMs });
    server.onToken = () => ({ status: 403, body: '{}' });
    await expect(fresh().get('a')).rejects.toMatchObject({ code: 'permission' });
    server.onToken = () => ({ status: 503, body: '{}' });
    await expect(fresh().get('a')).rejects.toMatchObject({ code: 'unavailable' });
    server.onRequest = ({ operation }) => (operation === 'token' ? 'stall' : 'pass');
    await expect(fresh(300).get('a')).rejects.toMatchObject({ code: 'unavailable' });
    const controller = new AbortController();
    setImmediate(() => controller.abort());
    await expect(fresh().get('a', { signal: controller.signal })).rejects.toMatchObject({ code: 'aborted' });
  });
});

describe('crc32c', () => {
  it('is the known one, in any number of pieces', () => {
    expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
    expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
    expect(encodeCrc32c(crc32c(Buffer.from('')))).toBe('AAAAAA==');
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 40 })), (pieces) => {
        const whole = crc32c(Buffer.concat(pieces));
        return pieces.reduce((crc, piece) => crc32c(piece, crc), 0) === whole;
      }),
    );
  });
});
