/** The hosts of `s3://HOST/PATH` that name a provider besides the bucket. Which ones decides where old backups are. */

import type { S3StoreConfig } from '../../storage/store-config.ts';

export type S3Host = Pick<S3StoreConfig, 'bucket' | 'region' | 'endpoint' | 'forcePathStyle'>;

/** Providers by the end of the host name: what stands before it is the bucket, `region` the part captured. */
const PROVIDERS: readonly { host: RegExp; endpoint: (region: string) => string; region?: string }[] = [
  { host: /^(?:(.+)\.)?localhost$/, endpoint: () => 'http://localhost', region: 'us-east-1' },
  { host: /^(?:(.+)\.)?s3\.([^.]+)\.backblazeb2\.com$/, endpoint: (r) => `https://s3.${r}.backblazeb2.com` },
  { host: /^(?:(.+)\.)?s3\.filebase\.com$/, endpoint: () => 'https://s3.filebase.com' },
  {
    host: /^(?:(.+)\.)?([^.]+)\.digitaloceanspaces\.com$/,
    endpoint: (r) => `https://${r}.digitaloceanspaces.com`,
  },
  { host: /^(?:(.+)\.)?s3\.([^.]+)\.scw\.cloud$/, endpoint: (r) => `https://s3.${r}.scw.cloud` },
  { host: /^(?:(.+)\.)?([^.]+)\.linodeobjects\.com$/, endpoint: (r) => `https://${r}.linodeobjects.com` },
];

/** The bucket and, for a provider's host, its endpoint and region. A port goes to the endpoint. */
export function parseS3Host(hostAndPort: string): S3Host {
  const split = /^(.*?)(?::([0-9]*))?$/s.exec(hostAndPort);
  const [host = '', port = ''] = [split?.[1], split?.[2]];
  for (const provider of PROVIDERS) {
    const match = provider.host.exec(host);
    if (match === null) continue;
    const region = provider.region ?? match[2];
    const endpoint = provider.endpoint(match[2] ?? '') + (port === '' ? '' : `:${port}`);
    return {
      bucket: match[1] ?? '',
      endpoint,
      forcePathStyle: true,
      ...(region === undefined ? {} : { region }),
    };
  }
  return { bucket: host, forcePathStyle: false };
}
