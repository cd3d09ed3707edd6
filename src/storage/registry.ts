/** Opens stores by their config. The only place that names drivers; each is loaded when it is first needed. */

import { withCounts } from './counting-store.ts';
import type { ObjectStore } from './object-store.ts';
import type { StoreConfig } from './store-config.ts';

/** Opens the store of `config`, counted. Sends no request: a store that is unreachable shows at the first call. */
export async function openStore(config: StoreConfig): Promise<ObjectStore> {
  return withCounts(await openDriver(config));
}

async function openDriver(config: StoreConfig): Promise<ObjectStore> {
  switch (config.type) {
    case 'file': {
      const { openFileStore } = await import('./file/file-store.ts');
      return openFileStore(config);
    }
    case 's3': {
      const { openS3Store } = await import('./s3/s3-store.ts');
      return openS3Store(config);
    }
  }
}
