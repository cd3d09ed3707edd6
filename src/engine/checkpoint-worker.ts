/**
 * The worker thread that runs checkpoints: they fsync and may copy gigabytes, which would stop the event loop. It
 * keeps one connection a database, of the same SQLite library instance, so locks are shared correctly.
 */

import { parentPort } from 'node:worker_threads';
import { LitestreamError, hasCode, messageOf, type ErrorCode } from '../base/errors.ts';
import { CheckpointConnection, type CheckpointResult } from '../sqlite/connection.ts';
import { findForeign, requireUnreplaced, type ProvenFiles } from './file-identity.ts';

export type CheckpointRequest =
  | { readonly id: number; readonly action: 'checkpoint'; readonly files: ProvenFiles }
  /** Of the database's real path. */
  | { readonly id: number; readonly action: 'close'; readonly path: string };

export type CheckpointReply =
  | { readonly id: number; readonly result: CheckpointResult | undefined }
  | { readonly id: number; readonly error: string; readonly code: ErrorCode };

const connections = new Map<string, CheckpointConnection>();

/** Nothing was done: some lock was not free, or somebody is writing the wal-index. */
const BUSY: CheckpointResult = { busy: true, logFrames: -1, checkpointedFrames: -1 };

function close(path: string): void {
  connections.get(path)?.close();
  connections.delete(path);
}

/**
 * Nothing stands between the proof and the checkpoint but the call of it: this thread does nothing else meanwhile.
 * A connection that is opened here may have been led to other files; it is not used then, and does not stay.
 */
function checkpoint(files: ProvenFiles): CheckpointResult {
  const { path } = files;
  let connection = connections.get(path);
  if (!connection) {
    requireUnreplaced(files);
    try {
      connection = new CheckpointConnection(path);
    } catch (error) {
      if (hasCode(error, 'busy')) return BUSY;
      throw error;
    }
    connections.set(path, connection);
  }
  const foreign = findForeign(files);
  if (foreign === 'unclear') return BUSY;
  if (foreign) {
    close(path);
    throw new LitestreamError('not-found', `no checkpoint: ${foreign.reason}`);
  }
  const result = connection.checkpoint();
  requireUnreplaced(files);
  return result;
}

parentPort?.on('message', (request: CheckpointRequest) => {
  let reply: CheckpointReply;
  try {
    if (request.action === 'close') close(request.path);
    reply = { id: request.id, result: request.action === 'close' ? undefined : checkpoint(request.files) };
  } catch (error) {
    const code = error instanceof LitestreamError ? error.code : 'io';
    reply = { id: request.id, error: messageOf(error), code };
  }
  parentPort?.postMessage(reply);
});
