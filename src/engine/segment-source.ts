/**
 * What a replica needs of the database that it copies: the committed chain in the shadow WAL, and a moment at which
 * the database file can be read. `database.ts` provides it; replicas never touch the database themselves.
 */

import type { CommitTime } from '../format/object-trailer.ts';
import type { Origin } from '../format/origin-frame.ts';
import type { Position } from '../format/position.ts';
import type { WalChecksum } from '../sqlite/wal.ts';

/** A database file held still: nothing beyond `position` gets into it until release. */
export interface SnapshotHold {
  /**
   * The committed end of the WAL when the hold began. The snapshot is named by its index; the replica must hold all
   * segments up to it before the snapshot is published.
   */
  readonly position: Position;
  /** The running checksum at that position; zeros at offset 0. */
  readonly checksum: WalChecksum;
  /** A time at which the database was in the state of that position: epoch milliseconds. */
  readonly timeMs: number;
  /** Size of the database file in bytes, a multiple of the page size. */
  readonly sizeBytes: number;
  /**
   * `sizeBytes` bytes: the database file's, in order, in chunks of at most 4 MiB. A chunk is only valid until the next
   * is asked for.
   */
  read(options?: { signal?: AbortSignal | undefined }): AsyncIterable<Uint8Array>;
  /** Ends the hold. Idempotent; must be called on every path. */
  release(): Promise<void>;
}

export interface SegmentSource {
  /** The user's path of the database, for messages. */
  readonly path: string;
  /** Where large temporary files may be put. */
  readonly metaPath: string;
  readonly pageSizeBytes: number;
  /**
   * The end of the committed, verified chain in the shadow WAL. Its generation changes when continuity is lost: then
   * a replica starts over with a snapshot of the new one.
   */
  position(): Position;
  /** Whether nothing was known here of the database before the present generation: replicas may hold another one's. */
  isFirstGeneration(): boolean;
  /** Whether it is the present one and was begun, under a name that is new, by this process. */
  isNewGeneration(generation: string): boolean;
  /** Which generations it follows, as far as is known here; undefined when it is not the present one. */
  originOf(generation: string): Origin | undefined;
  /** Called after each advance of position(), synchronously and often: do no work in it. Returns the unsubscriber. */
  onAdvance(listener: () => void): () => void;
  /** Copies what is committed by now, so that the upload that follows holds it too. Never rejects. */
  freshen(): Promise<void>;
  /** End of one index's committed data in bytes: 0 if it has none; fixed for indexes before position().index. */
  indexEnd(index: number): number;
  /** Whether the shadow WAL still holds `index` (a replica that needs one that is gone must start a new generation). */
  hasIndex(index: number): boolean;
  /**
   * When the commits in bytes [start, end) of an index were copied: offsets ascend, times do not descend, the last entry
   * is at `end`. What is not known any more has the present time.
   */
  commitTimes(index: number, start: number, end: number): Promise<readonly CommitTime[]>;
  /** Reads committed bytes [start, end) of an index's shadow WAL into a new buffer. `end` <= indexEnd(index). */
  readShadow(index: number, start: number, end: number): Promise<Uint8Array>;
  /**
   * Whether the chain has a commit that ends at `offset` of `index` with that running checksum (big-endian words as
   * they stand in the frame header). A replica whose end is not in the chain cannot continue this generation.
   */
  contains(index: number, offset: number, checksum: WalChecksum): Promise<boolean>;
  /** Tells which is the oldest index that this replica still needs, so that older shadow files can be removed. */
  retainFrom(replica: string, index: number): void;
  /**
   * Gives the generation up: the database starts a new one, with the reason logged.
   * @param isFork another process goes on with this one: the new one does not follow it. Default: false
   */
  restartGeneration(reason: string, isFork?: boolean): void;
  /** Holds the database file still. Rejects with 'aborted', or 'busy' when it cannot be had now. */
  holdSnapshot(options?: { signal?: AbortSignal | undefined }): Promise<SnapshotHold>;
}
