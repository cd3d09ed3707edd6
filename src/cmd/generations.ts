/** `litestream generations`: the generations in a database's replicas, and how far they lag behind it. */

import { promises as fs } from 'node:fs';
import { formatDuration } from '../base/duration.ts';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';
import { listGenerations, listSegments, listSnapshots } from '../engine/catalog.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { defineCommand } from './command.ts';
import type { Command } from './command.ts';
import { LISTING_FLAGS, LISTING_FORMS, listing, mapGenerations, runListing } from './listing.ts';
import { formatTime } from './table.ts';
import type { Target } from './target.ts';

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

/** When the database last changed: the newer of the file's and its WAL's times. Now for a replica URL. */
async function changedAt({ database }: Target): Promise<number> {
  if (database === undefined) return Date.now();
  const { path } = database;
  const databaseTime = await modifiedAt(path);
  if (databaseTime === undefined) {
    throw new LitestreamError('not-found', `stat ${path}: no such file or directory`);
  }
  return Math.max(databaseTime, (await modifiedAt(`${path}-wal`)) ?? 0);
}

async function modifiedAt(path: string): Promise<number | undefined> {
  try {
    return (await fs.stat(path)).mtimeMs;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw wrapError(error, `stat ${path}`);
  }
}

/** The times of a generation's oldest and newest object, or undefined when it has none. */
async function timeBounds(
  store: ObjectStore,
  generation: string,
): Promise<{ generation: string; start: Date; end: Date } | undefined> {
  const objects = [...(await listSnapshots(store, generation)), ...(await listSegments(store, generation))];
  const times = objects.map(({ createdAt }) => createdAt.getTime());
  if (times.length === 0) return undefined;
  // Not Math.min(...times): there may be more objects than a call takes arguments.
  const start = times.reduce((a, b) => Math.min(a, b));
  const end = times.reduce((a, b) => Math.max(a, b));
  return { generation, start: new Date(start), end: new Date(end) };
}

async function listReplica(name: string, store: ObjectStore, changedAtMs: number): Promise<GenerationRow[]> {
  const generations = await listing('cannot list generations', () => listGenerations(store));
  const bounds = await listing('cannot determine generation time bounds', () =>
    mapGenerations(store, generations, timeBounds),
  );
  return bounds
    .filter((bound) => bound !== undefined)
    .map(({ generation, start, end }) => ({
      name,
      generation,
      lag: changedAtMs - end.getTime(),
      start,
      end,
    }));
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
        const changedAtMs = await changedAt(target);
        return (replica, store) => listReplica(replica, store, changedAtMs);
      },
    }),
});
