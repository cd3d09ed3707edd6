/** From arguments to replicas: a replica URL, or a database of the config file. */

import { LitestreamError } from '../base/errors.ts';
import type { Config, Diagnostic } from '../config/index.ts';
import {
  DATABASE_DEFAULTS,
  DEFAULT_MAX_CONCURRENT_REQUESTS,
  DEFAULT_SHUTDOWN_TIMEOUT_MS,
  REPLICA_DEFAULTS,
} from '../engine/options.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import type { CommandContext } from './context.ts';

export { replicaNotFound } from '../config/find-replica.ts';

export interface ReplicaTarget {
  readonly name: string;
  readonly store: StoreConfig;
}

export interface Target {
  /** undefined when the argument is a replica URL. */
  readonly database: DatabaseOptions | undefined;
  readonly replicas: readonly ReplicaTarget[];
}

export interface ConfigFlags {
  readonly config?: string;
  readonly 'no-expand-env'?: boolean;
}

/** Reads the config file that `flags` name and takes over its log channel. Rejects with 'config'. */
export async function readConfig(context: CommandContext, flags: ConfigFlags): Promise<Config> {
  const { ConfigError, exportCredentials, findConfig, formatPlace, loadConfig, loadConfigText } =
    await import('../config/index.ts');
  const { cwd, env, supervision } = context;
  const settings = await supervision?.settings;
  Object.assign(env, settings?.env);
  exportCredentials(env);
  const options = { expandEnv: flags['no-expand-env'] !== true, env, cwd };
  const { path, whenMissing } = findConfig(flags.config, env, cwd);
  const warn = (warnings: readonly Diagnostic[]): void => {
    for (const warning of warnings) context.warnOfConfig(warning.message, formatPlace(warning));
  };
  try {
    const config =
      settings?.configText === undefined
        ? await loadConfig(path, { ...options, whenMissing })
        : await loadConfigText('options', settings.configText, options);
    context.applyLogging(config.logging);
    warn(config.warnings);
    return config;
  } catch (error) {
    if (error instanceof ConfigError) {
      // What is wrong may stand beside what says how to log it.
      if (error.logging !== undefined) context.applyLogging(error.logging);
      warn(error.warnings);
    }
    throw error;
  }
}

/** What `DB_PATH REPLICA_URL...` stands for: one database with everything else at its default. */
export async function configOfArguments(
  context: CommandContext,
  argument: string,
  urls: readonly string[],
): Promise<Config> {
  const { SOCKET_DEFAULTS, expandPath, exportCredentials, parseReplicaUrl } =
    await import('../config/index.ts');
  exportCredentials(context.env);
  const path = expandPath(argument, context);
  const replicas = urls.map((url) => {
    const store = parseReplicaUrl(url, context.env);
    const owned = store.type === 'file' ? { ...store, ownerLike: path } : store;
    return { ...REPLICA_DEFAULTS, name: store.type, store: owned };
  });
  return {
    path: '',
    addr: '',
    exec: '',
    logging: { level: 'INFO', type: 'text', stderr: true },
    socket: SOCKET_DEFAULTS,
    heartbeat: undefined,
    shutdownTimeoutMs: DEFAULT_SHUTDOWN_TIMEOUT_MS,
    maxConcurrentRequests: DEFAULT_MAX_CONCURRENT_REQUESTS,
    databases: [{ ...DATABASE_DEFAULTS, path, replicas }],
    warnings: [],
    locate: () => undefined,
  };
}

/** What no command takes: a replica URL stands for itself. */
export function refuseConfigWithUrl(flags: ConfigFlags): void {
  if (flags.config !== undefined) {
    throw new LitestreamError('usage', 'cannot specify a replica URL and the -config flag');
  }
}

/**
 * What `argument` stands for: a replica URL, or a database of the config file.
 * Rejects with 'usage', 'config' or 'not-found'.
 */
export async function resolveTarget(
  context: CommandContext,
  argument: string,
  flags: ConfigFlags,
): Promise<Target> {
  const { exportCredentials, findDatabase, isUrl, parseReplicaUrl } = await import('../config/index.ts');
  if (isUrl(argument)) {
    refuseConfigWithUrl(flags);
    exportCredentials(context.env);
    const store = parseReplicaUrl(argument, context.env);
    return { database: undefined, replicas: [{ name: store.type, store }] };
  }
  const config = await readConfig(context, flags);
  const { database, note } = findDatabase(config, argument, context);
  // Standard output is for the table, which scripts read.
  if (note !== undefined && context.output === 'table') context.printError(`${note}\n`);
  else if (note !== undefined) context.logger.info(note);
  return { database, replicas: database.replicas };
}
