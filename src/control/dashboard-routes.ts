/** What a running `replicate` answers to who shows it: history, timelines, snapshots on demand, restores in the background. */

import { basename } from 'node:path';
import { LitestreamError } from '../base/errors.ts';
import type { SnapshotRequestResult } from '../engine/pipeline.ts';
import type { History } from './history.ts';
import type { RestoreJobRequest, RestoreJobs } from './restore-jobs.ts';
import { type ControlRequest, FileAnswer, type Route, stringField } from './router.ts';
import type { Timelines } from './timeline-report.ts';

/** How long a snapshot is waited for before the answer is that it comes later. */
const SNAPSHOT_WAIT_MS = 20_000;

export interface DashboardParts {
  readonly history: History;
  readonly timelines: Timelines;
  readonly jobs: RestoreJobs;
  readonly snapshot: (path: string, signal: AbortSignal) => Promise<readonly SnapshotRequestResult[]>;
  /** In the text format of Prometheus. */
  readonly metrics: () => Promise<MetricsAnswer>;
}

export interface MetricsAnswer {
  readonly contentType: string;
  readonly text: string;
}

/** For each replica when its snapshot was stored, in ISO 8601; null: it comes with the next commits. */
export interface SnapshotAnswer {
  readonly replicas: readonly { readonly name: string; readonly at: string | null }[];
}

export function dashboardRoutes({ history, timelines, jobs, snapshot, metrics }: DashboardParts): Route[] {
  return [
    { method: 'GET', path: '/history', handle: () => history.report() },
    { method: 'GET', path: '/metrics', handle: metrics },
    { method: 'POST', path: '/timeline', handle: ({ body }) => timelines.of(databaseField(body)) },
    {
      method: 'POST',
      path: '/snapshot',
      async handle({ body, signal }): Promise<SnapshotAnswer> {
        const path = databaseField(body);
        const wait = AbortSignal.any([AbortSignal.timeout(SNAPSHOT_WAIT_MS), signal]);
        const results = await snapshot(path, wait);
        timelines.forget(path);
        return {
          replicas: results.map((result) => ({
            name: result.replica,
            at: result.snapshot ? new Date(result.snapshot.createdAtMs).toISOString() : null,
          })),
        };
      },
    },
    ...restoreRoutes(jobs),
  ];
}

/** The part that needs no replication: whoever can read the replicas can answer it. */
export function restoreRoutes(jobs: RestoreJobs): Route[] {
  return [
    { method: 'GET', path: '/jobs', handle: () => ({ jobs: jobs.list() }) },
    { method: 'POST', path: '/plan', handle: ({ body, signal }) => jobs.plan(restoreRequest(body), signal) },
    { method: 'POST', path: '/restore', handle: ({ body }) => jobs.start(restoreRequest(body)) },
    { method: 'POST', path: '/cancel', handle: ({ body }) => jobs.cancel(requiredField(body, 'id')) },
    {
      method: 'POST',
      path: '/download',
      handle({ body }) {
        const job = jobs.get(requiredField(body, 'id'));
        if (job.state !== 'done')
          throw new LitestreamError('busy', `the restore to ${job.outputPath} is ${job.state}`);
        return new FileAnswer(job.outputPath, basename(job.outputPath));
      },
    },
  ];
}

function restoreRequest(body: ControlRequest['body']): RestoreJobRequest {
  return {
    database: databaseField(body),
    replica: stringField(body, 'replica'),
    timestamp: stringField(body, 'timestamp'),
    fileName: stringField(body, 'fileName'),
  };
}

function databaseField(body: ControlRequest['body']): string {
  return requiredField(body, 'database');
}

function requiredField(body: ControlRequest['body'], name: string): string {
  const value = stringField(body, name);
  if (value === undefined || value === '') throw new LitestreamError('usage', `${name} is missing`);
  return value;
}
