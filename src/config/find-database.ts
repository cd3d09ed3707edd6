/** Finds the configured database that a command's argument means. */

import { existsSync, realpathSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { LitestreamError, systemCode } from '../base/errors.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import { expandPath, type Surroundings } from './paths.ts';

export interface FoundDatabase {
  readonly database: DatabaseOptions;
  /** Set when the argument only gave the file's name and a configured database elsewhere was taken: tell the user. */
  readonly note?: string | undefined;
}

/**
 * The database that `argument` names: its configured path by either spelling of the working folder, or the same file
 * through symlinks (the file need not exist), or, for a bare name that is nothing in the working folder, the one
 * configured database of that name. Throws 'config' naming all candidates when several have the name, 'not-found'
 * when none does.
 */
export function findDatabase(
  config: { readonly databases: readonly DatabaseOptions[] },
  argument: string,
  around: Surroundings,
): FoundDatabase {
  const absolute = expandPath(argument, around);
  const spellings = [absolute, resolve(around.cwd, argument)];
  const byPath = config.databases.find(({ path }) => spellings.includes(path));
  if (byPath !== undefined) return { database: byPath };
  const real = realPath(absolute);
  const byFile = config.databases.find(({ path }) => realPath(path) === real);
  if (byFile !== undefined) return { database: byFile };

  if (basename(argument) === argument && !existsSync(absolute)) {
    const [database, ...others] = config.databases.filter(({ path }) => basename(path) === argument);
    if (database !== undefined && others.length > 0) {
      const paths = [database, ...others].map(({ path }) => path);
      throw new LitestreamError(
        'config',
        `several databases in config are named ${argument}: give the full path of one: ${paths.join(', ')}`,
      );
    }
    if (database !== undefined) {
      const note = `no ${argument} in this folder: using ${database.path}, the only database of that name in the config`;
      return { database, note };
    }
  }
  throw new LitestreamError('not-found', `database not found in config: ${absolute}`);
}

/** With all symlinks followed, as far as the path exists. */
function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    // Not there (yet), or not for us to see: what stands above it may still be a link.
    const parent = dirname(path);
    if (parent === path || systemCode(error) === 'ELOOP') return path;
    return join(realPath(parent), basename(path));
  }
}
