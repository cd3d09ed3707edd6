/** The stores that `init` can write a config for: what each needs to know, and the lines of its replicas. */

import { LitestreamError } from '../../base/errors.ts';

/** What a provider may need to be told, by the name of its flag. */
export type Question = 'account-id' | 'region' | 'endpoint';

export interface Answers {
  readonly bucket?: string | undefined;
  readonly region?: string | undefined;
  readonly endpoint?: string | undefined;
  readonly 'account-id'?: string | undefined;
}

/** A variable of the environment that takes the place of a secret, or of what differs from server to server. */
export interface Variable {
  readonly name: string;
  readonly meaning: string;
  /** It is used only when it is set. */
  readonly optional?: boolean;
}

export interface Provider {
  /** As `-provider` takes it. */
  readonly name: string;
  readonly title: string;
  /** Without an answer to these there is no config. */
  readonly needs: readonly Question[];
  /** An example for each need, shown in the question. */
  readonly examples: Readonly<Partial<Record<Question, string>>>;
  readonly variables: readonly Variable[];
  /** The keys of a replica at `path`, in order. Values stand as they are: variables are in them. */
  replica(answers: Answers, path: string): readonly (readonly [string, string])[];
}

const BUCKET: Variable = { name: 'LITESTREAM_REPLICA_BUCKET', meaning: 'name of the bucket' };
const KEYS: readonly Variable[] = [
  { name: 'LITESTREAM_ACCESS_KEY_ID', meaning: 'access key of the bucket' },
  { name: 'LITESTREAM_SECRET_ACCESS_KEY', meaning: 'secret of the access key' },
];

interface S3Provider {
  readonly name: string;
  readonly title: string;
  readonly needs?: readonly Question[];
  readonly examples?: Provider['examples'];
  readonly endpoint?: (answers: Answers) => string;
  /** What to sign for; the region that was given when absent. */
  readonly region?: string;
  readonly forcePathStyle?: boolean;
}

function s3({ name, title, needs = [], examples = {}, ...settings }: S3Provider): Provider {
  return {
    name,
    title,
    needs,
    examples,
    variables: [BUCKET, ...KEYS],
    replica(answers, path) {
      const endpoint = answers.endpoint ?? settings.endpoint?.(answers);
      const region = answers.region ?? settings.region;
      return [
        ['type', 's3'],
        ['bucket', answers.bucket ?? '${LITESTREAM_REPLICA_BUCKET}'],
        ['path', path],
        ...(endpoint === undefined ? [] : [['endpoint', endpoint] as const]),
        ...(region === undefined ? [] : [['region', region] as const]),
        ...(endpoint === undefined
          ? []
          : [['force-path-style', String(settings.forcePathStyle ?? true)] as const]),
        ['access-key-id', '${LITESTREAM_ACCESS_KEY_ID}'],
        ['secret-access-key', '${LITESTREAM_SECRET_ACCESS_KEY}'],
      ];
    },
  };
}

/** One whose endpoint is made of its region. */
function regional(name: string, title: string, host: string, example: string): Provider {
  return s3({
    name,
    title,
    needs: ['region'],
    examples: { region: example },
    endpoint: ({ region = '' }) => `https://${host.replace('REGION', region)}`,
  });
}

function accountId({ 'account-id': id = '' }: Answers): string {
  if (/^[0-9a-f]{32}$/i.test(id)) return id.toLowerCase();
  throw new LitestreamError('usage', `account-id must be the 32 hexadecimal digits of the account: ${id}`);
}

export const PROVIDERS: readonly Provider[] = [
  s3({ name: 'aws', title: 'Amazon S3' }),
  s3({
    name: 'r2',
    title: 'Cloudflare R2',
    needs: ['account-id'],
    examples: { 'account-id': 'the 32 hexadecimal digits in the address of the dashboard' },
    endpoint: (answers) => `https://${accountId(answers)}.r2.cloudflarestorage.com`,
    region: 'auto',
  }),
  regional('hetzner', 'Hetzner Object Storage', 'REGION.your-objectstorage.com', 'fsn1'),
  regional('b2', 'Backblaze B2', 's3.REGION.backblazeb2.com', 'us-west-002'),
  regional('spaces', 'DigitalOcean Spaces', 'REGION.digitaloceanspaces.com', 'nyc3'),
  regional('scaleway', 'Scaleway', 's3.REGION.scw.cloud', 'fr-par'),
  regional('linode', 'Linode (Akamai)', 'REGION.linodeobjects.com', 'eu-central-1'),
  regional('wasabi', 'Wasabi', 's3.REGION.wasabisys.com', 'eu-central-1'),
  s3({
    name: 'tigris',
    title: 'Tigris',
    endpoint: () => 'https://fly.storage.tigris.dev',
    region: 'auto',
    forcePathStyle: false,
  }),
  s3({
    name: 's3',
    title: 'another server that speaks S3 (MinIO, Garage, Ceph …)',
    needs: ['endpoint'],
    examples: { endpoint: 'https://storage.example.com' },
    region: 'us-east-1',
  }),
  {
    name: 'gcs',
    title: 'Google Cloud Storage',
    needs: [],
    examples: {},
    variables: [
      BUCKET,
      { name: 'GOOGLE_APPLICATION_CREDENTIALS', meaning: 'key file of the service account', optional: true },
    ],
    replica: ({ bucket = '${LITESTREAM_REPLICA_BUCKET}' }, path) => [
      ['type', 'gcs'],
      ['bucket', bucket],
      ['path', path],
    ],
  },
  {
    name: 'abs',
    title: 'Azure Blob Storage',
    needs: [],
    examples: {},
    variables: [
      { ...BUCKET, meaning: 'name of the container' },
      { name: 'LITESTREAM_AZURE_ACCOUNT_NAME', meaning: 'storage account' },
      { name: 'LITESTREAM_AZURE_ACCOUNT_KEY', meaning: 'key of the storage account' },
    ],
    replica: ({ bucket = '${LITESTREAM_REPLICA_BUCKET}' }, path) => [
      ['type', 'abs'],
      ['bucket', bucket],
      ['path', path],
      ['account-name', '${LITESTREAM_AZURE_ACCOUNT_NAME}'],
      ['account-key', '${LITESTREAM_AZURE_ACCOUNT_KEY}'],
    ],
  },
  {
    name: 'sftp',
    title: 'SFTP server',
    needs: [],
    examples: {},
    variables: [
      { name: 'LITESTREAM_SFTP_HOST', meaning: 'host, and port unless it is 22' },
      { name: 'LITESTREAM_SFTP_USER', meaning: 'user on that host' },
      { name: 'LITESTREAM_SFTP_KEY_PATH', meaning: 'file with the private key' },
    ],
    replica: (_, path) => [
      ['type', 'sftp'],
      ['host', '${LITESTREAM_SFTP_HOST}'],
      ['user', '${LITESTREAM_SFTP_USER}'],
      ['key-path', '${LITESTREAM_SFTP_KEY_PATH}'],
      ['path', path],
    ],
  },
  {
    name: 'file',
    title: 'a folder, on another disk',
    needs: [],
    examples: {},
    variables: [
      { name: 'LITESTREAM_REPLICA_FOLDER', meaning: 'absolute path of the folder for the backups' },
    ],
    replica: (_, path) => [
      ['type', 'file'],
      ['path', `\${LITESTREAM_REPLICA_FOLDER}/${path}`],
    ],
  },
];

/** Throws 'usage' with all names when there is none of that name. */
export function providerOf(name: string): Provider {
  const provider = PROVIDERS.find((candidate) => candidate.name === name.toLowerCase());
  if (provider !== undefined) return provider;
  const names = PROVIDERS.map((candidate) => candidate.name).join(', ');
  throw new LitestreamError('usage', `unknown provider ${JSON.stringify(name)}: one of ${names}`);
}

/** The variables that a config needs once `answers` are written into it. */
export function variablesOf(provider: Provider, { bucket }: Answers): readonly Variable[] {
  return provider.variables.filter(({ name }) => bucket === undefined || name !== BUCKET.name);
}
