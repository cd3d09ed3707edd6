import { ODD_PATH, describeStore } from './contract.ts';
import { openSftpStore } from '../../src/storage/sftp/sftp-store.ts';
import { SftpServer } from '../support/sftp-server.ts';
import { configFor } from './sftp-support.ts';

describeStore(
  'SftpStore',
  async ({ through, wrongSecret, timeouts }) => {
    const server = await SftpServer.start();
    const address = await through({ host: '127.0.0.1', port: server.port });
    const secret = wrongSecret === undefined ? {} : { password: wrongSecret };
    const store = openSftpStore(
      configFor(server, { ...address, ...secret, path: `/${ODD_PATH}` }),
      {},
      timeouts,
    );
    return { store, cleanup: () => server.close() };
  },
  { protocol: 'tcp' },
);

describeStore('SftpStore on a server without extensions', async () => {
  const server = await SftpServer.start({ extensions: false });
  return { store: openSftpStore(configFor(server)), cleanup: () => server.close() };
});
