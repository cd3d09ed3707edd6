/** What is needed to open a store: the resolved, validated form of a replica's storage keys. */

/** Keys of age (https://age-encryption.org), X25519 only. */
export interface EncryptionConfig {
  /** Public keys (`age1…`) that objects are encrypted for; without one nothing can be put. */
  readonly recipients: readonly string[];
  /** Secret keys (`AGE-SECRET-KEY-1…`) that objects are decrypted with; without one they are got as they are stored. */
  readonly identities: readonly string[];
  /** Objects that are not encrypted are read too, though there are identities: those from before. */
  readonly allowPlaintext?: boolean | undefined;
}

interface AnyStoreConfig {
  /** undefined: objects are stored as they are. */
  readonly encryption?: EncryptionConfig | undefined;
}

export interface FileStoreConfig extends AnyStoreConfig {
  readonly type: 'file';
  /** Absolute path of the replica's root folder. */
  readonly path: string;
  /** The database whose mode and owner new files copy (its folder's for new folders), if it exists then. */
  readonly ownerLike?: string | undefined;
}

export interface S3StoreConfig extends AnyStoreConfig {
  readonly type: 's3';
  readonly bucket: string;
  /** Key prefix without leading or trailing slash; empty for the bucket's root. */
  readonly path: string;
  /** undefined: looked up from the bucket when there is no endpoint, else us-east-1. */
  readonly region?: string | undefined;
  /** URL with scheme; undefined: Amazon's. */
  readonly endpoint?: string | undefined;
  readonly forcePathStyle: boolean;
  readonly skipVerify: boolean;
  /** false: bodies of uploads are sent without a hash in the signature, for stores that take no other. */
  readonly signPayload?: boolean | undefined;
  /** Content-MD5 on `all` uploads and batch deletes, on batch `deletes` (undefined), or on `none`. */
  readonly contentMd5?: 'all' | 'deletes' | 'none' | undefined;
  /** Parts of one upload in flight at once; undefined: the driver's choice. */
  readonly uploadConcurrency?: number | undefined;
  /** Size of the parts of an upload, 5 MiB or more; undefined: 5 MiB. Larger for objects that would have too many parts. */
  readonly partSizeBytes?: number | undefined;
  /** Parts that the store takes for one upload; undefined: 10,000. */
  readonly maxParts?: number | undefined;
  /** Both or neither; neither: the AWS default credential chain. */
  readonly accessKeyId?: string | undefined;
  readonly secretAccessKey?: string | undefined;
}

export interface AbsStoreConfig extends AnyStoreConfig {
  readonly type: 'abs';
  /** The container. */
  readonly bucket: string;
  /** Key prefix without trailing slash; one at the start is a part of the name. Empty for the container's root. */
  readonly path: string;
  /** Can be empty when there is an endpoint and no key. */
  readonly accountName: string;
  /** Base64, as Azure shows it. Neither it nor a SAS token: Azure's default credential (variables, workload, machine). */
  readonly accountKey?: string | undefined;
  /** Query string of a shared access signature, without `?`. */
  readonly sasToken?: string | undefined;
  /** URL with scheme, the account in its path where the server wants it there; undefined: Azure's for the account. */
  readonly endpoint?: string | undefined;
}

export interface GcsStoreConfig extends AnyStoreConfig {
  readonly type: 'gcs';
  readonly bucket: string;
  /** Key prefix without trailing slash; one at the start is a part of the name. Empty for the bucket's root. */
  readonly path: string;
  /** URL with scheme, used without credentials; undefined: STORAGE_EMULATOR_HOST if set, else Google's. */
  readonly endpoint?: string | undefined;
}

export interface SftpStoreConfig extends AnyStoreConfig {
  readonly type: 'sftp';
  readonly host: string;
  /** 22 unless the host names another. */
  readonly port: number;
  readonly user: string;
  readonly password?: string | undefined;
  /** Absolute path of a file with a private key. Neither a password nor a key: the agent at SSH_AUTH_SOCK. */
  readonly keyPath?: string | undefined;
  readonly keyPassphrase?: string | undefined;
  /** The server's public key as a line of known_hosts has it (`ssh-ed25519 AAAA…`), or `SHA256:…`; undefined: the one of the first login. */
  readonly hostKey?: string | undefined;
  /** Absolute or relative to the user's home; the replica's root folder. */
  readonly path: string;
}

export type StoreConfig = FileStoreConfig | S3StoreConfig | AbsStoreConfig | GcsStoreConfig | SftpStoreConfig;
