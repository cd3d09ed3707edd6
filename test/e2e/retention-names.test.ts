/** Whoever may put objects into a replica must not be able to make retention delete what the window needs. */

import { promises as fs } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { type RunResult, runLitestream, until } from '../support/process.ts';
import { type Rig, withRig } from '../support/process-rig.ts';
import { redated } from '../support/trailers.ts';
import { type SqliteProcess, withSqlite } from '../support/sqlite.ts';

const CLOCK = fileURLToPath(new URL('../support/clock.mjs', import.meta.url));
const HOUR_MS = 3600_000;
const FOREIGN = 'f'.repeat(16);
const LAST_INDEX = 0xffffffff;
const REPLICA = (rig: Rig): string[] => [`path: ${rig.replica}`, 'sync-interval: 20ms', 'retention: 24h'];

async function commit(application: SqliteProcess, n: number): Promise<void> {
  await application.exec(`INSERT INTO commits VALUES (${n})`);
}

async function lastOf(path: string): Promise<unknown> {
  const [row] = await withSqlite({ path, readonly: true }, (sqlite) =>
    sqlite.all('SELECT max(n) AS n FROM commits'),
  );
  return row?.['n'];
}

/** A generation of as many indexes, each with a snapshot and a commit of its number. */
async function replicate(rig: Rig, indexes: number): Promise<string> {
  const application = await rig.application();
  await application.exec('CREATE TABLE commits (n INTEGER)');
  const litestream = await rig.replicate({ replica: [...REPLICA(rig), 'snapshot-interval: 1ms'] });
  for (let index = 0; index < indexes; index++) {
    if (index > 0) await application.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    await commit(application, index);
    const name = snapshotKey('', index).split('/').at(-1)!;
    await until(async () => (await rig.replicaFiles()).some((file) => file.endsWith(`/${name}`)));
    await rig.caughtUp();
  }
  expect((await litestream.stop()).code).toBe(0);
  await application.close();
  return (await rig.generation())!;
}

async function put(rig: Rig, key: string, content: Uint8Array | string, ageHours: number): Promise<void> {
  const path = join(rig.replica, key);
  await fs.mkdir(dirname(path), { recursive: true });
  await fs.writeFile(path, content);
  await age(rig, key, ageHours);
}

/** Makes an object so old, also by what it says of itself. */
async function age(rig: Rig, key: string, hours: number): Promise<void> {
  const at = new Date(Date.now() - hours * HOUR_MS);
  const path = join(rig.replica, key);
  await fs.writeFile(path, redated(await fs.readFile(path), at.getTime()));
  await fs.utimes(join(rig.replica, key), at, at);
}

/** Makes all objects of an index so old: a snapshot is stored after the WAL that it needs. */
async function ageIndexes(rig: Rig, generation: string, hours: readonly number[]): Promise<void> {
  for (const file of await rig.replicaFiles()) {
    const [, index] = /\/([0-9a-f]{8})[_.]/.exec(file) ?? [];
    const old = hours[Number.parseInt(index ?? '', 16)];
    if (file.startsWith(generation) && old !== undefined) await age(rig, `generations/${file}`, old);
  }
}

async function retention(rig: Rig, env: Record<string, string> = {}): Promise<RunResult> {
  const config = await rig.config({ replica: REPLICA(rig) });
  return runLitestream({ binary: 'ours', args: ['retention', '-config', config, rig.database], env });
}

describe('an object that only has the name of a snapshot', () => {
  it('of the last index does not make the command delete what the window needs', async () => {
    await withRig(async (rig) => {
      const generation = await replicate(rig, 4);
      await ageIndexes(rig, generation, [60, 40, 5, 1]);
      await put(rig, snapshotKey(generation, LAST_INDEX), '', 30);
      const { code, stdout, stderr } = await retention(rig);
      expect(code, stderr).toBe(0);
      expect(stdout + stderr).toMatch(/does not count on a snapshot.*ffffffff\.snapshot\.lz4.*empty/);
      expect(await rig.replicaFiles()).not.toContain(`${generation}/snapshots/00000000.snapshot.lz4`);
      for (const [index, hours] of [
        [1, 23],
        [2, 4],
        [3, 0.5],
      ] as const) {
        const args = ['-generation', generation, '-index', String(index)];
        expect(await lastOf(await rig.restored({ args })), `${hours} hours ago`).toBe(index);
      }
    });
  });

  it('of another generation does not make the command delete the only real one', async () => {
    await withRig(async (rig) => {
      const generation = await replicate(rig, 1);
      await ageIndexes(rig, generation, [60]);
      await put(rig, snapshotKey(FOREIGN, 0), '', 40);
      const { code, stdout, stderr } = await retention(rig);
      expect(code, stderr).toBe(0);
      expect(stdout).not.toContain(generation);
      expect(await lastOf(await rig.restored({ args: ['-generation', generation] }))).toBe(0);
    });
  });

  it('does not make `replicate` delete the window', async () => {
    await withRig(async (rig) => {
      const application = await rig.application();
      await application.exec('CREATE TABLE commits (n INTEGER)');
      const times = ['snapshot-interval: 100ms', 'retention: 300ms', 'retention-check-interval: 50ms'];
      const litestream = await rig.replicate({ replica: [...REPLICA(rig).slice(0, 2), ...times] });
      await rig.snapshotStored();
      const generation = (await rig.generation())!;
      await put(rig, snapshotKey(generation, LAST_INDEX), '', 0);
      const seen = litestream.lines.length;
      const judged = (): boolean =>
        litestream.lines.slice(seen).some((line) => /does not count on|index=4294967295/.test(line));
      for (let n = 0; !judged(); n++) {
        await application.exec('PRAGMA wal_checkpoint(TRUNCATE)');
        await commit(application, n);
        const stored = litestream.lines.length;
        const isStored = (): boolean =>
          litestream.lines.slice(stored).some((line) => line.includes('snapshot written'));
        await until(() => judged() || isStored());
      }
      const log = litestream.lines.join('\n');
      expect(log).not.toContain('index=4294967295');
      expect(log).toMatch(/does not count on a snapshot.*ffffffff\.snapshot\.lz4/);
      expect(await rig.generation()).toBe(generation);
      expect((await litestream.stop()).code).toBe(0);
    });
  });

  it.each<[string, (generation: string) => string]>([
    ['a later index', (generation) => snapshotKey(generation, LAST_INDEX)],
    ['the index that comes next', (generation) => snapshotKey(generation, 2)],
    ['a generation of its own', () => snapshotKey(FOREIGN, 0)],
  ])('and the content of another one is not counted on: %s', async (_, keyIn) => {
    await withRig(async (rig) => {
      const generation = await replicate(rig, 2);
      await ageIndexes(rig, generation, [60, 50]);
      const content = await fs.readFile(join(rig.replica, snapshotKey(generation, 1)));
      const key = keyIn(generation);
      await put(rig, key, content, 40);
      // A copy of the WAL makes it none the more true.
      const wal = await fs.readFile(join(rig.replica, segmentKey(generation, 1, 0)));
      const [, of = '', index = ''] = /generations\/(\w+)\/snapshots\/(\w+)/.exec(key) ?? [];
      await put(rig, segmentKey(of, Number.parseInt(index, 16), 0), wal, 40);
      const { stdout, stderr } = await retention(rig);
      expect(stdout + stderr).toMatch(/does not count on a snapshot/);
      expect(await lastOf(await rig.restored({ args: ['-generation', generation, '-index', '1'] }))).toBe(1);
    });
  });
});

describe('an object of an old index that was put there now', () => {
  it.each<[string, (generation: string) => string, number, RegExp]>([
    [
      'a snapshot',
      (generation) => snapshotKey(generation, 0),
      1,
      /would delete too much: .*00000000\.snapshot\.lz4.*within the window/,
    ],
    [
      'WAL',
      (generation) => segmentKey(generation, 0, 1 << 20),
      0,
      /does not count on.*00000002.*was stored later.*00000000_00100000\.wal\.lz4/,
    ],
  ])('has the command delete nothing, and is named: %s', async (_, keyIn, expected, message) => {
    await withRig(async (rig) => {
      const generation = await replicate(rig, 3);
      await ageIndexes(rig, generation, [60, 40, 30]);
      await put(rig, keyIn(generation), 'x', 1);
      const before = await rig.replicaFiles();
      const { code, stdout, stderr } = await retention(rig);
      expect(code).toBe(expected);
      expect(stdout + stderr).toMatch(message);
      expect(await rig.replicaFiles()).toEqual(before);
    });
  });
});

describe('a clock that disagrees with that of the store', () => {
  it.each([
    ['ahead', 30 * 24],
    ['behind', -30 * 24],
  ])('makes the command delete nothing, and say so: %s', async (_, hours) => {
    await withRig(async (rig) => {
      const generation = await replicate(rig, 3);
      await ageIndexes(rig, generation, hours > 0 ? [3, 2, 1] : [900, 850, 1]);
      const before = await rig.replicaFiles();
      await fs.writeFile(join(rig.dir, 'clock'), String(hours * HOUR_MS));
      const env = { NODE_OPTIONS: `--import=${CLOCK}`, CLOCK_FILE: join(rig.dir, 'clock') };
      const { code, stdout, stderr } = await retention(rig, env);
      expect(code).toBe(1);
      expect(stdout + stderr).toMatch(/clock.*apart.*NTP/);
      expect(await rig.replicaFiles()).toEqual(before);
    });
  });
});

describe('objects of v0.3.13, which say nothing of themselves', () => {
  it('are counted on when they are whole and where they belong', async () => {
    await withRig(async (rig) => {
      const generations: string[] = [];
      for (const n of [0, 1]) {
        await fs.rm(rig.metaDir, { recursive: true, force: true });
        const application = await rig.application();
        await application.exec('CREATE TABLE IF NOT EXISTS commits (n INTEGER)');
        const litestream = await rig.replicate({ binary: 'oracle' });
        await rig.snapshotStored();
        await until(async () => {
          await commit(application, n);
          const own = (await rig.generation()) ?? '-';
          const files = (await rig.replicaFiles()).filter((file) => file.startsWith(own));
          return files.some((file) => file.includes('/wal/')) && files.some((file) => file.includes('snap'));
        });
        generations.push((await rig.generation())!);
        await litestream.stop();
        await application.close();
      }
      const [first = '', second = ''] = generations;
      await ageIndexes(rig, first, [60]);
      const copied = await fs.readFile(join(rig.replica, snapshotKey(first, 0)));
      await put(rig, snapshotKey(FOREIGN, 0), copied, 50);
      await ageIndexes(rig, second, [20]);
      const kept = await retention(rig);
      expect(kept.stdout + kept.stderr).toMatch(/does not count on a snapshot.*ffffffffffffffff/);
      expect((await rig.replicaFiles()).some((file) => file.startsWith(first))).toBe(true);
      await ageIndexes(rig, second, [40]);
      const gone = await retention(rig);
      expect(gone.code, gone.stderr).toBe(0);
      expect((await rig.replicaFiles()).every((file) => file.startsWith(second))).toBe(true);
      expect(await lastOf(await rig.restored())).toBe(1);
    });
  });
});
