/** Opens stores by their config. The only place that names drivers; each is loaded when it is first needed. */

import { withCounts } from './counting-store.ts';
import { withLimit } from './limited-store.ts';
import type { ObjectStore, OpenOptions } from './object-store.ts';
import type { StoreConfig } from './store-config.ts';

/**
 * Opens the store of `config`, counted and, if the config says so, encrypted. Sends no request: a store that is
 * unreachable shows at the first call. Rejects with 'config' when keys of the encryption are malformed.
 */
export async function openStore(config: StoreConfig, options: OpenOptions = {}): Promise<ObjectStore> {
  const driver = await openDriver(config, options);
  const { places } = options;
  const store = withCounts(places && !driver.capabilities.local ? withLimit(driver, places) : driver);
  if (config.encryption === undefined) return store;
  const { withEncryption } = await import('./encryption/encrypting-store.ts');
  return withEncryption(store, config.encryption);
}

async function openDriver(config: StoreConfig, options: OpenOptions): Promise<ObjectStore> {
  switch (config.type) {
    case 'file': {
      const { openFileStore } = await import('./file/file-store.ts');
      return openFileStore(config);
    }
    case 's3': {
      const { openS3Store } = await import('./s3/s3-store.ts');
      return openS3Store(config);
    }
    case 'gcs': {
      const { openGcsStore } = await import('./gcs/gcs-store.ts');
      return openGcsStore(config);
    }
    case 'abs': {
      const { openAbsStore } = await import('./abs/abs-store.ts');
      return openAbsStore(config);
    }
    case 'sftp': {
      const { openSftpStore } = await import('./sftp/sftp-store.ts');
      return openSftpStore(config, options);
    }
  }
}
