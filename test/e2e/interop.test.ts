/** Either program restores what the other one replicated, and either takes over from the other in place. */

import { promises as fs } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { decodeTrailer, trailerSize } from '../../src/format/object-trailer.ts';
import { SUBJECT, until, type Binary, type LitestreamProcess } from '../support/process.ts';
import { withRig, type RestoreOptions, type Rig } from '../support/process-rig.ts';
import { S3Server } from '../support/s3-server.ts';
import { compareDatabases, compareFiles, type SqliteProcess } from '../support/sqlite.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

const PAGE_SIZES = [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536];
const DIRECTIONS = [
  { from: SUBJECT, to: 'oracle' },
  { from: 'oracle', to: SUBJECT },
] as const;

/** The commits since the last restart of the WAL stay in it, so that a stopped replicator can prove continuity. */
const APPLICATION = ['journal_mode=WAL', 'wal_autocheckpoint=0'];

/**
 * Whether a segment begins before the end of the one before it. At its end v0.3.13 may upload twice at once from the same
 * place, one further than the other; from such a replica it restores an earlier state without a word.
 */
async function overlapping(rig: Rig): Promise<boolean> {
  let last = { index: '', end: 0 };
  for (const name of await rig.replicaFiles()) {
    const [, index = '', start = ''] = /([0-9a-f]{8})_([0-9a-f]{8})\.wal\.lz4$/.exec(name) ?? [];
    if (index === '') continue;
    const offset = parseInt(start, 16);
    if (index === last.index && offset < last.end) return true;
    const content = decodeLz4FrameBytes(await fs.readFile(join(rig.replica, 'generations', name)));
    last = { index, end: offset + content.byteLength };
  }
  return false;
}

/**
 * Tells of a time whether both programs choose the same commits for it. Ours goes by the commits' own times where the
 * segments tell them, v0.3.13 by the files' times: a commit of the next segment may have been made before that.
 */
async function agreement(rig: Rig, segments: readonly string[]): Promise<(timeMs: number) => boolean> {
  const spans: { readonly fileMs: number; readonly firstMs: number; readonly lastMs: number }[] = [];
  for (const name of segments) {
    const path = join(rig.replica, 'generations', name);
    const { mtimeMs: fileMs } = await fs.stat(path);
    const data = await fs.readFile(path);
    const size = trailerSize(data);
    const trailer = size === undefined ? undefined : decodeTrailer(data.subarray(-size));
    const commits = trailer?.kind === 'segment' ? trailer.commits : [];
    spans.push({ fileMs, firstMs: commits[0]?.timeMs ?? fileMs, lastMs: commits.at(-1)?.timeMs ?? fileMs });
  }
  return (timeMs) =>
    spans.every(({ fileMs, firstMs, lastMs }) => (fileMs <= timeMs ? lastMs <= timeMs : firstMs > timeMs));
}

/**
 * Restores with both programs: to the same, which is the live database.
 * @param by who replicated. v0.3.13 now and then loses frames when it has the WAL start over; from such a replica both
 * restore the same, and that is not the live database.
 */
async function expectBothRestore(rig: Rig, by: Binary = SUBJECT): Promise<void> {
  const [ours, theirs] = [await rig.restored({ binary: SUBJECT }), await rig.restored({ binary: 'oracle' })];
  const overlaps = await overlapping(rig);
  if (!overlaps)
    expect(await compareFiles(theirs, ours), 'v0.3.13 and ours restore differently').toBeUndefined();
  const difference = await compareDatabases(rig.database, ours);
  if (difference !== undefined && by === 'oracle' && !overlaps)
    console.warn(`v0.3.13 has not stored everything: ${difference}`);
  else expect(difference, 'restore differs from the database').toBeUndefined();
}

/**
 * Ends the program. Not before everything is stored if that is v0.3.13: it does not always store the last commits, or
 * does not end.
 */
async function stopStored(
  rig: Rig,
  litestream: LitestreamProcess,
  binary: Binary,
  options: RestoreOptions = {},
): Promise<void> {
  if (binary === 'oracle') await rig.caughtUp(options);
  await litestream.stop();
}

/** Rotations after few pages, so that small databases get many indexes from either program. */
const SMALL_INDEXES = ['min-checkpoint-page-count: 10', 'max-checkpoint-page-count: 20'];

/** The WAL indexes in the replica, in hex. */
async function indexes(rig: Rig): Promise<string[]> {
  const segments = (await rig.replicaFiles()).filter((name) => name.includes('/wal/'));
  return [...new Set(segments.map((name) => name.split('/').at(-1)?.slice(0, 8) ?? ''))];
}

/** Rounds of commits until the replica has a new index in each; the application tries to checkpoint, too. */
async function churn(rig: Rig, app: SqliteProcess, rounds: number, seed: number): Promise<void> {
  for (let round = 0; round < rounds; round++) {
    const before = (await indexes(rig)).length;
    // v0.3.13 lets no application restart the WAL: that may stay busy.
    await app.checkpoint(round % 2 === 0 ? 'RESTART' : 'TRUNCATE', 50);
    await until(async () => {
      await app.load({ kind: 'write', seed: seed++, steps: 2, maxRows: 60 });
      return (await indexes(rig)).length > before;
    });
  }
}

describe.each(DIRECTIONS)('$from replicates, both restore', ({ from }) => {
  it.each(PAGE_SIZES)('pages of %i bytes, many indexes', async (pageSize) => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: [`page_size=${pageSize}`, ...APPLICATION] });
      await app.load({ kind: 'write', seed: pageSize, steps: 5 });
      const litestream = await rig.replicate({ binary: from, database: SMALL_INDEXES });
      await rig.snapshotStored();
      await churn(rig, app, 4, pageSize);
      await app.exec('DELETE FROM payload WHERE id % 3 = 0; VACUUM');
      await app.load({ kind: 'write', seed: pageSize + 100, steps: 4 });
      await stopStored(rig, litestream, from);
      await expectBothRestore(rig, from);
    });
  });

  it('auto_vacuum that shrinks and grows the database', async () => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: ['auto_vacuum=FULL', ...APPLICATION] });
      const litestream = await rig.replicate({ binary: from, database: SMALL_INDEXES });
      await app.load({ kind: 'write', seed: 1, steps: 10, rollbackShare: 0 });
      await rig.snapshotStored();
      await churn(rig, app, 1, 10);
      await app.exec('DELETE FROM payload WHERE id > 20');
      await churn(rig, app, 2, 20);
      await stopStored(rig, litestream, from);
      await expectBothRestore(rig, from);
    });
  });

  it('several generations: the latest, and each by its name', async () => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: APPLICATION });
      const lives = new Map<string, string>();
      for (let life = 0; life < 3; life++) {
        const litestream = await rig.replicate({ binary: from });
        await app.load({ kind: 'write', seed: life, steps: 5, rollbackShare: 0 });
        await until(async () => {
          const files = await rig.replicaFiles();
          return files.filter((name) => name.endsWith('.snapshot.lz4')).length > life;
        });
        await rig.caughtUp({ binary: from });
        await litestream.stop();
        const generation = (await rig.generation()) ?? '';
        const copy = join(rig.dir, `life-${life}`);
        await compareDatabases(rig.database, rig.database);
        await fs.copyFile(rig.database, copy);
        lives.set(generation, copy);
        // Without the meta directory the next life is a new generation.
        await fs.rm(rig.metaDir, { recursive: true });
      }
      expect(lives.size).toBe(3);
      await expectBothRestore(rig, from);
      for (const [generation, copy] of lives) {
        for (const binary of [SUBJECT, 'oracle'] as const) {
          const path = await rig.restored({ binary, args: ['-generation', generation] });
          expect(await compareFiles(copy, path), `${binary} -generation ${generation}`).toBeUndefined();
        }
      }
    });
  });

  it('point in time: the same bytes for each index and each timestamp', async () => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: APPLICATION });
      await app.load({ kind: 'write', seed: 9, steps: 3, rollbackShare: 0 });
      const litestream = await rig.replicate({ binary: from, database: SMALL_INDEXES });
      await rig.snapshotStored();
      await churn(rig, app, 5, 50);
      await litestream.stop();
      const segments = (await rig.replicaFiles()).filter((name) => name.includes('/wal/'));
      const targets = (await indexes(rig)).map((index) => ['-index', index]);
      const time = async (name: string) =>
        Math.ceil((await fs.stat(join(rig.replica, 'generations', name))).mtimeMs);
      const snapshots = (await rig.replicaFiles()).filter((name) => name.includes('/snapshots/'));
      // There is nothing before the snapshot, and v0.3.13 finds nothing after the last segment's time.
      const first = await time(snapshots[0]!);
      const times = (await Promise.all(segments.map(time))).sort((x, y) => x - y);
      const last = times.at(-1)! - 1;
      const between = times.filter((time) => time >= first && time < last);
      expect(between.length).toBeGreaterThan(4);
      const agreed = await agreement(rig, segments);
      for (const time of between.filter((_, i) => i % 4 === 0).filter(agreed)) {
        targets.push(['-timestamp', new Date(time).toISOString()]);
      }
      const sizes = new Set<number>();
      const comparable = !(await overlapping(rig));
      for (const args of targets) {
        const ours = await rig.restored({ binary: SUBJECT, args });
        const theirs = await rig.restored({ binary: 'oracle', args });
        if (comparable) expect(await compareFiles(theirs, ours), args.join(' ')).toBeUndefined();
        sizes.add((await fs.stat(ours)).size);
      }
      // Otherwise every target would be the same state and nothing would have been compared.
      expect(sizes.size).toBeGreaterThan(1);
    });
  });
});

describe.each(DIRECTIONS)('$from replicates to S3', ({ from }) => {
  let server: S3Server;
  beforeEach(async () => {
    server = await S3Server.start();
  });
  afterEach(async () => {
    await server.close();
  });

  it('and both restore, the latest state and each index', async () => {
    await withRig(async (rig) => {
      const env = s3Environment(server);
      const options = { replica: s3Replica(server.endpoint), database: SMALL_INDEXES };
      const app = await rig.application({ pragmas: APPLICATION });
      await app.load({ kind: 'write', seed: 3, steps: 5 });
      const litestream = await rig.replicate({ ...options, binary: from, env });
      const indexes = () => {
        const names = server
          .bucket()
          .keys()
          .filter((key) => key.includes('/wal/'));
        return [...new Set(names.map((name) => name.split('/').at(-1)!.slice(0, 8)))].sort();
      };
      let seed = 10;
      await until(async () => {
        await app.load({ kind: 'write', seed: seed++, steps: 2, maxRows: 60 });
        return indexes().length >= 4;
      });
      const config = await rig.config(options);
      await stopStored(rig, litestream, from, { config, env });
      const targets: string[][] = [[], ...indexes().map((index) => ['-index', index])];
      const latest = await rig.restored({ config, env });
      expect(await compareDatabases(rig.database, latest)).toBeUndefined();
      for (const args of targets) {
        const ours = await rig.restored({ binary: SUBJECT, config, env, args });
        const theirs = await rig.restored({ binary: 'oracle', config, env, args });
        expect(await compareFiles(theirs, ours), args.join(' ')).toBeUndefined();
      }
    });
    // A slow machine makes many indexes, and each is restored twice.
  }, 180_000);
});

/** One program follows until it stops, then the other one goes on; the application stays connected. */
async function swap(rig: Rig, app: SqliteProcess, from: Binary, to: Binary): Promise<[string, string]> {
  const first = await rig.replicate({ binary: from });
  await rig.snapshotStored();
  await app.load({ kind: 'write', seed: 1, steps: 5, rollbackShare: 0 });
  await rig.caughtUp({ binary: from });
  await first.stop();
  const before = (await rig.generation()) ?? 'none';
  await app.load({ kind: 'write', seed: 2, steps: 3, rollbackShare: 0 });
  const second = await rig.replicate({ binary: to });
  await app.load({ kind: 'write', seed: 3, steps: 5, rollbackShare: 0 });
  await rig.caughtUp({ binary: to });
  await second.stop();
  return [before, (await rig.generation()) ?? 'none'];
}

describe.each(DIRECTIONS)('$to takes over from $from in place', ({ from, to }) => {
  it('continues the same generation', async () => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: APPLICATION });
      await app.load({ kind: 'write', seed: 7, steps: 3, rollbackShare: 0 });
      const [before, after] = await swap(rig, app, from, to);
      expect(after).toBe(before);
      await expectBothRestore(rig);
    });
  });

  it('starts a new generation after a WAL of zero length, and restores right', async () => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: APPLICATION });
      await app.load({ kind: 'write', seed: 7, steps: 3, rollbackShare: 0 });
      const first = await rig.replicate({ binary: from });
      await rig.snapshotStored();
      await app.load({ kind: 'write', seed: 8, steps: 3, rollbackShare: 0 });
      await first.stop();
      const before = await rig.generation();
      expect((await app.checkpoint('TRUNCATE', 5000)).busy).toBe(0);
      const second = await rig.replicate({ binary: to });
      await until(async () => (await rig.generation()) !== before);
      await app.load({ kind: 'write', seed: 9, steps: 3, rollbackShare: 0 });
      await rig.caughtUp({ binary: to });
      await second.stop();
      expect(await rig.generation()).not.toBe(before);
      await expectBothRestore(rig);
    });
  });
});

it("v0.3.13's first start on a fully backfilled WAL starts a new generation that restores right", async () => {
  await withRig(async (rig) => {
    const app = await rig.application({ pragmas: APPLICATION });
    await app.load({ kind: 'write', seed: 7, steps: 3, rollbackShare: 0 });
    const first = await rig.replicate({ binary: SUBJECT });
    await rig.snapshotStored();
    await app.load({ kind: 'write', seed: 8, steps: 3, rollbackShare: 0 });
    await rig.caughtUp({ binary: SUBJECT });
    await first.stop();
    const { busy, log, checkpointed } = await app.checkpoint('PASSIVE', 5000);
    expect([busy, checkpointed]).toEqual([0, log]);
    const before = await rig.generation();
    // Creating its two tables restarts the WAL before it has read it.
    const second = await rig.replicate({ binary: 'oracle' });
    await until(async () => (await rig.generation()) !== before);
    await app.load({ kind: 'write', seed: 9, steps: 3, rollbackShare: 0 });
    await rig.caughtUp({ binary: 'oracle' });
    await second.stop();
    await expectBothRestore(rig);
  });
});
