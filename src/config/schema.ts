/**
 * Every key of the config file: the one table that validation, defaults and the documentation come from. It must not
 * know how a file is read or what becomes of the values.
 */

/** How a value is written: `section` is one map of further keys, `sections` a list of such maps, `strings` a list. */
export type KeyKind = 'string' | 'bool' | 'int' | 'duration' | 'strings' | 'section' | 'sections';

export interface KeySpec {
  readonly name: string;
  readonly kind: KeyKind;
  /** What counts when the key is absent, in the syntax of the file; empty: nothing. */
  readonly defaultText: string;
  /** One sentence for the documentation. */
  readonly doc: string;
  /** The replica types that the key is for; absent: all of them, or not a replica's key. */
  readonly types?: readonly string[];
  /** The keys of the map or maps, for `section` and `sections`. */
  readonly section?: SectionSpec;
}

export interface SectionSpec {
  /** What v0.3.13 calls the map in its messages. */
  readonly goType: string;
  readonly keys: readonly KeySpec[];
}

const AGE: SectionSpec = {
  goType: 'age settings',
  keys: [
    {
      name: 'identities',
      kind: 'strings',
      defaultText: '',
      doc: 'Secret keys (`AGE-SECRET-KEY-1…`) that backups are decrypted with; replicating works without.',
    },
    {
      name: 'recipients',
      kind: 'strings',
      defaultText: '',
      doc: 'Public keys (`age1…`) that backups are encrypted for; replicating needs at least one.',
    },
    {
      name: 'allow-plaintext',
      kind: 'bool',
      defaultText: 'false',
      doc: 'Also reads generations that are not encrypted, [from before encryption was turned on](encryption.md#changing-keys-turning-it-on-and-off).',
    },
  ],
};

/** One item of `replicas`. */
export const REPLICA: SectionSpec = {
  goType: 'main.ReplicaConfig',
  keys: [
    {
      name: 'type',
      kind: 'string',
      defaultText: 'file',
      doc: "Kind of storage; the url's scheme when there is a url.",
    },
    {
      name: 'name',
      kind: 'string',
      defaultText: '',
      doc: 'Unique among the replicas of its database; the type when absent.',
    },
    {
      name: 'path',
      kind: 'string',
      defaultText: '',
      doc: 'Folder (file, sftp), or key prefix in the bucket or container.',
    },
    {
      name: 'url',
      kind: 'string',
      defaultText: '',
      doc: 'Location as one URL, in place of type, path and bucket.',
    },
    { name: 'sync-interval', kind: 'duration', defaultText: '1s', doc: 'At most one upload per this long.' },
    {
      name: 'snapshot-interval',
      kind: 'duration',
      defaultText: '0s',
      doc: 'How often a full snapshot is taken; 0: only when retention needs one.',
    },
    {
      name: 'retention',
      kind: 'duration',
      defaultText: '24h',
      doc: 'Every moment of the last this long stays restorable; 0 or less: nothing is ever deleted.',
    },
    {
      name: 'retention-check-interval',
      kind: 'duration',
      defaultText: '1h',
      doc: 'How often the replica is listed: whether it still holds what was stored, and what has left the retention; never longer than retention.',
    },
    {
      name: 'validation-interval',
      kind: 'duration',
      defaultText: '0s',
      doc: 'How often a backup is restored and compared; 0: never.',
    },
    {
      name: 'access-key-id',
      kind: 'string',
      defaultText: '',
      types: ['s3'],
      doc: 'Access key; without one, the default credential chain of AWS is used.',
    },
    {
      name: 'secret-access-key',
      kind: 'string',
      defaultText: '',
      types: ['s3'],
      doc: 'Secret that belongs to access-key-id.',
    },
    {
      name: 'region',
      kind: 'string',
      defaultText: '',
      types: ['s3'],
      doc: 'Region of the bucket; known from the endpoint of many providers, looked up when absent and there is no endpoint.',
    },
    {
      name: 'bucket',
      kind: 'string',
      defaultText: '',
      types: ['s3', 'abs', 'gcs'],
      doc: 'Name of the bucket or container; for s3 also an s3:// URL, whose path stands before `path`.',
    },
    {
      name: 'endpoint',
      kind: 'string',
      defaultText: '',
      types: ['s3', 'abs', 'gcs'],
      doc: "URL of a server other than the provider's own; https:// when it names no scheme. With abs, the account in its path if the server wants it there.",
    },
    {
      name: 'force-path-style',
      kind: 'bool',
      defaultText: '',
      types: ['s3'],
      doc: 'Put the bucket in the path of requests instead of the host name; true when there is an endpoint, but for Tigris.',
    },
    {
      name: 'skip-verify',
      kind: 'bool',
      defaultText: 'false',
      types: ['s3'],
      doc: "Do not verify the server's certificate.",
    },
    {
      name: 'sign-payload',
      kind: 'bool',
      defaultText: 'true',
      types: ['s3'],
      doc: 'Sign the bodies of uploads; false sends UNSIGNED-PAYLOAD, for stores that take no other.',
    },
    {
      name: 'require-content-md5',
      kind: 'bool',
      defaultText: '',
      types: ['s3'],
      doc: 'true: send Content-MD5 with every upload too (buckets with object lock ask for it); false: not even with batch deletes, where it goes when absent.',
    },
    {
      name: 'concurrency',
      kind: 'int',
      defaultText: '',
      types: ['s3'],
      doc: 'Parts of one upload that are sent at once; 12 when absent, 2 for Cloudflare R2.',
    },
    {
      name: 'part-size',
      kind: 'string',
      defaultText: '',
      types: ['s3'],
      doc: 'Size of the parts of an upload, 5MiB when absent, such as `64MiB` (MB are powers of 1000); about `concurrency` + 1 of them are held in memory.',
    },
    {
      name: 'max-parts',
      kind: 'int',
      defaultText: '',
      types: ['s3'],
      doc: 'Parts that the store takes for one upload; 10000 when absent, 1000 for Scaleway. Larger objects get larger parts.',
    },
    {
      name: 'account-name',
      kind: 'string',
      defaultText: '',
      types: ['abs'],
      doc: 'Storage account; else the user of the url.',
    },
    {
      name: 'account-key',
      kind: 'string',
      defaultText: '',
      types: ['abs'],
      doc: 'Key of the storage account, base64; else `LITESTREAM_AZURE_ACCOUNT_KEY`, else the default credential of Azure.',
    },
    {
      name: 'sas-token',
      kind: 'string',
      defaultText: '',
      types: ['abs'],
      doc: 'Shared access signature in place of the key, with read, write, list and delete permission.',
    },
    {
      name: 'host',
      kind: 'string',
      defaultText: '',
      types: ['sftp'],
      doc: 'Host, and port unless it is 22.',
    },
    { name: 'user', kind: 'string', defaultText: '', types: ['sftp'], doc: 'User on the server.' },
    {
      name: 'password',
      kind: 'string',
      defaultText: '',
      types: ['sftp'],
      doc: "The user's password. With neither a password nor a key, the agent at SSH_AUTH_SOCK is asked.",
    },
    { name: 'key-path', kind: 'string', defaultText: '', types: ['sftp'], doc: 'File with the private key.' },
    {
      name: 'key-passphrase',
      kind: 'string',
      defaultText: '',
      types: ['sftp'],
      doc: 'Opens the private key.',
    },
    {
      name: 'host-key',
      kind: 'string',
      defaultText: '',
      types: ['sftp'],
      doc: "The server's public key (`ssh-ed25519 AAAA…`) or its fingerprint (`SHA256:…`); another one is refused. Without it the first one is accepted, with a warning, and remembered ([how](permissions.md#sftp)).",
    },
    {
      name: 'age',
      kind: 'section',
      defaultText: '',
      section: AGE,
      doc: 'Encryption with [age](encryption.md): objects are encrypted before they leave this machine.',
    },
  ],
};

const DATABASE: SectionSpec = {
  goType: 'main.DBConfig',
  keys: [
    {
      name: 'path',
      kind: 'string',
      defaultText: '',
      doc: 'The database file; `~` and relative paths are expanded.',
    },
    {
      name: 'meta-path',
      kind: 'string',
      defaultText: '',
      doc: 'Folder for local state; `.FILE-litestream` beside the database when absent, or a folder for state where that one is read-only.',
    },
    {
      name: 'monitor-interval',
      kind: 'duration',
      defaultText: '1s',
      doc: 'How often the WAL is looked at when no event announces a change.',
    },
    {
      name: 'checkpoint-interval',
      kind: 'duration',
      defaultText: '1m',
      doc: 'The WAL is checkpointed at least this often while it holds commits.',
    },
    {
      name: 'min-checkpoint-page-count',
      kind: 'int',
      defaultText: '1000',
      doc: 'The WAL is checkpointed from this many pages on.',
    },
    {
      name: 'max-checkpoint-page-count',
      kind: 'int',
      defaultText: '10000',
      doc: 'The WAL is checkpointed with more insistence from this many pages on; 0: never.',
    },
    {
      name: 'replicas',
      kind: 'sections',
      defaultText: '',
      section: REPLICA,
      doc: 'Where the database is replicated to.',
    },
  ],
};

const LOGGING: SectionSpec = {
  goType: 'main.LoggingConfig',
  keys: [
    { name: 'level', kind: 'string', defaultText: 'info', doc: 'debug, info, warn or error.' },
    { name: 'type', kind: 'string', defaultText: 'text', doc: 'text or json.' },
    { name: 'stderr', kind: 'bool', defaultText: 'false', doc: 'Log to stderr instead of stdout.' },
  ],
};

const SOCKET: SectionSpec = {
  goType: 'main.SocketConfig',
  keys: [
    {
      name: 'enabled',
      kind: 'bool',
      defaultText: 'true',
      doc: 'Whether `replicate` answers `status`, `databases` and `sync`.',
    },
    {
      name: 'path',
      kind: 'string',
      defaultText: '',
      doc: 'The Unix socket; `control.sock` in the meta directory of the first database when absent.',
    },
    {
      name: 'permissions',
      kind: 'string',
      defaultText: '0600',
      doc: 'Who may connect, in octal: the user of `replicate` alone, unless you say otherwise.',
    },
  ],
};

/** The whole file. */
export const CONFIG: SectionSpec = {
  goType: 'main.Config',
  keys: [
    {
      name: 'addr',
      kind: 'string',
      defaultText: '',
      doc:
        'Address that dashboard, metrics and health are served on, such as `:9090`. The dashboard needs a password beyond this machine, ' +
        'and on a loopback address only shows state without one ([dashboard.md](dashboard.md#who-may-see-it)).',
    },
    {
      name: 'exec',
      kind: 'string',
      defaultText: '',
      doc: 'Command that `replicate` runs once replication is ready.',
    },
    {
      name: 'access-key-id',
      kind: 'string',
      defaultText: '',
      doc: 'For the s3 replicas that have none of their own.',
    },
    {
      name: 'secret-access-key',
      kind: 'string',
      defaultText: '',
      doc: 'For the s3 replicas that have none of their own.',
    },
    {
      name: 'max-concurrent-requests',
      kind: 'int',
      defaultText: '256',
      doc: 'Requests that `replicate` has under way at once, to all remote replicas together.',
    },
    {
      name: 'shutdown-timeout',
      kind: 'duration',
      defaultText: '8s',
      doc: 'Longest time from a signal to the end of the process.',
    },
    {
      name: 'socket',
      kind: 'section',
      defaultText: '',
      section: SOCKET,
      doc: 'The socket on which `replicate` tells its status.',
    },
    {
      name: 'heartbeat-url',
      kind: 'string',
      defaultText: '',
      doc: 'Asked for (GET) each heartbeat-interval, but only when everything committed is stored.',
    },
    {
      name: 'heartbeat-interval',
      kind: 'duration',
      defaultText: '5m',
      doc: 'How often heartbeat-url is asked for.',
    },
    {
      name: 'logging',
      kind: 'section',
      defaultText: '',
      section: LOGGING,
      doc: 'Form and place of the log.',
    },
    { name: 'dbs', kind: 'sections', defaultText: '', section: DATABASE, doc: 'The databases to replicate.' },
  ],
};
