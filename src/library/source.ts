/**
 * What the functions of the library are told about databases, replicas and credentials, and what becomes of it: the same
 * config that a file gives. Nothing here changes the environment of the application's process.
 */

import { basename } from 'node:path';
import { LitestreamError } from '../base/errors.ts';
import { replicaNotFound } from '../config/find-replica.ts';
import type { Config, Env } from '../config/index.ts';
import type { DatabaseOptions, ReplicaOptions } from '../engine/options.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import type { DatabaseSettings, ReplicaSettings } from './settings.ts';

/** Where databases and replicas are configured: in a file, or in `databases`. */
export interface ConfigOptions {
  /** The config file. Default: `$LITESTREAM_CONFIG`, /etc/litestream.yml, config/litestream.yml or litestream.yml. */
  readonly config?: string | undefined;
  /** In place of a config file: the databases, each as a path or with the keys that it has in a config file. */
  readonly databases?: readonly (string | DatabaseSettings)[] | undefined;
  /**
   * The bucket of those `databases` that have no replicas of their own, under the name of the file; in a config file it is
   * `$LITESTREAM_REPLICA_BUCKET`.
   */
  readonly bucket?: string | undefined;
  /** Of that bucket: URL of an S3-compatible server; in a config file `$LITESTREAM_REPLICA_ENDPOINT`. */
  readonly endpoint?: string | undefined;
  /** Of that bucket; in a config file `$LITESTREAM_REPLICA_REGION`. */
  readonly region?: string | undefined;
  /** For every S3 replica without keys of its own. Default: `$LITESTREAM_ACCESS_KEY_ID`, else what the AWS SDK finds. */
  readonly accessKeyId?: string | undefined;
  readonly secretAccessKey?: string | undefined;
  /** Added to `process.env`. */
  readonly env?: Env | undefined;
}

/** One database of the config or one replica URL, and which of its replicas. */
export interface ReplicaSource extends ConfigOptions {
  /** A database of the config, by its path or by the file's name. Default: the only one there is. */
  readonly database?: string | undefined;
  /** A replica URL, in place of a database. */
  readonly url?: string | undefined;
  /** The name of one replica of the database. Default: all. */
  readonly replica?: string | undefined;
}

export interface ResolvedConfig {
  readonly config: Config;
  /** The environment with what the options add. */
  readonly env: Record<string, string | undefined>;
  /** The absolute path of the file; undefined with `databases`. */
  readonly path: string | undefined;
  /** What `databases` are as the text of a file; undefined with a file. */
  readonly text: string | undefined;
}

/** What `databases` are called in messages. */
const TEXT_NAME = 'options';

/** @throws LitestreamError 'config', 'usage' */
export async function resolveConfig(options: ConfigOptions): Promise<ResolvedConfig> {
  const { exportCredentials, findConfig, loadConfig, loadConfigText } = await import('../config/index.ts');
  const cwd = process.cwd();
  const env = environmentOf(options);
  exportCredentials(env);
  const { databases } = options;
  if (databases === undefined) {
    const { path, whenMissing } = findConfig(options.config, env, cwd, 'config');
    const config = await withDoubts(loadConfig(path, { expandEnv: true, env, cwd, whenMissing }));
    return { config: withCredentials(config, env), env, path, text: undefined };
  }
  if (options.config !== undefined) throw new LitestreamError('usage', 'give either config or databases');
  const text = JSON.stringify({ dbs: databases.map((item) => sectionOf(item, options)) }, null, 2);
  const config = await withDoubts(loadConfigText(TEXT_NAME, text, { expandEnv: false, env, cwd }));
  return { config: withCredentials(config, env), env, path: undefined, text };
}

/** Adds to an error what else is doubtful in the config, as a misspelt key: it may be the cause. */
async function withDoubts(loading: Promise<Config>): Promise<Config> {
  try {
    return await loading;
  } catch (error) {
    const { ConfigError, formatPlace } = await import('../config/index.ts');
    if (!(error instanceof ConfigError) || error.warnings.length === 0) throw error;
    const doubts = error.warnings.map((warning) => `${warning.message}\n${formatPlace(warning)}`);
    throw new LitestreamError('config', [error.message, ...doubts].join('\n'), { cause: error });
  }
}

function environmentOf(options: ConfigOptions): Record<string, string | undefined> {
  const { accessKeyId, secretAccessKey } = options;
  if ((accessKeyId === undefined) !== (secretAccessKey === undefined)) {
    throw new LitestreamError('usage', 'accessKeyId and secretAccessKey belong together');
  }
  const given = {
    LITESTREAM_REPLICA_BUCKET: options.bucket,
    LITESTREAM_REPLICA_ENDPOINT: options.endpoint,
    LITESTREAM_REPLICA_REGION: options.region,
    LITESTREAM_ACCESS_KEY_ID: accessKeyId,
    LITESTREAM_SECRET_ACCESS_KEY: secretAccessKey,
    // What is given here is meant, whatever else the environment has for other programs.
    AWS_ACCESS_KEY_ID: accessKeyId,
    AWS_SECRET_ACCESS_KEY: secretAccessKey,
  };
  const env: Record<string, string | undefined> = { ...process.env, ...options.env };
  for (const [name, value] of Object.entries(given)) if (value !== undefined) env[name] = value;
  // A session of other keys does not go with these.
  if (accessKeyId !== undefined) delete env['AWS_SESSION_TOKEN'];
  return env;
}

function sectionOf(item: string | DatabaseSettings, options: ConfigOptions): object {
  const settings: DatabaseSettings = typeof item === 'string' ? { path: item } : item;
  const replicas = settings.replicas ?? [bucketReplica(settings.path, options)];
  return { ...settings, replicas: replicas.map((replica) => (isText(replica) ? { url: replica } : replica)) };
}

function isText(replica: string | ReplicaSettings): replica is string {
  return typeof replica === 'string';
}

function bucketReplica(path: string, { bucket, endpoint, region }: ConfigOptions): ReplicaSettings {
  if (bucket === undefined) {
    throw new LitestreamError('usage', `database ${path} has no replicas: give replicas, or a bucket`);
  }
  const where = {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
  };
  return { type: 's3', bucket, path: basename(path), ...where };
}

/** Hands credentials that only `env` has to the stores: the AWS SDK looks into the environment of the process. */
function withCredentials(config: Config, env: Env): Config {
  const accessKeyId = env['AWS_ACCESS_KEY_ID'];
  const secretAccessKey = env['AWS_SECRET_ACCESS_KEY'];
  const own = process.env['AWS_ACCESS_KEY_ID'] === accessKeyId;
  if (own || accessKeyId === undefined || secretAccessKey === undefined) return config;
  const fill = (store: StoreConfig): StoreConfig =>
    store.type === 's3' && store.accessKeyId === undefined
      ? { ...store, accessKeyId, secretAccessKey }
      : store;
  const databases = config.databases.map((database) => ({
    ...database,
    replicas: database.replicas.map((replica) => ({ ...replica, store: fill(replica.store) })),
  }));
  return { ...config, databases };
}

export interface ResolvedSource {
  /** Undefined for a replica URL. */
  readonly database: DatabaseOptions | undefined;
  readonly replicas: readonly ReplicaOptions[];
}

/** @throws LitestreamError 'usage', 'config', 'not-found' */
export async function resolveSource(source: ReplicaSource): Promise<ResolvedSource> {
  const { url } = source;
  if (url !== undefined) return { database: undefined, replicas: await replicasOfUrl(source, url) };
  const { config } = await resolveConfig(source);
  const database = await databaseOf(config, source);
  const { replicas } = database;
  if (source.replica === undefined) return { database, replicas };
  const selected = replicas.filter(({ name }) => name === source.replica);
  if (selected.length === 0) throw replicaNotFound(source.replica, database.path);
  return { database, replicas: selected };
}

async function replicasOfUrl(source: ReplicaSource, url: string): Promise<readonly ReplicaOptions[]> {
  for (const key of ['config', 'databases', 'database', 'replica'] as const) {
    if (source[key] !== undefined) throw new LitestreamError('usage', `give either url or ${key}`);
  }
  const { endpoint, region } = source;
  const replica = {
    url,
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
  };
  const { config } = await resolveConfig({
    ...source,
    databases: [{ path: 'database', replicas: [replica] }],
  });
  return config.databases[0]?.replicas ?? [];
}

/** The database that `source` names, or the only one. */
export async function databaseOf(
  config: Config,
  { database, env }: Pick<ReplicaSource, 'database' | 'env'>,
): Promise<DatabaseOptions> {
  if (database !== undefined) {
    const { findDatabase } = await import('../config/index.ts');
    return findDatabase(config, database, { cwd: process.cwd(), env: { ...process.env, ...env } }).database;
  }
  const [only, ...others] = config.databases;
  if (only === undefined) throw new LitestreamError('config', 'no databases in config');
  if (others.length === 0) return only;
  const paths = config.databases.map(({ path }) => path).join(', ');
  throw new LitestreamError('usage', `the config has several databases: say which (${paths})`);
}
