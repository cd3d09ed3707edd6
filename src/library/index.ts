/** The public API of the package: the data of each command as objects, and replication beside an application. */

export { LitestreamError, type ErrorCode } from '../base/errors.ts';
export type { VerifyAnswer } from '../control/verify.ts';
export type { StatusReport } from '../control/status-report.ts';
export type { RestoreProgress } from '../engine/restore.ts';
export type { TimelineGap, TimelineRange, TimelineSnapshot } from '../engine/timeline.ts';
export type { GenerationRange, Problem, VerificationResult } from '../engine/verification-result.ts';
export type { DatabaseStatus, ReplicaStatus, State } from '../engine/status.ts';
export { createDashboard, type Dashboard, type DashboardOptions } from './dashboard.ts';
export type { EnabledOptions } from './enabled.ts';
export {
  generations,
  snapshots,
  timeline,
  wal,
  type Generation,
  type ListingOptions,
  type ReplicaTimeline,
  type Snapshot,
  type WalSegment,
} from './listings.ts';
export type { EntryLevel, LogEntry, LogMethods, LogTarget } from './log.ts';
export {
  startReplication,
  type Replication,
  type ReplicationEvents,
  type ReplicationOptions,
  type ReplicationState,
} from './replication.ts';
export {
  restore,
  restoreIfMissing,
  type MissingDatabase,
  type RestoreIfMissingOptions,
  type RestoreOptions,
} from './restore.ts';
export type { DatabaseSettings, ReplicaSettings } from './settings.ts';
export type { ConfigOptions, ReplicaSource } from './source.ts';
export {
  databases,
  status,
  type ConfiguredDatabase,
  type ConfiguredReplica,
  type StatusOptions,
} from './status.ts';
export { sync, waitForSync, type SyncOptions } from './sync.ts';
export { verify, type VerifyOptions } from './verify.ts';
