/** Databases and replicas as options: the keys, values and defaults of the config file, see docs/configuration.md. */

/** How long something is, in the syntax of the config file: `10s`, `72h`. */
type Duration = string;

export interface ReplicaSettings {
  readonly type?: 'file' | 's3' | 'abs' | 'gcs' | 'sftp';
  readonly name?: string;
  readonly path?: string;
  readonly url?: string;
  readonly 'sync-interval'?: Duration;
  readonly 'snapshot-interval'?: Duration;
  readonly retention?: Duration;
  readonly 'retention-check-interval'?: Duration;
  readonly 'validation-interval'?: Duration;
  readonly 'access-key-id'?: string;
  readonly 'secret-access-key'?: string;
  readonly region?: string;
  readonly bucket?: string;
  readonly endpoint?: string;
  readonly 'force-path-style'?: boolean;
  readonly 'skip-verify'?: boolean;
  readonly 'sign-payload'?: boolean;
  readonly 'require-content-md5'?: boolean;
  readonly concurrency?: number;
  readonly 'part-size'?: string;
  readonly 'max-parts'?: number;
  readonly 'account-name'?: string;
  readonly 'account-key'?: string;
  readonly 'sas-token'?: string;
  readonly host?: string;
  readonly user?: string;
  readonly password?: string;
  readonly 'key-path'?: string;
  readonly 'key-passphrase'?: string;
  readonly 'host-key'?: string;
  readonly age?: {
    readonly identities?: readonly string[];
    readonly recipients?: readonly string[];
    readonly 'allow-plaintext'?: boolean;
  };
}

export interface DatabaseSettings {
  readonly path: string;
  /** As URLs or with their keys; absent: one in `bucket`. */
  readonly replicas?: readonly (string | ReplicaSettings)[];
  readonly 'meta-path'?: string;
  readonly 'monitor-interval'?: Duration;
  readonly 'checkpoint-interval'?: Duration;
  readonly 'min-checkpoint-page-count'?: number;
  readonly 'max-checkpoint-page-count'?: number;
}
