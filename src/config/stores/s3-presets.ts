/**
 * What is known of S3 providers, by the host of their endpoint: the one table of quirks. Every setting can be overridden
 * by a key of the config file. Where a row says nothing, what every server of our knowledge takes is sent: signed bodies
 * with a length, no newer checksums, Content-MD5 on batch deletes.
 */

export interface S3Preset {
  readonly name: string;
  /** Source of a regular expression for the whole host of the endpoint; `(?<region>…)` captures the region. */
  readonly host: string;
  /** Decides beside the host when given. */
  readonly port?: string;
  /** The region to sign for when the host does not say; absent: what the driver takes (us-east-1, or asks Amazon). */
  readonly region?: string;
  /** Absent: true, as v0.3.13 has it for every endpoint. */
  readonly forcePathStyle?: boolean;
  /** Absent: true. */
  readonly signPayload?: boolean;
  /** Content-MD5 on `all` uploads and batch deletes, on batch `deletes` (when absent), or on `none`. */
  readonly contentMd5?: 'all' | 'deletes' | 'none';
  /** Parts of one upload in flight at once, when fewer than the driver's own. */
  readonly uploadConcurrency?: number;
  /** Parts of one upload, when fewer than S3's 10,000. */
  readonly maxParts?: number;
  /** `s3://BUCKET.HOST/PATH` means this provider; the scheme of the endpoint then.
   * v0.3.13's list, since it says where old backups are, and R2 and Tigris, whose hosts cannot be names of buckets at Amazon. */
  readonly inUrl?: 'https' | 'http';
}

export const S3_PRESETS: readonly S3Preset[] = [
  {
    // https://docs.aws.amazon.com/general/latest/gr/s3.html: s3.REGION, s3.dualstack.REGION, s3-REGION (old), VPC endpoints.
    name: 'Amazon S3',
    host: '(?:.+\\.)?s3[.-](?:fips[.-])?(?:dualstack\\.)?(?<region>[a-z]{2}(?:-[a-z]+)+-\\d+)(?:\\.vpce)?\\.amazonaws\\.com(?:\\.cn)?',
  },
  {
    // https://developers.cloudflare.com/r2/api/s3/api/: region auto; a jurisdiction (eu, fedramp) stands in the host.
    // Parts but the last must be equal (apache/arrow#34363), which they are below 40 GiB. More than two or three parts of one
    // upload at once were answered with 500 (cloudflare-docs#5236, benbjohnson/litestream#948).
    name: 'Cloudflare R2',
    host: '(?!(?:eu|us|fedramp)\\.)[^.]+\\.(?:[a-z]+\\.)?r2\\.cloudflarestorage\\.com',
    region: 'auto',
    uploadConcurrency: 2,
    inUrl: 'https',
  },
  {
    // https://www.backblaze.com/docs/cloud-storage-call-the-s3-compatible-api: the region is in the host. Refused
    // checksum trailers (benbjohnson/litestream#918) and unsigned bodies (#894).
    name: 'Backblaze B2',
    host: 's3\\.(?<region>[^.]+)\\.backblazeb2\\.com',
    inUrl: 'https',
  },
  {
    // https://docs.digitalocean.com/reference/api/spaces/: refused unsigned bodies (benbjohnson/litestream#894).
    name: 'DigitalOcean Spaces',
    host: '(?<region>[^.]+)\\.digitaloceanspaces\\.com',
    inUrl: 'https',
  },
  {
    // https://docs.hetzner.com/storage/object-storage/overview: fsn1, nbg1, hel1; Ceph. Wants signed bodies, no trailers
    // (benbjohnson/litestream#943, #1059).
    name: 'Hetzner',
    host: '(?<region>[^.]+)\\.your-objectstorage\\.com',
  },
  {
    // https://www.scaleway.com/en/docs/storage/object/api-cli/multipart-uploads/: at most 1,000 parts.
    name: 'Scaleway',
    host: 's3\\.(?<region>[^.]+)\\.scw\\.cloud',
    maxParts: 1000,
    inUrl: 'https',
  },
  {
    // https://techdocs.akamai.com/cloud-computing/docs/access-buckets-and-files-through-urls
    name: 'Linode (Akamai)',
    host: '(?<region>[^.]+)\\.linodeobjects\\.com',
    inUrl: 'https',
  },
  {
    // https://docs.wasabi.com/docs/service-urls-for-wasabis-storage-regions-2: the host without a region is us-east-1.
    name: 'Wasabi',
    host: 's3\\.(?:(?<region>[^.]+)\\.)?wasabisys\\.com',
    region: 'us-east-1',
  },
  {
    // https://tigrisdata.com/blog/virtual-hosted-urls: no path style for buckets made after February 19, 2025; older
    // ones take both. Signed bodies, and no Content-MD5 on deletes (benbjohnson/litestream#842).
    name: 'Tigris',
    host: '(?:fly\\.storage\\.tigris\\.dev|t3\\.(?:storage\\.dev|tigrisfiles\\.io))',
    region: 'auto',
    forcePathStyle: false,
    contentMd5: 'none',
    inUrl: 'https',
  },
  {
    // https://docs.oracle.com/en-us/iaas/Content/Object/Tasks/s3compatibleapi.htm: path style, no chunked bodies.
    // Deletes need Content-MD5 (benbjohnson/litestream#808).
    name: 'Oracle Cloud (OCI)',
    host: '[^.]+\\.compat\\.objectstorage\\.(?<region>[^.]+)\\.(?:oraclecloud|oci\\.customer-oci)\\.com',
  },
  {
    // https://supabase.com/docs/guides/storage/s3/authentication: https://PROJECT.supabase.co/storage/v1/s3, path style;
    // the region is that of the project and cannot be told from the host: set it.
    name: 'Supabase',
    host: '[^.]+\\.(?:storage\\.)?supabase\\.co',
  },
  {
    // https://docs.filebase.com/api-documentation/s3-compatible-api: us-east-1 for all.
    name: 'Filebase',
    host: 's3\\.filebase\\.com',
    inUrl: 'https',
  },
  {
    // https://storj.dev/dcs/api/s3/s3-compatibility: one region. Parts of 64 MB are cheaper there
    // (https://storj.dev/dcs/api/s3/multipart-upload/multipart-part-size); they cost memory, so it is for the user to say.
    name: 'Storj',
    host: 'gateway\\.(?:[^.]+\\.)?storjshare\\.io',
  },
  {
    // https://garagehq.deuxfleurs.fr/documentation/connect/: path style; its region is a setting, by custom `garage`.
    name: 'Garage',
    host: '(?:.*\\.)?garage(?:\\..*)?',
    region: 'garage',
  },
  {
    // The same, by the port of its documentation.
    name: 'Garage',
    host: '.*',
    port: '3900',
    region: 'garage',
  },
  {
    // https://min.io/docs/minio/linux/reference/minio-server/settings/core.html: us-east-1 unless it is set otherwise.
    name: 'MinIO',
    host: 'localhost',
    region: 'us-east-1',
    inUrl: 'http',
  },
  {
    // The same, on a host that is called so.
    name: 'MinIO',
    host: '(?:.+[.-])?minio(?:[.-].+)?',
    region: 'us-east-1',
  },
  {
    // https://docs.ceph.com/en/latest/radosgw/s3/: any region, path style unless a domain is set up for buckets. Answers 412
    // to a right If-Match in quotes, which is not sent.
    name: 'Ceph',
    host: '(?:.+[.-])?(?:ceph|rgw|radosgw)(?:[.-].+)?',
    region: 'us-east-1',
  },
  {
    // The same, by the port of its documentation (https://docs.ceph.com/en/latest/radosgw/frontends/).
    name: 'Ceph',
    host: '.*',
    port: '7480',
    region: 'us-east-1',
  },
];

export interface FoundPreset {
  readonly preset: S3Preset;
  /** The host's, else the preset's. */
  readonly region: string | undefined;
}

/** The preset for an endpoint (a URL); undefined for a host that nothing is known of. */
export function findPreset(endpoint: string): FoundPreset | undefined {
  const { hostname, port } = new URL(endpoint);
  for (const preset of S3_PRESETS) {
    if (preset.port !== undefined && preset.port !== port) continue;
    const match = new RegExp(`^${preset.host}$`).exec(hostname);
    if (match !== null) return { preset, region: match.groups?.['region'] ?? preset.region };
  }
  return undefined;
}
