/** What a running `replicate` answers. */

import { timeoutSignal } from '../base/concurrency.ts';
import { LitestreamError } from '../base/errors.ts';
import { type DatabaseStatus, type ProcessStatus, processStatus } from '../engine/status.ts';
import type { VerificationDepth, VerificationResult } from '../engine/verification-result.ts';
import { type ControlRequest, type Route, booleanField, numberField, stringField } from './router.ts';
import { DEFAULT_VERIFY_TIMEOUT_MS, type VerifyAnswer, verifyAnswer } from './verify.ts';

/** The part of a replicator that can be asked. */
export interface Replication {
  status(): DatabaseStatus[];
  sync(path: string | undefined, signal: AbortSignal): Promise<void>;
  release(path: string, signal: AbortSignal): Promise<void>;
  verify(
    path: string,
    options: { readonly name: string | undefined; readonly depth: VerificationDepth },
    signal: AbortSignal,
  ): Promise<readonly VerificationResult[]>;
}

export interface SyncAnswer {
  /** False: it was only begun. */
  readonly stored: boolean;
}

export const DEFAULT_SYNC_TIMEOUT_MS = 30_000;
/** What is stored before a database is let go of: someone waits for its restore. */
const DEFAULT_RELEASE_TIMEOUT_MS = 5_000;
const MAX_TIMEOUT_MS = 24 * 3600_000;

export function replicationRoutes(
  replication: Replication,
  self: Pick<ProcessStatus, 'version' | 'pid' | 'startedAt'>,
): Route[] {
  return [
    { method: 'GET', path: '/status', handle: () => processStatus(self, replication.status()) },
    {
      method: 'POST',
      path: '/sync',
      async handle({ body, signal }): Promise<SyncAnswer> {
        const database = stringField(body, 'database');
        const timeout = timeoutOf(body, DEFAULT_SYNC_TIMEOUT_MS);
        if (booleanField(body, 'wait') === false) return begin(replication, database, timeout);
        await replication.sync(database, AbortSignal.any([timeout, signal]));
        return { stored: true };
      },
    },
    {
      method: 'POST',
      path: '/release',
      async handle({ body, signal }): Promise<object> {
        const database = stringField(body, 'database');
        if (database === undefined) throw new LitestreamError('usage', 'database is missing');
        const timeout = timeoutOf(body, DEFAULT_RELEASE_TIMEOUT_MS);
        await replication.release(database, AbortSignal.any([timeout, signal]));
        return { released: true };
      },
    },
    {
      method: 'POST',
      path: '/verify',
      async handle({ body, signal }): Promise<VerifyAnswer> {
        const database = stringField(body, 'database');
        if (database === undefined) throw new LitestreamError('usage', 'database is missing');
        const depth = stringField(body, 'depth') ?? 'all';
        if (depth !== 'all' && depth !== 'latest') {
          throw new LitestreamError('usage', 'depth must be all or latest');
        }
        const name = stringField(body, 'replica');
        const timeout = timeoutOf(body, DEFAULT_VERIFY_TIMEOUT_MS);
        const either = AbortSignal.any([timeout, signal]);
        return verifyAnswer(database, await replication.verify(database, { name, depth }, either));
      },
    },
  ];
}

function timeoutOf(body: ControlRequest['body'], defaultMs: number): AbortSignal {
  const timeoutMs = numberField(body, 'timeoutMs') ?? defaultMs;
  if (!(timeoutMs > 0 && timeoutMs <= MAX_TIMEOUT_MS)) {
    throw new LitestreamError('usage', `timeoutMs must be from 1 to ${MAX_TIMEOUT_MS}`);
  }
  return timeoutSignal(timeoutMs);
}

/** Begins to store what is committed. What fails then is in the status; what fails at once is the answer. */
async function begin(
  replication: Replication,
  database: string | undefined,
  signal: AbortSignal,
): Promise<SyncAnswer> {
  const syncing = replication.sync(database, signal).then(() => true);
  // The first turns tell of a database that is not there.
  const stored = await Promise.race([syncing, new Promise<false>((resolve) => setImmediate(resolve, false))]);
  syncing.catch(() => undefined);
  return { stored };
}
