/** What reader-process.ts and its program say to each other, by structured clones. */

import type { ErrorCode } from '../base/errors.ts';
import { type LogAttributes, LogDuration, type LogLevel, type LogValue } from '../base/logger.ts';
import type { RestoreProgress } from '../engine/restore.ts';
import type { Timeline } from '../engine/timeline.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import type { CopyRequest, RestoreCopyRequest, RestorePlanReport, RestoredCopy } from './replica-reader.ts';

export type ReaderCall =
  | { readonly action: 'timeline'; readonly store: StoreConfig }
  | { readonly action: 'plan'; readonly request: CopyRequest }
  | { readonly action: 'restore'; readonly request: RestoreCopyRequest };

export interface ReaderResults {
  readonly timeline: Timeline;
  readonly plan: RestorePlanReport;
  readonly restore: RestoredCopy;
}

/** `id`: of the call. */
export type ReaderRequest = { readonly id: number } & (ReaderCall | { readonly action: 'abort' });

export type ReaderReply = { readonly id: number } & (
  | { readonly type: 'result'; readonly result: ReaderResults[keyof ReaderResults] }
  | { readonly type: 'error'; readonly code: ErrorCode; readonly message: string }
  | { readonly type: 'progress'; readonly progress: RestoreProgress }
  | {
      readonly type: 'log';
      readonly level: LogLevel;
      readonly message: string;
      readonly attributes: SentAttributes;
    }
);

/** A clone has no class. */
export type SentAttributes = Readonly<Record<string, LogValue | { readonly durationMs: number }>>;

export function toSent(attributes: LogAttributes): SentAttributes {
  const sent = Object.entries(attributes).map(([name, value]) => [
    name,
    value instanceof LogDuration ? { durationMs: value.ms } : value,
  ]);
  return Object.fromEntries(sent) as SentAttributes;
}

export function fromSent(attributes: SentAttributes): LogAttributes {
  const got = Object.entries(attributes).map(([name, value]) => [
    name,
    typeof value === 'object' && 'durationMs' in value ? new LogDuration(value.durationMs) : value,
  ]);
  return Object.fromEntries(got) as LogAttributes;
}
