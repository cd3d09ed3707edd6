/** The contract against a real server of the API, whose address LITESTREAM_TEST_GCS gives; test/servers/ starts one. */

import { describe, it } from 'vitest';
import { randomUUID } from 'node:crypto';
import { openGcsStore } from '../../src/storage/gcs/gcs-store.ts';
import { describeStore } from './contract.ts';

const endpoint = process.env['LITESTREAM_TEST_GCS'];

if (endpoint === undefined || endpoint === '') {
  describe('GcsStore on an emulator', () => {
    it.skip('needs LITESTREAM_TEST_GCS=http://HOST:PORT of an emulator, which is not set', () => undefined);
  });
} else {
  describeStore(
    `GcsStore at ${endpoint}`,
    async ({ through, timeouts }) => {
      const { hostname, port: own } = new URL(endpoint);
      const { host, port } = await through({ host: hostname, port: Number(own) });
      const config = { type: 'gcs', bucket: 'litestream', path: randomUUID() } as const;
      const store = openGcsStore({ ...config, endpoint: `http://${host}:${port}` }, timeouts);
      return { store, cleanup: () => Promise.resolve() };
    },
    { protocol: 'http', anyCredentials: true },
  );
}
