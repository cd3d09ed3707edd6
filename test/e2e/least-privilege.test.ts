/** A key that may not delete: objects are written, listed and read, and nothing is lost by accident or by a thief. */

import { expect, it } from 'vitest';
import { until } from '../support/process.ts';
import { withRig } from '../support/process-rig.ts';
import { runLitestream } from '../support/process.ts';
import { S3Server, type S3Operation } from '../support/s3-server.ts';
import { compareDatabases } from '../support/sqlite.ts';
import { s3Environment, s3Replica } from './s3-rig.ts';

const DENIED = '<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>';

const READING: readonly S3Operation[] = ['ListObjectsV2', 'GetObject', 'HeadObject'];
const WRITING: readonly S3Operation[] = [
  ...READING,
  ...(['PutObject', 'CreateMultipartUpload', 'UploadPart', 'CompleteMultipartUpload'] as const),
];
const TIDYING: readonly S3Operation[] = [...WRITING, 'ListMultipartUploads', 'AbortMultipartUpload'];

const RETENTION = /retention is left to the store: deleting is not permitted/;
const UPLOADS = /abandoned uploads are left to the store: not permitted/;

/** Lets requests of these kinds through, as docs/permissions.md has them. */
function permit(server: S3Server, operations: readonly S3Operation[]): void {
  server.onRequest = ({ operation }) =>
    operations.includes(operation) ? 'pass' : { status: 403, body: DENIED };
}

it.each<[what: string, operations: readonly S3Operation[], warnings: RegExp[]]>([
  ['delete', TIDYING, [RETENTION]],
  ['delete or look for unfinished uploads', WRITING, [RETENTION, UPLOADS]],
])(
  'replicates and restores with a key that may not %s, and says so once',
  async (_, operations, warnings) => {
    const server = await S3Server.start();
    permit(server, operations);
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
        expect(lines).toHaveLength(warnings.length);
        for (const warning of warnings) expect(lines).toContainEqual(expect.stringMatching(warning));
        permit(server, READING);
        const restored = await rig.restored({ config, env });
        expect(await compareDatabases(rig.database, restored)).toBeUndefined();
      });
    } finally {
      await server.close();
    }
  },
);
