/** Stores with TLS that only the proxy named by HTTPS_PROXY can reach, by both programs. */

import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { GcsServer } from '../support/gcs-server.ts';
import { runLitestream, type RunResult } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { CERTIFICATE, startProxy, startTls, type ConnectProxy } from '../support/proxy.ts';
import { S3Server } from '../support/s3-server.ts';
import { compareDatabases } from '../support/sqlite.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

type Env = Readonly<Record<string, string>>;

/** Runs `body` with the environment in which `HOST` is reached: only by the proxy, and its certificate is trusted. */
async function behindProxy(
  server: { readonly port: number },
  body: (env: Env, proxy: ConnectProxy) => Promise<void>,
): Promise<void> {
  const secured = await startTls(server);
  const proxy = await startProxy({ 'store.example.test': secured });
  try {
    // The one name is Node's, the other Go's.
    const trust = { NODE_EXTRA_CA_CERTS: CERTIFICATE, SSL_CERT_FILE: CERTIFICATE };
    await body({ ...trust, HTTPS_PROXY: `http://127.0.0.1:${proxy.port}`, NO_PROXY: '' }, proxy);
    expect(new Set(proxy.requests)).toEqual(new Set(['CONNECT store.example.test:443']));
  } finally {
    await proxy.close();
    await secured.close();
  }
}

it('replicates to S3 and restores from there, and so does v0.3.13', async () => {
  const server = await S3Server.start();
  try {
    await behindProxy(server, async (proxied) => {
      const env = { ...proxied, ...s3Environment(server) };
      const replica = [...s3Replica('https://store.example.test'), 'force-path-style: true'];
      await withRig(async (rig) => {
        const app = await rig.application();
        await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
        const litestream = await rig.replicate({ replica, env });
        await app.load({ kind: 'write', seed: 2, steps: 5, rollbackShare: 0 });
        const config = await rig.config({ replica });
        await rig.caughtUp({ config, env });
        expect((await litestream.stop()).code).toBe(0);
        const restored = await rig.restored({ binary: 'oracle', config, env });
        expect(await compareDatabases(rig.database, restored)).toBeUndefined();
      });
    });
  } finally {
    await server.close();
  }
});

async function snapshots(rig: Rig, env: Env, replica: readonly string[]): Promise<RunResult> {
  const config = await rig.config({ replica });
  return await runLitestream({ binary: 'ours', args: ['snapshots', '-config', config, rig.database], env });
}

it('asks Google', async () => {
  const server = await GcsServer.start();
  try {
    await behindProxy(server, async (env) => {
      await withRig(async (rig) => {
        const replica = ['type: gcs', 'bucket: bucket', 'path: db', 'endpoint: https://store.example.test'];
        expect(await snapshots(rig, env, replica)).toMatchObject({ code: 0, stderr: '' });
        expect(server.requests.length).toBeGreaterThan(0);
      });
    });
  } finally {
    await server.close();
  }
});

it('asks Azure', async () => {
  let count = 0;
  const server = createServer((request, response) => {
    count++;
    request.resume();
    response.writeHead(200, { 'content-type': 'application/xml' });
    response.end('<?xml version="1.0"?><EnumerationResults><Blobs/><NextMarker/></EnumerationResults>');
  });
  await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
  try {
    await behindProxy({ port: (server.address() as AddressInfo).port }, async (env) => {
      await withRig(async (rig) => {
        const replica = ['type: abs', 'bucket: b', 'path: db', 'endpoint: https://store.example.test'];
        const account = ['account-name: account', 'account-key: a2V5'];
        expect(await snapshots(rig, env, [...replica, ...account])).toMatchObject({ code: 0, stderr: '' });
        expect(count).toBeGreaterThan(0);
      });
    });
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
});
