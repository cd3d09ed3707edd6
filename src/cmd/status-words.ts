/** How commands put a status into words. */

import { formatDuration } from '../base/duration.ts';
import type { SurveyedDatabase } from '../control/survey.ts';
import type { Mode } from '../engine/status.ts';

type Status = SurveyedDatabase['status'];

/** The largest lag of a database's replicas in ms; undefined when one of them is not known, or there is none. */
export function lagOf({ replicas }: Status): number | undefined {
  const lags = replicas.map(({ lagMs }) => lagMs);
  if (lags.length === 0 || lags.includes(null)) return undefined;
  return Math.max(...lags.map((lagMs) => lagMs ?? 0));
}

/** A duration in one word: whole seconds from one second on. */
export function durationWord(ms: number | null | undefined): string {
  if (ms === null || ms === undefined) return 'unknown';
  return formatDuration(ms < 1000 ? Math.round(ms) : Math.round(ms / 1000) * 1000);
}

/** Null where that is not known. */
export function modeOf(status: Status): Mode | null {
  return 'mode' in status ? status.mode : null;
}

/** What can be done with a database in its mode and what cannot, where that is worth a word. */
export function modeNote(status: Status): string | undefined {
  if (modeOf(status) !== 'read-only') return undefined;
  return `${status.path}: read-only here: its commits are replicated, its checkpoints are left to its application`;
}
