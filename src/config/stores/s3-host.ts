/** The hosts of `s3://HOST/PATH` that name a provider besides the bucket. Which ones decides where old backups are. */

import { S3_PRESETS } from './s3-presets.ts';

export interface S3Host {
  readonly bucket: string;
  /** undefined: the host is nothing but a bucket's name. */
  readonly endpoint?: string | undefined;
}

/** The bucket and, for a provider's host, its endpoint. A port goes to the endpoint. */
export function parseS3Host(hostAndPort: string): S3Host {
  const split = /^(.*?)(?::([0-9]*))?$/s.exec(hostAndPort);
  const [host = '', port = ''] = [split?.[1], split?.[2]];
  for (const preset of S3_PRESETS) {
    if (preset.inUrl === undefined) continue;
    const match = new RegExp(`^(?:(?<bucket>.+)\\.)?(?<server>${preset.host})$`).exec(host)?.groups;
    if (match === undefined) continue;
    const server = `${preset.inUrl}://${match['server'] ?? ''}`;
    return { bucket: match['bucket'] ?? '', endpoint: port === '' ? server : `${server}:${port}` };
  }
  return { bucket: host };
}
