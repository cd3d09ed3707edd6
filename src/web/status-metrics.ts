/** Metrics beyond v0.3.13's: whether the data is safe, what can be restored, and what it costs. */

import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { DatabaseStats } from '../engine/stats.ts';
import type { DatabaseStatus, ReplicaStatus } from '../engine/status.ts';
import type { Metric, Sample } from './exposition.ts';

const EVENT_LOOP_RESOLUTION_MS = 100;
const QUANTILES = [0.5, 0.99, 1] as const;

export interface StatusSources {
  readonly stats: () => readonly DatabaseStats[];
  readonly status: () => readonly DatabaseStatus[];
}

export function statusMetrics(sources: StatusSources): Metric[] {
  return [...databaseGauges(sources), ...replicaGauges(sources), ...requestCounters(sources)];
}

function databaseGauges({ stats, status }: StatusSources): Metric[] {
  return [
    {
      name: 'litestream_healthy',
      help: '1 when the database and all its replicas are well, else 0.',
      type: 'gauge',
      read: () => status().map(({ path, healthy }): Sample => [{ db: path }, Number(healthy)]),
    },
    {
      name: 'litestream_spool_size_bytes',
      help: 'Size of the shadow WAL on disk, in bytes.',
      type: 'gauge',
      read: () => stats().map(({ path, spoolSizeBytes }): Sample => [{ db: path }, spoolSizeBytes]),
    },
  ];
}

/** A time in seconds since 1970; nothing of what is not known. */
function seconds(iso: string | undefined | null): readonly number[] {
  return iso === undefined || iso === null ? [] : [Date.parse(iso) / 1000];
}

function replicaGauges({ status }: StatusSources): Metric[] {
  const gauge = (
    name: string,
    help: string,
    values: (replica: ReplicaStatus) => readonly number[],
  ): Metric => ({
    name: `litestream_replica_${name}`,
    help,
    type: 'gauge',
    read: () => eachReplica(status, (replica) => values(replica).map((value): Sample => [{}, value])),
  });
  return [
    gauge('healthy', '1 when the replica is well, else 0.', ({ healthy }) => [Number(healthy)]),
    gauge(
      'lag_seconds',
      'Age of the oldest commit that is not stored, in seconds; 0 when all are.',
      ({ lagMs }) => (lagMs === null ? [] : [lagMs / 1000]),
    ),
    gauge('backlog_bytes', 'WAL that is committed and not stored, in bytes.', ({ backlogBytes }) =>
      backlogBytes === null ? [] : [backlogBytes],
    ),
    gauge('last_upload_timestamp_seconds', 'When a segment or a snapshot was stored last.', (replica) =>
      seconds(replica.lastUploadAt),
    ),
    gauge('snapshot_timestamp_seconds', 'When the newest snapshot was taken.', ({ lastSnapshot }) =>
      seconds(lastSnapshot?.at),
    ),
    gauge(
      'snapshot_size_bytes',
      'Size of the newest snapshot as it is stored, in bytes.',
      ({ lastSnapshot }) => (lastSnapshot ? [lastSnapshot.sizeBytes] : []),
    ),
    gauge(
      'restorable_from_timestamp_seconds',
      'The first moment that is known to be restorable.',
      ({ restorable }) => seconds(restorable?.from),
    ),
    gauge('restorable_to_timestamp_seconds', 'The last moment that is restorable.', ({ restorable }) =>
      seconds(restorable?.to),
    ),
    gauge(
      'verification_ok',
      '1 when the last verification found the replica well, 0 when not, or when it was inconclusive.',
      ({ lastVerification }) => (lastVerification ? [Number(lastVerification.result === 'ok')] : []),
    ),
  ];
}

function requestCounters({ status }: StatusSources): Metric[] {
  const counter = (
    name: string,
    help: string,
    value: (count: { count: number; bytes: number }) => number,
  ): Metric => ({
    name: `litestream_replica_${name}`,
    help,
    type: 'counter',
    read: () =>
      eachReplica(status, ({ requests, type }) =>
        requests.map((request): Sample => [
          { replica_type: type, operation: request.operation },
          value(request),
        ]),
      ),
  });
  return [
    counter('requests_total', 'Operations on the store, by replica.', ({ count }) => count),
    counter(
      'request_bytes_total',
      'Bytes sent to and received from the store, by replica.',
      ({ bytes }) => bytes,
    ),
  ];
}

function* eachReplica(
  status: StatusSources['status'],
  read: (replica: ReplicaStatus) => readonly Sample[],
): Generator<Sample> {
  for (const { path, replicas } of status()) {
    for (const replica of replicas) {
      for (const [labels, value] of read(replica)) yield [{ db: path, name: replica.name, ...labels }, value];
    }
  }
}

/** For how long the process did nothing else, since it was asked last. */
export function eventLoopDelay(): Metric {
  let histogram: IntervalHistogram | undefined;
  const read = (): Sample[] => {
    if (!histogram) {
      histogram = monitorEventLoopDelay({ resolution: EVENT_LOOP_RESOLUTION_MS });
      histogram.enable();
    }
    const delays = histogram;
    const samples = QUANTILES.map((quantile): Sample => {
      // The histogram counts its own interval in; the largest of nothing is nothing.
      const ms = delays.percentile(quantile * 100) / 1e6 - EVENT_LOOP_RESOLUTION_MS;
      return [{ quantile: String(quantile) }, Math.max(0, ms) / 1000];
    });
    delays.reset();
    return samples;
  };
  return {
    name: 'litestream_event_loop_delay_seconds',
    help: 'Delay of the event loop since metrics were asked for last, by quantile; 1 is the largest.',
    type: 'gauge',
    read,
  };
}
