/** `litestream doctor`: checks a config, its databases and its stores before they are trusted. */

import { freeBytesOf } from '../base/disk-space.ts';
import { LitestreamError, hasCode } from '../base/errors.ts';
import { CONFIG_FLAGS, DATABASE_FLAG, defineCommand } from './command.ts';
import type { Command } from './command.ts';
import { examine } from './doctor/examine.ts';
import { Report, formatFinding } from './doctor/report.ts';
import { onStopSignal, stopExitCode } from './signals.ts';
import type { StopSignal } from './signals.ts';

export const command: Command = defineCommand({
  name: 'doctor',
  description:
    'Checks a config before it is trusted: SQLite, the file, the databases, free disk, and each store\n' +
    'by writing, reading and deleting objects of its own. Prints a line for each check: ok, warning or\n' +
    'failure, with what to change. Leaves nothing behind, changes no database, and may run beside\n' +
    'replicate.\n\n' +
    'Exit code: 0 when all is ok or there are only warnings, 1 when something failed, 130 after Ctrl-C.',
  forms: ['[flags]', '[flags] DB_PATH', '[flags] REPLICA_URL'],
  flags: {
    ...CONFIG_FLAGS,
    ...DATABASE_FLAG,
    json: {
      kind: 'bool',
      help:
        'Prints a JSON array of objects at the end: level (ok, warning, failure), subject, check,\n' +
        'message, and fix, which is empty when the message says it.',
    },
  },
  examples: [
    { what: 'Check everything in /etc/litestream.yml', line: 'litestream doctor' },
    { what: 'Check a bucket', line: 'litestream doctor s3://mybkt/db' },
  ],
  async run(context, { flags, positionals }) {
    if (flags.json === true) context.output = 'json';
    if (positionals.length > 1) throw new LitestreamError('usage', 'too many arguments');
    const [argument = ''] = positionals;
    const { cwd, env } = context;
    const inTable = (text: string): void => {
      if (context.output === 'table') context.print(text);
    };
    const report = new Report({
      begin: (subject) => inTable(`${subject}\n`),
      add: (finding) => inTable(`  ${formatFinding(finding)}\n`),
    });
    const { signal, stopped } = untilStopped();
    try {
      const host = { cwd, env, freeBytes: freeBytesOf, now: Date.now };
      await examine({ argument, flags, host, report, signal });
    } catch (error) {
      const by = stopped();
      if (by === undefined || !hasCode(error, 'aborted')) throw error;
      return stopExitCode(by);
    }
    context.print(
      context.output === 'json' ? `${JSON.stringify(report.findings, null, 2)}\n` : report.summary(),
    );
    return report.failed ? 1 : 0;
  },
});

/** A signal that fires when the process is told to stop, so that nothing is left behind. Told again, it ends at once. */
function untilStopped(): { signal: AbortSignal; stopped: () => StopSignal | undefined } {
  const stop = new AbortController();
  let by: StopSignal | undefined;
  onStopSignal((signal) => {
    if (by !== undefined) process.exit(stopExitCode(signal));
    by = signal;
    stop.abort();
  });
  return { signal: stop.signal, stopped: () => by };
}
