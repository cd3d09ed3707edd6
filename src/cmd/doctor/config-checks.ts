/** What `doctor` says of a config file. */

import { formatDuration } from '../../base/duration.ts';
import { messageOf } from '../../base/errors.ts';
import {
  ConfigError,
  REPLICA_TYPES,
  checkReplicable,
  type Config,
  type Diagnostic,
} from '../../config/index.ts';
import type { ReplicaOptions } from '../../engine/options.ts';
import type { Report } from './report.ts';

/** Shorter intervals are nobody's intent: a bare number was meant as seconds. */
const MIN_INTERVAL_MS = 10;

/** Loads the config and reports on it; undefined when it cannot be used. */
export async function checkConfig(load: () => Promise<Config>, report: Report): Promise<Config | undefined> {
  let config: Config;
  try {
    config = await load();
  } catch (error) {
    if (error instanceof ConfigError) {
      reportDiagnostics(error.warnings, report);
      reportError(error, report);
    } else {
      report.failure('config', messageOf(error));
    }
    return undefined;
  }
  reportDiagnostics(config.warnings, report);
  const count = config.databases.length;
  if (count === 0)
    report.failure('databases', 'there are none', 'list databases and their replicas under dbs');
  else report.ok('databases', `${count} configured`);
  checkWhole(config, report);
  return config;
}

function reportDiagnostics(diagnostics: readonly Diagnostic[], report: Report): void {
  for (const diagnostic of diagnostics) {
    const { message, unsetVariable } = diagnostic;
    const shown = `${message}${place(diagnostic)}`;
    if (unsetVariable === undefined) report.warning('config', shown);
    else
      report.failure('variable', shown, `set ${unsetVariable} where litestream is started, or take it out`);
  }
  if (!diagnostics.some(({ unsetVariable }) => unsetVariable !== undefined)) {
    report.ok('variables', 'all that the file names are set');
  }
}

/** What to change, where the words of the error are v0.3.13's, which does not say. */
const FIXES: readonly (readonly [RegExp, string])[] = [
  [/^unknown replica type/, `use ${REPLICA_TYPES.join(', ')}, or a url that begins so`],
  [/^(bucket|user|host) required for/, 'set $1, or write it into the url'],
  [/path required/, 'set path, or url'],
  [/^cannot specify url & ([\w-]+)/, 'take one of them out: the url holds the $1'],
  [/^duplicate replica name/, 'give each replica of a database a name of its own'],
  [/cannot unmarshal !!map into \[\]/, 'write a list there: each entry begins with "- "'],
  [/cannot unmarshal !!seq into/, 'write one value there, not a list'],
  [/cannot start any token/, 'indent with spaces, not with tabs'],
  [/^yaml: line/, 'look at indentation, quotes and brackets there and above'],
];

/** In one line, as all findings are. */
function reportError(error: ConfigError, report: Report): void {
  const { headline } = error;
  const [pattern, advice] = FIXES.find(([words]) => words.test(headline)) ?? [];
  const fix = advice?.replace('$1', pattern?.exec(headline)?.[1] ?? '');
  report.failure('config', `${headline.replaceAll(/\s+/g, ' ')}${place(error.diagnostics[0])}`, fix);
}

function place(diagnostic: Diagnostic | undefined): string {
  return diagnostic === undefined ? '' : ` (${diagnostic.path}:${diagnostic.line}:${diagnostic.column})`;
}

function checkWhole(config: Config, report: Report): void {
  try {
    checkReplicable(config);
    report.ok('locations', 'no two replicas share one');
  } catch (error) {
    if (error instanceof ConfigError) reportError(error, report);
    else report.failure('config', messageOf(error));
  }
}

/** Reports on the intervals of one replica. */
export function checkIntervals(replica: ReplicaOptions, report: Report): void {
  const { syncIntervalMs, snapshotIntervalMs, retentionMs } = replica;
  if (syncIntervalMs < MIN_INTERVAL_MS) {
    report.failure(
      'sync-interval',
      `${formatDuration(syncIntervalMs)} is far too short`,
      'write it with a unit, such as 1s: a bare number counts nanoseconds',
    );
  } else {
    report.ok('sync-interval', formatDuration(syncIntervalMs));
  }
  const retention = formatDuration(retentionMs);
  if (retentionMs <= 0) {
    report.warning(
      'retention',
      `${retention}: nothing is ever deleted`,
      'set retention, unless the store deletes old objects itself',
    );
  } else if (snapshotIntervalMs > retentionMs) {
    report.warning(
      'retention',
      `${retention} is shorter than snapshot-interval (${formatDuration(snapshotIntervalMs)}), which has no effect then`,
      'set snapshot-interval below retention',
    );
  } else if (retentionMs < 60_000) {
    report.failure(
      'retention',
      `${retention} is far too short: backups would go at once`,
      'write it with a unit, such as 24h: a bare number counts nanoseconds',
    );
  } else {
    report.ok('retention', retention);
  }
}

/** Reports on the encryption of one replica. */
export async function checkEncryption({ store }: ReplicaOptions, report: Report): Promise<void> {
  const { encryption } = store;
  if (encryption === undefined) return;
  const { recipients, identities } = encryption;
  const many = `${recipients.length} ${recipients.length === 1 ? 'recipient' : 'recipients'}`;
  if (identities.length === 0) {
    report.ok('encryption', `age, for ${many}; a config with identities is needed to restore`);
    return;
  }
  const { publicKeysOf } = await import('../../storage/encryption/keys.ts');
  const own = await publicKeysOf(identities);
  if (recipients.length === 0 || own.some((key) => recipients.includes(key))) {
    report.ok('encryption', `age, for ${many}; can be restored with this config`);
    return;
  }
  report.failure(
    'encryption',
    `what is encrypted for age.recipients cannot be restored with age.identities: they are the keys of ${own.join(', ')}`,
    "add one of these to recipients, or a recipient's secret key to identities",
  );
}
