/** Where the process that replicates a database can be told to do something. */

import { LitestreamError } from '../base/errors.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import { lifeOf, readRecord } from './record.ts';
import { metaPathOf } from './survey.ts';

/** @throws LitestreamError 'not-found' when no process replicates it, 'permission' when that is not for this user to know */
export async function findSocket(database: DatabaseOptions): Promise<string> {
  const record = await readRecord(metaPathOf(database));
  if (record?.unstored !== null || lifeOf(record) === 'dead') {
    throw new LitestreamError('not-found', `no replicate is running for ${database.path}: start it first`);
  }
  if (record.socket === null) {
    throw new LitestreamError(
      'unsupported',
      `replicate (pid ${record.pid}) has no control socket: see socket in its config and its log`,
    );
  }
  return record.socket;
}
