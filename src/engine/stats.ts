/** Numbers that the engine counts while it replicates: what metrics and status are made of. Plain data. */

import type { ErrorCode } from '../base/errors.ts';
import { RequestTallies } from '../storage/counting-store.ts';
import type { Verification } from './verification-record.ts';

export interface CheckpointStats {
  /** Completed attempts, also those that found it busy. */
  count: number;
  errorCount: number;
  seconds: number;
}

/** Something that fails, or failed. Times in epoch milliseconds. */
export interface FailureStats {
  /** What fails, by v0.3.13's names: `monitor` is the upload. `presence` is the look whether what was stored is there. */
  readonly activity: 'monitor' | 'snapshotter' | 'presence' | 'validation' | 'retainer';
  readonly message: string;
  /** Undefined for what is no expected failure. */
  readonly code: ErrorCode | undefined;
  /** When it failed for the first time in a row. */
  readonly sinceMs: number;
  /** When it failed last. */
  readonly atMs: number;
}

/** A snapshot in a replica. */
export interface SnapshotStats {
  readonly generation: string;
  readonly index: number;
  /** Compressed. */
  readonly sizeBytes: number;
  /** By the store's clock, in epoch milliseconds. */
  readonly createdAtMs: number;
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
  /** What fails at present, the most important first. */
  failures: readonly FailureStats[];
  /** The newest failure, also when it is mended by now. */
  lastFailure: FailureStats | undefined;
  /** When the last segment or snapshot was stored, in epoch milliseconds. */
  lastUploadAtMs: number | undefined;
  /** Time of the last commit that is stored, as far as it is known: epoch milliseconds. */
  lastCommitMs: number | undefined;
  /** Of the generation that this one follows in the replica, in epoch milliseconds, where it was found there. */
  previousCommitMs: number | undefined;
  /** The newest snapshot of the present generation. */
  snapshot: SnapshotStats | undefined;
  /** Time of the oldest snapshot that is known to be there, in epoch milliseconds. */
  oldestSnapshotAtMs: number | undefined;
  /** The result of the last verification, also of an earlier process. */
  verification: Verification | undefined;
  /** When the store was last asked whether it holds what was stored, in epoch milliseconds. */
  lastLookAtMs: number | undefined;
  /** What was found to be gone, or foreign, as long as nothing has taken its place. */
  loss: { readonly reason: string; readonly sinceMs: number } | undefined;
  /** An object that another process has written, and when that was found, in epoch milliseconds. */
  otherWriter: { readonly key: string; readonly atMs: number } | undefined;
  /** The store does not permit to delete: what left the retention window stays. */
  retentionRefused: boolean;
  /** Why it cannot be told what has left the retention window; undefined: it can. */
  clockDoubt: string | undefined;
  /** Why retention deletes nothing: what was planned would have been too much. Since when, in epoch milliseconds. */
  retentionBreach: { readonly reason: string; readonly sinceMs: number } | undefined;
  /** Requests of this replica alone. */
  readonly requests: RequestTallies;
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
  /** Of the whole shadow WAL: what is kept on disk for replicas that have not got it yet, and a little more. */
  spoolSizeBytes: number;
  syncCount: number;
  syncErrorCount: number;
  syncSeconds: number;
  /** By mode; we only ever use PASSIVE. */
  readonly checkpoints: Map<'PASSIVE', CheckpointStats>;
  /** Time for which our rotations held SQLite's write lock. */
  writerBlockedSeconds: number;
  /** When the WAL was last brought to a place where it starts over, in epoch milliseconds. */
  lastRotationAtMs: number | undefined;
  readonly replicas: ReplicaStats[];
}

export function newReplicaStats(name: string, type: string): ReplicaStats {
  return {
    name,
    type,
    generation: undefined,
    walIndex: 0,
    walOffset: 0,
    walBytes: 0,
    validationOkCount: 0,
    validationErrorCount: 0,
    lastError: undefined,
    failures: [],
    lastFailure: undefined,
    lastUploadAtMs: undefined,
    lastCommitMs: undefined,
    previousCommitMs: undefined,
    snapshot: undefined,
    oldestSnapshotAtMs: undefined,
    verification: undefined,
    lastLookAtMs: undefined,
    loss: undefined,
    otherWriter: undefined,
    retentionRefused: false,
    clockDoubt: undefined,
    retentionBreach: undefined,
    requests: new RequestTallies(),
  };
}

/** The numbers of a database that was not tried yet. */
export function newDatabaseStats(path: string): DatabaseStats {
  return {
    path,
    problem: 'starting',
    sizeBytes: 0,
    walSizeBytes: 0,
    totalWalBytes: 0,
    shadowWalIndex: 0,
    shadowWalSizeBytes: 0,
    spoolSizeBytes: 0,
    syncCount: 0,
    syncErrorCount: 0,
    syncSeconds: 0,
    checkpoints: new Map([['PASSIVE', { count: 0, errorCount: 0, seconds: 0 }]]),
    writerBlockedSeconds: 0,
    lastRotationAtMs: undefined,
    replicas: [],
  };
}
