/** `litestream wal`: the WAL segments in a database's replicas. */

import { listGenerations } from '../engine/catalog.ts';
import type { SegmentInfo } from '../engine/catalog.ts';
import { listSegmentsOf } from '../engine/replica-listing.ts';
import { isGeneration } from '../format/names.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { defineCommand } from './command.ts';
import type { Command } from './command.ts';
import { LISTING_FLAGS, LISTING_FORMS, listing, runListing } from './listing.ts';
import { formatTime } from './table.ts';

interface SegmentRow {
  readonly replica: string;
  readonly generation: string;
  readonly index: number;
  readonly offset: number;
  readonly size: number;
  readonly created: Date;
}

function toRow(replica: string, segment: SegmentInfo): SegmentRow {
  const { generation, index, offset, sizeBytes, createdAt } = segment;
  return { replica, generation, index, offset, size: sizeBytes, created: createdAt };
}

async function listReplica(store: ObjectStore, generation: string | undefined): Promise<SegmentInfo[]> {
  const generations =
    generation === undefined || generation === ''
      ? await listing('cannot determine generations', () => listGenerations(store))
      : [generation].filter(isGeneration);
  return listing('cannot fetch wal segments', () => listSegmentsOf(store, generations));
}

export const command: Command = defineCommand({
  name: 'wal',
  description:
    'Lists the WAL segments of a database in its replicas, by generation, index and offset.\n' +
    'Index and offset are decimal, the size is that of the stored (compressed) object in bytes.',
  forms: LISTING_FORMS,
  flags: {
    ...LISTING_FLAGS,
    generation: {
      kind: 'string',
      placeholder: 'NAME',
      help: 'Only this generation. Default: all.',
    },
  },
  examples: [
    { what: 'All segments of a database of the config file', line: 'litestream wal /var/lib/app.db' },
    { what: 'In a bucket, without a config file', line: 'litestream wal s3://backups/app.db' },
  ],
  run: (context, args) =>
    runListing<SegmentRow>(context, args, {
      missingArgument: 'database path required',
      columns: [
        { header: 'replica' },
        { header: 'generation' },
        { header: 'index' },
        { header: 'offset' },
        { header: 'size' },
        { header: 'created', format: ({ created }) => formatTime(created) },
      ],
      prepare: () => async (replica, store) =>
        (await listReplica(store, args.flags.generation)).map((segment) => toRow(replica, segment)),
    }),
});
