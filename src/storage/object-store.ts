/**
 * The contract of a storage driver: a flat object store. Keys are relative to the replica's root, with `/` between
 * parts, never starting with `/` and never holding `.` or `..` parts. A driver knows nothing of generations or WAL.
 */

import type { Semaphore } from '../base/concurrency.ts';

export interface ObjectInfo {
  readonly key: string;
  /** Stored size in bytes. */
  readonly sizeBytes: number;
  /** When the store says the object came into being (mtime, LastModified). What is beyond the millisecond is cut. */
  readonly modifiedAt: Date;
  /** The nanoseconds that were cut, where the store knows of any. */
  readonly modifiedNs?: number | undefined;
  /** What the store calls the content, where it does (an ETag): other content under the same key is called otherwise. */
  readonly version?: string | undefined;
}

export interface CallOptions {
  /** Aborted before the start: nothing is written. Aborted later: rejects with code 'aborted', no partial object visible. */
  readonly signal?: AbortSignal | undefined;
}

export interface GetOptions extends CallOptions {
  /** Bytes [start, end), end exclusive and greater than start; clipped to the object, so none behind its end. */
  readonly range?: { readonly start: number; readonly end?: number } | undefined;
}

export interface ObjectBody {
  /** Bytes that `stream` yields when it is complete. */
  readonly sizeBytes: number;
  /** Consume it once, to the end or break out (which releases the connection). A body cut short rejects with 'unavailable'. */
  readonly stream: AsyncIterable<Uint8Array>;
}

export interface PutOptions extends CallOptions {
  /** Expected size in bytes, if known: lets a driver choose its part size. Not a promise. */
  readonly sizeHintBytes?: number | undefined;
  /**
   * Asked before a request that goes out while another one of the same put is under way: gives what to call at its end,
   * or undefined when it must wait for the other. Absent: as many as the driver likes.
   */
  readonly spare?: (() => (() => void) | undefined) | undefined;
  /**
   * Rejects with 'exists', and leaves it as it is, when there is an object of that key: also one that an earlier attempt
   * of this very put has made, whose answer was lost. In the same request; a storage that cannot do that overwrites.
   */
  readonly ifAbsent?: boolean | undefined;
}

/** What whoever opens a store may want to know of it besides what its calls give. */
export interface OpenOptions {
  /** Told, in words for the user, of what works but should be changed; at most once for each reason. */
  readonly warn?: ((message: string) => void) | undefined;
  /** Shared by all stores whose requests are to be limited in total; a local store takes none of it. */
  readonly places?: Semaphore | undefined;
}

export interface StoreCapabilities {
  /** Writes go to a local disk: no need to spool before a slow upload. */
  readonly local: boolean;
  /** Requests worth having under way at once. */
  readonly concurrency: number;
}

export interface ObjectStore {
  /** The config's type: `file`, `s3`, ... */
  readonly type: string;
  /** Where it is, for messages: no secrets. For example `s3://bucket/path (endpoint http://127.0.0.1:9000)`. */
  readonly location: string;
  readonly capabilities: StoreCapabilities;
  /** All objects whose key starts with `prefix`, at any depth, in no particular order. A missing root yields nothing. */
  list(prefix: string, options?: CallOptions): AsyncIterable<ObjectInfo>;
  /**
   * The distinct next parts under `prefix` (which ends with `/` or is empty) that hold further objects, without the
   * slash: for `generations/`, the generations. In no particular order. A missing root yields nothing.
   */
  listPrefixes(prefix: string, options?: CallOptions): AsyncIterable<string>;
  /**
   * What a listing says of the object, asked for by its name, as new as a `get` of it; undefined when it is not there.
   * Absent where only a listing tells.
   */
  stat?(key: string, options?: CallOptions): Promise<ObjectInfo | undefined>;
  /** Rejects with 'not-found' when there is no such object. */
  get(key: string, options?: GetOptions): Promise<ObjectBody>;
  /**
   * Writes or overwrites an object. It becomes visible whole or not at all. Durable when it resolves.
   * A Uint8Array body may be retried by decorators; a stream is consumed once, and its producer may reuse a chunk
   * when it is asked for the next. What the stream throws is passed on as it is.
   */
  put(key: string, body: Uint8Array | AsyncIterable<Uint8Array>, options?: PutOptions): Promise<ObjectInfo>;
  /**
   * Writes a small object unless there is one of that key; false: there is one, and it stays. Not to be repeated: an
   * answer that was lost makes it look as if another had written. Absent where the storage knows no such thing; rejects
   * with 'unsupported' where the server does not. A server may also ignore it, and write.
   */
  putIfAbsent?(key: string, data: Uint8Array, options?: CallOptions): Promise<boolean>;
  /** Deletes objects, in the given order where the store allows; missing ones are not an error. */
  delete(keys: readonly string[], options?: CallOptions): Promise<void>;
  /**
   * Size of the content that `get` gives of a listed object. Absent where it is what the listing says: objects are
   * larger when they are stored encrypted.
   */
  contentSize?(object: Pick<ObjectInfo, 'key' | 'sizeBytes'>, options?: CallOptions): Promise<number>;
  /**
   * Removes what uploads of keys under `prefix` have left that were last written to (or, where that is not known, begun)
   * before a time, and are not this store's own. Absent where nothing is ever left, or the store removes it by itself.
   * @returns how many
   */
  removeAbandoned?(prefix: string, before: Date, options?: CallOptions): Promise<number>;
  /** Releases connections. Idempotent. */
  close(): Promise<void>;
}
