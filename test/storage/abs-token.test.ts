/** Access tokens of the abs driver, which are only sent over TLS: who gives them, and when they are renewed. */

import { afterEach, expect, it, vi } from 'vitest';
import { createServer } from 'node:http';
import type { RequestListener, Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { openAbsStore } from '../../src/storage/abs/abs-store.ts';
import { startTls } from '../support/proxy.ts';

const closing: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  vi.unstubAllEnvs();
  for (const close of closing.splice(0).reverse()) await close();
});

async function serve(listener: RequestListener): Promise<number> {
  const server: Server = createServer(listener);
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  closing.push(() => new Promise((resolve) => server.close(resolve)));
  return (server.address() as AddressInfo).port;
}

it('are renewed before they expire', async () => {
  const given: string[] = [];
  const identity = await serve((_, response) => {
    // The first one has 90 seconds left, and Azure's SDK renews two minutes before the end.
    const seconds = given.length === 0 ? 90 : 3600;
    given.push(`token-${given.length + 1}`);
    const expires_on = String(Math.floor(Date.now() / 1000) + seconds);
    const token = { access_token: given.at(-1), expires_on, resource: 'r', token_type: 'Bearer' };
    response.setHeader('content-type', 'application/json').end(JSON.stringify(token));
  });
  const borne: (string | undefined)[] = [];
  const blobs = await serve((message, response) => {
    borne.push(message.headers.authorization);
    message.resume().on('end', () => response.writeHead(201).end());
  });
  const tls = await startTls({ port: blobs });
  closing.push(() => tls.close());
  vi.stubEnv('NODE_TLS_REJECT_UNAUTHORIZED', '0');
  vi.stubEnv('AZURE_TOKEN_CREDENTIALS', 'ManagedIdentityCredential');
  vi.stubEnv('IDENTITY_ENDPOINT', `http://127.0.0.1:${identity}/token`);
  vi.stubEnv('IDENTITY_HEADER', 'header');
  const endpoint = `https://127.0.0.1:${tls.port}/account`;
  const store = openAbsStore({ type: 'abs', bucket: 'box', path: 'db', accountName: 'account', endpoint });
  closing.push(() => store.close());
  await store.put('a', Buffer.from('x'));
  expect(borne).toEqual(['Bearer token-1']);
  await vi.waitFor(
    async () => {
      await store.put('b', Buffer.from('x'));
      expect(borne.at(-1)).toBe('Bearer token-2');
    },
    { timeout: 20_000 },
  );
  for (let number = 0; number < 5; number++) await store.put(`c${number}`, Buffer.from('x'));
  expect(given).toHaveLength(2);
});
