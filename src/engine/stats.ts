/** Numbers that the engine counts while it replicates: what metrics and status are made of. Plain data, no logic. */

export interface CheckpointStats {
  /** Completed attempts, also those that found it busy. */
  count: number;
  errorCount: number;
  seconds: number;
}

export interface ReplicaStats {
  readonly name: string;
  readonly type: string;
  /** End of what is stored; undefined before it is known. */
  generation: string | undefined;
  walIndex: number;
  walOffset: number;
  /** Uncompressed WAL bytes uploaded since the start. */
  walBytes: number;
  validationOkCount: number;
  validationErrorCount: number;
  /** Message of the last failure that is not mended yet. */
  lastError: string | undefined;
}

export interface DatabaseStats {
  readonly path: string;
  /** What keeps it from being replicated, for example that the file is missing; undefined when it is followed. */
  problem: string | undefined;
  sizeBytes: number;
  walSizeBytes: number;
  /** Committed WAL bytes copied since the start. */
  totalWalBytes: number;
  shadowWalIndex: number;
  shadowWalSizeBytes: number;
  syncCount: number;
  syncErrorCount: number;
  syncSeconds: number;
  /** By mode; we only ever use PASSIVE. */
  readonly checkpoints: Map<'PASSIVE', CheckpointStats>;
  /** Time for which our rotations held SQLite's write lock. */
  writerBlockedSeconds: number;
  readonly replicas: ReplicaStats[];
}
