/** The driver of Google Cloud Storage and Firebase's emulator. */

import { randomUUID } from 'node:crypto';
import { openGcsStore } from '../../src/storage/gcs/gcs-store.ts';
import { ODD_PATH, describeStore } from '../storage/contract.ts';
import { describeReplication } from './replication.ts';
import { describeServer } from './servers.ts';

describeServer('gcs', ({ host, port, bucket }) => {
  const endpoint = `http://${host}:${port}`;

  describeStore(
    'GcsStore',
    async ({ through, timeouts }) => {
      const address = await through({ host, port });
      const config = {
        ...({ type: 'gcs', bucket, path: `${randomUUID()}/${ODD_PATH}` } as const),
        endpoint: `http://${address.host}:${address.port}`,
      };
      const store = openGcsStore(config, timeouts);
      return { store, cleanup: () => Promise.resolve(), ignoresConditions: true };
    },
    { protocol: 'http', anyCredentials: true },
  );

  describeReplication({
    conditionalPut: /ignores the condition/,
    replica: (path) => ['type: gcs', `bucket: ${bucket}`, `path: ${path}`, 'sync-interval: 100ms'],
    // Google's library for Go wants the address without a scheme.
    env: { STORAGE_EMULATOR_HOST: `${host}:${port}` },
    open: (path) => openGcsStore({ type: 'gcs', bucket, path, endpoint }),
  });
});
