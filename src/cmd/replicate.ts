/** `litestream replicate`: runs until a signal comes or its `-exec` child ends. */

import { LitestreamError } from '../base/errors.ts';
import { LogDuration } from '../base/logger.ts';
import type { Logger } from '../base/logger.ts';
import { withoutCredentials } from '../base/redact-url.ts';
import type { Config } from '../config/index.ts';
import type { Control } from '../control/control.ts';
import type { Heartbeat } from '../control/heartbeat.ts';
import type { Route } from '../control/router.ts';
import type { ReplicaOptions } from '../engine/options.ts';
import type { Replicator } from '../engine/replicator.ts';
import type { WebServer } from '../web/serve.ts';
import { CONFIG_FLAGS, DATABASE_FLAG, defineCommand } from './command.ts';
import type { Command, CommandArguments } from './command.ts';
import type { CommandContext } from './context.ts';
import { openConsole } from './replicate-console.ts';
import { runReplication } from './replication-run.ts';
import { splitShellWords } from './shell-words.ts';
import { configOfArguments, readConfig, refuseConfigWithUrl } from './target.ts';
import { packageVersion } from './version.ts';

const FLAGS = {
  ...CONFIG_FLAGS,
  ...DATABASE_FLAG,
  exec: {
    kind: 'string',
    placeholder: 'COMMAND',
    help:
      'Starts this command, without a shell, once replication runs; ends with it and with its\n' +
      'exit code. Signals are passed on to it, and the last changes are stored after it has ended.',
  },
} as const;

export const command: Command = defineCommand({
  name: 'replicate',
  description:
    'Replicates databases until it is told to stop (SIGINT, SIGTERM): the databases of the config\n' +
    'file, or one database to the replica URLs that follow it. Ends with exit code 0 when everything\n' +
    'is stored, within shutdown-timeout; a second signal ends it at once.',
  forms: ['[flags]', '[flags] DB_PATH REPLICA_URL [REPLICA_URL...]'],
  flags: FLAGS,
  examples: [
    { what: 'What the config file says', line: 'litestream replicate -config /etc/litestream.yml' },
    { what: 'One database to a bucket', line: 'litestream replicate /var/lib/app.db s3://backups/app.db' },
    { what: 'Around an application', line: 'litestream replicate -exec "node server.js"' },
  ],
  async run(context, args) {
    context.output = 'log';
    const config = await configOf(context, args);
    const { logger } = context;
    const words = execWords(execLine(context, args.flags.exec, config), logger);
    const { parseBindAddress } = await import('../web/bind-address.ts');
    const address = config.addr === '' ? undefined : parseBindAddress(config.addr);
    const { checkReplicable } = await import('../config/index.ts');
    checkReplicable(config);
    const { Replicator } = await import('../engine/replicator.ts');
    const { stateDirectories } = await import('../base/state-directories.ts');
    const { openStore } = await import('../storage/registry.ts');
    const { Semaphore } = await import('../base/concurrency.ts');
    const warn = (message: string): void => logger.warn(message);
    const places = new Semaphore(config.maxConcurrentRequests);
    const replicator: Replicator = new Replicator({
      databases: config.databases,
      logger,
      openStore: (store) => openStore(store, { warn, places }),
      onLocked: (database) => control.claim(database),
      stateDirectories: stateDirectories(context.env),
    });
    const console = await openConsole({
      replicator,
      databases: config.databases,
      routes: await ownRoutes(replicator),
      logger,
    });
    const control = await openControl(context, config, replicator, console.routes);
    const election = await context.supervision?.lock(config.databases[0]?.path ?? '', startedAt());
    const heartbeat = await openHeartbeat(config, replicator, logger);
    return runReplication({
      replicator,
      shutdownTimeoutMs: config.shutdownTimeoutMs,
      exec: words,
      context,
      onStarting: () => logDatabases(config, logger),
      onStarted: async (): Promise<WebServer | undefined> => {
        console.start();
        await control.settle();
        heartbeat?.start();
        await context.supervision?.tell({ type: 'ready' });
        return address && console.serve(address, context.env);
      },
      onEnded: async (unstored) => {
        heartbeat?.stop();
        await console.close();
        await control.close(unstored);
        await election?.release();
      },
    });
  },
});

/** The control socket, which answers to other commands and to dashboards. */
async function openControl(
  { env, logger }: CommandContext,
  { socket }: Config,
  replicator: Replicator,
  routes: readonly Route[],
): Promise<Control> {
  const { Control } = await import('../control/control.ts');
  return new Control({
    databases: () => replicator.databases(),
    socket,
    routes,
    logger,
    env,
    startedAt: startedAt(),
  });
}

async function ownRoutes(replicator: Replicator): Promise<Route[]> {
  const { replicationRoutes } = await import('../control/routes.ts');
  return replicationRoutes(replicator, {
    version: packageVersion(),
    pid: process.pid,
    startedAt: startedAt(),
  });
}

/** When this process was started, in ISO 8601. */
function startedAt(): string {
  return new Date(Date.now() - process.uptime() * 1000).toISOString();
}

async function openHeartbeat(
  { heartbeat }: Config,
  replicator: Replicator,
  logger: Logger,
): Promise<Heartbeat | undefined> {
  if (heartbeat === undefined) return undefined;
  const { Heartbeat } = await import('../control/heartbeat.ts');
  return new Heartbeat(heartbeat, replicator, logger);
}

/** The config file, or what `DB_PATH REPLICA_URL...` stands for. Logs the first line, as early as v0.3.13 does. */
async function configOf(
  context: CommandContext,
  { flags, positionals }: CommandArguments<typeof FLAGS>,
): Promise<Config> {
  const [path, ...urls] = positionals;
  const logVersion = (): void => context.logger.info('litestream', { version: packageVersion() });
  if (path === undefined) {
    const config = await readConfig(context, flags);
    logVersion();
    return config;
  }
  if (urls.length === 0) {
    throw new LitestreamError('usage', `must specify at least one replica URL for ${path}`);
  }
  refuseConfigWithUrl(flags);
  logVersion();
  return configOfArguments(context, path, urls);
}

/** The command to run beside replication; empty: none. */
function execLine(
  { supervision, logger }: CommandContext,
  flag: string | undefined,
  { exec }: Config,
): string {
  if (flag !== undefined && flag !== '') return flag;
  if (exec === '' || supervision === undefined) return exec;
  logger.info('exec of the config is left out: the application runs already');
  return '';
}

/** The words of `-exec`, or undefined without one. */
function execWords(line: string, logger: Logger): readonly string[] | undefined {
  if (line === '') return undefined;
  const { words, ignored } = splitShellWords(line);
  if (words.length === 0) throw new LitestreamError('config', 'cannot parse exec command: it has no words');
  if (ignored !== '') {
    logger.warn('exec command runs without a shell, the rest of it is ignored: use sh -c "..."', { ignored });
  }
  return words;
}

/** What is going to be replicated where, in the order and the words of v0.3.13. */
function logDatabases(config: Config, logger: Logger): void {
  if (config.databases.length === 0) logger.error('no databases specified in configuration');
  for (const { path, replicas } of config.databases) {
    logger.info('initialized db', { path });
    for (const replica of replicas) logReplica(replica, logger);
  }
}

function logReplica({ name, store, syncIntervalMs }: ReplicaOptions, logger: Logger): void {
  const head = { name, type: store.type, 'sync-interval': new LogDuration(syncIntervalMs) };
  switch (store.type) {
    case 'file':
      logger.info('replicating to', { ...head, path: store.path });
      return;
    case 's3': {
      const { bucket, path, region = '', endpoint = '' } = store;
      logger.info('replicating to', {
        ...head,
        bucket,
        path,
        region,
        endpoint: withoutCredentials(endpoint),
      });
      return;
    }
    case 'abs': {
      const { bucket, path, endpoint = '' } = store;
      logger.info('replicating to', { ...head, bucket, path, endpoint: withoutCredentials(endpoint) });
      return;
    }
    case 'gcs':
      logger.info('replicating to', { ...head, bucket: store.bucket, path: store.path });
      return;
    case 'sftp': {
      const { host, port, user, path } = store;
      const server = port === 22 ? host : `${host}:${port}`;
      logger.info('replicating to', { ...head, host: server, user, path });
    }
  }
}
