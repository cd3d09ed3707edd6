/** A dashboard over a source that says what the test wants, without processes and sockets. */

import type { HistoryReport } from '../../src/control/history.ts';
import type { RestoreJob } from '../../src/control/restore-jobs.ts';
import type { ReportedDatabase, StatusReport } from '../../src/control/status-report.ts';
import type { TimelineReport } from '../../src/control/timeline-report.ts';
import type { DashboardSource, FileToSend } from '../../src/web/dashboard/source.ts';
import { LitestreamError } from '../../src/base/errors.ts';
import { Readable } from 'node:stream';

export const AT = '2026-01-15T10:30:00.000Z';

/** A healthy database, changed by `changes`. */
export function database(path: string, changes: Partial<ReportedDatabase> = {}): ReportedDatabase {
  return {
    path,
    metaPath: `${path}-litestream`,
    mode: 'read-write',
    state: 'ok',
    healthy: true,
    reason: null,
    remedy: null,
    since: null,
    sizeBytes: 1_200_000,
    walSizeBytes: 32_992,
    walPin: null,
    position: null,
    lastRotationAt: null,
    writerBlockedMs: 0,
    source: 'socket',
    replicas: [
      {
        name: 's3',
        type: 's3',
        location: 's3://backups/app',
        state: 'ok',
        healthy: true,
        reason: null,
        remedy: null,
        since: null,
        position: { generation: '0123456789abcdef', index: 1, offset: 4152 },
        lagMs: 0,
        backlogBytes: 0,
        lastUploadAt: AT,
        lastError: null,
        requests: [{ type: 's3', operation: 'PUT', count: 9, bytes: 900 }],
        lastSnapshot: {
          generation: '0123456789abcdef',
          index: 0,
          at: '2026-01-15T09:00:00.000Z',
          sizeBytes: 77,
        },
        restorable: { from: '2026-01-14T10:00:00.000Z', to: AT },
        lastVerification: null,
        retentionRefused: false,
      },
    ],
    ...changes,
  } as ReportedDatabase;
}

export function report(
  databases: readonly ReportedDatabase[],
  changes: Partial<StatusReport> = {},
): StatusReport {
  const ill = databases.find(({ healthy }) => !healthy);
  return {
    running: true,
    healthy: ill === undefined,
    reason: ill ? `${ill.path}: ${ill.reason ?? ''}` : null,
    version: 'v1',
    pid: 7,
    startedAt: '2026-01-15T00:00:00.000Z',
    databases,
    ...changes,
  };
}

export class FakeSource implements DashboardSource {
  report: StatusReport;
  jobList: RestoreJob[] = [];
  readonly calls: { readonly path: string; readonly body: object }[] = [];
  /** What a call is answered with. */
  answer: (path: string, body: object) => Promise<object> = () => Promise.resolve({});

  constructor(databases: readonly ReportedDatabase[] = [database('/data/app.db')]) {
    this.report = report(databases);
  }

  status(): Promise<StatusReport> {
    return Promise.resolve(this.report);
  }

  history(): Promise<HistoryReport | null> {
    return Promise.resolve(null);
  }

  jobs(): Promise<readonly RestoreJob[]> {
    return Promise.resolve(this.jobList);
  }

  metrics(): Promise<{ contentType: string; text: string } | null> {
    return Promise.resolve({ contentType: 'text/plain; version=0.0.4', text: 'litestream_x 1\n' });
  }

  async call(path: string, body: { readonly database: string }): Promise<object> {
    if (path === '/timeline') {
      const timeline: TimelineReport = { path: body.database, at: AT, retentionMs: 86_400_000, replicas: [] };
      return timeline;
    }
    this.calls.push({ path, body });
    return this.answer(path, body);
  }

  download(_: string, id: string): Promise<FileToSend> {
    if (id !== 'job') return Promise.reject(new LitestreamError('not-found', `there is no restore ${id}`));
    const stream = Readable.from([Buffer.from('SQLite '), Buffer.from('format 3')]);
    return Promise.resolve({ name: 'a "b".db', sizeBytes: 15, stream });
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
