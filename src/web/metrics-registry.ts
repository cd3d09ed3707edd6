/** The metrics themselves. Every number is read from the engine at the moment of the request; none is kept here. */

import type { CheckpointStats, DatabaseStats, ReplicaStats } from '../engine/stats.ts';
import type { RequestCount } from '../storage/counting-store.ts';
import { METRICS_CONTENT_TYPE, type Metric, type Sample, exposition } from './exposition.ts';
import { processMetrics } from './process-metrics.ts';
import { type StatusSources, eventLoopDelay, statusMetrics } from './status-metrics.ts';

export interface MetricsSources extends StatusSources {
  readonly requestCounts: () => readonly RequestCount[];
}

export interface Metrics {
  readonly contentType: string;
  /** All metrics as text. */
  metrics(): Promise<string>;
}

/** All metrics of one replicator and of this process: several may be in one process. */
export function createMetrics(sources: MetricsSources): Metrics {
  const all: Metric[] = [
    ...databaseMetrics(sources),
    ...checkpointMetrics(sources),
    ...replicaMetrics(sources),
    ...storageMetrics(sources),
    ...statusMetrics(sources),
    eventLoopDelay(),
    ...processMetrics(),
  ];
  return { contentType: METRICS_CONTENT_TYPE, metrics: () => exposition(all) };
}

function databaseMetrics({ stats }: MetricsSources): Metric[] {
  const metric = (
    type: Metric['type'],
    name: string,
    help: string,
    value: (database: DatabaseStats) => number,
  ): Metric => ({
    type,
    name: `litestream_${name}`,
    help,
    read: () => stats().map((database): Sample => [{ db: database.path }, value(database)]),
  });
  return [
    metric('gauge', 'db_size', 'Size of the database file in bytes.', (db) => db.sizeBytes),
    metric('gauge', 'wal_size', "Size of the database's WAL file in bytes.", (db) => db.walSizeBytes),
    metric('counter', 'total_wal_bytes', 'WAL bytes copied to the shadow WAL.', (db) => db.totalWalBytes),
    metric('gauge', 'shadow_wal_index', 'Index of the newest shadow WAL.', (db) => db.shadowWalIndex),
    metric(
      'gauge',
      'shadow_wal_size',
      'Size of the newest shadow WAL in bytes.',
      (db) => db.shadowWalSizeBytes,
    ),
    metric('counter', 'sync_count', 'How often the WAL was looked at for commits.', (db) => db.syncCount),
    metric('counter', 'sync_error_count', 'How often that failed.', (db) => db.syncErrorCount),
    metric('counter', 'sync_seconds', 'Time that it took, in seconds.', (db) => db.syncSeconds),
    metric(
      'counter',
      'writer_blocked_seconds',
      "Time for which the database's writers were kept waiting, in seconds.",
      (db) => db.writerBlockedSeconds,
    ),
  ];
}

function checkpointMetrics({ stats }: MetricsSources): Metric[] {
  const metric = (name: string, help: string, value: (checkpoint: CheckpointStats) => number): Metric => ({
    type: 'counter',
    name: `litestream_checkpoint_${name}`,
    help,
    read: () =>
      stats().flatMap(({ path, checkpoints }) =>
        [...checkpoints].map(([mode, checkpoint]): Sample => [{ db: path, mode }, value(checkpoint)]),
      ),
  });
  return [
    metric('count', 'Checkpoints made, by mode.', ({ count }) => count),
    metric('error_count', 'Checkpoints that failed, by mode.', ({ errorCount }) => errorCount),
    metric('seconds', 'Time that checkpoints took, in seconds, by mode.', ({ seconds }) => seconds),
  ];
}

function replicaMetrics({ stats }: MetricsSources): Metric[] {
  const samples = function* (read: (replica: ReplicaStats) => Sample[]): Generator<Sample> {
    for (const { path, replicas } of stats()) {
      for (const replica of replicas) {
        for (const [labels, value] of read(replica))
          yield [{ db: path, name: replica.name, ...labels }, value];
      }
    }
  };
  const metric = (
    type: Metric['type'],
    name: string,
    help: string,
    read: (replica: ReplicaStats) => Sample[],
  ): Metric => ({ type, name: `litestream_replica_${name}`, help, read: () => samples(read) });
  return [
    metric('counter', 'wal_bytes', 'WAL bytes stored, before compression.', ({ walBytes }) => [
      [{}, walBytes],
    ]),
    metric('gauge', 'wal_index', 'Index of the end of what is stored.', ({ walIndex }) => [[{}, walIndex]]),
    metric('gauge', 'wal_offset', 'Offset of the end of what is stored.', ({ walOffset }) => [
      [{}, walOffset],
    ]),
    metric('counter', 'validation_total', 'Validations of the replica, by result.', (replica) => [
      [{ status: 'error' }, replica.validationErrorCount],
      [{ status: 'ok' }, replica.validationOkCount],
    ]),
    metric(
      'gauge',
      'verification_timestamp_seconds',
      'When the last verification of the replica ended, with its result.',
      ({ verification }) =>
        verification ? [[{ status: verification.result }, Date.parse(verification.at) / 1000]] : [],
    ),
  ];
}

/** Requests to object storage. Files are not counted, as in v0.3.13. */
function storageMetrics({ requestCounts }: MetricsSources): Metric[] {
  const metric = (name: string, help: string, value: (count: RequestCount) => number): Metric => ({
    type: 'counter',
    name: `litestream_replica_operation_${name}`,
    help,
    read: () =>
      requestCounts()
        .filter(({ type }) => type !== 'file')
        .map((count): Sample => [{ replica_type: count.type, operation: count.operation }, value(count)]),
  });
  return [
    metric('total', 'Requests to object storage.', ({ count }) => count),
    metric('bytes', 'Bytes sent to and received from object storage.', ({ bytes }) => bytes),
  ];
}
