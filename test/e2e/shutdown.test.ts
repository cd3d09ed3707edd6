/** How `replicate` ends: in time, with an exit code that tells whether everything is stored. */

import { promises as fs } from 'node:fs';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { until } from '../support/process.ts';
import { withRig } from '../support/process-rig.ts';
import { S3Server } from '../support/s3-server.ts';
import { compareDatabases } from '../support/sqlite.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

const APPLICATION = ['journal_mode=WAL', 'wal_autocheckpoint=0'];

describe('shutdown', () => {
  it('exits 0 on SIGTERM with every commit stored, also when a checkpoint is due', async () => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: APPLICATION });
      const litestream = await rig.replicate({
        // Longer than the test: only the shutdown stores the last commits.
        replica: [`path: ${rig.replica}`, 'sync-interval: 10m'],
        database: ['monitor-interval: 10m', 'min-checkpoint-page-count: 5'],
      });
      await app.load({ kind: 'write', seed: 1, steps: 30 });
      expect(await litestream.stop()).toEqual({ code: 0, signal: null });
      expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
    });
  });

  it('takes durations that are longer than timers can be', async () => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: APPLICATION });
      const litestream = await rig.replicate({
        replica: [
          ...[`path: ${rig.replica}`, 'sync-interval: 1000h', 'snapshot-interval: 1000h'],
          ...['retention: 10000h', 'retention-check-interval: 1000h', 'validation-interval: 1000h'],
        ],
        database: ['monitor-interval: 1000h', 'checkpoint-interval: 1000h'],
        global: ['shutdown-timeout: 1000h'],
      });
      await app.load({ kind: 'write', seed: 1, steps: 30 });
      expect(await litestream.stop()).toEqual({ code: 0, signal: null });
      expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
    });
  });

  it('exits non-zero when the replica cannot be reached, and says what is not stored', async () => {
    await withRig(async (rig) => {
      const server = await S3Server.start();
      const endpoint = server.endpoint;
      await server.close();
      const app = await rig.application();
      const litestream = await rig.replicate({
        replica: s3Replica(endpoint),
        // A twentieth of it is for what there is to say.
        global: ['shutdown-timeout: 5s'],
        env: s3Environment(server),
      });
      await app.load({ kind: 'write', seed: 1, steps: 3 });
      litestream.signal('SIGTERM');
      await until(() => !litestream.running);
      expect((await litestream.exited).code).toBe(1);
      expect(litestream.lines.filter((line) => line.includes('not stored'))).not.toEqual([]);
      expect(litestream.lines.join('\n')).not.toContain(server.credentials.secretAccessKey);
    });
  });

  describe('with a store that never answers', () => {
    let server: S3Server;
    beforeEach(async () => {
      server = await S3Server.start();
      server.onRequest = () => 'stall';
    });
    afterEach(async () => {
      await server.close();
    });

    it('ends after shutdown-timeout', async () => {
      await withRig(async (rig) => {
        const app = await rig.application();
        await app.load({ kind: 'write', seed: 1, steps: 3 });
        const litestream = await rig.replicate({
          replica: s3Replica(server.endpoint),
          // A twentieth of it is for what there is to say.
          global: ['shutdown-timeout: 5s'],
          env: s3Environment(server),
        });
        await until(() => server.requests.length > 0);
        litestream.signal('SIGTERM');
        await until(() => !litestream.running);
        expect((await litestream.exited).code).toBe(1);
        expect(litestream.lines.filter((line) => line.includes('not stored'))).not.toEqual([]);
      });
    });

    it('ends at once on a second signal', async () => {
      await withRig(async (rig) => {
        const app = await rig.application();
        await app.load({ kind: 'write', seed: 1, steps: 3 });
        const litestream = await rig.replicate({
          replica: s3Replica(server.endpoint),
          // Far beyond the deadline of until().
          global: ['shutdown-timeout: 10m'],
          env: s3Environment(server),
        });
        await until(() => server.requests.length > 0);
        litestream.signal('SIGTERM');
        await litestream.waitForLine(/signal received/);
        litestream.signal('SIGTERM');
        await until(() => !litestream.running);
        expect((await litestream.exited).code).not.toBe(0);
      });
    });
  });

  it.each([0, 7])('passes on exit code %i of the -exec command', async (code) => {
    await withRig(async (rig) => {
      await rig.application();
      const litestream = await rig.replicateUnready({ args: ['-exec', `sh -c "exit ${code}"`] });
      await until(() => !litestream.running);
      expect(await litestream.exited).toEqual({ code, signal: null });
    });
  });

  it('stores what the -exec command writes while it stops', async () => {
    await withRig(async (rig) => {
      const app = await rig.application({ pragmas: APPLICATION });
      await app.load({ kind: 'write', seed: 1, steps: 3, rollbackShare: 0 });
      const script = `${rig.dir}/child.mjs`;
      await fs.writeFile(script, CHILD);
      const litestream = await rig.replicate({
        args: ['-exec', `${process.execPath} ${script}`],
        env: { DATABASE: rig.database, BETTER_SQLITE3: import.meta.resolve('better-sqlite3') },
      });
      await litestream.waitForLine(/child is ready/);
      expect(await litestream.stop()).toEqual({ code: 0, signal: null });
      expect(await app.all('SELECT count(*) AS n FROM last_words')).toEqual([{ n: 1 }]);
      expect(await compareDatabases(rig.database, await rig.restored())).toBeUndefined();
    });
  });
});

/** Writes once more when it is told to stop, and leaves the WAL as it is. */
const CHILD = `
const { default: Database } = await import(process.env.BETTER_SQLITE3);
const db = new Database(process.env.DATABASE, { timeout: 10000 });
process.on('SIGTERM', () => {
  db.exec('CREATE TABLE last_words AS SELECT 1 AS x');
  process.exit(0);
});
setInterval(() => undefined, 1000);
console.log('child is ready');
`;
