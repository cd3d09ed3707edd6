/** `litestream restore`. */

import { resolve } from 'node:path';
import { LitestreamError, hasCode, messageOf } from '../base/errors.ts';
import { defineCommand, onePositional } from './command.ts';
import type { Command, CommandArguments } from './command.ts';
import type { CommandContext } from './context.ts';
import { ProgressLine } from './progress.ts';
import { RESTORE_FLAGS, type RestoreFlags, wantedOf } from './restore-flags.ts';
import {
  type RestoreJob,
  type RestoreReport,
  describePlan,
  exists,
  openJob,
  planReportOf,
  refuseWithAll,
  reportOf,
} from './restore-job.ts';
import { onStopSignal, stopExitCode } from './signals.ts';
import type { StopSignal } from './signals.ts';
import { readConfig, resolveTarget } from './target.ts';
import type { Target } from './target.ts';

type Arguments = CommandArguments<typeof RESTORE_FLAGS>;

export const command: Command = defineCommand({
  name: 'restore',
  description:
    'Restores a database from a snapshot and the WAL after it. DB_PATH is a database of the config\n' +
    'file, or its file name alone. Ends with exit code 0 when the whole database is in place, else\n' +
    'leaves nothing behind.',
  forms: ['[flags] DB_PATH', '[flags] -o PATH REPLICA_URL', '[flags] -all'],
  flags: RESTORE_FLAGS,
  examples: [
    { what: 'The latest state, to where the database was', line: 'litestream restore /var/lib/app.db' },
    {
      what: 'An earlier state, beside it',
      line: 'litestream restore -o /tmp/app.db -timestamp "10m ago" /var/lib/app.db',
    },
    { what: 'What that would take', line: 'litestream restore -dry-run -timestamp "10m ago" app.db' },
    { what: 'In the place of the database that is there', line: 'litestream restore -force app.db' },
    {
      what: 'From a bucket, without a config file',
      line: 'litestream restore -o app.db s3://backups/app.db',
    },
    {
      what: 'Before an application starts for the first time or on a new machine',
      line: 'litestream restore -all -if-db-not-exists -if-replica-exists',
    },
  ],
  async run(context, args) {
    const { flags } = args;
    const dryRun = flags['dry-run'] === true;
    context.output = flags.json === true ? 'json' : dryRun ? 'table' : 'log';
    const stop = watchStopSignals();
    const outcome =
      flags.all === true ? await runAll(context, args, stop) : await runOne(context, args, stop);
    if (flags.json === true) context.print(`${JSON.stringify(outcome.reports, null, 2)}\n`);
    if (stop.signal !== undefined && hasCode(outcome.error, 'aborted')) {
      const path = outcome.reports[0]?.output;
      context.logger.error('restore interrupted, nothing was written', { path });
      return stopExitCode(stop.signal);
    }
    if (outcome.error !== undefined) {
      throw outcome.error instanceof Error
        ? outcome.error
        : new LitestreamError('io', messageOf(outcome.error));
    }
    return outcome.reports.some(({ obstacle }) => typeof obstacle === 'string') ? 1 : 0;
  },
});

interface Stop {
  readonly aborted: AbortSignal;
  /** The first that came. */
  signal: StopSignal | undefined;
}

function watchStopSignals(): Stop {
  const stopping = new AbortController();
  const stop: Stop = { aborted: stopping.signal, signal: undefined };
  onStopSignal((signal) => {
    stop.signal ??= signal;
    stopping.abort();
  });
  return stop;
}

interface Outcome {
  readonly reports: readonly RestoreReport[];
  readonly error: unknown;
}

async function runAll(
  context: CommandContext,
  { flags, positionals }: Arguments,
  stop: Stop,
): Promise<Outcome> {
  refuseWithAll(flags, positionals);
  const wanted = wantedOf(flags);
  const { databases } = await readConfig(context, flags);
  if (databases.length === 0) throw new LitestreamError('config', 'no databases in config');
  const { restoreAll } = await import('./restore-all.ts');
  return restoreAll(context, { databases, flags, wanted, signal: stop.aborted });
}

async function runOne(
  context: CommandContext,
  { flags, positionals }: Arguments,
  stop: Stop,
): Promise<Outcome> {
  const argument = onePositional(positionals, 'database path or replica URL required');
  const wanted = wantedOf(flags);
  const target = await resolveTarget(context, argument, flags);
  const outputPath = outputOf(context, flags, target);
  const database = target.database?.path ?? null;
  const skipped = (result: RestoreReport['result']): Outcome => {
    return { reports: [{ database, output: outputPath, result }], error: undefined };
  };
  if (flags['if-db-not-exists'] === true && (await exists(outputPath))) {
    context.logger.info('database already exists, skipping');
    return skipped('exists');
  }
  const progress = progressLine();
  // On a terminal the progress line says it all; a log that goes elsewhere is written in full.
  const quiet = progress !== undefined && process[context.logStream].isTTY;
  const logger = database === null ? context.logger : context.logger.with({ db: database });
  const job = await openJob(context, {
    target,
    outputPath,
    flags,
    wanted,
    signal: stop.aborted,
    logger: quiet ? progress.quiet(logger) : logger,
    onProgress: progress && ((step) => progress.update(step)),
  });
  try {
    const report = await carryOut(context, job, flags);
    if (report.result === 'restored') progress?.finish(outputPath);
    return { reports: [report], error: undefined };
  } catch (error) {
    progress?.clear();
    if (flags['if-replica-exists'] === true && hasCode(error, 'no-backup')) {
      context.logger.info('no matching backups found');
      return skipped('no-backup');
    }
    return { reports: [{ database, output: outputPath, result: 'failed' }], error };
  } finally {
    await job.close();
  }
}

async function carryOut(
  context: CommandContext,
  job: RestoreJob,
  flags: RestoreFlags,
): Promise<RestoreReport> {
  if (flags['dry-run'] !== true) {
    const { restore } = await import('../engine/restore.ts');
    return reportOf(job, await restore(job.request));
  }
  const { previewRestore } = await import('../engine/restore-preview.ts');
  const preview = await previewRestore(job.request);
  if (context.output !== 'json') context.print(describePlan(job, preview));
  return planReportOf(job, preview);
}

function outputOf(context: CommandContext, { o }: RestoreFlags, { database }: Target): string {
  if (o !== undefined && o !== '') return resolve(context.cwd, o);
  if (database === undefined) throw new LitestreamError('usage', 'output path required');
  return database.path;
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
