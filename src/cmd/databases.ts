/** `litestream databases`: what the config file names, and how it is when `replicate` runs. The usual health check. */

import { printable } from '../base/printable.ts';
import { LitestreamError } from '../base/errors.ts';
import { explanation } from '../control/status-report.ts';
import type { Survey } from '../control/survey.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import type { Mode } from '../engine/status.ts';
import { CONFIG_FLAGS, JSON_FLAG, defineCommand } from './command.ts';
import type { Command } from './command.ts';
import { type Column, printRows } from './listing.ts';
import { durationWord, lagOf, modeOf } from './status-words.ts';
import { readConfig } from './target.ts';

/** Together they leave time to start and to print within two seconds. */
const SOCKET_TIMEOUT_MS = 900;
const REPLICA_TIMEOUT_MS = 500;

interface DatabaseRow {
  readonly path: string;
  readonly replicas: readonly string[];
}

interface StatusRow extends DatabaseRow {
  readonly status: string;
  /** In milliseconds. */
  readonly lag: number | null;
  readonly mode: Mode | null;
}

const COLUMNS: readonly Column<DatabaseRow>[] = [
  { header: 'path' },
  { header: 'replicas', format: (row) => row.replicas.join(',') },
];

const STATUS_COLUMNS: readonly Column<StatusRow>[] = [
  { header: 'path' },
  // Never empty: other programs split the line at white space.
  { header: 'replicas', format: (row) => row.replicas.join(',') || '-' },
  { header: 'status' },
  { header: 'lag', format: (row) => durationWord(row.lag) },
  { header: 'mode', jsonOnly: true },
];

export const command: Command = defineCommand({
  name: 'databases',
  description:
    'Lists the databases of the config file and the names of their replicas. When replicate runs, or did\n' +
    'not end in order, also how each database is, in one word, and its lag: the age of the oldest commit\n' +
    'that is not stored. Reasons go to standard error. Answers within two seconds.\n\n' +
    'Exit code: 0 when all is well, when replication starts, or when none ever ran; 1 when a database is\n' +
    'not well, or the process that replicated it did not end in order.',
  forms: ['[flags]'],
  flags: { ...CONFIG_FLAGS, ...JSON_FLAG },
  async run(context, { flags, positionals }) {
    if (flags.json === true) context.output = 'json';
    if (positionals.length > 0) throw new LitestreamError('usage', 'too many arguments');
    const { databases } = await readConfig(context, flags);
    const rows = databases.map(rowOf);
    const { databases: surveyed, blank } = await look(databases);
    if (blank) {
      printRows(context, COLUMNS, rows);
      return 0;
    }
    const statuses = surveyed.map(({ status }) => status);
    const statusRows = rows.flatMap((row, i): StatusRow[] => {
      const status = statuses[i];
      return status
        ? [{ ...row, status: status.state, lag: lagOf(status) ?? null, mode: modeOf(status) }]
        : [];
    });
    printRows(context, STATUS_COLUMNS, statusRows);
    const ill = statuses.filter(({ healthy }) => !healthy);
    for (const status of ill) context.printError(`${printable(explanation(status))}\n`);
    return ill.length > 0 ? 1 : 0;
  },
});

function rowOf({ path, replicas }: DatabaseOptions): DatabaseRow {
  return { path, replicas: replicas.map(({ name }) => name) };
}

async function look(databases: readonly DatabaseOptions[]): Promise<Survey> {
  const { survey } = await import('../control/survey.ts');
  return survey({
    databases,
    openStore: async (config) => (await import('../storage/registry.ts')).openStore(config),
    socketTimeoutMs: SOCKET_TIMEOUT_MS,
    replicaTimeoutMs: REPLICA_TIMEOUT_MS,
  });
}
