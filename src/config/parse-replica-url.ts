/** Replica URLs that stand for themselves, as arguments of commands. */

import type { StoreConfig } from '../storage/store-config.ts';
import type { Env } from './expand-env.ts';
import { checkReplicaType } from './replica-type.ts';
import { splitReplicaUrl } from './replica-url.ts';
import { absFromUrl } from './stores/abs.ts';
import { fileFromUrl } from './stores/file.ts';
import { gcsFromUrl } from './stores/gcs.ts';
import { s3FromUrl } from './stores/s3.ts';
import { sftpFromUrl } from './stores/sftp.ts';

/**
 * The store that a replica URL names, with what `env` holds of its credentials (S3's come from the AWS credential chain).
 * Throws 'config' for what is no URL, has an unknown scheme or lacks a part that its scheme needs.
 */
export function parseReplicaUrl(text: string, env: Env): StoreConfig {
  const url = splitReplicaUrl(text);
  switch (checkReplicaType(url.scheme)) {
    case 'file':
      return fileFromUrl(url);
    case 's3':
      return s3FromUrl(url);
    case 'abs':
      return absFromUrl(url, env);
    case 'gcs':
      return gcsFromUrl(url);
    case 'sftp':
      return sftpFromUrl(url, env);
  }
}
