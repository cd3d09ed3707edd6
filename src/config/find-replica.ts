/** Finds the replica that a name means. */

import { LitestreamError } from '../base/errors.ts';
import { quoteGo } from '../base/logger.ts';

/** What is named as a replica of a database is not there, in v0.3.13's words. */
export function replicaNotFound(name: string, databasePath: string): LitestreamError {
  return new LitestreamError(
    'not-found',
    `replica ${quoteGo(name)} not found for database ${quoteGo(databasePath)}`,
  );
}
