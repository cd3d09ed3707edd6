/** `litestream generations`: the generations in a database's replicas, and how far they lag behind it. */

import { formatDuration } from '../base/duration.ts';
import { listGenerations } from '../engine/catalog.ts';
import { changedAt } from '../engine/database-path.ts';
import { generationSpans } from '../engine/replica-listing.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { defineCommand } from './command.ts';
import type { Command } from './command.ts';
import { LISTING_FLAGS, LISTING_FORMS, listing, runListing } from './listing.ts';
import { formatTime } from './table.ts';

interface GenerationRow {
  readonly name: string;
  readonly generation: string;
  /** Milliseconds. */
  readonly lag: number;
  readonly start: Date;
  readonly end: Date;
}

/** A duration cut to three digits or so, as tables show it: whole seconds from 10 s on, tenths from 1 s on. */
export function formatLag(ms: number): string {
  const size = Math.abs(ms);
  const unit = size > 10_000 ? 1000 : size > 1000 ? 100 : 1;
  return formatDuration(Math.trunc(ms / unit) * unit);
}

async function listReplica(name: string, store: ObjectStore, changedAtMs: number): Promise<GenerationRow[]> {
  const generations = await listing('cannot list generations', () => listGenerations(store));
  const spans = await listing('cannot determine generation time bounds', () =>
    generationSpans(store, generations),
  );
  return spans.map((span) => ({ name, ...span, lag: changedAtMs - span.end.getTime() }));
}

export const command: Command = defineCommand({
  name: 'generations',
  description:
    'Lists the generations in the replicas of a database: the time from the newest object to the\n' +
    'last change of the database (for a replica URL: to now), and the times of the oldest and the\n' +
    'newest object. With -json, lag is a number of milliseconds.',
  forms: LISTING_FORMS,
  flags: LISTING_FLAGS,
  examples: [
    { what: 'Of a database of the config file', line: 'litestream generations /var/lib/app.db' },
    { what: 'In a bucket, without a config file', line: 'litestream generations s3://backups/app.db' },
  ],
  run: (context, args) =>
    runListing<GenerationRow>(context, args, {
      missingArgument: 'database path or replica URL required',
      columns: [
        { header: 'name' },
        { header: 'generation' },
        { header: 'lag', format: ({ lag }) => formatLag(lag) },
        { header: 'start', format: ({ start }) => formatTime(start) },
        { header: 'end', format: ({ end }) => formatTime(end) },
      ],
      prepare: async (target) => {
        const changedAtMs = target.database ? await changedAt(target.database.path) : Date.now();
        return (replica, store) => listReplica(replica, store, changedAtMs);
      },
    }),
});
