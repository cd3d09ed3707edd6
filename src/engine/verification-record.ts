/** The result of the last verification of a replica, kept in the meta directory so that it outlives the process. */

import { makeDirectories } from '../base/durable-file.ts';
import { wrapError } from '../base/errors.ts';
import { readReplicaRecord, recordPath, writeReplicaRecord } from './replica-record.ts';

export interface Verification {
  /** When it ended, in ISO 8601. */
  readonly at: string;
  /** `inconclusive`: neither proven right nor wrong; the message says why. */
  readonly result: 'ok' | 'failed' | 'inconclusive';
  /** What was verified or found, in words. */
  readonly message: string;
}

const RESULTS: readonly string[] = ['ok', 'failed', 'inconclusive'] satisfies Verification['result'][];

/** Whether a result takes the place of the one before: an inconclusive one proves nothing, so a failure stays. */
export function supersedes(next: Verification, before: Verification | undefined): boolean {
  return next.result !== 'inconclusive' || before?.result !== 'failed';
}

/** Replaces the record, durably. @throws LitestreamError */
export async function writeVerification(
  metaPath: string,
  replica: string,
  verification: Verification,
): Promise<void> {
  try {
    await makeDirectories(metaPath, 0o700);
  } catch (error) {
    throw wrapError(error, `write ${recordPath(metaPath, 'verification', replica)}`);
  }
  await writeReplicaRecord(metaPath, 'verification', replica, verification);
}

/** The record; undefined when there is none, or none that makes sense. @throws LitestreamError when it is unreadable */
export async function readVerification(metaPath: string, replica: string): Promise<Verification | undefined> {
  const text = await readReplicaRecord(metaPath, 'verification', replica);
  return text === undefined ? undefined : parseVerification(text);
}

function parseVerification(text: string): Verification | undefined {
  try {
    const { at, result, message } = JSON.parse(text) as Partial<Verification>;
    if (result === undefined || !RESULTS.includes(result)) return undefined;
    if (typeof message !== 'string' || typeof at !== 'string' || Number.isNaN(Date.parse(at)))
      return undefined;
    return { at, result, message };
  } catch {
    return undefined; // A file that somebody has edited: as if nothing had been verified.
  }
}
