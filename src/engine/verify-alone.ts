/**
 * Verification of a replica without the process that replicates to it: what can be said of the objects alone. Whether
 * they hold all that the database has is not known then.
 */

import { join } from 'node:path';
import { throwIfAborted } from '../base/concurrency.ts';
import { hasCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { checkIntegrity } from '../sqlite/integrity-check.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { restore } from './restore.ts';
import {
  type GenerationRange,
  type Problem,
  type VerificationResult,
  describeProblems,
  describeStop,
} from './verification-result.ts';
import { isDamage } from './verify-chain.ts';
import { requireSpace, withVerificationFolder } from './verify-folder.ts';
import { checkReplica, describeExtent, describeNotes } from './verify-replica.ts';
import { quietLogger } from './verify.ts';

export interface ReplicaVerificationRequest {
  /** The replica's name. */
  readonly name: string;
  readonly store: ObjectStore;
  /** Requests at once; >= 1. */
  readonly parallelism: number;
  /** Objects that have left this window are not looked at; undefined: all are. */
  readonly retentionMs?: number | undefined;
  /** Restores the latest state to a temporary file in this folder, and checks that; undefined: nothing is restored. */
  readonly restoreIn?: string | undefined;
  /** When it fires, the result is inconclusive. */
  readonly signal: AbortSignal;
  readonly logger: Logger;
}

/** Verifies once: `ok` when all objects are whole. Never rejects, and leaves no file behind. */
export async function verifyReplica(request: ReplicaVerificationRequest): Promise<VerificationResult> {
  const startedAtMs = performance.now();
  const stage = { current: 'reading the objects of the replica' };
  let findings: Pick<VerificationResult, 'result' | 'message' | 'problems' | 'generations'>;
  try {
    findings = await examine(request, stage);
  } catch (error) {
    const message = describeStop(stage.current, error, request.signal);
    findings = { result: 'inconclusive', message, problems: [], generations: [] };
  }
  return {
    replica: request.name,
    ...findings,
    at: new Date().toISOString(),
    elapsedMs: Math.round(performance.now() - startedAtMs),
    position: null,
    pageCount: null,
  };
}

async function examine(
  request: ReplicaVerificationRequest,
  stage: { current: string },
): Promise<Pick<VerificationResult, 'result' | 'message' | 'problems' | 'generations'>> {
  const { store, restoreIn, signal } = request;
  throwIfAborted(signal);
  const check = await checkReplica(store, request);
  const { generations } = check;
  const problems = [...check.problems];
  const newest = generations.findLast(({ from }) => from !== null);
  if (newest === undefined && problems.length === 0) {
    problems.push({ object: null, page: null, message: `${store.location} holds nothing to restore` });
  }
  if (problems.length === 0 && restoreIn !== undefined) {
    stage.current = 'restoring the latest state';
    const limitBytes = await requireSpace(restoreIn, check.restoredSizeBytes);
    for (const problem of await restoreAndCheck(request, restoreIn, limitBytes)) problems.push(problem);
  }
  if (problems.length > 0) {
    return { result: 'failed', message: describeProblems(problems), problems, generations };
  }
  const message = `${describeExtent(check)} are whole; ${rangeOf(generations, newest)}${describeNotes(check)}`;
  return { result: 'ok', message, problems, generations };
}

/** In words. Between generations there may be times of which nothing is known. */
function rangeOf(generations: readonly GenerationRange[], newest: GenerationRange | undefined): string {
  const from = generations
    .map((range) => range.from ?? '')
    .filter((text) => text !== '')
    .sort()[0];
  return `restorable from ${from ?? ''} to ${newest?.to ?? ''}`;
}

async function restoreAndCheck(
  request: ReplicaVerificationRequest,
  parent: string,
  limitBytes: number,
): Promise<Problem[]> {
  const { name, store, parallelism, signal, logger } = request;
  const problem = (message: string): Problem => ({ object: null, page: null, message });
  return withVerificationFolder(parent, name, async (folder) => {
    const outputPath = join(folder, 'restored.db');
    try {
      await restore({
        replicas: [{ name, store }],
        outputPath,
        parallelism,
        limitBytes,
        logger: quietLogger(logger),
        signal,
      });
    } catch (error) {
      if (!isDamage(error) && !hasCode(error, 'no-backup')) throw error;
      return [problem(error.message)];
    }
    const found = await checkIntegrity(outputPath, signal);
    return found.map((text) => problem(`integrity check of the restored database: ${text}`));
  });
}
