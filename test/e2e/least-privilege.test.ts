/** A key that may not delete: objects are written, listed and read, and nothing is lost by accident or by a thief. */

import { expect, it } from 'vitest';
import { until } from '../support/process.ts';
import { withRig } from '../support/process-rig.ts';
import { runLitestream } from '../support/process.ts';
import { S3Server } from '../support/s3-server.ts';
import { compareDatabases } from '../support/sqlite.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

const DENIED = '<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>';

it('replicates and restores with a key that may not delete, and says once that retention may not', async () => {
  const server = await S3Server.start();
  server.onRequest = ({ operation }) =>
    operation === 'DeleteObjects' ? { status: 403, body: DENIED } : 'pass';
  try {
    await withRig(async (rig) => {
      const env = s3Environment(server);
      const replica = [
        ...s3Replica(server.endpoint),
        ...['retention: 100ms', 'retention-check-interval: 50ms', 'snapshot-interval: 50ms'],
      ];
      const options = {
        replica,
        env,
        database: ['min-checkpoint-page-count: 1', 'checkpoint-interval: 50ms'],
      };
      const config = await rig.config(options);
      const app = await rig.application();
      await app.exec('CREATE TABLE t (x)');
      const litestream = await rig.replicate(options);
      let n = 0;
      await until(async () => {
        await app.exec(`INSERT INTO t VALUES (${n++})`);
        return (server.counts().DeleteObjects ?? 0) >= 3;
      });
      await until(async () => {
        const { stdout } = await runLitestream({
          binary: 'ours',
          args: ['status', '-json', '-config', config],
          env,
        });
        const status = JSON.parse(stdout) as {
          databases: { state: string; replicas: { retentionRefused: boolean }[] }[];
        };
        return (
          status.databases[0]?.state === 'ok' && status.databases[0].replicas[0]?.retentionRefused === true
        );
      });
      litestream.signal('SIGTERM');
      expect((await litestream.exited).code).toBe(0);
      const lines = litestream.lines.filter((line) => /level=(WARN|ERROR)/.test(line));
      expect(lines).toEqual([
        expect.stringMatching(/retention is left to the store: deleting is not permitted/),
      ]);
      const restored = await rig.restored({ config, env });
      expect(await compareDatabases(rig.database, restored)).toBeUndefined();
    });
  } finally {
    await server.close();
  }
});
