/** The S3 driver and OpenStack Swift. */

import { randomUUID } from 'node:crypto';
import type { ObjectStore } from '../../src/storage/object-store.ts';
import { openS3Store } from '../../src/storage/s3/s3-store.ts';
import { ODD_PATH, describeStore } from '../storage/contract.ts';
import { describeReplication } from './replication.ts';
import { describeServer } from './servers.ts';

describeServer('swift', (swift) => {
  const { host, port, accessKeyId, secretAccessKey } = swift;

  const open = (
    path: string,
    changes: object = {},
    timeouts?: { connectMs: number; idleMs: number },
  ): ObjectStore =>
    openS3Store(
      {
        ...{ type: 's3', bucket: swift.bucket, path, region: swift.region, accessKeyId, secretAccessKey },
        ...{ endpoint: `http://${host}:${port}`, forcePathStyle: true, skipVerify: false, ...changes },
      },
      timeouts,
    );

  describeStore(
    'S3Store',
    async ({ through, wrongSecret, timeouts }) => {
      const address = await through({ host, port });
      const endpoint = `http://${address.host}:${address.port}`;
      const changes = wrongSecret === undefined ? { endpoint } : { endpoint, secretAccessKey: wrongSecret };
      return {
        store: open(`${randomUUID()}/${ODD_PATH}`, changes, timeouts),
        cleanup: () => Promise.resolve(),
        ignoresConditions: true,
      };
    },
    { protocol: 'http' },
  );

  describeReplication({
    conditionalPut: /does not take it/,
    replica: (path) => [
      ...['type: s3', `bucket: ${swift.bucket}`, `path: ${path}`, `endpoint: http://${host}:${port}`],
      ...[`region: ${swift.region}`, 'sync-interval: 100ms'],
    ],
    env: { LITESTREAM_ACCESS_KEY_ID: accessKeyId, LITESTREAM_SECRET_ACCESS_KEY: secretAccessKey },
    open,
  });
});
