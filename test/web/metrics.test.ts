/** `/metrics` over HTTP, and which names are there compared with v0.3.13's own. */

import { promises as fs } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { createLogger } from '../../src/base/logger.ts';
import type { DatabaseStatus } from '../../src/engine/status.ts';
import { type DatabaseStats, newDatabaseStats, newReplicaStats } from '../../src/engine/stats.ts';
import { serveConsole } from '../../src/cmd/replicate-console.ts';
import type { Route } from '../../src/control/router.ts';
import { parseBindAddress } from '../../src/web/bind-address.ts';
import { createMetrics } from '../../src/web/metrics-registry.ts';
import type { WebServer } from '../../src/web/serve.ts';
import { startLitestream, until, withTempDir } from '../support/process.ts';
import { withSqlite } from '../support/sqlite.ts';

const STATS: DatabaseStats = {
  ...newDatabaseStats('/data/a "b".db'),
  problem: undefined,
  sizeBytes: 8192,
  walSizeBytes: 4152,
  totalWalBytes: 12360,
  shadowWalIndex: 3,
  shadowWalSizeBytes: 4152,
  spoolSizeBytes: 9000,
  syncCount: 7,
  syncErrorCount: 1,
  syncSeconds: 0.25,
  checkpoints: new Map([['PASSIVE', { count: 5, errorCount: 2, seconds: 0.5 }]]),
  writerBlockedSeconds: 0.125,
  replicas: [
    {
      ...newReplicaStats('s3', 's3'),
      generation: '0123456789abcdef',
      walIndex: 3,
      walOffset: 4152,
      walBytes: 12345,
      validationOkCount: 4,
      validationErrorCount: 1,
      verification: { at: '2026-01-01T00:00:00.000Z', result: 'ok', message: '' },
      lastError: undefined,
    },
  ],
};

const STATUS: DatabaseStatus = {
  path: STATS.path,
  metaPath: '/data/.db-litestream',
  mode: 'read-write',
  state: 'lagging',
  healthy: false,
  reason: 'replica s3: slow',
  remedy: null,
  since: null,
  sizeBytes: 8192,
  walSizeBytes: 4152,
  walPin: null,
  position: null,
  lastRotationAt: null,
  writerBlockedMs: 125,
  replicas: [
    {
      name: 's3',
      type: 's3',
      location: 's3://backups/db',
      state: 'lagging',
      healthy: false,
      reason: 'slow',
      remedy: null,
      since: null,
      position: null,
      lagMs: 12_500,
      backlogBytes: 4096,
      lastUploadAt: '2026-01-01T00:00:00.000Z',
      lastError: null,
      requests: [{ type: 's3', operation: 'PUT', count: 9, bytes: 900 }],
      lastSnapshot: {
        generation: '0123456789abcdef',
        index: 3,
        at: '2026-01-01T00:00:01.000Z',
        sizeBytes: 77,
      },
      restorable: { from: '2026-01-01T00:00:02.000Z', to: '2026-01-01T00:00:03.500Z' },
      lastVerification: { at: '2026-01-01T00:00:04.000Z', result: 'inconclusive', message: 'no time' },
      lastLookAt: null,
      otherWriter: null,
      retentionRefused: false,
    },
  ],
};

/** Metrics of v0.3.13 about its own runtime and HTTP library. */
const OTHERS = /^(go_|promhttp_|process_virtual_memory_max_bytes)/;

const lines: string[] = [];
const logger = createLogger({ format: 'text', level: 'INFO', write: (line) => lines.push(line) });
let server: WebServer | undefined;

async function start(addr = '127.0.0.1:0'): Promise<{ url: string }> {
  lines.length = 0;
  const metrics = createMetrics({
    stats: () => [STATS],
    status: () => [STATUS],
    requestCounts: () => [
      { type: 's3', operation: 'PUT', count: 9, bytes: 900 },
      { type: 'file', operation: 'PUT', count: 1, bytes: 1 },
    ],
  });
  const routes: Route[] = [
    {
      method: 'GET',
      path: '/metrics',
      handle: async () => ({ contentType: metrics.contentType, text: await metrics.metrics() }),
    },
  ];
  server = await serveConsole(parseBindAddress(addr), {}, routes, logger);
  if (server === undefined) throw new Error(`no server: ${lines.join('')}`);
  return { url: `${server.url}metrics` };
}

afterEach(async () => {
  await server?.close();
  server = undefined;
});

describe('the endpoint', () => {
  test('every number with its labels', async () => {
    const { url } = await start();
    const response = await fetch(url);
    expect(response.headers.get('content-type')).toMatch(/^text\/plain; version=0\.0\.4/);
    const text = await response.text();
    const delay = /^litestream_event_loop_delay_seconds\{quantile="(0\.5|0\.99|1)"\} [\d.e-]+$/;
    const all = text.split('\n').filter((line) => line.startsWith('litestream_'));
    const values = all.filter((line) => !delay.test(line));
    expect(all.length - values.length).toBe(3);
    const db = 'db="/data/a \\"b\\".db"';
    expect(values).toEqual([
      `litestream_db_size{${db}} 8192`,
      `litestream_wal_size{${db}} 4152`,
      `litestream_total_wal_bytes{${db}} 12360`,
      `litestream_shadow_wal_index{${db}} 3`,
      `litestream_shadow_wal_size{${db}} 4152`,
      `litestream_sync_count{${db}} 7`,
      `litestream_sync_error_count{${db}} 1`,
      `litestream_sync_seconds{${db}} 0.25`,
      `litestream_writer_blocked_seconds{${db}} 0.125`,
      `litestream_checkpoint_count{${db},mode="PASSIVE"} 5`,
      `litestream_checkpoint_error_count{${db},mode="PASSIVE"} 2`,
      `litestream_checkpoint_seconds{${db},mode="PASSIVE"} 0.5`,
      `litestream_replica_wal_bytes{${db},name="s3"} 12345`,
      `litestream_replica_wal_index{${db},name="s3"} 3`,
      `litestream_replica_wal_offset{${db},name="s3"} 4152`,
      `litestream_replica_validation_total{${db},name="s3",status="error"} 1`,
      `litestream_replica_validation_total{${db},name="s3",status="ok"} 4`,
      `litestream_replica_verification_timestamp_seconds{${db},name="s3",status="ok"} 1767225600`,
      'litestream_replica_operation_total{replica_type="s3",operation="PUT"} 9',
      'litestream_replica_operation_bytes{replica_type="s3",operation="PUT"} 900',
      `litestream_healthy{${db}} 0`,
      `litestream_spool_size_bytes{${db}} 9000`,
      `litestream_replica_healthy{${db},name="s3"} 0`,
      `litestream_replica_lag_seconds{${db},name="s3"} 12.5`,
      `litestream_replica_backlog_bytes{${db},name="s3"} 4096`,
      `litestream_replica_last_upload_timestamp_seconds{${db},name="s3"} 1767225600`,
      `litestream_replica_snapshot_timestamp_seconds{${db},name="s3"} 1767225601`,
      `litestream_replica_snapshot_size_bytes{${db},name="s3"} 77`,
      `litestream_replica_restorable_from_timestamp_seconds{${db},name="s3"} 1767225602`,
      `litestream_replica_restorable_to_timestamp_seconds{${db},name="s3"} 1767225603.5`,
      `litestream_replica_verification_ok{${db},name="s3"} 0`,
      `litestream_replica_requests_total{${db},name="s3",replica_type="s3",operation="PUT"} 9`,
      `litestream_replica_request_bytes_total{${db},name="s3",replica_type="s3",operation="PUT"} 900`,
    ]);
    // Counters are read, not added up.
    expect(await (await fetch(url)).text()).toContain(`litestream_sync_count{${db}} 7\n`);
  });

  test('nothing else is served', async () => {
    const { url } = await start();
    expect((await fetch(new URL('/debug/pprof', url))).status).toBe(404);
    expect((await fetch(url, { method: 'POST' })).status).toBe(404);
    const put = await fetch(url, { method: 'PUT' });
    expect([put.status, put.headers.get('allow')]).toEqual([405, 'GET, HEAD, POST']);
    expect((await fetch(`${url}?x=1`)).status).toBe(200);
  });

  test('says where it is', async () => {
    const { url } = await start();
    expect(lines).toEqual([
      expect.stringMatching(/level=INFO msg="serving metrics on" url=http:\/\/127\.0\.0\.1:\d+\/metrics\n/),
      expect.stringMatching(/level=INFO msg="serving dashboard on" url=http:\/\/127\.0\.0\.1:\d+\/\n/),
    ]);
    expect(lines[0]).toContain(url);
  });

  test('without a host it is on all interfaces, IPv4 too', async () => {
    const { url } = await start(':0');
    const { host, port } = new URL(url);
    expect(host).toBe(`localhost:${port}`);
    expect((await fetch(`http://127.0.0.1:${port}/metrics`)).status).toBe(200);
  });

  test('an address in use is logged and holds nothing up', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(0, '127.0.0.1', resolve));
    const { port } = other.address() as { port: number };
    try {
      await expect(start(`127.0.0.1:${port}`)).rejects.toThrow(
        `level=ERROR msg="cannot start metrics server" error="listen tcp 127.0.0.1:${port}: bind: address already in use"`,
      );
    } finally {
      other.close();
    }
  });
});

describe('addresses', () => {
  test.each([
    [':9090', '', 9090],
    ['127.0.0.1:9090', '127.0.0.1', 9090],
    ['localhost:0', 'localhost', 0],
    ['[::1]:9090', '::1', 9090],
  ])('%s', (text, host, port) => {
    expect(parseBindAddress(text)).toEqual({ text, host, port });
  });

  test.each(['noport', 'a:b:c', '127.0.0.1:', '::1'])('%s has no port', (text) => {
    expect(() => parseBindAddress(text)).toThrow(`must specify port for bind address: "${text}"`);
  });

  test.each([':http', ':65536'])('%s has no valid port', (text) => {
    expect(() => parseBindAddress(text)).toThrow(`invalid port for bind address: "${text}"`);
  });
});

test('the names are those of v0.3.13', async () => {
  await withTempDir(async (dir) => {
    const database = join(dir, 'db');
    await withSqlite({ path: database, pragmas: ['journal_mode=WAL'] }, async () => {
      const config = join(dir, 'litestream.yml');
      const port = await freePort();
      await fs.writeFile(
        config,
        `addr: 127.0.0.1:${port}\ndbs:\n  - path: ${database}\n    monitor-interval: 10ms\n    replicas:\n      - path: ${dir}/replica\n`,
      );
      const oracle = startLitestream({ binary: 'oracle', args: ['replicate', '-config', config] });
      try {
        await oracle.waitForLine(/snapshot written/);
        const theirs = await until(async () =>
          names(await (await fetch(`http://127.0.0.1:${port}/metrics`)).text()),
        );
        const { url } = await start();
        const ours = names(await (await fetch(url)).text());
        const missing = [...theirs].filter((name) => !ours.has(name) && !OTHERS.test(name));
        expect(theirs.size).toBeGreaterThan(15);
        expect(missing).toEqual([]);
      } finally {
        await oracle.stop();
      }
    });
  });
});

/** Names of metrics with their types. */
function names(text: string): Set<string> {
  return new Set([...text.matchAll(/^# TYPE (\S+ \S+)$/gm)].map((match) => match[1] ?? ''));
}

async function freePort(): Promise<number> {
  const probe = createServer();
  await new Promise<void>((resolve) => probe.listen(0, '127.0.0.1', resolve));
  const { port } = probe.address() as { port: number };
  await new Promise((resolve) => probe.close(resolve));
  return port;
}
