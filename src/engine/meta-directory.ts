/** The meta directory of a database, made and locked for this process. */

import { makeDirectories } from '../base/durable-file.ts';
import { wrapError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { DatabaseLock } from './database-lock.ts';
import { defaultMetaPath } from './database-path.ts';
import type { DatabaseOptions } from './options.ts';
import { placeMetaDirectory } from './read-only-meta.ts';

export interface MetaDirectoryOptions {
  readonly options: DatabaseOptions;
  readonly stateDirectories?: readonly string[] | undefined;
  readonly logger: Logger;
}

/** Where it will be, as far as can be told before it is claimed. Never throws. */
export function expectedMetaPath({ options, stateDirectories }: MetaDirectoryOptions): string {
  try {
    return placeMetaDirectory(options, stateDirectories);
  } catch {
    return defaultMetaPath(options.path); // The claim fails with the reason.
  }
}

/** @throws LitestreamError 'busy' when another process replicates the database, 'permission' when there is no place */
export async function claimMetaDirectory({
  options,
  stateDirectories,
  logger,
}: MetaDirectoryOptions): Promise<{ readonly metaPath: string; readonly lock: DatabaseLock }> {
  const metaPath = placeMetaDirectory(options, stateDirectories);
  try {
    await makeDirectories(metaPath, 0o700);
  } catch (error) {
    throw wrapError(error, `create meta directory ${metaPath}`);
  }
  const lock = new DatabaseLock(metaPath, options.path);
  if (options.metaPath === undefined && metaPath !== defaultMetaPath(options.path)) {
    logger.info('folder of the database is read-only: its meta directory is elsewhere', {
      'meta-path': metaPath,
    });
  }
  return { metaPath, lock };
}
