/** Looks at replicas and copies of them in a process beside this one: the same answers, and no harm from what is in a bucket. */

import { type ChildProcess, spawn } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { findSocket } from '../../src/control/find-socket.ts';
import { callControl } from '../../src/control/client.ts';
import { ProcessReader, type ProcessReaderOptions } from '../../src/control/reader-process.ts';
import { DirectReader } from '../../src/control/replica-reader.ts';
import { DATABASE_DEFAULTS } from '../../src/engine/options.ts';
import { openStore } from '../../src/storage/registry.ts';
import type { StoreConfig } from '../../src/storage/store-config.ts';
import { type LogLine, recordingLogger } from '../engine/replica-rig.ts';
import { s3Environment, s3Replica } from '../e2e/s3-rig.ts';
import { until } from '../support/process.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { S3Server } from '../support/s3-server.ts';
import { compareDatabases } from '../support/sqlite.ts';

const SECRET = 'a-secret-that-nobody-sees';
const NEVER = new AbortController().signal;

/** On Linux only: elsewhere processes are not files. */
const linux = process.platform === 'linux';

/** The processes that read replicas for `parent`. */
async function readersOf(parent: number): Promise<number[]> {
  const found: number[] = [];
  for (const task of await fs.readdir(`/proc/${parent}/task`)) {
    const children = await fs.readFile(`/proc/${parent}/task/${task}/children`, 'utf8').catch(() => '');
    for (const pid of children.split(' ').filter(Boolean)) {
      const line = await fs.readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      if (line.includes('reader-program')) found.push(Number(pid));
    }
  }
  return found;
}

/** A replica in a bucket, written by a real replicate. */
async function withReplica(
  body: (scene: {
    readonly rig: Rig;
    readonly server: S3Server;
    readonly store: StoreConfig;
  }) => Promise<void>,
): Promise<void> {
  const server = await S3Server.start();
  try {
    await withRig(async (rig) => {
      const options = { replica: s3Replica(server.endpoint), env: s3Environment(server) };
      const app = await rig.application();
      await app.exec('CREATE TABLE t (x)');
      const litestream = await rig.replicate(options);
      await litestream.waitForLine(/snapshot written/);
      await app.exec('INSERT INTO t VALUES (1)');
      expect((await litestream.stop()).code).toBe(0);
      const store = {
        ...{ type: 's3', bucket: 'bucket', path: 'db', region: 'us-east-1', forcePathStyle: true },
        ...{ endpoint: server.endpoint, skipVerify: false, ...server.credentials },
      } as StoreConfig;
      await body({ rig, server, store });
    });
  } finally {
    await server.close();
  }
}

async function withReader(
  body: (reader: ProcessReader) => Promise<void>,
  options: ProcessReaderOptions = {},
): Promise<void> {
  const reader = new ProcessReader(options);
  try {
    await body(reader);
  } finally {
    await reader.close();
    if (linux) expect(await readersOf(process.pid)).toEqual([]);
  }
}

/** Pages of a list without an end, each of new names. */
function endless(server: S3Server): void {
  let page = 0;
  server.onRequest = ({ operation }) => {
    if (operation !== 'ListObjectsV2') return 'pass';
    page++;
    const names = Array.from({ length: 10_000 }, (_, i) =>
      (page * 10_000 + i).toString(16).padStart(16, '0'),
    );
    const prefixes = names.map(
      (name) => `<CommonPrefixes><Prefix>db/generations/${name}/</Prefix></CommonPrefixes>`,
    );
    const body =
      `<?xml version="1.0"?><ListBucketResult><Name>bucket</Name><IsTruncated>true</IsTruncated>` +
      `<NextContinuationToken>${page}</NextContinuationToken>${prefixes.join('')}</ListBucketResult>`;
    return { status: 200, headers: { 'content-type': 'application/xml' }, body };
  };
}

it('gives the answers that this process would give, and logs here', async () => {
  await withReplica(async ({ rig, store }) => {
    await withReader(async (reader) => {
      const direct = new DirectReader((config) => openStore(config));
      expect(await reader.timeline(store, NEVER)).toEqual(await direct.timeline(store, NEVER));
      const request = { replicas: [{ name: 's3', store }], timestamp: undefined };
      expect(await reader.plan(request, NEVER)).toEqual(await direct.plan(request, NEVER));
      const lines: LogLine[] = [];
      const progress: number[] = [];
      const outputPath = join(rig.dir, 'copy.db');
      const copy = await reader.restore(
        { ...request, outputPath },
        {
          signal: NEVER,
          logger: recordingLogger(lines),
          onProgress: ({ segmentsDone }) => progress.push(segmentsDone),
        },
      );
      expect(copy.sizeBytes).toBe((await fs.stat(outputPath)).size);
      expect(await compareDatabases(rig.database, outputPath)).toBeUndefined();
      expect(progress.at(-1)).toBeGreaterThan(0);
      expect(lines.map(({ level }) => level)).toContain('INFO');
    });
  });
});

it('tells errors as they are', async () => {
  await withReplica(async ({ rig, store }) => {
    await withReader(async (reader) => {
      const other = { ...store, path: 'elsewhere' } as StoreConfig;
      const request = { replicas: [{ name: 's3', store: other }], timestamp: undefined };
      await expect(reader.plan(request, NEVER)).rejects.toMatchObject({ code: 'no-backup' });
      const wrong = { ...store, secretAccessKey: SECRET } as StoreConfig;
      await expect(reader.timeline(wrong, NEVER)).rejects.toMatchObject({ code: 'permission' });
      const options = { signal: NEVER, logger: recordingLogger([]), onProgress: () => undefined };
      const existing = { replicas: [{ name: 's3', store }], timestamp: undefined, outputPath: rig.database };
      await expect(reader.restore(existing, options)).rejects.toMatchObject({ code: 'exists' });
    });
  });
});

it('ends a list without an end by its memory, and reads again afterwards', async () => {
  await withReplica(async ({ server, store }) => {
    await withReader(
      async (reader) => {
        endless(server);
        await expect(reader.timeline(store, NEVER)).rejects.toMatchObject({
          code: 'io',
          message: expect.stringMatching(/^reading the replica takes more than 48 MiB of memory/) as string,
        });
        server.onRequest = () => 'pass';
        expect((await reader.timeline(store, NEVER)).ranges).toHaveLength(1);
      },
      { heapMebibytes: 48 },
    );
  });
});

it.runIf(linux)('ends when nobody has asked for a while, and starts again', async () => {
  await withReplica(async ({ store }) => {
    await withReader(
      async (reader) => {
        await reader.timeline(store, NEVER);
        await until(async () => (await readersOf(process.pid)).length === 0);
        expect((await reader.timeline(store, NEVER)).ranges).toHaveLength(1);
      },
      { idleMs: 1 },
    );
  });
});

it.runIf(linux)('tells of a process that was killed, and starts another one', async () => {
  await withReplica(async ({ server, store }) => {
    await withReader(async (reader) => {
      server.onRequest = () => 'stall';
      const looking = reader.timeline(store, NEVER);
      await until(() => server.counts().ListObjectsV2 !== undefined);
      const [pid = 0] = await readersOf(process.pid);
      process.kill(pid, 'SIGKILL');
      await expect(looking).rejects.toMatchObject({ code: 'io', message: /ended with SIGKILL/ });
      server.onRequest = () => 'pass';
      expect((await reader.timeline(store, NEVER)).ranges).toHaveLength(1);
    });
  });
});

it.runIf(linux)('kills what does not end when it is told to', async () => {
  await withReplica(async ({ server, store }) => {
    await withReader(async (reader) => {
      server.onRequest = () => 'stall';
      const controller = new AbortController();
      const looking = reader.timeline(store, controller.signal);
      await until(() => server.counts().ListObjectsV2 !== undefined);
      const [pid = 0] = await readersOf(process.pid);
      // As one that is in a loop.
      process.kill(pid, 'SIGSTOP');
      controller.abort();
      await expect(looking).rejects.toMatchObject({ code: 'aborted' });
    });
  });
});

/** A process that restores by a reader until it is killed. */
function startRestoring(request: object): ChildProcess {
  const reader = new URL('../../dist/control/reader-process.js', import.meta.url).href;
  const script = `
    const { ProcessReader } = await import(${JSON.stringify(reader)});
    const log = () => undefined;
    const logger = { debug: log, info: log, warn: log, error: log, with: () => logger };
    const request = ${JSON.stringify(request)};
    await new ProcessReader().restore(request, { signal: new AbortController().signal, logger, onProgress: log });`;
  const root = fileURLToPath(new URL('../../', import.meta.url));
  return spawn(process.execPath, ['--input-type=module', '-e', script], { cwd: root, stdio: 'inherit' });
}

it.runIf(linux)('takes a restore back when the process that asked for it is killed', async () => {
  await withReplica(async ({ rig, server, store }) => {
    const outputPath = join(rig.dir, 'copies', 'copy.db');
    await fs.mkdir(dirname(outputPath));
    // The snapshot comes; then it hangs in the midst.
    server.onRequest = ({ operation, key }) =>
      operation === 'GetObject' && key.includes('/wal/') ? 'stall' : 'pass';
    const child = startRestoring({ replicas: [{ name: 's3', store }], outputPath });
    const ended = new Promise((resolve) => child.once('exit', resolve));
    await until(async () => (await fs.readdir(dirname(outputPath))).length > 0);
    const [pid = 0] = await readersOf(child.pid ?? 0);
    // What a terminal sends to all of its processes does not keep it from that.
    process.kill(pid, 'SIGINT');
    process.kill(pid, 'SIGTERM');
    child.kill('SIGKILL');
    await ended;
    await until(() => fs.access(`/proc/${pid}`).then(...([() => false, () => true] as const)));
    expect(await fs.readdir(dirname(outputPath))).toEqual([]);
  });
});

it.runIf(linux)('is how a running replicate looks at its replicas, with no secret in sight', async () => {
  await withReplica(async ({ rig, server }) => {
    const options = { replica: s3Replica(server.endpoint), env: s3Environment(server) };
    const { accessKeyId, secretAccessKey } = server.credentials;
    const litestream = await rig.replicate({
      replica: [...options.replica, `access-key-id: ${accessKeyId}`, `secret-access-key: ${secretAccessKey}`],
    });
    const socket = await until(() => findSocket({ ...DATABASE_DEFAULTS, path: rig.database, replicas: [] }));
    const ask = (path: string): Promise<unknown> =>
      callControl(socket, { method: 'POST', path, body: { database: rig.database }, signal: NEVER });
    const held: (() => void)[] = [];
    server.beforeAnswer = ({ operation }) =>
      operation === 'ListObjectsV2' ? new Promise((resolve) => held.push(resolve)) : Promise.resolve();
    const looking = ask('/timeline');
    const [pid] = await until(async () => {
      const found = held.length > 0 ? await readersOf(litestream.pid) : [];
      return found.length > 0 && found;
    });
    for (const file of ['cmdline', 'environ']) {
      expect(await fs.readFile(`/proc/${pid}/${file}`, 'utf8')).not.toContain(secretAccessKey);
    }
    expect(Number(await fs.readFile(`/proc/${pid}/oom_score_adj`, 'utf8'))).toBe(1000);
    server.beforeAnswer = () => Promise.resolve();
    for (const letGo of held) letGo();
    expect(await looking).toMatchObject({ replicas: [{ error: null }] });
    expect((await litestream.stop()).code).toBe(0);
    await expect(fs.access(`/proc/${pid}`)).rejects.toThrow();
  });
});
