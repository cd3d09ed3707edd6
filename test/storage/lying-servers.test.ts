/** Servers that lie: answers without end, lists that go round in a circle, bodies of another size than was said. */

import { afterEach, describe, expect, it } from 'vitest';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Attributes } from 'ssh2';
import { openAbsStore } from '../../src/storage/abs/abs-store.ts';
import { openGcsStore } from '../../src/storage/gcs/gcs-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openS3Store } from '../../src/storage/s3/s3-store.ts';
import { openSftpStore } from '../../src/storage/sftp/sftp-store.ts';
import { SftpServer } from '../support/sftp-server.ts';
import { readAll } from './contract.ts';
import { configFor } from './sftp-support.ts';

const PATIENT = { connectMs: 600_000, idleMs: 600_000 };
const MIB = 1 << 20;
/** More pages and bytes than anything honest has: a driver that goes on until then is taken for one that never ends. */
const ENOUGH_PAGES = 5000;
const ENOUGH_BYTES = 200 * MIB;

type Serve = (url: URL, response: ServerResponse, message: IncomingMessage) => void;

const cleanups: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const clean of cleanups.splice(0).reverse()) await clean();
});

/** Bytes that were sent, and requests that came. */
interface Lies {
  readonly endpoint: string;
  requests: number;
  sentBytes: number;
}

async function lie(serve: Serve): Promise<Lies> {
  const server: Server = createServer((message, response) => {
    lies.requests++;
    message.resume();
    serve(new URL(message.url ?? '/', 'http://127.0.0.1'), response, message);
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const lies: Lies = { endpoint: `http://127.0.0.1:${port}`, requests: 0, sentBytes: 0 };
  cleanups.push(async () => {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return lies;
}

/** Sends `size` bytes of spaces as fast as they are taken. */
function pour(
  response: ServerResponse,
  size: number,
  onBytes: (count: number) => void = () => undefined,
): void {
  const chunk = Buffer.alloc(MIB, ' ');
  let left = size;
  const more = (): void => {
    while (left > 0 && !response.destroyed) {
      left -= chunk.length;
      onBytes(chunk.length);
      if (!response.write(chunk)) {
        response.once('drain', more);
        return;
      }
    }
    response.end();
  };
  more();
}

/** How each kind of store is opened, and what its lists and objects look like. */
interface Kind {
  readonly open: (endpoint: string) => ObjectStore;
  /** A page with one object, or none, and how to go on. */
  readonly page: (name: string | undefined, token: string) => string;
  readonly type: string;
}

const escapeName = (name: string | undefined, entry: (name: string) => string): string =>
  name === undefined ? '' : entry(name);

const KINDS: Record<string, Kind> = {
  S3: {
    type: 'application/xml',
    open: (endpoint) =>
      openS3Store(
        {
          ...({ type: 's3', bucket: 'b', path: '', forcePathStyle: true, skipVerify: false } as const),
          ...{ endpoint, accessKeyId: 'id', secretAccessKey: 'secret' },
        },
        PATIENT,
      ),
    page: (name, token) =>
      `<ListBucketResult><Name>b</Name><IsTruncated>true</IsTruncated>${escapeName(
        name,
        (key) => `<Contents><Key>${key}</Key><Size>1</Size></Contents>`,
      )}<NextContinuationToken>${token}</NextContinuationToken></ListBucketResult>`,
  },
  ABS: {
    type: 'application/xml',
    open: (endpoint) =>
      openAbsStore(
        {
          ...({ type: 'abs', bucket: 'b', path: '', accountName: 'account' } as const),
          ...{ accountKey: Buffer.from('key').toString('base64'), endpoint: `${endpoint}/account` },
        },
        PATIENT,
      ),
    page: (name, token) =>
      `<?xml version="1.0"?><EnumerationResults ContainerName="b"><Blobs>${escapeName(
        name,
        (key) =>
          `<Blob><Name>${key}</Name><Properties><Last-Modified>Mon, 01 Jan 2024 00:00:00 GMT</Last-Modified><Content-Length>1</Content-Length></Properties></Blob>`,
      )}</Blobs><NextMarker>${token}</NextMarker></EnumerationResults>`,
  },
  GCS: {
    type: 'application/json',
    open: (endpoint) => openGcsStore({ type: 'gcs', bucket: 'b', path: '', endpoint }, PATIENT),
    page: (name, token) =>
      JSON.stringify({
        items: name === undefined ? [] : [{ name, size: '1', timeCreated: '2024-01-01T00:00:00Z' }],
        nextPageToken: token,
      }),
  },
};

async function opened(kind: string, serve: Serve): Promise<{ lies: Lies; store: ObjectStore; kind: Kind }> {
  const found = KINDS[kind];
  if (found === undefined) throw new Error(kind);
  const lies = await lie(serve);
  const store = found.open(lies.endpoint);
  cleanups.push(() => store.close());
  return { lies, store, kind: found };
}

/** Serves the pages that `pageOf` makes, and gives up when there are too many. */
function pages(kind: string, pageOf: (number: number) => { name?: string; token: string }): Serve {
  let number = 0;
  return (_, response) => {
    const { name, token } = pageOf(number);
    if (++number > ENOUGH_PAGES) response.destroy();
    else response.setHeader('content-type', KINDS[kind]?.type ?? '').end(KINDS[kind]?.page(name, token));
  };
}

describe.each(Object.keys(KINDS))('a list of %s', (name) => {
  it('that is longer than any page is given up at 16 MiB', async () => {
    const { lies, store } = await opened(name, (_, response) => {
      response.setHeader('content-type', KINDS[name]?.type ?? '');
      pour(response, ENOUGH_BYTES, (count) => (lies.sentBytes += count));
    });
    const listing = readAll(store.list(''));
    await expect(listing).rejects.toMatchObject({ code: 'io' });
    await expect(listing).rejects.toThrow(/answered with more than 16 MiB .*: check endpoint/);
    expect(lies.sentBytes).toBeLessThan(ENOUGH_BYTES);
  });

  it('whose refusal is longer than any page is given up too', async () => {
    const { lies, store } = await opened(name, (_, response) => {
      response.writeHead(400, { 'content-type': KINDS[name]?.type ?? '' });
      pour(response, ENOUGH_BYTES, (count) => (lies.sentBytes += count));
    });
    await expect(readAll(store.list(''))).rejects.toMatchObject({ code: 'io' });
    await expect(store.get('k')).rejects.toMatchObject({ code: 'io' });
    expect(lies.sentBytes).toBeLessThan(2 * ENOUGH_BYTES);
  });

  it.each<[string, (number: number) => { name?: string; token: string }, number]>([
    ['continues with the same token', (number) => ({ name: `o${number}`, token: 'same' }), 3],
    ['comes back to a token', (number) => ({ name: `o${number}`, token: `t${number % 7}` }), 9],
    ['gives the same page under other tokens', (number) => ({ name: 'o', token: `t${number}` }), 3],
    ['gives pages in turn', (number) => ({ name: `o${number % 2}`, token: `t${number}` }), 4],
    ['gives empty pages', (number) => ({ token: `t${number}` }), 302],
  ])('that %s ends with an error', async (_, pageOf, most) => {
    const { lies, store } = await opened(name, pages(name, pageOf));
    const listing = readAll(store.list(''));
    await expect(listing).rejects.toMatchObject({ code: 'io' });
    await expect(listing).rejects.toThrow(/list all objects: the store (repeats a page|gave 300 pages)/);
    expect(lies.requests).toBeLessThan(most);
    await expect(readAll(store.listPrefixes(''))).rejects.toMatchObject({ code: 'io' });
  });

  it('is not taken for an answer to a range', async () => {
    const { lies, store } = await opened(name, (_, response) => {
      const headers = { 'content-length': ENOUGH_BYTES, 'content-range': 'bytes 0-9/10', etag: '"1"' };
      response.writeHead(206, headers);
      pour(response, ENOUGH_BYTES, (count) => (lies.sentBytes += count));
    });
    const reading = store.get('k', { range: { start: 0, end: 10 } });
    await expect(reading).rejects.toMatchObject({ code: 'io' });
    await expect(reading).rejects.toThrow(/sends 209715200 bytes where 10 were asked for/);
  });
});

/** A page as each kind has it, with a part of it that makes no sense. */
const SENSELESS: [kind: string, what: string, page: string][] = [
  ['S3', 'a size', KINDS['S3']?.page('k', '').replace('<Size>1<', '<Size>-1<') ?? ''],
  ['ABS', 'a size', KINDS['ABS']?.page('k', '').replace('>1</Content-Length>', '>x</Content-Length>') ?? ''],
  ['ABS', 'a time', KINDS['ABS']?.page('k', '').replace(/Mon, .* GMT/, '') ?? ''],
  ['GCS', 'a size', '{"items":[{"name":"k","size":"x"}]}'],
  ['GCS', 'a size', '{"items":[{"name":"k","size":{}}]}'],
  ...[
    'null',
    '1',
    '[]',
    '{"items":{}}',
    '{"items":[null]}',
    '{"items":[{"size":"1"}]}',
    '{"prefixes":[1]}',
  ].map((page): [string, string, string] => ['GCS', 'a page', page]),
  ['GCS', 'a token', '{"nextPageToken":{}}'],
];

it.each(SENSELESS)('a list of %s with %s that makes no sense is refused: %s', async (name, _, page) => {
  const { store, kind } = await opened(name, (__, response) => {
    response.setHeader('content-type', kind.type).end(page);
  });
  await expect(readAll(store.list(''))).rejects.toMatchObject({
    code: 'io',
    message: expect.stringMatching(/check endpoint/) as string,
  });
});

it('an answer of a GCS endpoint that tells of no object is refused', async () => {
  const { store } = await opened('GCS', (_, response) => {
    response.setHeader('content-type', 'application/json').end('null');
  });
  await expect(store.stat?.('k')).rejects.toMatchObject({ code: 'io' });
});

describe('a list of an SFTP server', () => {
  const attrs = (mode: number): Attributes => ({ mode, uid: 0, gid: 0, size: 1, atime: 0, mtime: 0 });
  const FOLDER = 0o040755;
  const FILE = 0o100644;

  async function openedSftp(
    entries: (folder: string, batch: number) => { name: string; mode: number }[] | undefined,
  ): Promise<{ server: SftpServer; store: ObjectStore }> {
    const server = await SftpServer.start();
    cleanups.push(() => server.close());
    server.inventedEntries = (folder, batch) =>
      entries(folder, batch)?.map(({ name, mode }) => ({
        filename: name,
        longname: name,
        attrs: attrs(mode),
      }));
    const store = openSftpStore(configFor(server));
    cleanups.push(() => store.close());
    return { server, store };
  }

  it('that nests folders without end is followed as deep as a replica is', async () => {
    const { server, store } = await openedSftp((_, batch) =>
      batch === 0 ? [{ name: 'deeper', mode: FOLDER }] : undefined,
    );
    expect(await readAll(store.list(''))).toEqual([]);
    expect(server.counts().OPENDIR).toBe(17);
  });

  it('that has folders in folders and no file is given up', async () => {
    const { store } = await openedSftp((_, batch) =>
      batch === 0 ? Array.from({ length: 10 }, (__, i) => ({ name: `f${i}`, mode: FOLDER })) : undefined,
    );
    await expect(readAll(store.list(''))).rejects.toThrow(/2000 folders without a file: remove them/);
  });

  it('that gives the same entries again and again is given up', async () => {
    const { store } = await openedSftp((_, batch) =>
      batch < ENOUGH_PAGES ? [{ name: 'f', mode: FILE }] : undefined,
    );
    await expect(readAll(store.list(''))).rejects.toThrow(/list all objects: the store repeats a page/);
  });

  it('gives no object whose name leads elsewhere', async () => {
    const { store } = await openedSftp((_, batch) =>
      batch === 0 ? ['a/../../b', '../c', 'd'].map((name) => ({ name, mode: FILE })) : undefined,
    );
    expect((await readAll(store.list(''))).map(({ key }) => key)).toEqual(['d']);
  });
});
