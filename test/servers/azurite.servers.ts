/** The driver of Azure Blob Storage and Azurite. */

import { randomUUID } from 'node:crypto';
import { openAbsStore } from '../../src/storage/abs/abs-store.ts';
import { ODD_PATH, describeStore } from '../storage/contract.ts';
import { describeReplication } from './replication.ts';
import { describeServer } from './servers.ts';

describeServer('azurite', ({ host, port, accountName, accountKey, container }) => {
  const endpoint = `http://${host}:${port}/${accountName}`;
  const base = { type: 'abs', bucket: container, accountName, accountKey, endpoint } as const;

  describeStore(
    'AbsStore',
    async ({ through, wrongSecret, timeouts }) => {
      const address = await through({ host, port });
      const config = {
        ...base,
        path: `${randomUUID()}/${ODD_PATH}`,
        endpoint: `http://${address.host}:${address.port}/${accountName}`,
        accountKey: wrongSecret ?? accountKey,
      };
      return { store: openAbsStore(config, timeouts), cleanup: () => Promise.resolve() };
    },
    { protocol: 'http' },
  );

  describeReplication({
    conditionalPut: /^works$/,
    replica: (path) => [
      ...['type: abs', `bucket: ${container}`, `path: ${path}`, `endpoint: ${endpoint}`],
      ...[`account-name: ${accountName}`, 'sync-interval: 100ms'],
    ],
    env: { LITESTREAM_AZURE_ACCOUNT_KEY: accountKey },
    open: (path) => openAbsStore({ ...base, path }),
  });
});
