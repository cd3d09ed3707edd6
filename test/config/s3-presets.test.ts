/** Each row of the table of presets: what a config of that provider resolves to, and what its requests look like. */

import dns from 'node:dns';
import { createServer } from 'node:http';
import type { IncomingHttpHeaders, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { loadConfig } from '../../src/config/index.ts';
import { S3_PRESETS } from '../../src/config/stores/s3-presets.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openS3Store } from '../../src/storage/s3/s3-store.ts';
import type { S3StoreConfig } from '../../src/storage/store-config.ts';
import { withTempDir } from '../support/process.ts';
import { S3Server, type S3Request } from '../support/s3-server.ts';

const MIB = 1024 * 1024;

async function storeOf(keys: string): Promise<S3StoreConfig> {
  return withTempDir(async (dir) => {
    const path = join(dir, 'c.yml');
    await writeFile(path, `dbs:\n  - path: a.db\n    replicas:\n      - {${keys}}\n`);
    const config = await loadConfig(path, { expandEnv: true, env: {}, cwd: dir });
    return config.databases[0]!.replicas[0]!.store as S3StoreConfig;
  });
}

const at = (endpoint: string, more = ''): Promise<S3StoreConfig> =>
  storeOf(`type: s3, bucket: bucket, path: p, endpoint: "${endpoint}"${more}`);

const base = { type: 's3', bucket: 'bucket', path: 'p', skipVerify: false, forcePathStyle: true };

/** Endpoint without its scheme, and what it adds to the config. */
const ROWS: [provider: string, host: string, settings: Partial<S3StoreConfig>][] = [
  ['Amazon S3', 's3.eu-central-1.amazonaws.com', { region: 'eu-central-1' }],
  ['Amazon S3', 's3-us-west-2.amazonaws.com', { region: 'us-west-2' }],
  ['Amazon S3', 's3.dualstack.us-gov-east-1.amazonaws.com', { region: 'us-gov-east-1' }],
  ['Amazon S3', 's3.cn-north-1.amazonaws.com.cn', { region: 'cn-north-1' }],
  ['Amazon S3', 'bucket.vpce-0a1-2b.s3.eu-central-1.vpce.amazonaws.com', { region: 'eu-central-1' }],
  ['Cloudflare R2', 'abc.r2.cloudflarestorage.com', { region: 'auto', uploadConcurrency: 2 }],
  ['Cloudflare R2', 'abc.eu.r2.cloudflarestorage.com', { region: 'auto', uploadConcurrency: 2 }],
  ['Cloudflare R2', 'abc.fedramp.r2.cloudflarestorage.com', { region: 'auto', uploadConcurrency: 2 }],
  ['Backblaze B2', 's3.eu-central-003.backblazeb2.com', { region: 'eu-central-003' }],
  ['DigitalOcean Spaces', 'nyc3.digitaloceanspaces.com', { region: 'nyc3' }],
  ['Hetzner', 'fsn1.your-objectstorage.com', { region: 'fsn1' }],
  ['Scaleway', 's3.nl-ams.scw.cloud', { region: 'nl-ams', maxParts: 1000 }],
  ['Linode (Akamai)', 'us-southeast-1.linodeobjects.com', { region: 'us-southeast-1' }],
  ['Wasabi', 's3.wasabisys.com', { region: 'us-east-1' }],
  ['Wasabi', 's3.eu-west-2.wasabisys.com', { region: 'eu-west-2' }],
  ['Tigris', 't3.storage.dev', { region: 'auto', forcePathStyle: false, contentMd5: 'none' }],
  ['Tigris', 'fly.storage.tigris.dev', { region: 'auto', forcePathStyle: false, contentMd5: 'none' }],
  ['Oracle Cloud (OCI)', 'ns.compat.objectstorage.us-ashburn-1.oraclecloud.com', { region: 'us-ashburn-1' }],
  [
    'Oracle Cloud (OCI)',
    'ns.compat.objectstorage.eu-frankfurt-1.oci.customer-oci.com',
    { region: 'eu-frankfurt-1' },
  ],
  ['Supabase', 'abcdef.supabase.co/storage/v1/s3', {}],
  ['Supabase', 'abcdef.storage.supabase.co/storage/v1/s3', {}],
  ['Filebase', 's3.filebase.com', {}],
  ['Storj', 'gateway.storjshare.io', {}],
  ['Storj', 'gateway.eu1.storjshare.io', {}],
  ['Garage', 'garage.example.com', { region: 'garage' }],
  ['Garage', '127.0.0.1:3900', { region: 'garage' }],
  ['MinIO', 'localhost:9000', { region: 'us-east-1' }],
  ['MinIO', 'minio.internal:9000', { region: 'us-east-1' }],
  ['MinIO', 'my-minio.example.com', { region: 'us-east-1' }],
  ['Ceph', 'ceph.example.com', { region: 'us-east-1' }],
  ['Ceph', 's3-rgw.example.com', { region: 'us-east-1' }],
  ['Ceph', '127.0.0.1:7480', { region: 'us-east-1' }],
  ['', 's3.example.com:9000', {}],
  ['', 'terraminion.example.com', {}],
  ['', 'not-r2.cloudflarestorage.com.example.com', {}],
];

describe('the presets', () => {
  it('are all tested', () => {
    expect(new Set(ROWS.map(([provider]) => provider).filter((name) => name !== ''))).toEqual(
      new Set(S3_PRESETS.map(({ name }) => name)),
    );
  });

  it.each(ROWS)('%s at %s', async (_, host, settings) => {
    expect(await at(`https://${host}`)).toEqual({ ...base, endpoint: `https://${host}`, ...settings });
    expect(await at(host)).toMatchObject({ endpoint: `https://${host}`, ...settings });
  });

  it.each<[string, Partial<S3StoreConfig>]>([
    ['region: weur', { region: 'weur', uploadConcurrency: 2 }],
    ['force-path-style: false', { forcePathStyle: false }],
    ['sign-payload: false', { signPayload: false }],
    ['require-content-md5: true', { contentMd5: 'all' }],
    ['require-content-md5: false', { contentMd5: 'none' }],
    ['concurrency: 8', { uploadConcurrency: 8 }],
    ['max-parts: 500', { maxParts: 500 }],
    ['part-size: 64MiB', { partSizeBytes: 64 * MIB }],
    ['part-size: 64MB', { partSizeBytes: 64e6 }],
    ['part-size: 5MB', { partSizeBytes: 5 * MIB }],
    ['part-size: 5242880', { partSizeBytes: 5 * MIB }],
  ])('give way to {%s}', async (keys, settings) => {
    const preset = await at('https://abc.r2.cloudflarestorage.com');
    expect(await at('https://abc.r2.cloudflarestorage.com', `, ${keys}`)).toEqual({ ...preset, ...settings });
  });

  it.each([
    ['part-size: 4MB', 'part-size must be 5MiB to 5GiB: 4MB'],
    ['part-size: big', 'size must be bytes or such as 64MB: big'],
    ['concurrency: -1', 'concurrency must be positive'],
    ['max-parts: 99', 'max-parts must be 100 to 10000: 99'],
    ['max-parts: 10001', 'max-parts must be 100 to 10000: 10001'],
  ])('refuse {%s}', async (keys, message) => {
    await expect(at('https://h', `, ${keys}`)).rejects.toThrow(message);
  });
});

/** Not every system takes the names under localhost for this machine. */
function resolveToLoopback(host: string): void {
  const lookup = dns.lookup;
  const stub = (name: string, ...rest: unknown[]): void => {
    (lookup as (...args: unknown[]) => void)(name === host ? '127.0.0.1' : name, ...rest);
  };
  vi.spyOn(dns, 'lookup').mockImplementation(stub);
}

/** Writes and deletes what the presets may change the form of. */
async function exercise(store: ObjectStore): Promise<void> {
  try {
    await store.put('small', Buffer.from('abc'));
    await store.put('large', Buffer.alloc(9 * MIB, 'x'));
    await store.delete(['small', 'large']);
  } finally {
    await store.close();
  }
}

describe('requests', () => {
  /** By the settings of `host`, but sent to a server in this process that has the region of the preset. */
  async function requestsAs(host: string, more = ''): Promise<readonly S3Request[]> {
    const preset = await at(`https://${host}`, more);
    const server = await S3Server.start({ region: preset.region ?? 'us-east-1' });
    try {
      // No name resolves to the bucket's host here.
      const store = { ...preset, ...server.credentials, endpoint: server.endpoint, forcePathStyle: true };
      await exercise(openS3Store(store));
      expect(server.bucket().keys()).toEqual([]);
      return server.requests;
    } finally {
      await server.close();
    }
  }

  it.each(ROWS)('%s at %s', async (_, host, settings) => {
    const requests = await requestsAs(host);
    for (const { operation, headers } of requests) {
      expect(headers.authorization).toContain(`/${settings.region ?? 'us-east-1'}/s3/`);
      expect(headers['x-amz-content-sha256']).toMatch(/^[0-9a-f]{64}$/);
      expect(headers['content-encoding']).toBeUndefined();
      expect(headers['x-amz-trailer']).toBeUndefined();
      const hasMd5 = headers['content-md5'] !== undefined;
      expect(hasMd5).toBe(operation === 'DeleteObjects' && settings.contentMd5 !== 'none');
      const checksums = Object.keys(headers).filter((name) => name.startsWith('x-amz-checksum'));
      const isCrc = operation === 'DeleteObjects' && settings.contentMd5 === 'none';
      expect(checksums).toEqual(isCrc ? ['x-amz-checksum-crc32'] : []);
    }
  });

  it('have Content-MD5 on every body when it is required', async () => {
    const requests = await requestsAs('h.example.com', ', require-content-md5: true');
    const withMd5 = requests.filter(({ headers }) => headers['content-md5'] !== undefined);
    expect(withMd5.map(({ operation }) => operation).sort()).toEqual([
      'DeleteObjects',
      'PutObject',
      'UploadPart',
      'UploadPart',
    ]);
  });

  it('leave the bodies of uploads unsigned when told so', async () => {
    const requests = await requestsAs('h.example.com', ', sign-payload: false');
    for (const { operation, headers } of requests) {
      const isUpload = operation === 'PutObject' || operation === 'UploadPart';
      expect(headers['x-amz-content-sha256'] === 'UNSIGNED-PAYLOAD').toBe(isUpload);
    }
  });

  it('have parts of the size that is set', async () => {
    const requests = await requestsAs('h.example.com', ', part-size: 8MiB');
    const parts = requests.filter(({ operation }) => operation === 'UploadPart');
    expect(parts.map(({ headers }) => Number(headers['content-length'])).sort()).toEqual([1 * MIB, 8 * MIB]);
  });

  it.each([
    ['abc.r2.cloudflarestorage.com', '', 2],
    ['abc.r2.cloudflarestorage.com', ', concurrency: 1', 1],
  ])('to %s{%s} send at most so many parts at once', async (host, more, limit) => {
    const preset = await at(`https://${host}`, more);
    const server = await S3Server.start({ region: 'auto', latencyMs: 20 });
    let [now, most] = [0, 0];
    server.onRequest = ({ operation }) => {
      if (operation === 'UploadPart') most = Math.max(most, ++now);
      return 'pass';
    };
    server.onAnswer = ({ operation }) => {
      if (operation === 'UploadPart') now--;
    };
    try {
      const store = openS3Store({ ...preset, ...server.credentials, endpoint: server.endpoint });
      await store.put('large', Buffer.alloc(24 * MIB));
      await store.close();
      expect(most).toBe(limit);
    } finally {
      await server.close();
    }
  });

  it('put the bucket into the host where path style is not taken', async () => {
    const seen: IncomingHttpHeaders[] = [];
    const server: Server = createServer((request, response) => {
      seen.push(request.headers);
      response.setHeader('etag', '"1"').end();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    try {
      const { port } = server.address() as AddressInfo;
      const preset = await at('https://t3.storage.dev');
      const endpoint = `http://localhost:${port}`;
      resolveToLoopback('bucket.localhost');
      const store = openS3Store({ ...preset, endpoint, accessKeyId: 'k', secretAccessKey: 's' });
      await store.put('small', Buffer.from('abc'));
      await store.close();
      expect(seen[0]!.host).toBe(`bucket.localhost:${port}`);
    } finally {
      vi.restoreAllMocks();
      server.close();
    }
  });
});
