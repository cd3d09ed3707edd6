/** What the engine is told: config resolves to this. All durations are milliseconds, possibly fractional. */

import type { StoreConfig } from '../storage/store-config.ts';

export interface ReplicaOptions {
  /** Unique among the database's replicas. */
  readonly name: string;
  readonly store: StoreConfig;
  /** At most one upload per this long; the first commit after a quiet time goes out at once. */
  readonly syncIntervalMs: number;
  /** A new snapshot when the newest is older than this; 0: only when retention needs one. */
  readonly snapshotIntervalMs: number;
  /** Every moment of the last retentionMs stays restorable; <= 0: nothing is ever deleted. */
  readonly retentionMs: number;
  readonly retentionCheckIntervalMs: number;
  /** Restore and compare this often; 0: never. */
  readonly validationIntervalMs: number;
}

export interface DatabaseOptions {
  /** Absolute path as configured (symlinks not resolved). */
  readonly path: string;
  /** Absolute path of the meta directory; undefined: `DIR/.FILE-litestream` beside the database. */
  readonly metaPath?: string | undefined;
  readonly monitorIntervalMs: number;
  /** Rotate the WAL at least this often while it holds commits. */
  readonly checkpointIntervalMs: number;
  /** Rotate the WAL from this many pages on; > 0. */
  readonly minCheckpointPageCount: number;
  /** Rotate with more insistence from this many pages on; 0: never. */
  readonly maxCheckpointPageCount: number;
  readonly replicas: readonly ReplicaOptions[];
}

export const DATABASE_DEFAULTS: Omit<DatabaseOptions, 'path' | 'replicas' | 'metaPath'> = {
  monitorIntervalMs: 1000,
  checkpointIntervalMs: 60_000,
  minCheckpointPageCount: 1000,
  maxCheckpointPageCount: 10_000,
};

export const REPLICA_DEFAULTS: Omit<ReplicaOptions, 'name' | 'store'> = {
  syncIntervalMs: 1000,
  snapshotIntervalMs: 0,
  retentionMs: 24 * 3600_000,
  retentionCheckIntervalMs: 3600_000,
  validationIntervalMs: 0,
};

export const DEFAULT_SHUTDOWN_TIMEOUT_MS = 8000;

/** Far fewer than the files that a process may open, and enough for hundreds of databases. */
export const DEFAULT_MAX_CONCURRENT_REQUESTS = 256;
