/** A survey as the one object that `status -json` prints and the dashboard shows: specified in docs/status.md. */

import type { Survey, SurveyedDatabase } from './survey.ts';

export type ReportedDatabase = SurveyedDatabase['status'] & { readonly source: SurveyedDatabase['source'] };

export interface StatusReport {
  /** Whether there is a process, as far as can be told. */
  readonly running: boolean;
  /** Of all databases; false when nothing runs. */
  readonly healthy: boolean;
  /** The first thing that is wrong, in words. */
  readonly reason: string | null;
  readonly version: string | null;
  readonly pid: number | null;
  readonly startedAt: string | null;
  /** In the order of the config. */
  readonly databases: readonly ReportedDatabase[];
}

export function statusReport({ running, process, databases }: Survey): StatusReport {
  const ill = databases.find(({ status }) => !status.healthy);
  return {
    running,
    healthy: running && ill === undefined,
    reason: ill === undefined ? null : explanation(ill.status),
    version: process?.version ?? null,
    pid: process?.pid ?? null,
    startedAt: process?.startedAt ?? null,
    databases: databases.map(({ status, source }) => ({ ...status, source })),
  };
}

/** Why a database is as it is, and what to do: `PATH: STATE: REASON; REMEDY`. */
export function explanation({ path, state, reason, remedy }: SurveyedDatabase['status']): string {
  return [`${path}: ${state}`, [reason, remedy].filter((text) => text !== null).join('; ')]
    .filter((text) => text !== '')
    .join(': ');
}
