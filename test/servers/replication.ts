/** Replication to a real server and back: with kills on the way, and with v0.3.13 on either side. */

import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { SUBJECT, runLitestream, until } from '../support/process.ts';
import type { Binary } from '../support/process.ts';
import { withRig } from '../support/process-rig.ts';
import type { Rig } from '../support/process-rig.ts';
import { compareDatabases, compareFiles, withSqlite } from '../support/sqlite.ts';
import { Workload, chooseSeed, readCommits } from '../support/workload.ts';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { readAll } from '../storage/contract.ts';

/** A server as a place for replicas. */
export interface ReplicaServer {
  /** Lines of a replica's entry in the config. @param path - its own place on the server. */
  readonly replica: (path: string) => readonly string[];
  /** For whoever uses it. */
  readonly env: Readonly<Record<string, string>>;
  /** What doctor says of it. */
  readonly conditionalPut: RegExp;
  /** The objects at `path`. */
  readonly open: (path: string) => ObjectStore | Promise<ObjectStore>;
}

const APPLICATION = ['journal_mode=WAL', 'wal_autocheckpoint=0'];
/** Rotations after few pages, so that small databases get many indexes from either program. */
const SMALL_INDEXES = ['min-checkpoint-page-count: 10', 'max-checkpoint-page-count: 20'];

/** The WAL indexes that are stored at `path`, in hex. */
async function storedIndexes(server: ReplicaServer, path: string): Promise<string[]> {
  const store = await server.open(path);
  try {
    const keys = (await readAll(store.list(''))).map((info) => info.key);
    const segments = keys.filter((key) => key.includes('/wal/'));
    return [...new Set(segments.map((key) => key.split('/').at(-1)!.slice(0, 8)))].sort();
  } finally {
    await store.close();
  }
}

/** The number of the last commit of a database that is being written. */
async function lastCommit(path: string): Promise<number> {
  return await withSqlite({ path, readonly: true }, async (sqlite) => {
    const [row] = await sqlite.all('SELECT max(n) AS n FROM commits');
    return Number(row?.['n']);
  });
}

/** Both programs restore the same bytes, with each of `args`; the first are the live database's. */
async function expectBothRestore(
  rig: Rig,
  source: { readonly config: string; readonly env: Readonly<Record<string, string>> },
  targets: readonly (readonly string[])[],
): Promise<void> {
  for (const [number, args] of targets.entries()) {
    const ours = await rig.restored({ ...source, binary: SUBJECT, args });
    const theirs = await rig.restored({ ...source, binary: 'oracle', args });
    expect(await compareFiles(theirs, ours), `v0.3.13 restores otherwise: ${args.join(' ')}`).toBeUndefined();
    if (number > 0) continue;
    expect(await compareDatabases(rig.database, ours), 'restore differs from the database').toBeUndefined();
  }
}

/** Defines the tests for `server`. */
export function describeReplication(server: ReplicaServer): void {
  const { env } = server;

  it('is well by doctor, which leaves nothing behind', async () => {
    await withRig(async (rig) => {
      await (await rig.application()).exec('CREATE TABLE t (x)');
      const path = `doctor-${randomUUID()}`;
      const config = await rig.config({ replica: server.replica(path) });
      const args = ['doctor', '-json', '-config', config];
      const { code, stdout, stderr } = await runLitestream({ binary: SUBJECT, args, env });
      const findings = JSON.parse(stdout) as {
        level: string;
        subject: string;
        check: string;
        message: string;
      }[];
      const ofStore = findings.filter(({ subject }) => subject.includes('://'));
      const wrong = ofStore.filter(({ level }) => level !== 'ok');
      expect(wrong.filter(({ check }) => check !== 'store')).toEqual([]);
      const checks = ofStore.map(({ check }) => check);
      expect(checks).toEqual(
        expect.arrayContaining(['list', 'put', 'get', 'ranged get', 'multipart', 'delete']),
      );
      expect(ofStore.find(({ check }) => check === 'conditional put')?.message).toMatch(
        server.conditionalPut,
      );
      expect(code, stdout + stderr).toBe(0);
      const store = await server.open(path);
      try {
        expect(await readAll(store.list(''))).toEqual([]);
      } finally {
        await store.close();
      }
    });
  });

  it('loses nothing when it is killed again and again', async () => {
    const seed = chooseSeed();
    await withRig(async (rig) => {
      const database = ['min-checkpoint-page-count: 100'];
      const options = { replica: server.replica(`killed-${randomUUID()}`), env, database };
      const config = await rig.config(options);
      const workload = await Workload.start({ path: rig.database, seed, writers: 2, load: { pauseMs: 200 } });
      try {
        for (let life = 0; life < 3; life++) {
          const litestream = await rig.replicate(options);
          const before = await lastCommit(rig.database);
          // Something of this life is stored.
          await until(async () => {
            const { code, path } = await rig.restore({ config, env });
            return code === 0 && (await readCommits(path)).last > before;
          });
          await litestream.kill();
        }
      } finally {
        await workload.stop();
      }
      const litestream = await rig.replicate(options);
      await rig.caughtUp({ config, env });
      expect((await litestream.stop()).code).toBe(0);
      await expectBothRestore(rig, { config, env }, [[]]);
    }).catch((error: unknown) => {
      throw new Error(`seed ${seed}`, { cause: error });
    });
  });

  describe.each<{ from: Binary }>([{ from: SUBJECT }, { from: 'oracle' }])('$from replicates', ({ from }) => {
    it('and both restore the latest state and each index', async () => {
      await withRig(async (rig) => {
        const path = `interop-${randomUUID()}`;
        const options = { replica: server.replica(path), env, database: SMALL_INDEXES };
        const config = await rig.config(options);
        const app = await rig.application({ pragmas: APPLICATION });
        await app.load({ kind: 'write', seed: 3, steps: 5 });
        const litestream = await rig.replicate({ ...options, binary: from });
        let seed = 10;
        await until(async () => {
          await app.load({ kind: 'write', seed: seed++, steps: 2, maxRows: 60 });
          return (await storedIndexes(server, path)).length >= 4;
        });
        await rig.caughtUp({ config, env, binary: from });
        await litestream.stop();
        const indexes = await storedIndexes(server, path);
        await expectBothRestore(rig, { config, env }, [[], ...indexes.map((index) => ['-index', index])]);
      });
    });
  });
}
