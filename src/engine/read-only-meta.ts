/**
 * The meta directory of a database in a folder that cannot be written: a folder of its own in the first place for state
 * that can be. Programs that look for a meta directory from outside ask for the candidates, since they may run with
 * another environment.
 */

import { createHash } from 'node:crypto';
import { accessSync, constants, existsSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';
import { DEFAULT_STATE_DIRECTORY } from '../base/state-directories.ts';
import { defaultMetaPath } from './database-path.ts';
import type { DatabaseOptions } from './options.ts';

/** A name for the database in a folder that it shares with others: the same in each process, whatever its environment. */
export function stateName(databasePath: string): string {
  const digest = createHash('sha256').update(databasePath).digest('hex');
  return `${basename(databasePath)}-${digest.slice(0, 12)}`;
}

/**
 * Every folder that may be the meta directory of a database, the most likely first: the configured one alone if there
 * is one, else the one beside the database and those for a read-only folder.
 * @param directories see stateDirectories()
 */
export function metaPathCandidates(
  options: Pick<DatabaseOptions, 'path' | 'metaPath'>,
  directories: readonly string[],
): readonly string[] {
  if (options.metaPath !== undefined) return [options.metaPath];
  const name = stateName(options.path);
  return [defaultMetaPath(options.path), ...directories.map((directory) => join(directory, name))];
}

/**
 * The meta directory that is in use, or was last, as far as can be seen from outside; the one beside the database when
 * there is none. @param directories see stateDirectories()
 */
export function findMetaPath(
  options: Pick<DatabaseOptions, 'path' | 'metaPath'>,
  directories: readonly string[],
): string {
  const found = metaPathCandidates(options, directories).flatMap((path) => {
    const stats = statSync(path, { throwIfNoEntry: false });
    return stats ? [{ path, usedAtMs: stats.mtimeMs }] : [];
  });
  const [latest] = found.sort((a, b) => b.usedAtMs - a.usedAtMs);
  return latest?.path ?? options.metaPath ?? defaultMetaPath(options.path);
}

/**
 * Where the meta directory of a database is to be: as configured, beside the database while its folder can be written
 * or is not there, else in the first folder for state that can be.
 * @param directories see stateDirectories()
 * @throws LitestreamError 'permission' naming every place that was tried, or whose the one beside the database is
 */
export function placeMetaDirectory(
  options: Pick<DatabaseOptions, 'path' | 'metaPath'>,
  directories: readonly string[] = [DEFAULT_STATE_DIRECTORY],
): string {
  if (options.metaPath !== undefined) return options.metaPath;
  const beside = defaultMetaPath(options.path);
  const elsewhere = metaPathCandidates(options, directories).filter((path) => path !== beside);
  const obstacle = obstacleTo(beside);
  if (obstacle?.code !== 'permission' || !existsSync(dirname(beside))) return beside;
  const place = elsewhere.find((path) => obstacleTo(path) === undefined);
  if (place !== undefined) return place;
  const owner = statSync(beside, { throwIfNoEntry: false })?.uid;
  if (owner !== undefined && obstacleTo(dirname(beside)) === undefined) {
    throw new LitestreamError(
      'permission',
      `${beside} belongs to user ${owner}: give it to the user that litestream runs as (chown -R), or set meta-path`,
    );
  }
  const obstacles = elsewhere.map((path) => obstacleTo(path)?.message);
  throw new LitestreamError(
    'permission',
    `${dirname(options.path)} is read-only and there is no place for the meta directory: mount a volume at ` +
      `${DEFAULT_STATE_DIRECTORY}, or set meta-path (${obstacles.join('; ')})`,
  );
}

/** Why a folder cannot be made and written; judged by the nearest one that is there. */
function obstacleTo(path: string): LitestreamError | undefined {
  try {
    accessSync(path, constants.W_OK);
    return undefined;
  } catch (error) {
    const parent = dirname(path);
    return systemCode(error) === 'ENOENT' && parent !== path
      ? obstacleTo(parent)
      : wrapError(error, `write to ${path}`);
  }
}
