/** The config of a store on a test server. */

import type { SftpStoreConfig } from '../../src/storage/store-config.ts';
import type { SftpServer } from '../support/sftp-server.ts';

export function configFor(server: SftpServer, changes: Partial<SftpStoreConfig> = {}): SftpStoreConfig {
  const { port, user, password } = server;
  const hostKey = server.fingerprint;
  return { type: 'sftp', host: '127.0.0.1', port, user, password, hostKey, path: '/replicas/db', ...changes };
}
