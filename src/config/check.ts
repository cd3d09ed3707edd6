/** Rules that span several replicas or databases. */

import { resolve } from 'node:path';
import { quoteGo } from '../base/logger.ts';
import { redactUrl } from '../base/redact-url.ts';
import type { DatabaseOptions, ReplicaOptions } from '../engine/options.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import type { Config } from './config.ts';
import { ConfigError } from './diagnostic.ts';

/** Where a replica is, for messages; no secrets. */
export function describeLocation(store: StoreConfig): string {
  if (store.type === 'file') return store.path;
  const at = store.endpoint === undefined ? '' : ` (endpoint ${redactUrl(store.endpoint)})`;
  return `s3://${store.bucket}/${store.path}${at}`;
}

/** Equal for replicas that would write into one another. */
function locationKey(store: StoreConfig): string {
  if (store.type === 'file') return `file ${resolve(store.path)}`;
  const endpoint = (store.endpoint ?? '').toLowerCase().replace(/\/+$/, '');
  return `s3 ${endpoint} ${store.bucket} ${store.path}`;
}

export interface Problem {
  readonly message: string;
  /** What to change: the later one of two that clash. */
  readonly option: DatabaseOptions | ReplicaOptions;
}

/** The first replica whose location another one has already: each would delete and mix up the other's backups. */
export function findLocationClash(databases: readonly DatabaseOptions[]): Problem | undefined {
  const taken = new Map<string, { database: DatabaseOptions; replica: ReplicaOptions }>();
  for (const database of databases) {
    for (const replica of database.replicas) {
      const key = locationKey(replica.store);
      const other = taken.get(key);
      taken.set(key, { database, replica });
      if (other === undefined) continue;
      const where = describeLocation(replica.store);
      const who =
        other.database === database
          ? `replicas "${other.replica.name}" and "${replica.name}" of database ${database.path} share one location`
          : `databases ${other.database.path} and ${database.path} share one replica location`;
      return { message: `${who}: ${where}: give each its own path`, option: replica };
    }
  }
  return undefined;
}

function findReplicationProblem(databases: readonly DatabaseOptions[]): Problem | undefined {
  const paths = new Set<string>();
  for (const database of databases) {
    if (paths.has(database.path)) {
      return { message: `database is configured twice: ${database.path}`, option: database };
    }
    paths.add(database.path);
    if (database.minCheckpointPageCount <= 0) {
      return { message: 'minimum checkpoint page count required', option: database };
    }
    const names = new Set<string>();
    for (const replica of database.replicas) {
      if (names.has(replica.name)) {
        return { message: `duplicate replica name: ${quoteGo(replica.name)}`, option: replica };
      }
      names.add(replica.name);
    }
  }
  return findLocationClash(databases);
}

/**
 * What v0.3.13 lists without complaint and only `replicate` refuses: two replicas of one name, a minimum checkpoint
 * page count that is not positive, and (ours) one database configured twice. Databases that came from the command line
 * are checked for shared locations too. Throws ConfigError, with the place when `config` came from a file.
 */
export function checkReplicable(config: Pick<Config, 'databases' | 'locate'>): void {
  const problem = findReplicationProblem(config.databases);
  if (problem === undefined) return;
  const diagnostic = config.locate?.(problem.option, problem.message);
  throw new ConfigError(problem.message, diagnostic === undefined ? [] : [diagnostic]);
}
