/** Help texts: one style for all commands, made from their declarations. */

import type { CommandDefinition } from './command.ts';
import type { FlagTable } from './flags.ts';

/** Every command with its line in the overview. Kept here so that the overview need not load the commands. */
export const COMMAND_SUMMARIES = {
  dashboard: 'serve a web page of the running replication and of what can be restored',
  databases: 'list the databases of the config file, their replicas, and how they are',
  doctor: 'check a config, its databases and its stores before they are trusted',
  generations: 'list the generations in the replicas of a database',
  init: 'find the databases of a project and write a config file for them',
  replicate: 'replicate databases continuously',
  retention: 'delete what has left the retention window, or say what would go',
  restore: 'restore a database from a replica',
  snapshots: 'list the snapshots in the replicas of a database',
  status: 'show how the running replication is',
  sync: 'have the running replication store what is committed now',
  timeline: 'list to which times a database can be restored',
  verify: 'prove that what is stored can be restored, or say what is wrong with it',
  version: 'print the version',
  wal: 'list the WAL segments in the replicas of a database',
} as const;

export type CommandName = keyof typeof COMMAND_SUMMARIES;

/** What `litestream help` prints. */
export function overview(): string {
  const commands = Object.entries(COMMAND_SUMMARIES).map(
    ([name, summary]) => `  ${name.padEnd(12)} ${summary}\n`,
  );
  return (
    'Streams changes of SQLite databases to files or object storage, and restores them.\n\n' +
    'Usage:\n\n  litestream COMMAND [flags] [arguments]\n\n' +
    `Commands:\n\n${commands.join('')}\n` +
    'Run `litestream COMMAND -h` for the flags of a command.\n'
  );
}

/** What `litestream COMMAND -h` prints. */
export function commandHelp(definition: CommandDefinition<FlagTable>): string {
  const flags = Object.entries(definition.flags).map(([name, { placeholder, help }]) => {
    const head = placeholder === undefined ? `-${name}` : `-${name} ${placeholder}`;
    return `  ${head}\n        ${help.replaceAll('\n', '\n        ')}\n`;
  });
  const examples = (definition.examples ?? []).map(({ what, line }) => `  # ${what}\n  ${line}\n`);
  return (
    `${definition.description}\n\n${usage(definition)}` +
    (flags.length > 0 ? `\nFlags:\n\n${flags.join('')}` : '') +
    (examples.length > 0 ? `\nExamples:\n\n${examples.join('\n')}` : '')
  );
}

/** The forms of a command. */
export function usage({ name, forms }: CommandDefinition<FlagTable>): string {
  return `Usage:\n\n${forms.map((form) => `  litestream ${`${name} ${form}`.trim()}\n`).join('')}`;
}
