/** The result of the last verification of a replica, kept in the meta directory so that it outlives the process. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeDirectories, writeFileDurably } from '../base/durable-file.ts';
import { systemCode, wrapError } from '../base/errors.ts';

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

function recordPath(metaPath: string, replica: string): string {
  return join(metaPath, `verification-${encodeURIComponent(replica)}.json`);
}

/** Replaces the record, durably. @throws LitestreamError */
export async function writeVerification(
  metaPath: string,
  replica: string,
  verification: Verification,
): Promise<void> {
  const path = recordPath(metaPath, replica);
  try {
    await makeDirectories(metaPath, 0o700);
    await writeFileDurably(path, `${JSON.stringify(verification)}\n`);
  } catch (error) {
    throw wrapError(error, `write ${path}`);
  }
}

/** The record; undefined when there is none, or none that makes sense. @throws LitestreamError when it is unreadable */
export async function readVerification(metaPath: string, replica: string): Promise<Verification | undefined> {
  const path = recordPath(metaPath, replica);
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw wrapError(error, `read ${path}`);
  }
  return parseVerification(text);
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
