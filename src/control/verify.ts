/**
 * Verifies the replicas of a database from another process: by the one that replicates it, which alone can compare them
 * with the database; where it cannot be asked, by what the replicas hold.
 */

import { accessSync, constants } from 'node:fs';
import { tmpdir } from 'node:os';
import { throwIfAborted, timeoutSignal } from '../base/concurrency.ts';
import { LitestreamError, hasCode, messageOf } from '../base/errors.ts';
import { holdFolder } from '../base/held-folder.ts';
import type { Logger } from '../base/logger.ts';
import type { DatabaseOptions, ReplicaOptions } from '../engine/options.ts';
import { readVerification, supersedes, writeVerification } from '../engine/verification-record.ts';
import {
  type VerificationDepth,
  type VerificationResult,
  inconclusive,
} from '../engine/verification-result.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { UnreachableError, callControl } from './client.ts';
import { findSocket } from './find-socket.ts';
import type { OpenStore } from './replica-report.ts';
import { metaPathOf } from './survey.ts';

export const DEFAULT_VERIFY_TIMEOUT_MS = 3600_000;
/** The other side gives up first, and says why. */
const GRACE_MS = 10_000;
/** For what a process says without work. */
const ANSWER_MS = 30_000;
const PARALLELISM = 8;

/** Of a database: the worst of its replicas decides. */
export interface VerifyAnswer extends Pick<VerificationResult, 'result' | 'message'> {
  readonly database: string;
  /** In the order of the config. */
  readonly replicas: readonly VerificationResult[];
}

/** @param replicas at least one */
export function verifyAnswer(database: string, replicas: readonly VerificationResult[]): VerifyAnswer {
  const order: readonly VerificationResult['result'][] = ['failed', 'inconclusive', 'ok'];
  const [worst] = replicas.toSorted((a, b) => order.indexOf(a.result) - order.indexOf(b.result));
  const name = replicas.length > 1 ? `replica ${worst?.replica ?? ''}: ` : '';
  return {
    database,
    result: worst?.result ?? 'inconclusive',
    message: `${name}${worst?.message ?? 'nothing was verified'}`,
    replicas,
  };
}

export interface VerifyOptions {
  readonly database: DatabaseOptions;
  /** The name of one replica; undefined: all. */
  readonly replica?: string | undefined;
  /** Default: `all`. */
  readonly depth?: VerificationDepth | undefined;
  /** When it is up the result is inconclusive. Default: an hour. */
  readonly timeoutMs?: number | undefined;
  readonly openStore: OpenStore;
  readonly logger: Logger;
  /** When it fires, what is under way is given up. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Verifies what `replicate` stores. What is wrong with a replica, or cannot be found out, is a result.
 * @throws LitestreamError only for what cannot be meant: 'not-found' for a replica that is not configured, 'config' for a
 *   database without replicas, 'usage' for a timeout that is none; 'aborted' by the signal
 */
export async function verify(options: VerifyOptions): Promise<VerifyAnswer> {
  const { database, replica, timeoutMs = DEFAULT_VERIFY_TIMEOUT_MS, signal } = options;
  const chosen = database.replicas.filter(({ name }) => replica === undefined || name === replica);
  if (database.replicas.length === 0) throw new LitestreamError('config', `${database.path} has no replica`);
  if (chosen.length === 0)
    throw new LitestreamError('not-found', `${database.path} has no replica ${replica ?? ''}`);
  if (!(timeoutMs > 0)) throw new LitestreamError('usage', 'the timeout must be positive');
  const within = (ms: number): AbortSignal => {
    const limit = timeoutSignal(ms);
    return signal ? AbortSignal.any([limit, signal]) : limit;
  };
  try {
    const socket = await findSocket(database);
    // One that does not answer at all is not waited for as long as one that works.
    await callControl(socket, {
      method: 'GET',
      path: '/status',
      signal: within(Math.min(ANSWER_MS, timeoutMs)),
    });
    const body = { database: database.path, replica, depth: options.depth, timeoutMs };
    const call = { method: 'POST', path: '/verify', body, signal: within(timeoutMs + GRACE_MS) } as const;
    return (await callControl(socket, call)) as VerifyAnswer;
  } catch (error) {
    throwIfAborted(signal);
    if (hasCode(error, 'usage', 'config')) throw error;
    const running = !hasCode(error, 'not-found') || error instanceof UnreachableError;
    return verifyAlone(options, chosen, { reason: messageOf(error), running });
  }
}

export interface ReplicaVerifyOptions extends Pick<
  VerifyOptions,
  'timeoutMs' | 'openStore' | 'logger' | 'signal'
> {
  /** With the window of what is looked at; undefined: everything. */
  readonly replicas: readonly (Pick<ReplicaOptions, 'name' | 'store'> & Partial<ReplicaOptions>)[];
  /** Restores the latest state to a temporary file in this folder besides, and checks that. */
  readonly restoreIn?: string | undefined;
}

/**
 * Verifies replicas with no database at hand: that every object is whole, and what can be restored.
 * @throws LitestreamError 'aborted' by the signal
 */
export async function verifyReplicas(options: ReplicaVerifyOptions): Promise<VerificationResult[]> {
  const { verifyReplica } = await import('../engine/verify-alone.ts');
  const { replicas, timeoutMs = DEFAULT_VERIFY_TIMEOUT_MS, openStore, restoreIn, logger } = options;
  const limit = timeoutSignal(timeoutMs);
  const signal = options.signal ? AbortSignal.any([limit, options.signal]) : limit;
  const results: VerificationResult[] = [];
  for (const { name, store: config, retentionMs } of replicas) {
    throwIfAborted(options.signal);
    const request = { name, parallelism: PARALLELISM, retentionMs, restoreIn, signal, logger };
    let store: ObjectStore;
    try {
      store = await openStore(config);
    } catch (error) {
      // What cannot be opened tells nothing of what is in it.
      results.push(inconclusive(name, messageOf(error)));
      continue;
    }
    try {
      results.push(await verifyReplica({ ...request, store }));
    } finally {
      await store.close();
    }
  }
  throwIfAborted(options.signal);
  return results;
}

/** @param why the process that replicates could not be asked, and whether there may be one */
async function verifyAlone(
  options: VerifyOptions,
  replicas: readonly ReplicaOptions[],
  why: { readonly reason: string; readonly running: boolean },
): Promise<VerifyAnswer> {
  const { database, logger } = options;
  const named = metaPathOf(database);
  const metaPath = isWritable(named) ? holdFolder(named) : undefined;
  const restoreIn = metaPath ?? tmpdir();
  const found = await verifyReplicas({ ...options, replicas, restoreIn });
  const results = found.map((result): VerificationResult => {
    const message = `${why.reason}: not compared with the database; ${result.message}`;
    return result.result === 'failed' ? result : { ...result, result: 'inconclusive', message };
  });
  if (!why.running && metaPath !== undefined) {
    for (const result of results) await keep(metaPath, result, logger);
  }
  return verifyAnswer(database.path, results);
}

function isWritable(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK);
    return true;
  } catch {
    return false; // Not there, or not for this user: another place will do.
  }
}

/** For the next `replicate` to show. */
async function keep(
  metaPath: string,
  { replica, result, message, at }: VerificationResult,
  logger: Logger,
): Promise<void> {
  try {
    const verification = { at, result, message };
    if (!supersedes(verification, await readVerification(metaPath, replica))) return;
    await writeVerification(metaPath, replica, verification);
  } catch (error) {
    logger.warn('cannot keep the result of the verification', { error: messageOf(error) });
  }
}
