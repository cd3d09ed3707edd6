/** Where the command, which is one bundle, finds credentials of Amazon's kinds when its config has none. */

import { writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { runLitestream, withTempDir } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';

let server: S3Server;

beforeEach(async () => {
  server = await S3Server.start();
});

afterEach(async () => {
  await server.close();
});

/** The exit code and errors of a listing, with these variables and no other source of credentials. */
async function list(
  dir: string,
  variables: Record<string, string>,
): Promise<{ code: number | null; errors: string }> {
  const config = join(dir, 'litestream.yml');
  const replica = `{ type: s3, bucket: bucket, path: db, endpoint: '${server.endpoint}', region: us-east-1 }`;
  writeFileSync(config, `dbs:\n  - path: ${join(dir, 'db')}\n    replicas: [${replica}]\n`);
  const env = {
    AWS_EC2_METADATA_DISABLED: 'true',
    AWS_CONFIG_FILE: join(dir, 'config'),
    AWS_SHARED_CREDENTIALS_FILE: join(dir, 'credentials'),
    ...variables,
  };
  const args = ['snapshots', '-config', config, join(dir, 'db')];
  const { code, stderr, stdout } = await runLitestream({ binary: 'ours', args, env });
  return { code, errors: /level=ERROR.*/.exec(stderr + stdout)?.[0] ?? '' };
}

it('finds them in a shared credentials file', async () => {
  await withTempDir(async (dir) => {
    const { accessKeyId, secretAccessKey } = server.credentials;
    const keys = `aws_access_key_id = ${accessKeyId}\naws_secret_access_key = ${secretAccessKey}\n`;
    writeFileSync(join(dir, 'credentials'), `[backup]\n${keys}`);
    expect(await list(dir, { AWS_PROFILE: 'backup' })).toEqual({ code: 0, errors: '' });
    expect(server.counts().ListObjectsV2).toBeGreaterThan(0);
  });
});

it('asks the process that a profile names', async () => {
  await withTempDir(async (dir) => {
    const { accessKeyId, secretAccessKey } = server.credentials;
    const answer = { Version: 1, AccessKeyId: accessKeyId, SecretAccessKey: secretAccessKey };
    writeFileSync(join(dir, 'answer.json'), JSON.stringify(answer));
    writeFileSync(
      join(dir, 'config'),
      `[profile backup]\ncredential_process = cat ${join(dir, 'answer.json')}\n`,
    );
    expect(await list(dir, { AWS_PROFILE: 'backup' })).toEqual({ code: 0, errors: '' });
  });
});

it('asks the address that a container is given', async () => {
  const { accessKeyId, secretAccessKey } = server.credentials;
  const answer = {
    AccessKeyId: accessKeyId,
    SecretAccessKey: secretAccessKey,
    Token: 'session',
    Expiration: '2100-01-01T00:00:00Z',
  };
  const issuer = createServer((_, response) => {
    response.setHeader('content-type', 'application/json').end(JSON.stringify(answer));
  });
  await new Promise<void>((resolve) => issuer.listen(0, '127.0.0.1', resolve));
  try {
    await withTempDir(async (dir) => {
      const uri = `http://127.0.0.1:${(issuer.address() as AddressInfo).port}/`;
      const found = await list(dir, { AWS_CONTAINER_CREDENTIALS_FULL_URI: uri });
      expect(found).toEqual({ code: 0, errors: '' });
    });
  } finally {
    issuer.close();
  }
});

it('says what to set when there are none', async () => {
  await withTempDir(async (dir) => {
    const { code, errors } = await list(dir, {});
    expect(code).toBe(1);
    expect(errors).toContain(
      'set access-key-id and secret-access-key, or the AWS variables, profile or role',
    );
  });
});
