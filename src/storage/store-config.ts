/** What is needed to open a store: the resolved, validated form of a replica's storage keys. */

export interface FileStoreConfig {
  readonly type: 'file';
  /** Absolute path of the replica's root folder. */
  readonly path: string;
  /** The database whose mode and owner new files copy (its folder's for new folders), if it exists then. */
  readonly ownerLike?: string | undefined;
}

export interface S3StoreConfig {
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
  /** Both or neither; neither: the AWS default credential chain. */
  readonly accessKeyId?: string | undefined;
  readonly secretAccessKey?: string | undefined;
}

export type StoreConfig = FileStoreConfig | S3StoreConfig;
