/** `litestream verify` beside a running replicate, without one, and on replicas of v0.3.13's. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { VerifyAnswer } from '../../src/control/verify.ts';
import { type LitestreamProcess, type RunResult, runLitestream, until } from '../support/process.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { withSqlite } from '../support/sqlite.ts';
import { S3Server } from '../support/s3-server.ts';
import { chooseSeed } from '../support/workload.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

function verify(...args: string[]): Promise<RunResult> {
  return runLitestream({ binary: 'ours', args: ['verify', ...args] });
}

/** A database of some pages, whose application goes on. */
async function withApplication(rig: Rig): Promise<Awaited<ReturnType<Rig['application']>>> {
  const app = await rig.application();
  await app.exec('CREATE TABLE t (id INTEGER PRIMARY KEY, v BLOB)');
  for (let i = 0; i < 20; i++) await app.exec('INSERT INTO t (v) VALUES (randomblob(5000))');
  return app;
}

const objectPath = (rig: Rig, name: string): string => join(rig.replica, 'generations', name);

function databases(config: string): Promise<RunResult> {
  return runLitestream({ binary: 'ours', args: ['databases', '-config', config] });
}

/** Starts replicate and waits until all is stored. */
async function replicateAll(
  rig: Rig,
  config: string,
  database: readonly string[] = [],
): Promise<LitestreamProcess> {
  const litestream = await rig.replicate({ database });
  await until(async () => / ok +0s\n$/.test((await databases(config)).stdout));
  return litestream;
}

/** What is in the meta directory of a verification. */
async function leftOvers(rig: Rig): Promise<string[]> {
  return (await fs.readdir(rig.metaDir)).filter((name) => /^verification-.*\.tmp$/.test(name));
}

describe('beside a running replicate', () => {
  it('finds the replica equal while the application writes, and keeps no writer waiting', async () => {
    await withRig(async (rig) => {
      const app = await withApplication(rig);
      const config = await rig.config();
      await replicateAll(rig, config);
      const load = app.load({ kind: 'write', seed: chooseSeed(), pauseMs: 40, mayBeBusy: false });
      for (let i = 0; i < 2; i++) {
        const { code, stdout, stderr } = await verify('-json', '-config', config);
        expect(code, stdout + stderr).toBe(0);
        const [answer] = JSON.parse(stdout) as VerifyAnswer[];
        expect(answer).toMatchObject({
          database: rig.database,
          result: 'ok',
          replicas: [{ replica: 'file' }],
        });
        expect(answer?.message).toMatch(/^restores to the database at .* pages are equal, integrity ok; /);
      }
      await app.stop();
      await load;
      expect(await leftOvers(rig)).toEqual([]);
      const status = await runLitestream({ binary: 'ours', args: ['status', '-config', config] });
      expect(status.stdout).toMatch(/ok 2\d{3}-\S+Z\n/);
    });
  });

  it('names the newest segment when it is gone, and another generation is stored and verified', async () => {
    await withRig(async (rig) => {
      const app = await withApplication(rig);
      const config = await rig.config();
      // It is the verification that finds it.
      const litestream = await replicateAll(rig, config, ['monitor-interval: 1h']);
      expect((await verify('-config', config)).code).toBe(0);
      await app.exec('INSERT INTO t (v) VALUES (1)');
      const sync = ['sync', '-wait', '-config', config];
      expect((await runLitestream({ binary: 'ours', args: sync })).code).toBe(0);
      const first = await rig.generation();
      const newest = (await rig.replicaFiles()).findLast((name) => name.includes('/wal/'))!;
      await fs.rm(objectPath(rig, newest));
      const { code, stdout } = await verify('-config', config, rig.database);
      expect(code, stdout).toBe(1);
      expect(stdout).toContain(`failed: missing WAL segment generations/${newest}`);
      await litestream.waitForLine(/validation error.*missing WAL segment/);
      await until(async () => (await databases(config)).code === 0);
      expect(await rig.generation()).not.toBe(first);
      expect((await verify('-latest', '-config', config)).code).toBe(0);
      // Nothing in the replica refers to what is missing.
      expect((await verify('-replica-only', `file://${rig.replica}`)).code).toBe(0);
    });
  });

  it('that is killed meanwhile leaves files, which the next one removes', async () => {
    await withRig(async (rig) => {
      const app = await withApplication(rig);
      await app.exec(
        'WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO t (v) SELECT randomblob(8000) FROM n',
      );
      const config = await rig.config();
      const litestream = await replicateAll(rig, config);
      const verifying = verify('-config', config);
      await until(async () => (await leftOvers(rig)).length > 0);
      await litestream.kill();
      expect((await verifying).code).toBe(2);
      await replicateAll(rig, config);
      await until(async () => (await leftOvers(rig)).length === 0);
      expect((await verify('-config', config)).code).toBe(0);
    });
  });

  it('needs no credentials of the asker, and knows nothing of a store that is dead', async () => {
    const server = await S3Server.start();
    try {
      await withRig(async (rig) => {
        await withApplication(rig);
        const replica = s3Replica(server.endpoint);
        const config = await rig.config({ replica });
        await rig.replicate({ replica, env: s3Environment(server) });
        await until(async () => / ok +0s\n$/.test((await databases(config)).stdout));
        const { code, stdout } = await verify('-config', config);
        expect(code, stdout).toBe(0);
        await server.close();
        const dead = await verify('-timeout', '2s', '-config', config);
        expect(dead.code, dead.stdout).toBe(2);
        expect(dead.stdout).toMatch(/: s3: inconclusive: /);
      });
    } finally {
      await server.close().catch(() => undefined);
    }
  });

  it('gives up in time', async () => {
    await withRig(async (rig) => {
      await withApplication(rig);
      const config = await rig.config();
      await replicateAll(rig, config);
      const { code, stdout } = await verify('-timeout', '1ms', '-config', config);
      expect(code, stdout).toBe(2);
      expect(stdout).toMatch(/inconclusive: .*not done in time/);
    });
  });
});

describe('without a running replicate', () => {
  it('is inconclusive, or has failed when an object is damaged', async () => {
    await withRig(async (rig) => {
      await withApplication(rig);
      const config = await rig.config();
      const litestream = await rig.replicate();
      await rig.snapshotStored();
      expect((await litestream.stop()).code).toBe(0);
      const before = await fs.readFile(rig.database);
      const { code, stdout } = await verify('-config', config);
      expect(code, stdout).toBe(2);
      expect(stdout).toMatch(
        /inconclusive: no replicate is running .*not compared with the database; \d+ objects/,
      );
      for (const name of await rig.replicaFiles()) {
        const data = await fs.readFile(objectPath(rig, name));
        data[data.byteLength >> 1]! ^= 4;
        await fs.writeFile(objectPath(rig, name), data);
        const damaged = await verify('-config', config);
        expect(damaged.code, damaged.stdout).toBe(1);
        expect(damaged.stdout).toContain(name);
        data[data.byteLength >> 1]! ^= 4;
        await fs.writeFile(objectPath(rig, name), data);
      }
      expect(before.equals(await fs.readFile(rig.database))).toBe(true);
      expect(await leftOvers(rig)).toEqual([]);
    });
  });

  it("knows v0.3.13's replicas", async () => {
    await withRig(async (rig) => {
      const app = await withApplication(rig);
      await rig.replicate({ binary: 'oracle' });
      await rig.snapshotStored();
      const segments = async () => (await rig.replicaFiles()).filter((name) => name.includes('/wal/'));
      await until(async () => {
        await app.exec('INSERT INTO t (v) VALUES (randomblob(100))');
        return (await segments()).length > 3;
      });
      await rig.end();
      const { code, stdout } = await verify('-replica-only', `file://${rig.replica}`);
      expect(code, stdout).toBe(0);
      expect(stdout).toMatch(/\d+ objects of 1 generation are whole; restorable from 2.*Z to 2.*Z\n$/);
      const second = (await segments())[1]!;
      await fs.rm(objectPath(rig, second));
      const damaged = await verify('-replica-only', `file://${rig.replica}`);
      expect(damaged.code).toBe(1);
      expect(damaged.stdout).toContain(`missing WAL segment generations/${second}`);
    });
  });

  it('does not open the database', async () => {
    await withRig(async (rig) => {
      await withApplication(rig);
      const config = await rig.config();
      const litestream = await rig.replicate();
      await rig.snapshotStored();
      await litestream.stop();
      await rig.end();
      const wal = await fs.readFile(`${rig.database}-wal`);
      expect((await verify('-config', config)).code).toBe(2);
      expect(wal.equals(await fs.readFile(`${rig.database}-wal`))).toBe(true);
      expect(await withSqlite({ path: rig.database }, (db) => db.all('SELECT count(*) AS n FROM t'))).toEqual(
        [{ n: 20 }],
      );
    });
  });
});

it('has what it compares stored at once, whatever the sync-interval', async () => {
  await withRig(async (rig) => {
    const app = await withApplication(rig);
    const options = { replica: [`path: ${rig.replica}`, 'sync-interval: 1h'] };
    const config = await rig.config(options);
    await rig.replicate(options);
    // The first commit after a quiet time is stored at once, the next one in an hour.
    await app.exec('INSERT INTO t (v) VALUES (1)');
    const sync = await runLitestream({ binary: 'ours', args: ['sync', '-wait', '-config', config] });
    expect(sync.code, sync.stderr).toBe(0);
    await app.exec('INSERT INTO t (v) VALUES (2)');
    const { code, stdout, stderr } = await verify('-timeout', '20s', '-config', config, rig.database);
    expect(code, stdout + stderr).toBe(0);
  });
});

it('refuses what cannot be meant', async () => {
  await withRig(async (rig) => {
    const config = await rig.config();
    for (const [args, message] of [
      [[`file://${rig.replica}`], 'add -replica-only'],
      [['-replica-only', '-latest', `file://${rig.replica}`], 'cannot combine'],
      [['-replica-only'], 'database path or replica URL required'],
      [['-replica', 'x', '-config', config], 'not found for database'],
      [['-timeout', 'soon', '-config', config], 'invalid -timeout'],
      [['-config', config, join(rig.dir, 'other')], 'database not found in config'],
    ] as const) {
      const { code, stdout, stderr } = await verify(...args);
      expect(code, message).toBe(1);
      expect(stdout + stderr).toContain(message);
    }
  });
});
