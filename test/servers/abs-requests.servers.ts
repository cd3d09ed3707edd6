/** What the abs driver sends to Azurite, beyond the contract: blocks, signatures, and answers that get lost. */

import { describe, expect, it } from 'vitest';
import { createHash, randomBytes, randomUUID } from 'node:crypto';
import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import {
  ContainerClient,
  ContainerSASPermissions,
  StorageSharedKeyCredential,
  generateBlobSASQueryParameters,
} from '@azure/storage-blob';
import { openAbsStore } from '../../src/storage/abs/abs-store.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import type { AbsStoreConfig } from '../../src/storage/store-config.ts';
import { startFaultProxy } from '../support/fault-proxy.ts';
import type { Address, ProxyFault } from '../support/fault-proxy.ts';
import { chunked, getBytes, readAll } from '../storage/contract.ts';
import type { MakeOptions } from '../storage/contract.ts';
import { describeServer } from './servers.ts';

const MIB = 1024 * 1024;

interface Opened {
  readonly store: ObjectStore;
  readonly container: ContainerClient;
  readonly config: AbsStoreConfig;
}

const direct: MakeOptions['through'] = (address) => Promise.resolve(address);

async function using(config: AbsStoreConfig, use: (store: ObjectStore) => Promise<void>): Promise<void> {
  const store = openAbsStore(config);
  try {
    await use(store);
  } finally {
    await store.close();
  }
}

function sasOf(
  { bucket, accountName, accountKey }: AbsStoreConfig,
  permissions: string,
  hours: number,
): string {
  return generateBlobSASQueryParameters(
    {
      containerName: bucket,
      permissions: ContainerSASPermissions.parse(permissions),
      startsOn: new Date(Date.now() - 48 * 3_600_000),
      expiresOn: new Date(Date.now() + hours * 3_600_000),
    },
    new StorageSharedKeyCredential(accountName, accountKey!),
  ).toString();
}

const withoutKey = ({ accountKey, ...config }: AbsStoreConfig): AbsStoreConfig => {
  expect(accountKey).toBeDefined();
  return config;
};

describeServer('azurite', (azurite) => {
  const { accountName, accountKey } = azurite;

  /** A container of its own, to be reached by way of `through`. */
  async function newContainer(through: MakeOptions['through']): Promise<Omit<Opened, 'store'>> {
    const bucket = `test-${randomUUID()}`;
    const endpointOf = ({ host, port }: Address): string => `http://${host}:${port}/${accountName}`;
    const container = new ContainerClient(
      `${endpointOf(azurite)}/${bucket}`,
      new StorageSharedKeyCredential(accountName, accountKey),
    );
    await container.create();
    const endpoint = endpointOf(await through({ host: azurite.host, port: azurite.port }));
    return { container, config: { type: 'abs', bucket, path: 'db', accountName, accountKey, endpoint } };
  }

  async function withContainer(
    use: (opened: Opened) => Promise<void>,
    through: MakeOptions['through'] = direct,
  ): Promise<void> {
    const { container, config } = await newContainer(through);
    const store = openAbsStore(config);
    try {
      await use({ store, container, config });
    } finally {
      await store.close();
      await container.delete();
    }
  }

  describe('AbsStore requests', () => {
    it('puts a small object in one request, a large one in blocks, and dates it as the listing does', async () => {
      const requests: string[] = [];
      const proxies: { close: () => Promise<void> }[] = [];
      await withContainer(
        async ({ store, container }) => {
          requests.length = 0;
          await store.put('small', chunked(Buffer.from('abc'), 1));
          expect(requests.map(partOfRequest)).toEqual(['PUT']);
          const data = randomBytes(17 * MIB);
          const info = await store.put('large', chunked(data, 300_001));
          expect(requests.slice(1).map(partOfRequest)).toEqual([
            ...Array<string>(4).fill('PUT block'),
            'PUT blocklist',
          ]);
          const listed = (await readAll(store.list('large')))[0]!;
          expect(listed).toEqual(info);
          const { contentMD5 } = await container.getBlobClient('db/small').getProperties();
          expect(Buffer.from(contentMD5!)).toEqual(createHash('md5').update('abc').digest());
        },
        async (address) => {
          const proxy = await startFaultProxy('http', address);
          proxies.push(proxy);
          proxy.onRequest = ({ method, url }) => {
            requests.push(`${method} ${url}`);
            return 'pass';
          };
          return proxy;
        },
      );
      for (const proxy of proxies) await proxy.close();
    });

    it('lists the root of a container when it has no path', async () => {
      await withContainer(async ({ config, container }) => {
        await container.getBlockBlobClient('folder-marker/').upload('', 0);
        await using({ ...config, path: '' }, async (store) => {
          await store.put('a/b', Buffer.from('x'));
          expect((await readAll(store.list(''))).map(({ key }) => key)).toEqual(['a/b']);
          expect((await readAll(store.listPrefixes(''))).sort()).toEqual(['a', 'folder-marker']);
        });
      });
    });

    it('says that the container is missing', async () => {
      await withContainer(async ({ config }) => {
        await using({ ...config, bucket: 'absent' }, async (store) => {
          for (const call of [
            () => store.put('k', Buffer.from('x')),
            () => store.get('k'),
            () => readAll(store.list('')),
            () => readAll(store.listPrefixes('')),
            () => store.delete(['k']),
          ]) {
            await expect(call()).rejects.toMatchObject({ code: 'not-found' });
            await expect(call()).rejects.toThrow(
              /no container "absent" at http.*: create it, or check bucket/,
            );
          }
        });
      });
    });

    it('goes with a shared access signature, and says what it lacks', async () => {
      await withContainer(async ({ config, store }) => {
        await store.put('k', Buffer.from('value'));
        const plain = withoutKey(config);
        await using({ ...plain, sasToken: sasOf(config, 'racwdl', 1) }, async (all) => {
          await all.put('large', chunked(randomBytes(11 * MIB), MIB));
          expect(await getBytes(all, 'large', { start: 5, end: 10 })).toHaveLength(5);
          expect(await readAll(all.list(''))).toHaveLength(2);
          await all.delete(['large', 'absent']);
          expect((await readAll(all.list(''))).map(({ key }) => key)).toEqual(['k']);
        });
        const readOnly = sasOf(config, 'rl', 1);
        await using({ ...plain, sasToken: readOnly }, async (reader) => {
          expect((await getBytes(reader, 'k')).toString()).toBe('value');
          await expect(reader.put('k', Buffer.from('x'))).rejects.toThrow(
            /access to container .* denied: make a sas-token whose sp has c and w/,
          );
          await expect(reader.delete(['k'])).rejects.toMatchObject({ code: 'permission' });
        });
        await using({ ...plain, sasToken: sasOf(config, 'rl', -1) }, async (late) => {
          await expect(late.get('k')).rejects.toMatchObject({ code: 'permission' });
          await expect(late.get('k')).rejects.toThrow(/sas-token/);
        });
        await using({ ...plain, sasToken: readOnly.replace(/sig=.{5}/, 'sig=AAAAA') }, async (forged) => {
          await expect(forged.get('k')).rejects.toThrow(/refused the credentials: check sas-token/);
        });
      });
    });

    it('uploads of one object at once do not mix, and one that died stops none', async () => {
      await withContainer(async ({ store, container }) => {
        // What v0.3.13 leaves when it dies: a block whose name is 64 bytes long.
        const left = Buffer.alloc(64, 1).toString('base64');
        await container.getBlockBlobClient('db/k').stageBlock(left, 'left', 4);
        const bodies = [randomBytes(11 * MIB), randomBytes(12 * MIB)];
        const outcomes = await Promise.allSettled(bodies.map((body) => store.put('k', chunked(body, MIB))));
        const won = bodies.filter((_, number) => outcomes[number]!.status === 'fulfilled');
        expect(won.length).toBeGreaterThan(0);
        const got = await getBytes(store, 'k');
        expect(won.some((body) => body.equals(got))).toBe(true);
        for (const outcome of outcomes) {
          if (outcome.status === 'fulfilled') continue;
          expect(outcome.reason).toMatchObject({ code: 'io' });
          expect(String(outcome.reason)).toContain('something else wrote the object');
        }
      });
    });

    it('refuses what was changed on the way', async () => {
      const forwarder = { close: () => Promise.resolve() };
      await withContainer(
        async ({ store, container }) => {
          await expect(store.put('small', Buffer.from('value'))).rejects.toThrow(/Md5Mismatch/);
          await expect(store.put('large', chunked(randomBytes(11 * MIB), MIB))).rejects.toThrow(
            /Md5Mismatch/,
          );
          expect(await readAll(container.listBlobsFlat())).toEqual([]);
        },
        async (address) => Object.assign(forwarder, await startForwarder(address, () => 'tamper')),
      );
      await forwarder.close();
    });

    it.each<[string, ProxyFault | 'lose-answer']>([
      ['comp=block&', { status: 500 }],
      ['comp=block&', 'reset'],
      ['comp=block&', 'lose-answer'],
      ['comp=blocklist', { status: 503 }],
      ['comp=blocklist', 'reset'],
      ['comp=blocklist', 'lose-answer'],
    ])('a request of an upload with %s that fails once with %j is tried again', async (mark, fault) => {
      let failed = 0;
      const failsNow = (url: string): boolean => `${url}&`.includes(mark) && failed++ === 0;
      const closing: (() => Promise<void>)[] = [];
      await withContainer(
        async ({ store }) => {
          const data = randomBytes(17 * MIB);
          await store.put('k', chunked(data, MIB));
          expect(failed).toBeGreaterThan(1);
          expect((await getBytes(store, 'k')).equals(data)).toBe(true);
        },
        async (address) => {
          if (fault === 'lose-answer') {
            const forwarder = await startForwarder(address, (url) => (failsNow(url) ? fault : 'pass'));
            closing.push(forwarder.close);
            return forwarder;
          }
          const proxy = await startFaultProxy('http', address);
          closing.push(() => proxy.close());
          proxy.onRequest = ({ url }) => (failsNow(url) ? fault : 'pass');
          return proxy;
        },
      );
      for (const close of closing) await close();
    });
  });
});

interface Forwarder extends Address {
  readonly close: () => Promise<void>;
}

/**
 * Passes requests on, with the mishaps that `fate` picks: the connection breaks when the server has answered, or a byte
 * of the body comes out changed.
 */
async function startForwarder(
  address: Address,
  fate: (url: string) => 'pass' | 'lose-answer' | 'tamper',
): Promise<Forwarder> {
  const proxy = createServer((message, response) => {
    const { method, url = '', headers } = message;
    const mishap = fate(url);
    const upstream = request({ ...address, method, path: url, headers, agent: false }, (answer) => {
      if (mishap === 'lose-answer') message.socket.destroy();
      else answer.pipe(response.writeHead(answer.statusCode!, answer.headers));
    });
    upstream.on('error', () => message.socket.destroy());
    message.on('data', (chunk: Buffer) => {
      if (mishap === 'tamper') chunk[0]! ^= 1;
      upstream.write(chunk);
    });
    message.on('end', () => upstream.end());
  });
  await new Promise<void>((resolve) => void proxy.listen(0, '127.0.0.1', resolve));
  const { port } = proxy.address() as AddressInfo;
  const close = async (): Promise<void> => {
    proxy.closeAllConnections();
    await new Promise((resolve) => proxy.close(resolve));
  };
  return { host: '127.0.0.1', port, close };
}

/** `PUT /account/container/key?comp=block&blockid=…` as `PUT block`. */
function partOfRequest(request: string): string {
  const [method = '', url = ''] = request.split(' ');
  return [method, new URL(url, 'http://x').searchParams.get('comp')]
    .filter((part) => part !== null)
    .join(' ');
}
