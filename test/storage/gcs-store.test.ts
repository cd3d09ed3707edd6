import { ODD_PATH, describeStore } from './contract.ts';
import { openGcsStore } from '../../src/storage/gcs/gcs-store.ts';
import { GcsServer } from '../support/gcs-server.ts';

describeStore(
  'GcsStore',
  async ({ through, timeouts }) => {
    const server = await GcsServer.start();
    // A neighbour whose name begins alike must never show.
    server.put(`${ODD_PATH}-other/key`, Buffer.from('x'));
    const { host, port } = await through({ host: '127.0.0.1', port: server.port });
    const config = {
      type: 'gcs',
      bucket: 'bucket',
      path: ODD_PATH,
      endpoint: `http://${host}:${port}`,
    } as const;
    // Chunks so small that the contract's larger objects take several.
    const store = openGcsStore(config, { ...timeouts, chunkBytes: 1024 * 1024 });
    return { store, cleanup: () => server.close() };
  },
  { protocol: 'http', anyCredentials: true },
);
