/** What a verification gives: plain data, so that it goes over the control socket as it is. */

import { isTimeout } from '../base/concurrency.ts';
import { messageOf } from '../base/errors.ts';
import type { Position } from '../format/position.ts';

/** Something that is wrong with a replica. */
export interface Problem {
  /** The key of the object that is damaged or missing; null when it is not one object. */
  readonly object: string | null;
  /** The first page that differs, where pages were compared. */
  readonly page: number | null;
  readonly message: string;
}

/** What of a generation can be restored. */
export interface GenerationRange {
  readonly generation: string;
  /** ISO 8601; null: nothing can be restored. v0.3.13's objects do not tell: then the times of the objects count. */
  readonly from: string | null;
  /** Time of the last commit of the chain from the last snapshot on, as far as it is whole. */
  readonly to: string | null;
  readonly objectCount: number;
  /** Compressed. */
  readonly sizeBytes: number;
}

export interface VerificationResult {
  readonly replica: string;
  /**
   * `ok`: every object that was looked at is whole, and the restored database equals the live one. `failed`: it is not
   * so. `inconclusive`: neither is known, the message says why.
   */
  readonly result: 'ok' | 'failed' | 'inconclusive';
  readonly message: string;
  /** When it ended, in ISO 8601. */
  readonly at: string;
  readonly elapsedMs: number;
  /** Where the databases were compared; null: they were not. */
  readonly position: Position | null;
  /** So many pages were compared. */
  readonly pageCount: number | null;
  /** What is wrong; empty unless it failed. */
  readonly problems: readonly Problem[];
  /** What can be restored, the newest last; empty when not all objects were looked at. */
  readonly generations: readonly GenerationRange[];
}

export type VerificationDepth =
  /** What the latest state is restored from. */
  | 'latest'
  /** Every object of every generation besides. */
  | 'all';

/** The first of several problems, and how many there are. */
export function describeProblems(problems: readonly Problem[]): string {
  const [first] = problems;
  const more = problems.length > 1 ? ` (and ${problems.length - 1} more)` : '';
  return `${first?.message ?? ''}${more}`;
}

/** Why something could not be done, for the message of an inconclusive result. @param stage what was under way */
export function describeStop(stage: string, error: unknown, signal: AbortSignal): string {
  if (isTimeout(signal)) return `not done in time: ${stage}`;
  if (signal.aborted) return `given up while ${stage}`;
  return `${stage}: ${messageOf(error)}`;
}

/** A result of which only the reason is known. */
export function inconclusive(replica: string, message: string): VerificationResult {
  return {
    replica,
    result: 'inconclusive',
    message,
    at: new Date().toISOString(),
    elapsedMs: 0,
    position: null,
    pageCount: null,
    problems: [],
    generations: [],
  };
}
