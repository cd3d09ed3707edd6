/** The test server itself: v0.3.13 takes it for S3, and it refuses what S3 refuses. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import {
  GetObjectCommand,
  ListObjectsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import type {
  ListObjectsCommandOutput,
  ListObjectsV2CommandOutput,
  S3ClientConfig,
} from '@aws-sdk/client-s3';
import { runLitestream, startLitestream, until, withTempDir } from '../support/process.ts';
import type { RunResult } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';

let server: S3Server;
let client: S3Client;

const newClient = (changes: S3ClientConfig = {}): S3Client =>
  new S3Client({
    endpoint: server.endpoint,
    region: 'us-east-1',
    forcePathStyle: true,
    maxAttempts: 1,
    credentials: server.credentials,
    ...changes,
  });

beforeEach(async () => {
  server = await S3Server.start();
  client = newClient();
});
afterEach(async () => {
  client.destroy();
  await server.close();
});

/** A digest of all rows of the table. */
function digest(db: Database.Database): string {
  const hash = createHash('sha256');
  for (const row of db.prepare('SELECT id, data FROM t ORDER BY id').raw().iterate()) {
    const [id, data] = row as [number, Buffer];
    hash.update(`${id}:`).update(data);
  }
  return hash.digest('hex');
}

describe('S3Server with v0.3.13 as its client', () => {
  it('serves replicate, listings and restore', () =>
    withTempDir(async (dir) => {
      const database = join(dir, 'app.db');
      const config = join(dir, 'litestream.yml');
      const replica = {
        type: 's3',
        bucket: 'bucket',
        path: 'backup',
        endpoint: server.endpoint,
        region: 'us-east-1',
      };
      const keys = {
        'access-key-id': server.credentials.accessKeyId,
        'secret-access-key': server.credentials.secretAccessKey,
      };
      // JSON is YAML too.
      const dbs = [{ path: database, replicas: [{ ...replica, ...keys, 'sync-interval': '50ms' }] }];
      await writeFile(config, JSON.stringify({ dbs }));
      const run = (...args: string[]): Promise<RunResult> => runLitestream({ binary: 'oracle', args });

      const db = new Database(database);
      db.pragma('journal_mode = WAL');
      // Large enough for a snapshot in several parts.
      db.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, data BLOB)');
      const insert = db.prepare('INSERT INTO t (data) VALUES (randomblob(?))');
      for (let row = 0; row < 12; row++) insert.run(1_000_000);
      const replicate = startLitestream({ binary: 'oracle', args: ['replicate', '-config', config] });
      await until(() => (server.counts().CompleteMultipartUpload ?? 0) > 0);
      // v0.3.13 now and then misses a commit until the next one.
      await until(() => {
        insert.run(1000);
        return (server.counts().PutObject ?? 0) > 0;
      });
      expect(await replicate.stop()).toMatchObject({ code: 0 });

      const snapshots = await run('snapshots', '-config', config, database);
      expect(snapshots.stdout).toMatch(/^s3 +[0-9a-f]{16} +0 +\d{8} /m);
      const output = join(dir, 'restored.db');
      const restored = await run('restore', '-config', config, '-o', output, database);
      expect(restored).toMatchObject({ code: 0 });
      expect(server.counts()).toMatchObject({ UploadPart: 3, ListObjects: expect.any(Number) as number });
      const copy = new Database(output, { readonly: true });
      expect(digest(copy)).toBe(digest(db));
      expect(copy.pragma('integrity_check', { simple: true })).toBe('ok');
      copy.close();
      db.close();
    }));

  it('looks like a store with wrong credentials when they are wrong', async () => {
    const result = await runLitestream({
      binary: 'oracle',
      args: ['restore', '-o', '/nowhere/x', `s3://bucket.localhost:${server.port}/backup`],
      env: { AWS_ACCESS_KEY_ID: server.credentials.accessKeyId, AWS_SECRET_ACCESS_KEY: 'wrong' },
    });
    expect(result.code).toBe(1);
    expect(result.stderr).toContain('SignatureDoesNotMatch');
  });
});

describe('S3Server', () => {
  const put = (config: S3ClientConfig = {}): Promise<unknown> => {
    const other = newClient(config);
    return other
      .send(new PutObjectCommand({ Bucket: 'bucket', Key: 'a b+c/é', Body: 'text' }))
      .finally(() => other.destroy());
  };

  it('takes requests of the plain SDK, with its own checksums', async () => {
    await put();
    expect(server.requests[0]!.headers['x-amz-checksum-crc32']).toBeDefined();
    const got = await client.send(new GetObjectCommand({ Bucket: 'bucket', Key: 'a b+c/é' }));
    expect(await got.Body!.transformToString()).toBe('text');
  });

  it('refuses a wrong secret, key, region, bucket and clock', async () => {
    const { accessKeyId, secretAccessKey } = server.credentials;
    const refusals: [S3ClientConfig, string][] = [
      [{ credentials: { accessKeyId, secretAccessKey: 'wrong' } }, 'SignatureDoesNotMatch'],
      [{ credentials: { accessKeyId: 'wrong', secretAccessKey } }, 'InvalidAccessKeyId'],
      [{ region: 'eu-west-1' }, 'AuthorizationHeaderMalformed'],
      [{ systemClockOffset: 3_600_000 }, 'RequestTimeTooSkewed'],
    ];
    for (const [config, name] of refusals) await expect(put(config)).rejects.toMatchObject({ name });
    const unsigned = await fetch(`${server.endpoint}/bucket/key`, { method: 'PUT', body: 'x' });
    expect(unsigned.status).toBe(403);
    expect(server.bucket().keys()).toEqual([]);
    await expect(client.send(new ListObjectsCommand({ Bucket: 'absent' }))).rejects.toMatchObject({
      name: 'NoSuchBucket',
    });
  });

  it('refuses a body, a header, a query or a path other than the signed one', async () => {
    const tamper = async (
      change: (request: {
        body: unknown;
        headers: Record<string, string>;
        path: string;
        query: Record<string, string>;
      }) => void,
    ): Promise<string> => {
      const other = newClient();
      other.middlewareStack.add(
        (next) => (args) => {
          change(args.request as never);
          return next(args);
        },
        { step: 'finalizeRequest', priority: 'low', name: 'tamper' },
      );
      const command = new PutObjectCommand({ Bucket: 'bucket', Key: 'k', Body: 'text' });
      const error = (await other.send(command).catch((failure: unknown) => failure)) as Error;
      other.destroy();
      return error.name;
    };
    expect(await tamper((request) => (request.body = 'TEXT'))).toBe('XAmzContentSHA256Mismatch');
    expect(await tamper((request) => (request.path = '/bucket/other'))).toBe('SignatureDoesNotMatch');
    expect(await tamper((request) => (request.query = { x: '1' }))).toBe('SignatureDoesNotMatch');
    expect(await tamper((request) => (request.headers['x-amz-checksum-crc32'] = 'AAAAAA=='))).toBe(
      'SignatureDoesNotMatch',
    );
    expect(await tamper((request) => (request.headers['content-md5'] = 'AAAAAAAAAAAAAAAAAAAAAA=='))).toBe(
      'BadDigest',
    );
    expect(server.bucket().keys()).toEqual([]);
  });

  it('puts on conditions', async () => {
    const conditional = (condition: {
      IfMatch?: string;
      IfNoneMatch?: string;
    }): Promise<{ ETag?: string | undefined }> =>
      client.send(new PutObjectCommand({ Bucket: 'bucket', Key: 'k', Body: 'text', ...condition }));
    const { ETag } = await conditional({ IfNoneMatch: '*' });
    const failed = { name: 'PreconditionFailed' };
    await expect(conditional({ IfNoneMatch: '*' })).rejects.toMatchObject(failed);
    await expect(conditional({ IfMatch: '"other"' })).rejects.toMatchObject(failed);
    await conditional({ IfMatch: ETag! });
  });

  /** The names on each page of at most two, keys before prefixes. */
  async function pages(version: 1 | 2, Delimiter?: string): Promise<string[][]> {
    const shared = { Bucket: 'bucket', MaxKeys: 2, Delimiter };
    const found: string[][] = [];
    for (let next: string | undefined = ''; next !== undefined;) {
      const from = next === '' ? undefined : next;
      const page: ListObjectsCommandOutput & ListObjectsV2CommandOutput =
        version === 1
          ? await client.send(new ListObjectsCommand({ ...shared, Marker: from }))
          : await client.send(new ListObjectsV2Command({ ...shared, ContinuationToken: from }));
      const keys = (page.Contents ?? []).map(({ Key }) => Key!);
      found.push([...keys, ...(page.CommonPrefixes ?? []).map(({ Prefix }) => Prefix!)]);
      const after = version === 1 ? (page.NextMarker ?? keys.at(-1)) : page.NextContinuationToken;
      next = page.IsTruncated === true ? after : undefined;
    }
    return found;
  }

  it.each([1, 2] as const)('lists page by page, version %i', async (version) => {
    const names = ['a/1', 'a/2', 'b', 'c/1', 'c/2/3', 'd'];
    for (const name of names) server.bucket().put(name, Buffer.from('x'));
    expect(await pages(version)).toEqual([
      ['a/1', 'a/2'],
      ['b', 'c/1'],
      ['c/2/3', 'd'],
    ]);
    expect(await pages(version, '/')).toEqual([
      ['b', 'a/'],
      ['d', 'c/'],
    ]);
  });
});
