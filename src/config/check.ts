/** Rules that span several replicas or databases. */

import { resolve } from 'node:path';
import { quoteGo } from '../base/logger.ts';
import { redactUrl } from '../base/redact-url.ts';
import type { DatabaseOptions, ReplicaOptions } from '../engine/options.ts';
import type { SftpStoreConfig, StoreConfig } from '../storage/store-config.ts';
import type { Config } from './config.ts';
import { ConfigError } from './diagnostic.ts';
import { encryptionProblem } from './encryption.ts';

/** Where a replica is, for messages; no secrets. */
export function describeLocation(store: StoreConfig): string {
  switch (store.type) {
    case 'file':
      return store.path;
    case 's3':
    case 'gcs':
      return `${store.type}://${store.bucket}/${store.path}${describeEndpoint(store.endpoint)}`;
    case 'abs': {
      const account = store.accountName === '' ? '' : `${store.accountName}@`;
      return `abs://${account}${store.bucket}/${store.path}${describeEndpoint(store.endpoint)}`;
    }
    case 'sftp': {
      const path = store.path.startsWith('/') ? store.path : `/~/${store.path}`;
      return `sftp://${store.user}@${serverName(store)}${path}`;
    }
  }
}

function describeEndpoint(endpoint: string | undefined): string {
  return endpoint === undefined ? '' : ` (endpoint ${redactUrl(endpoint)})`;
}

function serverName({ host, port }: SftpStoreConfig): string {
  const name = host.includes(':') ? `[${host}]` : host;
  return port === 22 ? name : `${name}:${port}`;
}

/** Equal for replicas that would write into one another. */
function locationKey(store: StoreConfig): string {
  switch (store.type) {
    case 'file':
      return `file ${resolve(store.path)}`;
    case 's3':
    case 'gcs':
      return `${store.type} ${plainEndpoint(store.endpoint)} ${store.bucket} ${store.path}`;
    case 'abs': {
      const server = store.endpoint === undefined ? store.accountName : plainEndpoint(store.endpoint);
      return `abs ${server} ${store.bucket} ${store.path}`;
    }
    case 'sftp': {
      // A relative path is in the home of the user.
      const user = store.path.startsWith('/') ? '' : store.user;
      return `sftp ${store.host.toLowerCase()} ${store.port} ${user} ${store.path}`;
    }
  }
}

function plainEndpoint(endpoint = ''): string {
  return endpoint.toLowerCase().replace(/\/+$/, '');
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
      const problem = encryptionProblem(replica);
      if (problem !== undefined) return { message: problem, option: replica };
    }
  }
  return findLocationClash(databases);
}

/**
 * What v0.3.13 lists without complaint and only `replicate` refuses: two replicas of one name, a minimum checkpoint
 * page count that is not positive, and (ours) one database configured twice and encryption that could not be done. Databases that came from the command line
 * are checked for shared locations too. Throws ConfigError, with the place when `config` came from a file.
 */
export function checkReplicable(config: Pick<Config, 'databases' | 'locate'>): void {
  const problem = findReplicationProblem(config.databases);
  if (problem === undefined) return;
  const diagnostic = config.locate?.(problem.option, problem.message);
  throw new ConfigError(problem.message, diagnostic === undefined ? [] : [diagnostic]);
}
