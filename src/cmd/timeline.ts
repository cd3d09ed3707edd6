/** `litestream timeline`: to which times a database can be restored, and what is missing. */

import { describeFuture } from '../engine/future-commits.ts';
import { describeStray } from '../engine/stray-objects.ts';
import { type Timeline, readTimeline } from '../engine/timeline.ts';
import { defineCommand } from './command.ts';
import type { Command } from './command.ts';
import { LISTING_FLAGS, LISTING_FORMS, listing, runListing } from './listing.ts';

interface TimelineRow {
  readonly replica: string;
  readonly generation: string;
  readonly kind: 'restorable' | 'gap' | 'snapshot';
  readonly from: Date;
  readonly to: Date | null;
  readonly min_index: number;
  readonly max_index: number;
  readonly objects: number;
  readonly size: number;
  readonly note: string;
}

const KINDS = ['restorable', 'gap', 'snapshot'];

/** In the order of time; what begins at the same time, the whole before its parts. */
function rowsOf(replica: string, { ranges, gaps, snapshots }: Timeline): TimelineRow[] {
  const rows = [
    ...ranges.map(({ minIndex, maxIndex, objectCount, sizeBytes, exact, ...range }): TimelineRow => {
      const notes = [exact ? '' : 'by the times of objects', describeFuture(range.to.getTime(), Date.now())];
      const note = notes.filter(Boolean).join('; ');
      const counts = { min_index: minIndex, max_index: maxIndex, objects: objectCount, size: sizeBytes };
      return { replica, kind: 'restorable', ...range, ...counts, note };
    }),
    ...gaps.map(
      ({ generation, missingKey, from, to, minIndex, maxIndex, objectCount, sizeBytes }): TimelineRow => {
        const counts = { min_index: minIndex, max_index: maxIndex, objects: objectCount, size: sizeBytes };
        const note = `missing ${missingKey}`;
        return { replica, generation, kind: 'gap', from, to: to ?? null, ...counts, note };
      },
    ),
    ...snapshots.map(({ generation, index, at, sizeBytes }): TimelineRow => {
      const counts = { min_index: index, max_index: index, objects: 1, size: sizeBytes };
      return { replica, generation, kind: 'snapshot', from: at, to: at, ...counts, note: '' };
    }),
  ];
  return rows.sort(
    (a, b) => a.from.getTime() - b.from.getTime() || KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind),
  );
}

export const command: Command = defineCommand({
  name: 'timeline',
  description:
    'Lists to which times a database can be restored: the restorable ranges of each generation, with\n' +
    'their snapshots, and the gaps after which something is missing. Times are in UTC, to the\n' +
    'millisecond, and can be given to `restore -timestamp`. Between ranges a restore gives the end of\n' +
    'the one before. A hole inside an index is not listed: `restore` and `verify` find it.',
  forms: LISTING_FORMS,
  flags: LISTING_FLAGS,
  examples: [
    { what: 'A database of the config file', line: 'litestream timeline /var/lib/app.db' },
    {
      what: 'The latest time that can be restored, for a script',
      line: `litestream timeline -json app.db | jq -r 'map(select(.kind == "restorable").to) | max'`,
    },
  ],
  run: (context, args) =>
    runListing<TimelineRow>(context, args, {
      missingArgument: 'database path or replica URL required',
      columns: [
        { header: 'replica' },
        { header: 'generation' },
        { header: 'kind' },
        { header: 'from', format: ({ from }) => from.toISOString() },
        { header: 'to', format: ({ to }) => to?.toISOString() ?? '-' },
        { header: 'min_index' },
        { header: 'max_index' },
        { header: 'objects' },
        { header: 'size' },
        { header: 'note' },
      ],
      prepare: () => (replica, store) =>
        listing('cannot determine timeline', async () => {
          const timeline = await readTimeline(store, {});
          for (const stray of timeline.leftOut) context.printError(`note: ${describeStray(stray)}\n`);
          return rowsOf(replica, timeline);
        }),
    }),
});
