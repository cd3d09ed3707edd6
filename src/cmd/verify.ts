/** `litestream verify`: proves that what is stored can be restored and is what the database holds, or says what is wrong. */

import { printable } from '../base/printable.ts';
import { LitestreamError, hasCode } from '../base/errors.ts';
import { parseDuration } from '../base/duration.ts';
import { redactUrl } from '../base/redact-url.ts';
import type { VerifyAnswer } from '../control/verify.ts';
import { formatPosition } from '../format/position.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import type { VerificationResult } from '../engine/verification-result.ts';
import { CONFIG_FLAGS, DATABASE_FLAG, JSON_FLAG, defineCommand, onePositional } from './command.ts';
import type { Command, CommandArguments } from './command.ts';
import type { CommandContext } from './context.ts';
import { onStopSignal, stopExitCode } from './signals.ts';
import type { StopSignal } from './signals.ts';
import { formatTable } from './table.ts';
import { readConfig, replicaNotFound, resolveTarget } from './target.ts';

const DEFAULT_TIMEOUT = '1h';

/** What scripts decide by. */
const EXIT = { ok: 0, failed: 1, inconclusive: 2 } as const satisfies Record<
  VerificationResult['result'],
  number
>;

const FLAGS = {
  ...CONFIG_FLAGS,
  ...DATABASE_FLAG,
  replica: {
    kind: 'string',
    placeholder: 'NAME',
    help: 'Only this replica. Default: all of the database.',
  },
  'replica-only': {
    kind: 'bool',
    help:
      'Without a database: reads every object of the replica, whose URL or database is the argument,\n' +
      'and says what can be restored. Restores nothing and takes no disk.',
  },
  latest: {
    kind: 'bool',
    help:
      'Looks only at what the latest state is restored from, not at all objects: there is less to\n' +
      'download.',
  },
  timeout: {
    kind: 'string',
    placeholder: 'DURATION',
    help: `How long it may take for each database, such as 10m. Default: ${DEFAULT_TIMEOUT}.`,
  },
  json: {
    ...JSON_FLAG.json,
    help: 'Prints a JSON array with one object for each database: see docs/verification.md.',
  },
} as const;

type Flags = CommandArguments<typeof FLAGS>['flags'];

export const command: Command = defineCommand({
  name: 'verify',
  description:
    'Has the running replicate restore what it has stored of a database, or of all of the config file, to\n' +
    'a temporary file in the meta directory, check it, and compare it page by page with the live database\n' +
    'at the same position. Also reads every other object of the replicas. Writers are not kept waiting.\n\n' +
    'Exit code: 0 everything is right; 1 something is wrong, each page and object by name, or the command\n' +
    'cannot be meant; 2 inconclusive, with the reason: also when no replicate is running, as nobody then\n' +
    'knows whether the replica has all of the database.',
  forms: ['[flags] [DB_PATH]', '-replica-only [flags] DB_PATH|REPLICA_URL'],
  flags: FLAGS,
  examples: [
    { what: 'All databases', line: 'litestream verify -config /etc/litestream.yml' },
    {
      what: 'A backup on another machine',
      line: 'litestream verify -replica-only s3://backups/app.db',
    },
  ],
  async run(context, { flags, positionals }) {
    context.output = flags.json === true ? 'json' : 'table';
    const timeoutMs = timeoutOf(flags.timeout ?? DEFAULT_TIMEOUT);
    const stopping = new AbortController();
    let stopSignal: StopSignal | undefined;
    onStopSignal((signal) => {
      stopSignal ??= signal;
      stopping.abort();
    });
    try {
      const request = { timeoutMs, signal: stopping.signal };
      const answers =
        flags['replica-only'] === true
          ? [await verifyReplicaOnly(context, { flags, positionals }, request)]
          : await verifyDatabases(context, { flags, positionals }, request);
      if (context.output === 'json') context.print(`${JSON.stringify(answers, null, 2)}\n`);
      else print(context, answers);
      return exitCodeOf(answers);
    } catch (error) {
      if (stopSignal === undefined || !hasCode(error, 'aborted')) throw error;
      context.logger.error('verification interrupted');
      return stopExitCode(stopSignal);
    }
  },
});

function timeoutOf(text: string): number {
  let ms: number;
  try {
    ms = parseDuration(text);
  } catch {
    throw new LitestreamError('usage', `invalid -timeout "${text}": a duration such as 10m or 2h`);
  }
  if (ms <= 0) throw new LitestreamError('usage', '-timeout must be positive');
  return ms;
}

interface Request {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

async function verifyDatabases(
  context: CommandContext,
  { flags, positionals }: CommandArguments<typeof FLAGS>,
  request: Request,
): Promise<VerifyAnswer[]> {
  const argument =
    positionals.length === 0 ? undefined : onePositional(positionals, 'database path required');
  const { findDatabase, isUrl } = await import('../config/index.ts');
  if (argument !== undefined && isUrl(argument)) {
    throw new LitestreamError('usage', `a replica has no database to compare with: add -replica-only`);
  }
  const config = await readConfig(context, flags);
  const databases =
    argument === undefined ? config.databases : [findDatabase(config, argument, context).database];
  if (databases.length === 0) throw new LitestreamError('config', 'no databases in config');
  const replica = replicaOf(databases, flags);
  const { verify } = await import('../control/verify.ts');
  const { openStore } = await import('../storage/registry.ts');
  const depth = flags.latest === true ? 'latest' : 'all';
  const { logger } = context;
  const answers: VerifyAnswer[] = [];
  for (const database of databases)
    answers.push(await verify({ database, replica, depth, openStore, logger, ...request }));
  return answers;
}

/** The replica that is asked for; each database must have it. */
function replicaOf(databases: readonly DatabaseOptions[], { replica }: Flags): string | undefined {
  if (replica === undefined || replica === '') return undefined;
  const without = databases.find(({ replicas }) => replicas.every(({ name }) => name !== replica));
  if (without) throw replicaNotFound(replica, without.path);
  return replica;
}

async function verifyReplicaOnly(
  context: CommandContext,
  { flags, positionals }: CommandArguments<typeof FLAGS>,
  request: Request,
): Promise<VerifyAnswer> {
  if (flags.latest === true) throw new LitestreamError('usage', 'cannot combine -latest and -replica-only');
  const argument = onePositional(positionals, 'database path or replica URL required');
  const { database, replicas: all } = await resolveTarget(context, argument, flags);
  const name = database && replicaOf([database], flags);
  const replicas = all.filter((replica) => name === undefined || replica.name === name);
  const { verifyAnswer, verifyReplicas } = await import('../control/verify.ts');
  const { openStore } = await import('../storage/registry.ts');
  const { logger } = context;
  const results = await verifyReplicas({ replicas, openStore, logger, ...request });
  return verifyAnswer(database?.path ?? redactUrl(argument), results);
}

function exitCodeOf(answers: readonly VerifyAnswer[]): number {
  const results = answers.map(({ result }) => result);
  if (results.includes('failed')) return EXIT.failed;
  return results.includes('inconclusive') ? EXIT.inconclusive : EXIT.ok;
}

const HEADER = ['database', 'replica', 'result', 'position', 'restorable-from', 'restorable-to'];

function print(context: CommandContext, answers: readonly VerifyAnswer[]): void {
  const rows = answers.flatMap(({ database, replicas }) =>
    replicas.map(({ replica, result, position, generations }) => {
      const ranges = generations.filter(({ from }) => from !== null);
      const from = ranges.map((range) => range.from ?? '').sort()[0] ?? '-';
      const at = position ? formatPosition(position) : '-';
      return [database, replica, result, at, from, ranges.at(-1)?.to ?? '-'];
    }),
  );
  context.print(formatTable(HEADER, rows));
  const notes = answers.flatMap(({ database, replicas }) =>
    replicas.flatMap((result) => notesOf(result).map((note) => `${database}: ${result.replica}: ${note}`)),
  );
  context.print(`\n${notes.map((note) => `${printable(note)}\n`).join('')}`);
}

function notesOf({ result, message, problems }: VerificationResult): string[] {
  const notes = problems.map((problem) => `failed: ${problem.message}`);
  return notes.length > 0 ? notes : [`${result}: ${message}`];
}
