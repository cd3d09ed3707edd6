/** `litestream status`: how a running `replicate` is, in full. */

import { printable } from '../base/printable.ts';
import { explanation, statusReport } from '../control/status-report.ts';
import type { Survey, SurveyedDatabase } from '../control/survey.ts';
import type { ProcessStatus } from '../engine/status.ts';
import { CONFIG_FLAGS, DATABASE_FLAG, JSON_FLAG, defineCommand, onePositional } from './command.ts';
import type { Command, CommandArguments } from './command.ts';
import type { CommandContext } from './context.ts';
import { durationWord, modeNote } from './status-words.ts';
import { formatTable } from './table.ts';
import { readConfig } from './target.ts';

const SOCKET_TIMEOUT_MS = 5000;
const REPLICA_TIMEOUT_MS = 10_000;

/** What scripts decide by. */
const EXIT = { healthy: 0, unhealthy: 1, notRunning: 2 } as const;

const FLAGS = {
  ...CONFIG_FLAGS,
  ...DATABASE_FLAG,
  socket: {
    kind: 'string',
    placeholder: 'PATH',
    help: 'Asks on this socket, without a config file. Default: where the meta directories say.',
  },
  json: {
    ...JSON_FLAG.json,
    help: 'Prints one JSON object with everything that is known: see docs/status.md.',
  },
} as const;

export const command: Command = defineCommand({
  name: 'status',
  description:
    'Shows how the running replicate is: each database and replica, since when, why, and what to do.\n' +
    'Where its socket cannot be used, as from another container or by another user, it goes by what the\n' +
    'replicas hold, and says so.\n\n' +
    'Exit code: 0 healthy, 1 unhealthy, 2 not running.',
  forms: ['[flags] [DB_PATH]'],
  flags: FLAGS,
  examples: [
    { what: 'All databases', line: 'litestream status -config /etc/litestream.yml' },
    { what: 'For a script', line: 'litestream status -json | jq .healthy' },
  ],
  async run(context, args) {
    context.output = args.flags.json === true ? 'json' : 'table';
    const found = await look(context, args);
    if (context.output === 'json') printJson(context, found);
    else print(context, found);
    if (!found.running) return EXIT.notRunning;
    return found.databases.every(({ status }) => status.healthy) ? EXIT.healthy : EXIT.unhealthy;
  },
});

async function look(
  context: CommandContext,
  { flags, positionals }: CommandArguments<typeof FLAGS>,
): Promise<Survey> {
  const argument =
    positionals.length === 0 ? undefined : onePositional(positionals, 'database path required');
  if (flags.socket !== undefined && flags.socket !== '') return lookAt(context, flags.socket, argument);
  const config = await readConfig(context, flags);
  const { findDatabase } = await import('../config/index.ts');
  const databases =
    argument === undefined ? config.databases : [findDatabase(config, argument, context).database];
  const { survey } = await import('../control/survey.ts');
  return survey({
    databases,
    openStore: async (store) => (await import('../storage/registry.ts')).openStore(store),
    socketTimeoutMs: SOCKET_TIMEOUT_MS,
    replicaTimeoutMs: REPLICA_TIMEOUT_MS,
  });
}

/** What one socket tells. Rejects when it cannot be asked, unless nobody is there. */
async function lookAt(
  context: CommandContext,
  socket: string,
  argument: string | undefined,
): Promise<Survey> {
  const { UnreachableError, callControl } = await import('../control/client.ts');
  const { expandPath } = await import('../config/index.ts');
  const path = expandPath(socket, context);
  try {
    const signal = AbortSignal.timeout(SOCKET_TIMEOUT_MS);
    const process = (await callControl(path, { method: 'GET', path: '/status', signal })) as ProcessStatus;
    const wanted = argument === undefined ? undefined : expandPath(argument, context);
    const databases = process.databases
      .filter((database) => wanted === undefined || database.path === wanted)
      .map((status): SurveyedDatabase => ({ status, source: 'socket' }));
    return { running: true, blank: false, process, databases };
  } catch (error) {
    if (!(error instanceof UnreachableError) || !['absent', 'dead'].includes(error.why)) throw error;
    context.printError(`not running: ${error.message}\n`);
    return { running: false, blank: true, process: undefined, databases: [] };
  }
}

function printJson(context: CommandContext, found: Survey): void {
  context.print(`${JSON.stringify(statusReport(found), null, 2)}\n`);
}

const HEADER = ['database', 'replica', 'status', 'lag', 'last-upload', 'restorable-from', 'verified'];

function print(context: CommandContext, { running, process, databases }: Survey): void {
  const who = process
    ? `replicate ${process.version}, pid ${process.pid}, since ${process.startedAt}`
    : running
      ? 'replicate cannot be asked'
      : 'not running';
  context.print(`${who}\n\n${formatTable(HEADER, databases.flatMap(rowsOf))}`);
  const notes = databases.flatMap(({ status }) => [
    ...(status.reason === null ? [] : [explanation(status)]),
    ...[modeNote(status)].filter((note) => note !== undefined),
  ]);
  if (notes.length > 0) context.print(`\n${notes.map(printable).join('\n')}\n`);
}

function rowsOf({ status }: SurveyedDatabase): string[][] {
  if (status.replicas.length === 0) return [[status.path, '-', status.state, 'unknown', '-', '-', '-']];
  return status.replicas.map((replica) => {
    const head = [status.path, replica.name];
    if (!('state' in replica)) {
      const { lagMs, newestObjectAt } = replica;
      return [...head, status.state, durationWord(lagMs), newestObjectAt ?? '-', '-', '-'];
    }
    const own = ['stuck', 'failing', 'blocked', 'waiting', 'stopping'].includes(status.state);
    const { lastVerification } = replica;
    return [
      ...head,
      own ? status.state : replica.state,
      durationWord(replica.lagMs),
      replica.lastUploadAt ?? '-',
      replica.restorable?.from ?? '-',
      lastVerification ? `${lastVerification.result} ${lastVerification.at}` : 'never',
    ];
  });
}
