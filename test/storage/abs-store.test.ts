/** The abs driver without Azure: what it sends, what it makes of answers, and how long it waits for them. */

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createHash, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';
import type { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { openAbsStore } from '../../src/storage/abs/abs-store.ts';
import { newDefaultCredential } from '../../src/storage/abs/credential.ts';
import { absError } from '../../src/storage/abs/errors.ts';
import type { AbsTarget } from '../../src/storage/abs/errors.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openStore } from '../../src/storage/registry.ts';
import type { AbsStoreConfig } from '../../src/storage/store-config.ts';
import { readAll } from './contract.ts';

const KEY = Buffer.from('the secret of the account').toString('base64');
const SAS = 'sv=2024-11-04&sr=c&sig=c2VjcmV0IHNpZ25hdHVyZQ%3D%3D&se=2030-01-01&sp=rl';
/** Longer than a busy machine takes to answer itself. */
const TIMEOUTS = { connectMs: 30_000, idleMs: 30_000 };
const IMPATIENT = { connectMs: 30_000, idleMs: 300 };

interface Seen {
  readonly method: string;
  readonly url: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

type Answer = (request: Seen, response: ServerResponse) => void;

let server: Server;
let seen: Seen[];
let answer: Answer;
let endpoint: string;
const stores: ObjectStore[] = [];

async function receive(message: IncomingMessage, response: ServerResponse): Promise<void> {
  const { method = '', url = '', headers } = message;
  const body = Buffer.concat((await readAll(message)) as Buffer[]);
  const request = { method, url, headers, body };
  seen.push(request);
  answer(request, response);
}

beforeEach(async () => {
  seen = [];
  answer = (_, response) => void response.writeHead(201).end();
  server = createServer((message, response) => void receive(message, response));
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}/account`;
});
afterEach(async () => {
  for (const store of stores.splice(0)) await store.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
});

function open(changes: Partial<AbsStoreConfig> = {}, timeouts = TIMEOUTS): ObjectStore {
  const config = { type: 'abs', bucket: 'box', path: 'db', accountName: 'account', accountKey: KEY } as const;
  const store = openAbsStore({ ...config, endpoint, ...changes }, timeouts);
  stores.push(store);
  return store;
}

/** An answer that refuses as Azure does. */
function refusal(status: number, code: string, detail = '', headers: Record<string, string> = {}): Answer {
  const more = detail === '' ? '' : `<AuthenticationErrorDetail>${detail}</AuthenticationErrorDetail>`;
  const message = `What ${code} says.\nRequestId:1\nTime:2`;
  return (_, response) =>
    void response
      .writeHead(status, { 'content-type': 'application/xml', 'x-ms-error-code': code, ...headers })
      .end(`<?xml version="1.0"?><Error><Code>${code}</Code><Message>${message}</Message>${more}</Error>`);
}

/** The calls of the contract, each of one request. */
const callsOn = (store: ObjectStore): [string, (signal?: AbortSignal) => Promise<unknown>][] => [
  ['put', (signal) => store.put('k', Buffer.from('x'), { signal })],
  ['get', (signal) => store.get('k', { signal })],
  ['list', (signal) => readAll(store.list('', { signal }))],
  ['listPrefixes', (signal) => readAll(store.listPrefixes('', { signal }))],
  ['delete', (signal) => store.delete(['k'], { signal })],
];

async function failureOf(call: Promise<unknown>): Promise<Error> {
  const outcome: unknown = await call.then(
    () => 'success',
    (error: unknown) => error,
  );
  if (!(outcome instanceof Error)) throw new Error('it succeeded, and should not have');
  return outcome;
}

describe('AbsStore requests', () => {
  it('sends nothing when it is opened, and says where it is', async () => {
    const store = open();
    expect(store.location).toBe(`abs://account@box/db (endpoint ${endpoint})`);
    expect(open({ endpoint: undefined, path: '' }).location).toBe('abs://account@box');
    const { type, capabilities } = await openStore({
      ...{ type: 'abs', bucket: 'box', path: '', accountName: 'account', accountKey: KEY, endpoint },
    });
    expect({ type, capabilities }).toEqual({ type: 'abs', capabilities: { local: false, concurrency: 64 } });
    expect(seen).toEqual([]);
  });

  it('puts a small object with its length and digest, signed', async () => {
    await open().put('a b/c', Buffer.from('abc'));
    const [{ method, url, headers, body }] = seen as [Seen];
    expect([method, url, body.toString()]).toEqual(['PUT', '/account/box/db/a%20b/c', 'abc']);
    expect(headers['content-length']).toBe('3');
    expect(headers['content-md5']).toBe(createHash('md5').update('abc').digest('base64'));
    expect(headers['transfer-encoding']).toBeUndefined();
    expect(headers.authorization).toMatch(/^SharedKey account:/);
  });

  it('sends large bodies in blocks of one upload, each with its digest, at most twelve at once', async () => {
    const waiting: (() => void)[] = [];
    let most = 0;
    answer = (_, response) => {
      waiting.push(
        () => void response.writeHead(201, { 'last-modified': 'Mon, 05 Jan 2026 10:00:00 GMT' }).end(),
      );
      most = Math.max(most, waiting.length);
      // The last block and the commit find nobody to wait for; twelve blocks wait whether another one comes.
      if (seen.length >= 13) for (const send of waiting.splice(0)) send();
      else if (waiting.length === 12) setTimeout(() => waiting.shift()?.(), 50);
    };
    const data = randomBytes(63 * 1024 * 1024);
    const info = await open().put('big', data);
    expect(info).toEqual({
      key: 'big',
      sizeBytes: data.length,
      modifiedAt: new Date('2026-01-05T10:00:00Z'),
    });
    const blocks = seen.slice(0, -1);
    expect(most).toBe(12);
    expect(blocks).toHaveLength(13);
    for (const { headers, body } of blocks) {
      expect(headers['content-md5']).toBe(createHash('md5').update(body).digest('base64'));
    }
    const ids = blocks.map(({ url }) => new URL(url, endpoint).searchParams.get('blockid')!);
    expect(new Set(ids.map((id) => Buffer.from(id, 'base64').subarray(0, 16).toString('hex'))).size).toBe(1);
    expect(new Set(ids.map((id) => id.length))).toEqual(new Set([88]));
    const commit = seen.at(-1)!;
    expect(commit.url).toContain('comp=blocklist');
    const order = [...commit.body.toString().matchAll(/<Latest>(.*?)<\/Latest>/g)].map(([, id]) => id!);
    const bodies = new Map(ids.map((id, number) => [id, blocks[number]!.body]));
    expect(Buffer.concat(order.map((id) => bodies.get(id)!)).equals(data)).toBe(true);
  });

  it('puts the shared access signature into the address, and signs nothing', async () => {
    await open({ accountKey: undefined, sasToken: SAS }).put('k', Buffer.from('x'));
    const [{ url, headers }] = seen as [Seen];
    expect(url).toBe(`/account/box/db/k?${SAS}`);
    expect(headers.authorization).toBeUndefined();
  });

  it('sends no access token over a plain connection', async () => {
    const store = open({ accountKey: undefined });
    const put = store.put('k', Buffer.from('x'));
    await expect(put).rejects.toMatchObject({ code: 'config' });
    await expect(put).rejects.toThrow(/only sent over https: set account-key or sas-token/);
    expect(seen).toEqual([]);
  });

  it('goes through the proxy that the environment names, but not to this machine', async () => {
    for (const name of [
      'HTTPS_PROXY',
      'https_proxy',
      'ALL_PROXY',
      'all_proxy',
      'http_proxy',
      'NO_PROXY',
      'no_proxy',
    ]) {
      vi.stubEnv(name, undefined);
    }
    vi.stubEnv('HTTP_PROXY', new URL('/', endpoint).href);
    try {
      await open({ endpoint: 'http://azure.example/account' }).put('k', Buffer.from('x'));
      await open().put('k', Buffer.from('x'));
      expect(seen.map(({ url }) => url)).toEqual([
        'http://azure.example/account/box/db/k',
        '/account/box/db/k',
      ]);
      answer = (_, response) => {
        response.writeHead(200, { 'content-length': 10, etag: '"1"' });
        response.write('abc', () => response.destroy());
      };
      const { stream } = await open({ endpoint: 'http://azure.example/account' }).get('k');
      await expect(readAll(stream)).rejects.toMatchObject({ code: 'unavailable' });
    } finally {
      vi.unstubAllEnvs();
    }
  });

  it('deletes a few at once, and stops at the first failure', async () => {
    const keys = Array.from({ length: 200 }, (_, number) => `k${number}`);
    answer = refusal(404, 'BlobNotFound');
    await open().delete(keys);
    expect(seen).toHaveLength(200);
    expect(seen.every(({ method, headers }) => method === 'DELETE' && headers['x-ms-delete-snapshots'])).toBe(
      true,
    );
    seen = [];
    answer = refusal(403, 'AuthorizationPermissionMismatch');
    await expect(open().delete(keys)).rejects.toMatchObject({ code: 'permission' });
    expect(seen.length).toBeLessThanOrEqual(8);
  });
});

describe('AbsStore failures', () => {
  it.each<[operation: string, credential: 'sas-token' | 'default credential', advice: string]>([
    ['list all objects', 'sas-token', 'make a sas-token whose sp has l ('],
    ['get k', 'sas-token', 'make a sas-token whose sp has r ('],
    ['put k (commit)', 'sas-token', 'make a sas-token whose sp has c and w ('],
    ['delete k', 'sas-token', 'make a sas-token whose sp has d ('],
    [
      'get k',
      'default credential',
      'give this identity the role Storage Blob Data Reader on the container (',
    ],
    [
      'put k',
      'default credential',
      'give this identity the role Storage Blob Data Contributor on the container (',
    ],
  ])('of %s by %s name the right that is missing', (operation, credential, advice) => {
    const target = { container: 'box', account: 'a', endpoint: 'e', credential, secrets: [] };
    const refused = { statusCode: 403, code: 'AuthorizationPermissionMismatch', message: 'no' };
    const error = absError(refused, operation, target);
    expect(error).toMatchObject({ code: 'permission' });
    expect(error.message).toContain(`${operation}: access to container "box" at e denied: ${advice}`);
  });

  const now = (): string => new Date().toUTCString();
  const early = (): string => new Date(Date.now() - 3_600_000).toUTCString();

  it.each<[number, string, string, string, RegExp]>([
    [404, 'ContainerNotFound', '', 'not-found', /no container "box" at http.*: create it, or check bucket/],
    [409, 'ContainerBeingDeleted', '', 'unavailable', /container "box" .*is busy/],
    [503, 'ServerBusy', '', 'unavailable', /is busy \(503 ServerBusy What ServerBusy says/],
    [500, 'OperationTimedOut', '', 'unavailable', /did not answer in time/],
    [403, 'AuthorizationPermissionMismatch', '', 'permission', /denied: check what account-key may do/],
    [403, 'KeyBasedAuthenticationNotPermitted', '', 'permission', /takes no account key: set sas-token/],
    [403, 'AuthenticationFailed', '', 'permission', /check account-name "account" and account-key/],
    [
      ...([403, 'AuthenticationFailed', 'The MAC signature is not ... string to sign: PUT'] as const),
      ...(['permission', /refused the credentials: check account-name "account" and account-key/] as const),
    ],
    [
      ...([403, 'AuthenticationFailed', 'Request date header too old: yesterday'] as const),
      ...(['permission', /refused the request's time: set this machine's clock/] as const),
    ],
    [409, 'BlobImmutableDueToPolicy', '', 'permission', /a policy of container "box" .*keeps the object/],
    [412, 'LeaseIdMissing', '', 'busy', /somebody holds a lease/],
    [409, 'BlobArchived', '', 'io', /archive tier .*: rehydrate it/],
    [400, 'Md5Mismatch', '', 'io', /refused the request \(400 /],
    [400, 'InvalidResourceName', '', 'config', /not a valid name: check bucket/],
  ])('%i %s %s is %s', async (status, code, detail, ours, message) => {
    answer = refusal(status, code, detail, { date: now() });
    for (const [call, start] of callsOn(open())) {
      const error = await failureOf(start());
      expect(error, call).toMatchObject({ code: ours });
      expect(error.message, call).toMatch(message);
      const everything = inspect(error, { depth: 10, showHidden: true });
      expect(everything).not.toMatch(/string to sign|SharedKey|authorization:/i);
      expect(everything).not.toContain(KEY);
    }
    expect(seen).toHaveLength(5);
  });

  it("tells a clock that is wrong from a wrong key by the server's", async () => {
    answer = refusal(403, 'AuthenticationFailed', '', { date: early() });
    await expect(open().get('k')).rejects.toThrow(
      /refused the request's time: set this machine's clock \(it is 60 minutes ahead\)/,
    );
  });

  it('never shows a shared access signature, and says when its time is over', async () => {
    const store = open({ accountKey: undefined, sasToken: SAS });
    answer = refusal(403, 'AuthenticationFailed', 'Signature not valid in the specified time frame', {
      date: now(),
    });
    for (const [, start] of callsOn(store)) {
      const error = await failureOf(start());
      expect(error.message).toMatch(/refused sas-token: it has expired or is not valid yet/);
      expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/c2VjcmV0|sig=/);
    }
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
    for (const [, start] of callsOn(open({ accountKey: undefined, sasToken: SAS }))) {
      const error = await failureOf(start());
      expect(error).toMatchObject({ code: 'unavailable' });
      expect(error.message).toMatch(
        /cannot reach container "box" .*check account-name, endpoint.*ECONNREFUSED/,
      );
      expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/c2VjcmV0|sig=/);
    }
  });

  it.each<[number, string | undefined, number | undefined]>([
    [408, undefined, undefined],
    [429, '7', 7000],
    [500, 'nonsense', undefined],
    [503, '0', 0],
  ])('%i with Retry-After %s is unavailable, after one request', async (status, retryAfter, retryAfterMs) => {
    answer = (_, response) =>
      void response.writeHead(status, retryAfter === undefined ? {} : { 'retry-after': retryAfter }).end();
    const calls = callsOn(open());
    for (const [call, start] of calls) {
      expect(await failureOf(start()), call).toMatchObject({ code: 'unavailable', retryAfterMs });
    }
    expect(seen).toHaveLength(calls.length);
  });

  it('says that the endpoint is not Azure, speaks no TLS, or is no URL', async () => {
    answer = (_, response) =>
      void response.writeHead(404, { 'content-type': 'text/html' }).end('<html>no</html>');
    for (const [, start] of callsOn(open())) {
      const error = await failureOf(start());
      expect(error).toMatchObject({ code: 'io' });
      expect(error.message).toMatch(/not Azure's: check endpoint/);
    }
    const get = open({ endpoint: endpoint.replace('http:', 'https:') }).get('k');
    await expect(get).rejects.toMatchObject({ code: 'config' });
    await expect(get).rejects.toThrow(/check endpoint, http or https/);
    await expect(open({ endpoint: 'no url' }).get('k')).rejects.toMatchObject({ code: 'config' });
  });

  it('hides credentials that stand in the endpoint', async () => {
    const store = open({ endpoint: endpoint.replace('http://', 'http://user:passw0rd@') });
    expect(store.location).not.toContain('passw0rd');
    answer = refusal(403, 'AuthenticationFailed');
    expect(inspect(await failureOf(store.get('k')), { depth: 10 })).not.toContain('passw0rd');
  });

  it('takes a list that is cut for unavailable, not for a list', async () => {
    answer = (_, response) => {
      response.writeHead(200, { 'content-type': 'application/xml', 'content-length': 5000 });
      response.write('<?xml version="1.0"?><EnumerationResults>', () => response.destroy());
    };
    await expect(readAll(open().list(''))).rejects.toMatchObject({ code: 'unavailable' });
    answer = (_, response) =>
      void response.writeHead(200, { 'content-type': 'text/html' }).end('<html>hi</html>');
    const taken = readAll(open().list(''));
    await expect(taken).rejects.toMatchObject({ code: 'io' });
    await expect(taken).rejects.toThrow(/not Azure's: check endpoint$/);
  });

  const sendHead = (response: ServerResponse): void =>
    void response.writeHead(200, { 'content-length': 1_000_000, etag: '"1"', 'last-modified': now() });

  it.each(['cut', 'silent'])('a body that is %s is unavailable, after the bytes that came', async (fate) => {
    answer = (_, response) => {
      sendHead(response);
      response.write(Buffer.alloc(1000), () => {
        if (fate === 'cut') response.destroy();
      });
    };
    const { stream, sizeBytes } = await open({}, IMPATIENT).get('k');
    expect(sizeBytes).toBe(1_000_000);
    let received = 0;
    const reading = (async () => {
      for await (const chunk of stream) received += chunk.length;
    })();
    await expect(reading).rejects.toMatchObject({ code: 'unavailable' });
    await expect(reading).rejects.toThrow(/^get k \(at byte 1000 of 1000000\)/);
    expect(received).toBe(1000);
  });

  it('a body that breaks before anybody reads it waits with its failure', async () => {
    answer = (_, response) => {
      sendHead(response);
      response.write(Buffer.alloc(1000), () => response.destroy());
    };
    const { stream } = await open().get('k');
    // The next request goes by while the first one's connection breaks.
    answer = refusal(404, 'BlobNotFound');
    for (let times = 0; times < 20; times++) await failureOf(open().get('absent'));
    await expect(readAll(stream)).rejects.toMatchObject({ code: 'unavailable' });
  });

  it('refuses an answer that ignores the range', async () => {
    answer = (_, response) => void response.writeHead(200, { etag: '"1"', 'content-length': 3 }).end('abc');
    await expect(open().get('k', { range: { start: 1 } })).rejects.toThrow(/ignores byte ranges/);
  });

  it('a server that falls silent is unavailable after the limit, also on a connection that was used', async () => {
    const store = open({}, IMPATIENT);
    await store.put('k', Buffer.from('x'));
    // The server says how long it keeps an idle connection: that is no limit for requests.
    answer = (_, response) => void response.writeHead(201, { 'keep-alive': 'timeout=1' }).end();
    await store.put('k', Buffer.from('x'));
    answer = () => undefined;
    await Promise.all(
      callsOn(store).map(async ([call, start]) => {
        const error = await failureOf(start());
        expect(error, call).toMatchObject({ code: 'unavailable' });
        expect(error.message, call).toMatch(/nothing moved for 300 ms/);
      }),
    );
  });

  it('answers an abort while the server is silent', async () => {
    const store = open({}, { connectMs: 600_000, idleMs: 600_000 });
    for (const [call, start] of callsOn(store)) {
      const controller = new AbortController();
      answer = () => void setImmediate(() => controller.abort());
      expect(await failureOf(start(controller.signal)), call).toMatchObject({ code: 'aborted' });
    }
  });
});

describe('the default credential', () => {
  const target: AbsTarget = {
    ...{ container: 'box', account: 'account', endpoint: 'https://account.blob.core.windows.net' },
    ...{ credential: 'default credential', secrets: [] },
  };

  afterEach(() => void vi.unstubAllEnvs());

  /** The machine is one of Azure's, and its identity is asked for at our server. */
  function stubIdentity(): void {
    vi.stubEnv('AZURE_TOKEN_CREDENTIALS', 'ManagedIdentityCredential');
    vi.stubEnv('IDENTITY_ENDPOINT', `${endpoint}/token`);
    vi.stubEnv('IDENTITY_HEADER', 'secret-header');
  }

  it("gives a token of the machine's identity", async () => {
    stubIdentity();
    const body = {
      ...{ access_token: 'the-token', expires_on: String(Math.floor(Date.now() / 1000) + 3600) },
      ...{ resource: 'https://storage.azure.com', token_type: 'Bearer' },
    };
    answer = (_, response) =>
      void response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    const token = await newDefaultCredential(30_000).getToken('https://storage.azure.com/.default');
    expect(token?.token).toBe('the-token');
  });

  it('does not wait for ever, and shows nothing secret', async () => {
    stubIdentity();
    answer = () => undefined;
    const failure = await failureOf(newDefaultCredential(300).getToken('https://else.azure.com/.default'));
    const error = absError(failure, 'put k', target);
    expect(error).toMatchObject({ code: 'unavailable' });
    expect(error.message).toMatch(/no access token after 300 ms/);
    expect(inspect(error, { depth: 10 })).not.toContain('secret-header');
  });

  it('says what to set when there are no credentials', () => {
    const nothing = Object.assign(new Error('EnvironmentCredential is unavailable.\nNo variables.'), {
      name: 'CredentialUnavailableError',
    });
    const all = Object.assign(new Error('ChainedTokenCredential authentication failed.'), {
      ...{ name: 'AggregateAuthenticationError', errors: [nothing, new Error('no machine identity')] },
    });
    const error = absError(all, 'put k', target);
    expect(error).toMatchObject({ code: 'permission' });
    expect(error.message).toMatch(
      /^put k: no credentials for container "box" at https.*: set account-key or sas-token, or Azure's variables/,
    );
    const offline = Object.assign(new Error('network_error: getaddrinfo ENOTFOUND login.example'), {
      name: 'AuthenticationRequiredError',
    });
    expect(absError(offline, 'put k', target)).toMatchObject({ code: 'unavailable' });
  });
});
