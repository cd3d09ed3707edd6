/**
 * The worker thread that runs checkpoints: they fsync and may copy gigabytes, which would stop the event loop. It
 * keeps one connection a database, of the same SQLite library instance, so locks are shared correctly.
 */

import { parentPort } from 'node:worker_threads';
import { messageOf, hasCode } from '../base/errors.ts';
import { CheckpointConnection, type CheckpointResult } from '../sqlite/connection.ts';
import type { WritablePath } from '../sqlite/writable-path.ts';

/** Of the database's real path. */
export type CheckpointRequest =
  | { readonly id: number; readonly action: 'checkpoint'; readonly path: WritablePath }
  | { readonly id: number; readonly action: 'close'; readonly path: string };

export type CheckpointReply =
  | { readonly id: number; readonly result: CheckpointResult | undefined }
  | { readonly id: number; readonly error: string; readonly diskFull: boolean };

const connections = new Map<string, CheckpointConnection>();

function perform(request: CheckpointRequest): CheckpointResult | undefined {
  let connection = connections.get(request.path);
  if (request.action === 'close') {
    connection?.close();
    connections.delete(request.path);
    return undefined;
  }
  if (!connection) {
    connection = new CheckpointConnection(request.path);
    connections.set(request.path, connection);
  }
  return connection.checkpoint();
}

parentPort?.on('message', (request: CheckpointRequest) => {
  let reply: CheckpointReply;
  try {
    reply = { id: request.id, result: perform(request) };
  } catch (error) {
    reply = { id: request.id, error: messageOf(error), diskFull: hasCode(error, 'disk-full') };
  }
  parentPort?.postMessage(reply);
});
