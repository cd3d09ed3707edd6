/** Writes the text of a config file, with comments for the people who will live with it. */

import { formatBytes } from '../../base/byte-size.ts';
import type { PlannedDatabase } from './plan.ts';
import { type Answers, type Provider, type Variable, variablesOf } from './providers.ts';
import { ROLE_SETTINGS } from './roles.ts';

/** Plain words that YAML takes for something other than text. */
const KEYWORDS = /^(?:true|false|yes|no|on|off|y|n|null|~)$/i;

/** The config that replicates `databases` to `provider`. Reads the same with this program and with v0.3.13. */
export function configText(
  databases: readonly PlannedDatabase[],
  provider: Provider,
  answers: Answers,
): string {
  const variables = variablesOf(provider, answers);
  const head = [
    `Written by litestream init: ${provider.title}. Keys and defaults: docs/configuration.md of litestream-ts.`,
    'Variables are replaced before the file is read, here as well; there are no defaults for them.',
    'Set them where litestream runs:',
    ...variables.map(describeVariable),
    'From there, check it before you trust it: litestream doctor',
  ];
  const entries = databases.map((database) => databaseEntry(database, provider, answers));
  return `${comment(head)}\ndbs:\n${entries.join('\n')}`;
}

function describeVariable({ name, meaning, optional = false }: Variable): string {
  return `  ${name.padEnd(30)} ${meaning}${optional ? ', when there is none of the machine' : ''}`;
}

function databaseEntry(database: PlannedDatabase, provider: Provider, answers: Answers): string {
  const { path, role, replicaPath } = database;
  const settings = ROLE_SETTINGS[role];
  const keys: readonly (readonly [string, string])[] = [
    ...provider.replica(answers, replicaPath),
    ['sync-interval', settings.syncInterval],
    ['snapshot-interval', settings.snapshotInterval],
    ['retention', settings.retention],
  ];
  const replica = keys.map(([key, value], i) => `${i === 0 ? '- ' : '  '}${key}: ${scalar(key, value)}`);
  return [
    comment([`${role}: ${settings.why}.`, storageEstimate(database)], '  '),
    `  - path: ${scalar('path', path)}\n`,
    '    replicas:\n',
    ...replica.map((line) => `      ${line}\n`),
  ].join('');
}

/** What the retention will take, in words that do not promise more than is known. */
export function storageEstimate({ snapshots, sizeBytes, storageBytes }: PlannedDatabase): string {
  const kept = `${snapshots} snapshots are kept`;
  if (sizeBytes === undefined || storageBytes === undefined) {
    return `${kept}: ${snapshots} times the size of the database, less what compression saves, plus changes.`;
  }
  return `${kept}: about ${formatBytes(storageBytes)} at ${formatBytes(sizeBytes)} each (an estimate: compression saves, changes add).`;
}

function comment(lines: readonly string[], indent = ''): string {
  return lines.map((line) => `${indent}# ${line}\n`).join('');
}

/** `value` as YAML that every reader takes for this very text; a boolean stays one. */
function scalar(key: string, value: string): string {
  if (key === 'force-path-style') return value;
  const word = /^[A-Za-z_/$][\w./${}@:+-]*$/.test(value) && !value.endsWith(':') && !KEYWORDS.test(value);
  const plain = word || /^\d+[smh]$/.test(value);
  return plain ? value : JSON.stringify(value);
}
