/** `litestream restore`. */

import { promises as fs } from 'node:fs';
import { resolve } from 'node:path';
import { LitestreamError, hasCode, systemCode } from '../base/errors.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { CONFIG_FLAGS, DATABASE_FLAG, defineCommand, onePositional } from './command.ts';
import type { Command, CommandArguments } from './command.ts';
import type { CommandContext } from './context.ts';
import { ProgressLine } from './progress.ts';
import { onStopSignal, stopExitCode } from './signals.ts';
import type { StopSignal } from './signals.ts';
import { replicaNotFound, resolveTarget } from './target.ts';
import type { Target } from './target.ts';
import { parseTimestamp } from './timestamp.ts';

/** A remote store takes more at once: it says how many. */
const LOCAL_PARALLELISM = 8;

const FLAGS = {
  ...CONFIG_FLAGS,
  ...DATABASE_FLAG,
  o: {
    kind: 'string',
    placeholder: 'PATH',
    help: 'Where to write the database; nothing may be there yet. Default: where it was.\nNeeded with a replica URL.',
  },
  replica: {
    kind: 'string',
    placeholder: 'NAME',
    help: 'Restores from this replica. Default: the one with the newest data.',
  },
  generation: {
    kind: 'string',
    placeholder: 'NAME',
    help: 'Restores this generation. Default: the one with the newest data.',
  },
  index: {
    kind: 'index',
    placeholder: 'HEX',
    help: 'Restores up to and including this WAL index, in hexadecimal as in object names\n(`litestream wal` prints decimal). Default: the last one.',
  },
  timestamp: {
    kind: 'string',
    placeholder: 'TIME',
    help: 'Restores what was replicated up to this time, for example 2000-01-01T00:00:00Z or\n2000-01-01T02:00:00.5+02:00. Default: the latest.',
  },
  'if-db-not-exists': {
    kind: 'bool',
    help: 'Does nothing, with exit code 0, when the output is there already.',
  },
  'if-replica-exists': {
    kind: 'bool',
    help: 'Does nothing, with exit code 0, when there is no backup to restore.',
  },
  parallelism: {
    kind: 'int',
    placeholder: 'N',
    help: `How many objects to download at once. Default: 32, from a folder or over SFTP ${LOCAL_PARALLELISM}.`,
  },
  force: {
    kind: 'bool',
    help: 'Renames left-over -wal, -shm and -journal files beside the output, which SQLite would\nreplay over it. Never overwrites the output itself.',
  },
} as const;

type Flags = CommandArguments<typeof FLAGS>['flags'];

export const command: Command = defineCommand({
  name: 'restore',
  description:
    'Restores a database from a snapshot and the WAL after it. DB_PATH is a database of the config\n' +
    'file, or its file name alone. Ends with exit code 0 when the whole database is in place, else\nleaves nothing behind.',
  forms: ['[flags] DB_PATH', '[flags] -o PATH REPLICA_URL'],
  flags: FLAGS,
  examples: [
    { what: 'The latest state, to where the database was', line: 'litestream restore /var/lib/app.db' },
    {
      what: 'An earlier state, beside it',
      line: 'litestream restore -o /tmp/app.db -timestamp 2000-01-01T00:00:00Z /var/lib/app.db',
    },
    {
      what: 'From a bucket, without a config file',
      line: 'litestream restore -o app.db s3://backups/app.db',
    },
    {
      what: 'Before an application starts for the first time or on a new machine',
      line: 'litestream restore -if-db-not-exists -if-replica-exists /var/lib/app.db',
    },
  ],
  async run(context, { flags, positionals }) {
    context.output = 'log';
    const argument = onePositional(positionals, 'database path or replica URL required');
    const timestamp =
      flags.timestamp === undefined || flags.timestamp === '' ? undefined : parseTimestamp(flags.timestamp);
    if (timestamp !== undefined && flags.index !== undefined) {
      throw new LitestreamError('usage', 'cannot specify index & timestamp to restore');
    }
    const target = await resolveTarget(context, argument, flags);
    const outputPath = outputOf(context, flags, target);
    if (flags['if-db-not-exists'] === true && (await exists(outputPath))) {
      context.logger.info('database already exists, skipping');
      return 0;
    }
    return restoreTarget(context, target, { flags, outputPath, timestamp });
  },
});

function outputOf(context: CommandContext, { o }: Flags, { database }: Target): string {
  if (o !== undefined && o !== '') return resolve(context.cwd, o);
  if (database === undefined) throw new LitestreamError('usage', 'output path required');
  return database.path;
}

async function exists(path: string): Promise<boolean> {
  try {
    await fs.stat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw error;
  }
}

async function restoreTarget(
  context: CommandContext,
  target: Target,
  request: { readonly flags: Flags; readonly outputPath: string; readonly timestamp: Date | undefined },
): Promise<number> {
  const { flags, outputPath, timestamp } = request;
  const stopping = new AbortController();
  let stopSignal: StopSignal | undefined;
  onStopSignal((signal) => {
    stopSignal ??= signal;
    stopping.abort();
  });
  const { restore } = await import('../engine/restore.ts');
  const replicas = await openReplicas(context, target, flags);
  const progress = progressLine();
  // On a terminal the progress line says it all; a log that goes elsewhere is written in full.
  const quiet = progress !== undefined && process[context.logStream].isTTY;
  const db = target.database?.path;
  const logger = db === undefined ? context.logger : context.logger.with({ db });
  try {
    await restore({
      replicas,
      outputPath,
      ...(flags.generation === undefined || flags.generation === '' ? {} : { generation: flags.generation }),
      ...(flags.index === undefined ? {} : { index: flags.index }),
      ...(timestamp === undefined ? {} : { timestamp }),
      parallelism: Math.max(1, flags.parallelism ?? defaultParallelism(replicas)),
      force: flags.force === true,
      signal: stopping.signal,
      logger: quiet ? progress.quiet(logger) : logger,
      ...(progress === undefined ? {} : { onProgress: (step) => progress.update(step) }),
    });
    progress?.finish(outputPath);
    return 0;
  } catch (error) {
    progress?.clear();
    if (stopSignal !== undefined && hasCode(error, 'aborted')) {
      context.logger.error('restore interrupted, nothing was written', { path: outputPath });
      return stopExitCode(stopSignal);
    }
    if (flags['if-replica-exists'] === true && hasCode(error, 'no-backup')) {
      context.logger.info('no matching backups found');
      return 0;
    }
    throw error;
  } finally {
    await Promise.all(replicas.map(({ store }) => store.close()));
  }
}

function defaultParallelism(replicas: readonly { readonly store: ObjectStore }[]): number {
  return Math.max(LOCAL_PARALLELISM, ...replicas.map(({ store }) => store.capabilities.concurrency));
}

/** The stores to restore from. A replica that is not there is no backup, as in v0.3.13, but said so. */
async function openReplicas(
  context: CommandContext,
  { database, replicas }: Target,
  flags: Flags,
): Promise<{ name: string; store: ObjectStore }[]> {
  const { openStore } = await import('../storage/registry.ts');
  const { replica: name } = flags;
  const all = database === undefined || name === undefined || name === '';
  const selected = all ? replicas : replicas.filter((replica) => replica.name === name);
  if (!all && selected.length === 0) context.logger.warn(replicaNotFound(name, database.path).message);
  const warn = (message: string): void => context.logger.warn(message);
  return Promise.all(
    selected.map(async ({ name, store }) => ({ name, store: await openStore(store, { warn }) })),
  );
}

function progressLine(): ProgressLine | undefined {
  const { stderr } = process;
  if (!stderr.isTTY) return undefined;
  return new ProgressLine({
    get columns() {
      return stderr.columns;
    },
    write: (text) => void stderr.write(text),
  });
}
