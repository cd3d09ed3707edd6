/** Two processes that write one generation of one replica: both must end in generations of their own, and restore. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { type LitestreamProcess, runLitestream, until } from '../support/process.ts';
import { type ReplicateOptions, type RestoreOptions, type Rig, withRig } from '../support/process-rig.ts';
import { S3Server } from '../support/s3-server.ts';
import { type SqliteProcess, openSqlite, withSqlite } from '../support/sqlite.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

const CREATE = 'CREATE TABLE IF NOT EXISTS commits (n INTEGER PRIMARY KEY, who TEXT)';

/** A database on its own with all that is beside it, as a volume that was cloned. */
async function clone(rig: Rig): Promise<string> {
  const folder = join(rig.dir, 'clone');
  await fs.mkdir(folder);
  for (const name of ['db', 'db-wal', 'db-shm', '.db-litestream']) {
    await fs.cp(join(rig.dir, name), join(folder, name), {
      recursive: true,
      // As a copy of the volume does: else the clone begins a generation of its own by that alone.
      preserveTimestamps: true,
      filter: (path) => !path.endsWith('.sock'),
    });
  }
  await fs.rm(join(folder, '.db-litestream', 'replicate.json'), { force: true });
  return join(folder, 'db');
}

const commit = (application: SqliteProcess, who: string): Promise<void> =>
  application.exec(`INSERT INTO commits (who) VALUES ('${who}')`);

const hasNoticed = ({ lines }: LitestreamProcess): boolean =>
  lines.some((line) => line.includes('two processes write one replica'));

async function rowsOf(path: string): Promise<string> {
  return JSON.stringify(
    await withSqlite({ path, readonly: true }, (sqlite) =>
      sqlite.all('SELECT n, who FROM commits ORDER BY n'),
    ),
  );
}

/** Where both of them replicate to. */
interface Place {
  readonly replicate: ReplicateOptions;
  readonly restore: RestoreOptions;
  readonly generations: () => Promise<readonly string[]> | readonly string[];
}

const folder = (rig: Rig): Place => ({
  replicate: {},
  restore: {},
  generations: () => fs.readdir(join(rig.replica, 'generations')),
});

async function bucketOf(rig: Rig, server: S3Server): Promise<Place> {
  // Where no condition tells, the list of a check does.
  const replica = [...s3Replica(server.endpoint), 'retention-check-interval: 200ms'];
  const replicate = { replica, env: s3Environment(server) };
  const keys = (): string[] => server.bucket().keys();
  return {
    replicate,
    restore: { config: await rig.config(replicate), env: replicate.env },
    generations: () => [...new Set(keys().map((key) => /generations\/(\w+)/.exec(key)?.[1] ?? ''))],
  };
}

/** The restore of each generation that can be restored. */
async function restoredRows(rig: Rig, place: Place = folder(rig)): Promise<string[]> {
  const rows: string[] = [];
  for (const generation of await place.generations()) {
    const { code, path } = await rig.restore({ ...place.restore, args: ['-generation', generation] });
    if (code === 0) rows.push(await rowsOf(path));
  }
  return rows;
}

/** Has the process that replicates by these options know what the replica holds. */
async function synced(rig: Rig, options: ReplicateOptions): Promise<void> {
  const args = ['sync', '-wait', '-config', await rig.config(options)];
  const { code, stderr } = await runLitestream({ binary: 'ours', args, env: options.env ?? {} });
  expect(code, stderr).toBe(0);
}

/** Production is cloned and both go on; each must be restorable to what it has, and to nothing of the other's. */
async function cloneAndGoOn(rig: Rig, place: Place, isLater: boolean): Promise<void> {
  const application = await rig.application();
  await application.exec(CREATE);
  const first = await rig.replicate(place.replicate);
  await commit(application, 'common');
  await rig.caughtUp(place.restore);
  expect((await first.stop()).code).toBe(0);
  const cloned = await clone(rig);
  const production = await rig.replicate(place.replicate);
  if (isLater) {
    await commit(application, 'production');
    await rig.caughtUp(place.restore);
  }
  const staging = await rig.replicate({ ...place.replicate, path: cloned });
  const other = await openSqlite({ path: cloned, pragmas: ['journal_mode=WAL'] });
  try {
    if (!isLater) for (const path of [rig.database, cloned]) await synced(rig, { ...place.replicate, path });
    await commit(other, 'staging');
    await commit(application, 'production');
    if (!isLater) {
      await until(async () => {
        await commit(other, 'staging');
        await commit(application, 'production');
        return hasNoticed(production) || hasNoticed(staging);
      });
    }
    const live = [await rowsOf(rig.database), await rowsOf(cloned)];
    await until(async () => {
      const restored = await restoredRows(rig, place);
      return live.every((rows) => restored.includes(rows));
    });
    for (const process of [production, staging]) expect((await process.stop()).code).toBe(0);
    const restored = await restoredRows(rig, place);
    expect(restored).toEqual(expect.arrayContaining(live));
    expect(restored.filter((rows) => rows.includes('staging') && rows.includes('production'))).toEqual([]);
  } finally {
    await other.kill();
  }
}

const MOMENTS = [
  ['at once', false],
  ['later, when the first one has gone on', true],
] as const;

describe('a volume that was cloned with its meta directory', () => {
  it.each(MOMENTS)('and started %s', async (_, isLater) => {
    await withRig((rig) => cloneAndGoOn(rig, folder(rig), isLater));
  });

  describe.each([
    ['knows conditions', false],
    ['ignores them', true],
  ])('and replicates to an S3 server that %s', (_, ignoresConditions) => {
    it.each(MOMENTS)('and started %s', async (_, isLater) => {
      const server = await S3Server.start();
      server.ignoresConditions = ignoresConditions;
      try {
        await withRig(async (rig) => cloneAndGoOn(rig, await bucketOf(rig, server), isLater));
      } finally {
        await server.close();
      }
    });
  });
});

it('v0.3.13 started beside it, on the same replica, takes nothing away', async () => {
  await withRig(async (rig) => {
    const application = await rig.application();
    await application.exec(CREATE);
    const ours = await rig.replicate();
    await commit(application, 'alone');
    await rig.snapshotStored();
    // It does not know our lock.
    const theirs = await rig.replicate({ binary: 'oracle' });
    for (let times = 0; times < 30; times++) await commit(application, 'both');
    await theirs.waitForLine(/wal segment written|write wal segment/);
    for (let times = 0; times < 30; times++) await commit(application, 'both');
    await theirs.stop();
    await commit(application, 'alone again');
    const rows = await rowsOf(rig.database);
    await until(async () => (await restoredRows(rig)).includes(rows));
    await ours.stop();
  });
});

it('sync -wait right after a start waits for it', async () => {
  await withRig(async (rig) => {
    const application = await rig.application();
    await application.exec(CREATE);
    await commit(application, 'first');
    const config = await rig.config();
    await rig.replicateUnready();
    const { code, stderr } = await until(async () => {
      const result = await runLitestream({
        binary: 'ours',
        args: ['sync', '-wait', '-timeout', '20s', '-config', config, rig.database],
        env: {},
      });
      // Before there is a process to ask there is nobody to wait.
      return result.code === 0 || result.stderr.includes('is not followed') ? result : undefined;
    });
    expect(stderr).not.toContain('is not followed');
    expect(code).toBe(0);
  });
});
