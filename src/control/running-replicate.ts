/** The process that replicates a database which is to be replaced. */

import { realpathSync } from 'node:fs';
import { LitestreamError, wrapError } from '../base/errors.ts';
import { stateDirectories } from '../base/state-directories.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import { findMetaPath } from '../engine/read-only-meta.ts';
import type { RunningReplicate } from '../engine/restore-replace.ts';
import type { ProcessStatus } from '../engine/status.ts';
import { callControl } from './client.ts';
import { type ProcessRecord, lifeOf, readRecord } from './record.ts';

/** It stores what is committed first, for some seconds at most. */
const TIMEOUT_MS = 30_000;

export interface ReplicatedOutput {
  /** Where the meta directory of the database is or would be. */
  readonly metaPath: string;
  /** Undefined: nobody replicates it, as far as can be told. */
  readonly replicate: RunningReplicate | undefined;
}

/** @throws LitestreamError 'permission' when it may be replicated, but that is not for this user to know */
export async function findReplicate(
  database: Pick<DatabaseOptions, 'path' | 'metaPath'>,
): Promise<ReplicatedOutput> {
  const metaPath = findMetaPath(database, stateDirectories(process.env));
  const record = await readRecord(metaPath);
  if (record?.unstored !== null) return { metaPath, replicate: undefined };
  const life = lifeOf(record);
  if (life === 'dead') return { metaPath, replicate: undefined };
  // Of another container: its number means another process here.
  const pid = life === 'alive' ? record.pid : -1;
  return { metaPath, replicate: { pid, letGo: () => letGo(record, database.path) } };
}

async function letGo({ pid, socket }: ProcessRecord, path: string): Promise<void> {
  try {
    if (socket === null) throw new LitestreamError('unsupported', 'it has no control socket');
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const status = (await callControl(socket, { method: 'GET', path: '/status', signal })) as ProcessStatus;
    const own = status.databases.find((database) => isSame(database.path, path));
    const body = { database: own?.path ?? path };
    await callControl(socket, { method: 'POST', path: '/release', body, signal });
  } catch (error) {
    throw wrapError(error, `stop replicate first (pid ${pid}), it cannot be asked to let go of ${path}`);
  }
}

function isSame(a: string, b: string): boolean {
  return a === b || realPath(a) === realPath(b);
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path; // Not there: then the spelling has to do.
  }
}
