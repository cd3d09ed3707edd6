/** The data functions: the same as the commands print, restores, and what they must never do to a database. */

import { execFile } from 'node:child_process';
import { promises as fs } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  type RestoreProgress,
  databases,
  generations,
  restore,
  restoreIfMissing,
  snapshots,
  status,
  sync,
  timeline,
  verify,
  waitForSync,
  wal,
} from '../../src/library/index.ts';
import { runLitestream } from '../support/process.ts';
import { withRig, type Rig } from '../support/process-rig.ts';
import { compareDatabases, withSqlite } from '../support/sqlite.ts';

afterEach(() => {
  vi.unstubAllEnvs();
});

/** A replicated database with commits that are stored. */
async function withReplication(body: (rig: Rig, config: string) => Promise<void>): Promise<void> {
  await withRig(async (rig) => {
    const config = await rig.config();
    const application = await rig.application();
    await rig.replicate();
    await application.load({ kind: 'write', seed: 1, steps: 20, rollbackShare: 0 });
    await waitForSync({ config });
    await body(rig, config);
  });
}

async function json(args: readonly string[]): Promise<Record<string, unknown>[]> {
  const { stdout } = await runLitestream({ binary: 'ours', args: [...args, '-json'] });
  return JSON.parse(stdout) as Record<string, unknown>[];
}

/** As JSON has it. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

describe('lists', () => {
  it('are what the commands print, of a database and of a url', async () => {
    await withReplication(async (rig, config) => {
      for (const [options, args] of [
        [{ config }, ['-config', config, rig.database]],
        [{ url: `file://${rig.replica}` }, [`file://${rig.replica}`]],
      ] as const) {
        const printed = await json(['snapshots', ...args]);
        expect(plain(await snapshots(options))).toEqual(
          printed.map(({ size, created, ...rest }) => ({ ...rest, sizeBytes: size, createdAt: created })),
        );
        const segments = await json(['wal', ...args]);
        expect(segments.length).toBeGreaterThan(0);
        expect(plain(await wal(options))).toEqual(
          segments.map(({ size, created, ...rest }) => ({ ...rest, sizeBytes: size, createdAt: created })),
        );
        const [printedGeneration] = await json(['generations', ...args]);
        const [generation, ...others] = await generations(options);
        expect(others).toEqual([]);
        const { name, generation: id, start, end } = printedGeneration ?? {};
        expect(plain(generation)).toMatchObject({ replica: name, generation: id, start, end });
        expect(await timeline(options)).toMatchObject([
          { replica: 'file', gaps: [], ranges: [{ generation: id }] },
        ]);
      }
      expect(await databases({ config })).toEqual([
        { path: rig.database, replicas: [{ name: 'file', type: 'file', location: rig.replica }] },
      ]);
      expect(await wal({ config, generation: '0'.repeat(16) })).toEqual([]);
    });
  });

  it('go on after a replica that fails when somebody takes the error, and reject when nobody does', async () => {
    await withReplication(async (rig) => {
      const broken = join(rig.dir, 'file', 'replica');
      await fs.writeFile(dirname(broken), '');
      const replicas = [{ name: 'broken', path: broken }, { path: rig.replica }];
      const options = { databases: [{ path: rig.database, replicas }] };
      await expect(snapshots(options)).rejects.toThrow('list replica broken');
      const failed: string[] = [];
      const rows = await snapshots({ ...options, onReplicaError: (_error, replica) => failed.push(replica) });
      expect(rows).toHaveLength(1);
      expect(failed).toEqual(['broken']);
      await expect(snapshots({ ...options, replica: 'none' })).rejects.toMatchObject({ code: 'not-found' });
    });
  });
});

describe('a running replicate', () => {
  it('is asked for its status, a sync, and a verification', async () => {
    await withReplication(async (rig, config) => {
      const report = await status({ config });
      expect(report).toMatchObject({
        running: true,
        healthy: true,
        databases: [{ path: rig.database, state: 'ok' }],
      });
      await sync({ config, database: 'db' });
      expect(await verify({ config })).toMatchObject([{ database: rig.database, result: 'ok' }]);
      expect(await verify({ url: `file://${rig.replica}` })).toMatchObject([
        { replicas: [{ problems: [] }] },
      ]);
    });
  });

  it('that is not there is waited for, but not for ever', async () => {
    await withRig(async (rig) => {
      const config = await rig.config();
      await expect(waitForSync({ config, timeoutMs: 300 })).rejects.toMatchObject({ code: 'timeout' });
      await expect(sync({ config })).rejects.toMatchObject({ code: 'not-found' });
      expect(await status({ config })).toMatchObject({ running: false, healthy: false });
      const waiting = waitForSync({ config, timeoutMs: 30_000 });
      const application = await rig.application();
      await application.exec('CREATE TABLE t (v)');
      await rig.replicate();
      await waiting;
      const aborted = waitForSync({ config, signal: AbortSignal.abort() });
      await expect(aborted).rejects.toMatchObject({ code: 'aborted' });
    });
  });
});

describe('restore()', () => {
  it('makes a sibling of the database, tells its progress, and leaves nothing when it is aborted', async () => {
    await withReplication(async (rig, config) => {
      const progress: RestoreProgress[] = [];
      const path = await restore({ config, onProgress: (step) => progress.push(step) });
      expect(dirname(path)).toBe(rig.dir);
      expect(path).toMatch(/\/db-\d{8}T\d{9}Z$/);
      expect(await compareDatabases(rig.database, path)).toBeUndefined();
      const last = progress.at(-1);
      expect(last).toMatchObject({ bytesDone: last?.bytesTotal, segmentsDone: last?.segmentsTotal });

      const stopping = new AbortController();
      const before = await fs.readdir(rig.dir);
      const aborted = restore({ config, signal: stopping.signal, onProgress: () => stopping.abort() });
      await expect(aborted).rejects.toMatchObject({ code: 'aborted' });
      expect(await fs.readdir(rig.dir)).toEqual(before);
    });
  });

  it('restores in place only when asked and never over a database, and an earlier state elsewhere', async () => {
    await withReplication(async (rig, config) => {
      await expect(restore({ config, inPlace: true })).rejects.toMatchObject({ code: 'exists' });
      await expect(restore({ config, output: rig.database })).rejects.toMatchObject({ code: 'exists' });
      const output = join(rig.dir, 'early');
      const [range] = (await timeline({ config }))[0]?.ranges ?? [];
      expect(await restore({ config, output, timestamp: range!.from })).toBe(output);
      const early = await withSqlite({ path: output, readonly: true }, (sqlite) =>
        sqlite.all('PRAGMA schema_version'),
      );
      expect(early).toHaveLength(1);
      await expect(restore({ url: `file://${rig.replica}` })).rejects.toMatchObject({ code: 'usage' });
      const both = { config, timestamp: new Date(), index: 1 };
      await expect(restore(both)).rejects.toMatchObject({ code: 'usage' });
    });
  });
});

describe('restoreIfMissing()', () => {
  it('restores what is missing, leaves what is there, knows a new database, and refuses to guess', async () => {
    await withReplication(async (rig, config) => {
      expect(await restoreIfMissing({ config, enabled: true })).toEqual([]);
      const path = join(rig.dir, 'elsewhere', 'db');
      const replicas = [{ path: rig.replica }];
      const missing = { databases: [{ path, replicas }], enabled: true };
      expect(await restoreIfMissing(missing)).toEqual([{ path, restored: true }]);
      expect(await compareDatabases(rig.database, path)).toBeUndefined();
      const fresh = {
        databases: [{ path: join(rig.dir, 'new'), replicas: [{ path: join(rig.dir, 'none') }] }],
      };
      expect(await restoreIfMissing({ ...fresh, enabled: true, logger: () => undefined })).toEqual([
        { path: join(rig.dir, 'new'), restored: false },
      ]);
      await fs.writeFile(join(rig.dir, 'file'), '');
      const unknown = {
        databases: [{ path: join(rig.dir, 'new'), replicas: [`file://${rig.dir}/file/replica`] }],
      };
      await expect(restoreIfMissing({ ...unknown, enabled: true })).rejects.toThrow(
        'restore missing database',
      );
    });
  });

  it('does nothing where replication is off', async () => {
    vi.stubEnv('NODE_ENV', 'development');
    const logged: unknown[] = [];
    const config = '/nowhere/litestream.yml';
    expect(await restoreIfMissing({ config, logger: (entry) => logged.push(entry) })).toEqual([]);
    expect(logged).toHaveLength(1);
  });
});

describe('options', () => {
  it('that contradict one another are refused by name', async () => {
    const one = [{ path: 'db', replicas: ['file:///replica'] }];
    await expect(databases({ config: 'a', databases: one })).rejects.toThrow(
      'give either config or databases',
    );
    await expect(databases({ databases: ['db'] })).rejects.toThrow('database db has no replicas');
    await expect(databases({ databases: one, accessKeyId: 'x' })).rejects.toThrow('belong together');
    await expect(snapshots({ url: 'file:///x', databases: one })).rejects.toThrow(
      'give either url or databases',
    );
    await expect(snapshots({ databases: [...one, { path: 'b', replicas: ['file:///b'] }] })).rejects.toThrow(
      'say which',
    );
  });

  it('that are misspelt are named when something is missing', async () => {
    const replicas = [{ type: 's3', buket: 'b', path: 'p' } as object];
    await expect(databases({ databases: [{ path: 'db', replicas }] })).rejects.toMatchObject({
      code: 'config',
      message: expect.stringMatching(
        /^bucket required for s3 replica\noptions:\d+:\d+\n.*unknown key "buket" is ignored: did you mean "bucket"\?\noptions:/s,
      ) as string,
    });
  });

  it('keep the variables of the process as they are, and dollars in values', async () => {
    const before = { ...process.env };
    const options = {
      bucket: 'b',
      accessKeyId: 'id',
      secretAccessKey: 'se$HOME',
      region: 'eu',
      endpoint: 'http://h$x',
    };
    const list = await databases({ databases: ['/data/app.db'], ...options }).catch((error: unknown) =>
      String(error),
    );
    expect(JSON.stringify(list)).not.toContain('se$HOME');
    expect(process.env).toEqual(before);
    const dollars = [{ path: '/data/$HOME.db', replicas: [{ path: '/replicas/$HOME' }] }];
    expect(await databases({ databases: dollars })).toMatchObject([{ path: '/data/$HOME.db' }]);
  });
});

it('the library loads no SQLite into the process of the application to read and restore', async () => {
  await withReplication(async (rig, config) => {
    const library = fileURLToPath(new URL('../../dist/library/index.js', import.meta.url));
    const script = `
      const { databases, generations, restore, snapshots, status, sync, timeline, verify, wal } = await import('${library}');
      const config = '${config}';
      for (const ask of [databases, generations, restore, snapshots, status, sync, timeline, verify, wal]) await ask({ config });
      const loaded = process.report.getReport().sharedObjects.filter((name) => /sqlite/.test(name));
      process.stdout.write(JSON.stringify(loaded));
    `;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], {
      cwd: rig.dir,
    });
    expect(JSON.parse(stdout)).toEqual([]);
  });
});
