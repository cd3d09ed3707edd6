/** `litestream restore -all`: every database of the config, to one moment, and all of them or none. */

import { throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError, hasCode, messageOf } from '../base/errors.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import type { StagedRestore } from '../engine/restore.ts';
import type { CommandContext } from './context.ts';
import type { RestoreFlags, Wanted } from './restore-flags.ts';
import {
  type RestoreJob,
  type RestoreReport,
  describePlan,
  exists,
  openJob,
  planReportOf,
  reportOf,
} from './restore-job.ts';

export interface AllOptions {
  readonly databases: readonly DatabaseOptions[];
  readonly flags: RestoreFlags;
  readonly wanted: Wanted;
  readonly signal: AbortSignal;
}

/** What has become of one database. */
interface Outcome {
  readonly job: RestoreJob;
  readonly staged: StagedRestore | undefined;
  report: RestoreReport;
}

/**
 * Restores all of them beside their places, then puts them in place.
 * @returns a report for each, in the order of the config; the error of the first that failed
 */
export async function restoreAll(
  context: CommandContext,
  options: AllOptions,
): Promise<{ reports: readonly RestoreReport[]; error: unknown }> {
  const jobs: RestoreJob[] = [];
  const outcomes: Outcome[] = [];
  let error: unknown;
  try {
    for (const database of options.databases) jobs.push(await jobOf(context, database, options));
    for (const job of jobs) {
      try {
        outcomes.push(await stage(context, job, options.flags));
      } catch (reason) {
        error ??= reason;
        const { database, request } = job;
        const report = {
          database,
          output: request.outputPath,
          result: 'failed' as const,
          error: messageOf(reason),
        };
        outcomes.push({ job, staged: undefined, report });
        if (hasCode(reason, 'aborted')) break;
      }
    }
    error ??= await place(context, outcomes, options);
    if (error === undefined) tellSpread(context, outcomes);
  } finally {
    for (const { staged } of outcomes) await staged?.discard();
    for (const job of jobs) await job.close();
  }
  return { reports: outcomes.map(({ report }) => report), error };
}

function jobOf(
  context: CommandContext,
  database: DatabaseOptions,
  { flags, wanted, signal }: AllOptions,
): Promise<RestoreJob> {
  const logger = context.logger.with({ db: database.path });
  const target = { database, replicas: database.replicas };
  const outputPath = database.path;
  return openJob(context, { target, outputPath, flags, wanted, signal, logger, onProgress: undefined });
}

async function stage(context: CommandContext, job: RestoreJob, flags: RestoreFlags): Promise<Outcome> {
  const { database, request, logger } = job;
  const nothing = (result: 'exists' | 'no-backup'): Outcome => ({
    job,
    staged: undefined,
    report: { database, output: request.outputPath, result },
  });
  if (flags['if-db-not-exists'] === true && (await exists(request.outputPath))) {
    logger.info('database already exists, skipping');
    return nothing('exists');
  }
  try {
    if (flags['dry-run'] === true) {
      const { previewRestore } = await import('../engine/restore-preview.ts');
      const preview = await previewRestore(request);
      if (context.output !== 'json') context.print(`${describePlan(job, preview)}\n`);
      return { job, staged: undefined, report: planReportOf(job, preview) };
    }
    const { stageRestore } = await import('../engine/restore.ts');
    const staged = await stageRestore(request);
    return { job, staged, report: { ...reportOf(job, staged.result), result: 'not-restored' } };
  } catch (error) {
    if (flags['if-replica-exists'] !== true || !hasCode(error, 'no-backup')) throw error;
    logger.info('no matching backups found');
    return nothing('no-backup');
  }
}

/** Puts everything in place once all of it can be. @returns why not */
async function place(
  context: CommandContext,
  outcomes: Outcome[],
  { flags, signal }: AllOptions,
): Promise<unknown> {
  try {
    await forEach(outcomes, 'prepare');
    throwIfAborted(signal);
  } catch (error) {
    return error;
  }
  try {
    // An interruption would leave databases of different moments.
    await forEach(outcomes, 'place');
    return undefined;
  } catch (error) {
    return tellPlaced(context, outcomes, { error, force: flags.force === true });
  }
}

/** Ends with the first that fails. */
async function forEach(outcomes: Outcome[], step: 'prepare' | 'place'): Promise<void> {
  for (const outcome of outcomes) {
    const { job, staged } = outcome;
    if (staged === undefined) continue;
    try {
      await staged[step]();
      if (step === 'place') outcome.report = reportOf(job, staged.result);
    } catch (error) {
      const old = { old_database: staged.result.keptPath ?? null };
      outcome.report = { ...outcome.report, ...old, result: 'failed', error: messageOf(error) };
      throw error;
    }
  }
}

/**
 * Says what is in place and what is not after a failure in between. What is in place stays: its users may have begun to
 * write to it, and to take it away again would lose that.
 * @returns the error, with how to go on
 */
function tellPlaced(
  context: CommandContext,
  outcomes: readonly Outcome[],
  { error, force }: { readonly error: unknown; readonly force: boolean },
): unknown {
  const staged = outcomes.flatMap(({ job, staged }) =>
    staged ? [{ path: job.request.outputPath, staged }] : [],
  );
  const placedCount = staged.filter(({ staged: { placed } }) => placed).length;
  if (placedCount === 0) return error;
  for (const { path, staged: one } of staged) {
    const message = one.placed ? 'database is in place' : 'database is not in place, all is as it was';
    context.logger.error(message, { db: path, old_database: one.result.keptPath });
  }
  const again = force
    ? 'run the same command again, which replaces all of them, or stop their users and move the old ones back'
    : 'run the same command again with -if-db-not-exists';
  return new LitestreamError(
    error instanceof LitestreamError ? error.code : 'io',
    `only ${placedCount} of ${staged.length} databases are in place, which are named above: ${messageOf(error)}; when that is mended, ${again}`,
    { cause: error },
  );
}

/** Databases that were written at the same time end at the same moment, or their replication did not. */
function tellSpread(context: CommandContext, outcomes: readonly Outcome[]): void {
  const times = outcomes.flatMap(({ staged }) => staged?.result.committedAt?.getTime() ?? []);
  if (times.length < 2) return;
  const [oldest, newest] = [Math.min(...times), Math.max(...times)].map((ms) => new Date(ms).toISOString());
  context.logger.info('restored all databases', { oldest_commit: oldest, newest_commit: newest });
}
