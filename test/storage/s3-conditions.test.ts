/** Puts that shall overwrite nothing, on S3 servers that refuse the condition itself or do not know it. */

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { randomBytes } from 'node:crypto';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openS3Store } from '../../src/storage/s3/s3-store.ts';
import { S3Server } from '../support/s3-server.ts';
import type { Fault, S3Request } from '../support/s3-server.ts';
import { getBytes } from './contract.ts';

const ifAbsent = true;
/** One that is put whole, and one in parts. */
const SIZES = [5, 12 * 1024 * 1024];

let server: S3Server;
let store: ObjectStore;

beforeEach(async () => {
  server = await S3Server.start();
  const base = { type: 's3', bucket: 'bucket', path: 'db', forcePathStyle: true, skipVerify: false } as const;
  store = openS3Store({ ...base, endpoint: server.endpoint, ...server.credentials });
});
afterEach(async () => {
  await store.close();
  await server.close();
});

const isConditional = ({ headers }: S3Request): boolean => headers['if-none-match'] !== undefined;

function refusal(status: number, code: string): Fault {
  const body = `<Error><Code>${code}</Code><Message>If-None-Match</Message></Error>`;
  return { status, headers: { 'content-type': 'application/xml' }, body };
}

/** Puts twice what shall be there once; what is there then. */
async function putTwice(size: number): Promise<{ second: Buffer; there: Buffer }> {
  const [first, second] = [randomBytes(size), randomBytes(size)];
  await store.put('k', first, { ifAbsent });
  await store.put('k', second, { ifAbsent });
  return { second, there: await getBytes(store, 'k') };
}

describe.each([
  [501, 'NotImplemented'],
  [400, 'InvalidArgument'],
])('a server that answers %i to the condition', (status, code) => {
  it.each(SIZES)('is asked again without it, and overwrites: %i bytes', async (size) => {
    server.onRequest = (request) => (isConditional(request) ? refusal(status, code) : 'pass');
    const { second, there } = await putTwice(size);
    expect(there.equals(second)).toBe(true);
    expect(server.bucket().uploads.size).toBe(0);
  });

  it('is asked once only', async () => {
    server.onRequest = (request) => (isConditional(request) ? refusal(status, code) : 'pass');
    await putTwice(5);
    expect(server.requests.filter(isConditional)).toHaveLength(1);
  });

  it('is taken to know conditions as long as it refuses the rest as well', async () => {
    await store.put('k', Buffer.from('there'));
    server.onRequest = () => refusal(status, code);
    await expect(store.put('k', Buffer.from('other'), { ifAbsent })).rejects.toThrow(/put k/);
    server.onRequest = () => 'pass';
    await expect(store.put('k', Buffer.from('other'), { ifAbsent })).rejects.toMatchObject({
      code: 'exists',
    });
    expect((await getBytes(store, 'k')).toString()).toBe('there');
  });
});

describe('a server that does not know the condition', () => {
  it.each(SIZES)('overwrites, and says that it has: %i bytes', async (size) => {
    server.ignoresConditions = true;
    const { second, there } = await putTwice(size);
    expect(there.equals(second)).toBe(true);
    expect(server.requests.filter(isConditional)).toHaveLength(2);
  });
});
