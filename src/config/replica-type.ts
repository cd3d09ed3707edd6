/** The kinds of replicas. */

import { LitestreamError } from '../base/errors.ts';
import { quoteGo } from '../base/logger.ts';
import type { StoreConfig } from '../storage/store-config.ts';

export const REPLICA_TYPES: readonly StoreConfig['type'][] = ['file', 's3', 'abs', 'gcs', 'sftp'];

/** `type` as one of REPLICA_TYPES, `gs` as `gcs`. Throws 'config' when it is none. */
export function checkReplicaType(type: string): StoreConfig['type'] {
  const known = REPLICA_TYPES.find((name) => name === (type === 'gs' ? 'gcs' : type));
  if (known !== undefined) return known;
  throw new LitestreamError('config', `unknown replica type in config: ${quoteGo(type)}`);
}
