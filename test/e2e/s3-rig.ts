/** Config lines and credentials for a replica on the in-repo S3 server. */

import type { S3Server } from '../support/s3-server.ts';

/** The replica's entry; `endpoint` for a server that is not there. */
export function s3Replica(endpoint: string): string[] {
  return [
    'type: s3',
    'bucket: bucket',
    'path: db',
    `endpoint: ${endpoint}`,
    'region: us-east-1',
    'sync-interval: 20ms',
  ];
}

export function s3Environment(server: S3Server): Record<string, string> {
  return {
    LITESTREAM_ACCESS_KEY_ID: server.credentials.accessKeyId,
    LITESTREAM_SECRET_ACCESS_KEY: server.credentials.secretAccessKey,
  };
}
