/** What is remembered of a replica in the meta directory, so that it outlives the process: one file for each kind and replica. */

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileDurably } from '../base/durable-file.ts';
import { systemCode, wrapError } from '../base/errors.ts';

export type RecordKind = 'encryption' | 'origin' | 'snapshots' | 'upload' | 'verification';

/** Where the record is. */
export function recordPath(metaPath: string, kind: RecordKind, replica: string): string {
  return join(metaPath, `${kind}-${encodeURIComponent(replica)}.json`);
}

/** Replaces the record, durably. The meta directory must be there. @throws LitestreamError */
export async function writeReplicaRecord(
  metaPath: string,
  kind: RecordKind,
  replica: string,
  record: object,
): Promise<void> {
  const path = recordPath(metaPath, kind, replica);
  try {
    await writeFileDurably(path, `${JSON.stringify(record)}\n`);
  } catch (error) {
    throw wrapError(error, `write ${path}`);
  }
}

/** The text of the record; undefined when there is none. @throws LitestreamError when it is unreadable */
export async function readReplicaRecord(
  metaPath: string,
  kind: RecordKind,
  replica: string,
): Promise<string | undefined> {
  const path = recordPath(metaPath, kind, replica);
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw wrapError(error, `read ${path}`);
  }
}
