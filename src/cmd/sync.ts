/** `litestream sync`: has the running `replicate` store what is committed, now. */

import { timeoutSignal } from '../base/concurrency.ts';
import { parseDuration } from '../base/duration.ts';
import { LitestreamError, messageOf } from '../base/errors.ts';
import { CONFIG_FLAGS, DATABASE_FLAG, defineCommand, onePositional } from './command.ts';
import type { Command, CommandArguments } from './command.ts';
import type { CommandContext } from './context.ts';
import { readConfig } from './target.ts';

const DEFAULT_TIMEOUT = '30s';
/** The other side gives up first, and says why. */
const GRACE_MS = 5000;

const FLAGS = {
  ...CONFIG_FLAGS,
  ...DATABASE_FLAG,
  wait: {
    kind: 'bool',
    help: 'Waits until everything that is committed now can be restored from every replica.',
  },
  timeout: {
    kind: 'string',
    placeholder: 'DURATION',
    help: `How long to wait, such as 30s or 5m. Default: ${DEFAULT_TIMEOUT}.`,
  },
  socket: {
    kind: 'string',
    placeholder: 'PATH',
    help: 'Asks on this socket, without a config file. Default: where the meta directories say.',
  },
} as const;

export const command: Command = defineCommand({
  name: 'sync',
  description:
    'Has the running replicate store what is committed, without regard to sync-interval: of one database,\n' +
    'or of all of the config file.\n\n' +
    'Exit code: 0 when it is stored, or begun without -wait; 1 when it is not, with what is missing.',
  forms: ['[flags] [DB_PATH]'],
  flags: FLAGS,
  examples: [{ what: 'Before a deployment', line: 'litestream sync -wait -timeout 1m' }],
  async run(context, args) {
    const { flags } = args;
    const timeoutMs = timeoutOf(flags.timeout ?? DEFAULT_TIMEOUT);
    const targets = await targetsOf(context, args);
    const { callControl } = await import('../control/client.ts');
    const results = await Promise.allSettled(
      targets.map(({ socket, database }) =>
        callControl(socket, {
          method: 'POST',
          path: '/sync',
          body: { database, wait: flags.wait === true, timeoutMs },
          signal: timeoutSignal(timeoutMs + GRACE_MS),
        }),
      ),
    );
    const reasons = results.flatMap((result) =>
      result.status === 'rejected' ? [messageOf(result.reason)] : [],
    );
    if (reasons.length > 0) throw new LitestreamError('io', `sync: ${reasons.join('; ')}`);
    return 0;
  },
});

function timeoutOf(text: string): number {
  let ms: number;
  try {
    ms = parseDuration(text);
  } catch (error) {
    throw new LitestreamError('usage', `invalid -timeout: ${messageOf(error)}`);
  }
  if (ms <= 0) throw new LitestreamError('usage', '-timeout must be positive');
  return ms;
}

interface SyncTarget {
  readonly socket: string;
  /** Undefined: all that the process replicates. */
  readonly database: string | undefined;
}

async function targetsOf(
  context: CommandContext,
  { flags, positionals }: CommandArguments<typeof FLAGS>,
): Promise<readonly SyncTarget[]> {
  const { expandPath, findDatabase } = await import('../config/index.ts');
  const argument =
    positionals.length === 0 ? undefined : onePositional(positionals, 'database path required');
  if (flags.socket !== undefined && flags.socket !== '') {
    const database = argument === undefined ? undefined : expandPath(argument, context);
    return [{ socket: expandPath(flags.socket, context), database }];
  }
  const config = await readConfig(context, flags);
  const { findSocket } = await import('../control/find-socket.ts');
  const databases =
    argument === undefined ? config.databases : [findDatabase(config, argument, context).database];
  if (databases.length === 0) throw new LitestreamError('config', 'no databases in config');
  return Promise.all(
    databases.map(async (database) => ({ socket: await findSocket(database), database: database.path })),
  );
}
