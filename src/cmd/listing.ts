/** What the listing commands share: asking every replica, and printing rows as a table or as JSON. */

import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { CONFIG_FLAGS, DATABASE_FLAG, JSON_FLAG, onePositional } from './command.ts';
import type { CommandArguments } from './command.ts';
import type { CommandContext } from './context.ts';
import type { StringFlag } from './flags.ts';
import { formatTable } from './table.ts';
import { replicaNotFound, resolveTarget } from './target.ts';
import type { ReplicaTarget, Target } from './target.ts';

/** A column: its header, which is also its key in JSON, and how a value prints in the table. */
export interface Column<Row> {
  readonly header: Extract<keyof Row, string>;
  readonly format?: (row: Row) => string;
  /** The table, which other programs split, does not have it. */
  readonly jsonOnly?: boolean;
}

/** Prints rows as `-json` says. Values print in the table as they are unless their column says how. */
export function printRows<Row extends object>(
  context: CommandContext,
  columns: readonly Column<Row>[],
  rows: readonly Row[],
): void {
  if (context.output === 'json') {
    const objects = rows.map((row) => Object.fromEntries(columns.map(({ header }) => [header, row[header]])));
    context.print(`${JSON.stringify(objects, null, 2)}\n`);
    return;
  }
  const shown = columns.filter(({ jsonOnly }) => jsonOnly !== true);
  const lines = rows.map((row) =>
    shown.map(({ header, format }) => (format === undefined ? String(row[header]) : format(row))),
  );
  context.print(
    formatTable(
      shown.map(({ header }) => header),
      lines,
    ),
  );
}

export const LISTING_FLAGS: typeof CONFIG_FLAGS &
  typeof DATABASE_FLAG &
  typeof JSON_FLAG & { readonly replica: StringFlag } = {
  ...CONFIG_FLAGS,
  ...DATABASE_FLAG,
  replica: {
    kind: 'string',
    placeholder: 'NAME',
    help: 'Only this replica. Default: all of the database.',
  },
  ...JSON_FLAG,
};

export const LISTING_FORMS: readonly string[] = ['[flags] DB_PATH', '[flags] REPLICA_URL'];

/** Why one replica could not be listed: logged with `message`, the others are listed all the same. */
export class ListingError extends Error {
  constructor(message: string, cause: unknown) {
    super(message, { cause });
  }
}

/** Runs a listing step; what it throws becomes a ListingError with `message`. */
export async function listing<T>(message: string, step: () => Promise<T>): Promise<T> {
  try {
    return await step();
  } catch (error) {
    throw new ListingError(message, error);
  }
}

/** The rows of one replica, in order. Rejects with ListingError. */
export type ReplicaLister<Row> = (replica: string, store: ObjectStore) => Promise<readonly Row[]>;

/**
 * Runs one listing: finds the replicas, asks each for its rows, prints all of them.
 * @returns exit code 1 when a replica could not be listed, which is logged
 */
export async function runListing<Row extends object>(
  context: CommandContext,
  { flags, positionals }: CommandArguments<typeof LISTING_FLAGS>,
  options: {
    readonly missingArgument: string;
    readonly columns: readonly Column<Row>[];
    /** Called once, before any replica is asked. Gives what lists one replica. */
    readonly prepare: (target: Target) => Promise<ReplicaLister<Row>> | ReplicaLister<Row>;
  },
): Promise<number> {
  if (flags.json === true) context.output = 'json';
  const argument = onePositional(positionals, options.missingArgument);
  const target = await resolveTarget(context, argument, flags);
  const replicas = selectReplicas(target, flags.replica);
  const list = await options.prepare(target);
  const [{ openStore }, { askBriefly }] = await Promise.all([
    import('../storage/registry.ts'),
    import('../engine/replica-listing.ts'),
  ]);
  const rows: Row[] = [];
  let failed = false;
  for (const replica of replicas) {
    try {
      const found = await askBriefly(await openStore(replica.store), (store) => list(replica.name, store));
      for (const row of found) rows.push(row);
    } catch (error) {
      if (!(error instanceof ListingError)) throw error;
      failed = true;
      logFailure(context.logger, error, replica, target);
    }
  }
  printRows(context, options.columns, rows);
  return failed ? 1 : 0;
}

/** The replica that `-replica` names, or all. The flag means nothing with a replica URL. */
function selectReplicas(target: Target, name: string | undefined): readonly ReplicaTarget[] {
  const { database, replicas } = target;
  if (database === undefined || name === undefined || name === '') return replicas;
  const selected = replicas.filter((replica) => replica.name === name);
  if (selected.length === 0) throw replicaNotFound(name, database.path);
  return selected;
}

function logFailure(logger: Logger, error: ListingError, replica: ReplicaTarget, target: Target): void {
  logger.error(error.message, {
    db: target.database?.path,
    replica: replica.name,
    error: messageOf(error.cause),
  });
}
