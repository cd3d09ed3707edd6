/** `litestream retention`: deletes what has left the retention window of a database's replicas, or says what would go. */

import { parseDuration } from '../base/duration.ts';
import { LitestreamError } from '../base/errors.ts';
import { AbandonedUploads } from '../engine/abandoned-uploads.ts';
import { REPLICA_DEFAULTS } from '../engine/options.ts';
import { type RetentionCut, breachError, deleteExpired, surveyRetention } from '../engine/retention.ts';
import { storeClockDoubt } from '../engine/store-clock.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { defineCommand } from './command.ts';
import type { Command } from './command.ts';
import type { CommandContext } from './context.ts';
import { LISTING_FLAGS, LISTING_FORMS, ListingError, listing, runListing } from './listing.ts';
import type { Target } from './target.ts';
import { formatTime } from './table.ts';

/** The snapshots or the WAL segments that go of one generation. */
interface RetentionRow {
  readonly replica: string;
  readonly generation: string;
  readonly kind: 'snapshot' | 'wal';
  readonly min_index: number;
  readonly max_index: number;
  readonly objects: number;
  readonly size: number;
  /** When the newest of them was written. */
  readonly newest: Date;
  readonly reason: string;
}

function rowsOf(replica: string, cut: RetentionCut): RetentionRow[] {
  const { generation, because } = cut;
  const at = formatTime(because.createdAt);
  const reason =
    cut.beforeIndex === undefined
      ? `older than the window; generation ${because.generation} has a snapshot of ${at}`
      : `the window is restored from snapshot ${because.index} of ${at}`;
  const kinds = [
    { kind: 'snapshot', objects: cut.snapshots },
    { kind: 'wal', objects: cut.segments },
  ] as const;
  return kinds
    .filter(({ objects }) => objects.length > 0)
    .map(({ kind, objects }) => ({
      replica,
      generation,
      kind,
      min_index: objects.reduce((least, { index }) => Math.min(least, index), Infinity),
      max_index: objects.reduce((most, { index }) => Math.max(most, index), 0),
      objects: objects.length,
      size: objects.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      newest: objects.reduce(
        (newest, { createdAt }) => (createdAt > newest ? createdAt : newest),
        new Date(0),
      ),
      reason,
    }));
}

/** The retention of one replica: the flag's, the config's, or the default, in milliseconds. */
function retentionOf(target: Target, replica: string, flag: string | undefined): number {
  if (flag === undefined) {
    const options = target.database?.replicas.find(({ name }) => name === replica);
    return (options ?? REPLICA_DEFAULTS).retentionMs;
  }
  try {
    return parseDuration(flag);
  } catch {
    throw new LitestreamError('usage', `invalid -retention "${flag}": a duration such as 24h or 90m`);
  }
}

async function expire(
  context: CommandContext,
  store: ObjectStore,
  retentionMs: number,
  dryRun: boolean,
): Promise<readonly RetentionCut[]> {
  const plannedAtMs = Date.now();
  const survey = await listing('cannot determine what has left the window', () =>
    surveyRetention({ store, retentionMs, currentGeneration: undefined, now: plannedAtMs }),
  );
  const { plan, snapshots, segments, ignored, breach } = survey;
  for (const [object, reason] of ignored) {
    context.logger.warn('retention does not count on a snapshot', { object, reason });
  }
  if (breach !== undefined)
    throw new ListingError('cannot delete what has left the window', breachError(breach));
  if (dryRun) return plan.cuts;
  if (plan.deletions.length > 0) {
    const clocks = { now: () => Date.now(), plannedAtMs };
    const doubt = await listing("cannot compare the clock with the store's", () =>
      storeClockDoubt(store, [...snapshots, ...segments], clocks, {}),
    );
    if (doubt !== undefined) {
      throw new ListingError(
        'cannot tell what has left the window',
        new LitestreamError('unavailable', doubt),
      );
    }
  }
  await new AbandonedUploads(store, context.logger).remove(Date.now());
  if (plan.cuts.length === 0) return plan.cuts;
  try {
    await deleteExpired(store, survey);
  } catch (error) {
    throw new ListingError('cannot delete what has left the window', error);
  }
  context.logger.info('deleted', { location: store.location, objects: plan.deletions.length });
  return plan.cuts;
}

export const command: Command = defineCommand({
  name: 'retention',
  description:
    'Deletes from the replicas of a database what no moment of their retention window needs, and\n' +
    'prints it. `replicate` does the same every retention-check-interval. What left the window in the\n' +
    'last minutes stays, as a restore may be reading it; so does the newest generation. What uploads\n' +
    'that died a day ago or earlier have left goes too.',
  forms: LISTING_FORMS,
  flags: {
    'dry-run': { kind: 'bool', help: 'Deletes nothing: prints what would go, and why.' },
    retention: {
      kind: 'string',
      placeholder: 'DURATION',
      help: 'The window, such as 72h. Default: the one of the config file; 24h for a replica URL\nwith -dry-run.',
    },
    ...LISTING_FLAGS,
  },
  examples: [
    { what: 'What would go, and why', line: 'litestream retention -dry-run /var/lib/app.db' },
    { what: 'What a shorter window would free', line: 'litestream retention -dry-run -retention 24h app.db' },
  ],
  run: (context, args) => {
    const { 'dry-run': dryRun = false, retention, ...flags } = args.flags;
    return runListing<RetentionRow>(
      context,
      { ...args, flags },
      {
        missingArgument: 'database path required',
        columns: [
          { header: 'replica' },
          { header: 'generation' },
          { header: 'kind' },
          { header: 'min_index' },
          { header: 'max_index' },
          { header: 'objects' },
          { header: 'size' },
          { header: 'newest', format: ({ newest }) => formatTime(newest) },
          { header: 'reason' },
        ],
        prepare: (target) => {
          if (target.database === undefined && retention === undefined && !dryRun) {
            throw new LitestreamError(
              'usage',
              'a replica URL says nothing of its retention: give -retention DURATION, or -dry-run to look only',
            );
          }
          const retentionsMs = new Map(
            target.replicas.map(({ name }) => [name, retentionOf(target, name, retention)]),
          );
          return async (replica, store) => {
            const cuts = await expire(context, store, retentionsMs.get(replica) ?? 0, dryRun);
            return cuts.flatMap((cut) => rowsOf(replica, cut));
          };
        },
      },
    );
  },
});
