/** Everything that the page shows, as one object that the server makes and the browser draws from; and what follows from it. */

import type { HistoryReport } from '../../../control/history.ts';
import type { RestoreJob } from '../../../control/restore-jobs.ts';
import type { ReportedDatabase, StatusReport } from '../../../control/status-report.ts';
import type { TimelineReport } from '../../../control/timeline-report.ts';

/** Something that was begun from the page and takes a while. */
export interface Activity {
  readonly id: number;
  readonly database: string;
  readonly action: 'sync' | 'snapshot' | 'verify';
  readonly state: 'running' | 'done' | 'failed';
  readonly startedAt: string;
  readonly message: string;
}

/** What changes all the time. */
export interface Live {
  /** When it was asked for, in ISO 8601. */
  readonly at: string;
  readonly status: StatusReport;
  readonly jobs: readonly RestoreJob[];
  readonly activities: readonly Activity[];
}

/** What costs more to know. */
export interface Slow {
  /** By path of the database. */
  readonly timelines: Readonly<Record<string, TimelineReport>>;
  readonly history: HistoryReport | null;
}

export interface Overview extends Live, Slow {
  readonly readOnly: boolean;
}

/** What the viewer has chosen. */
export interface View {
  readonly zone: 'utc' | 'local';
  readonly nowMs: number;
  readonly filter: string;
  readonly state: 'all' | 'unwell';
  /** Databases that are shown in full. */
  readonly opened: ReadonlySet<string>;
  /** Whether the browser hears of changes. */
  readonly connection: 'live' | 'stale' | 'static';
}

export type DatabaseView = ReportedDatabase;
export type ReplicaView = Extract<DatabaseView['replicas'][number], { readonly state: string }>;

/** With more databases each is one row until it is opened. */
export const DENSE_FROM = 9;

/** Whether this replica's status is from the process itself. */
export function isFull(replica: DatabaseView['replicas'][number]): replica is ReplicaView {
  return 'state' in replica;
}

/** Unhealthy first, then in the order of the config. */
export function sorted(databases: readonly DatabaseView[]): readonly DatabaseView[] {
  return databases.toSorted((a, b) => Number(a.healthy) - Number(b.healthy));
}

export function matches(database: DatabaseView, { filter, state }: View): boolean {
  if (state === 'unwell' && database.healthy) return false;
  const words = filter.toLowerCase().split(/\s+/);
  const text = `${database.path} ${database.state}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

/** The largest lag of its replicas in ms; undefined when one is not known, or there is none. */
export function lagOf({ replicas }: DatabaseView): number | undefined {
  const lags = replicas.map(({ lagMs }) => lagMs);
  return lags.length === 0 || lags.includes(null) ? undefined : Math.max(...lags.map((lag) => lag ?? 0));
}

/** The shortest end of each path that tells it from the others. */
export function shortNames(paths: readonly string[]): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  for (const path of paths) {
    const parts = path.split('/').filter((part) => part !== '');
    let depth = 1;
    const end = (other: string): string => other.split('/').filter(Boolean).slice(-depth).join('/');
    while (depth < parts.length && paths.some((other) => other !== path && end(other) === end(path))) depth++;
    names.set(path, end(path) || path);
  }
  return names;
}

/** Sum of the last hour; undefined when nothing is known of it. */
export function hourSum(row: readonly (number | null)[] | undefined): number | undefined {
  const known = row?.filter((value) => value !== null) ?? [];
  return known.length === 0 ? undefined : known.reduce((sum, value) => sum + value, 0);
}
