/** `litestream snapshots`: the snapshots in a database's replicas. */

import type { SnapshotInfo } from '../engine/catalog.ts';
import { listAllSnapshots } from '../engine/replica-listing.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { defineCommand } from './command.ts';
import type { Command } from './command.ts';
import { LISTING_FLAGS, LISTING_FORMS, listing, runListing } from './listing.ts';
import { formatTime } from './table.ts';

interface SnapshotRow {
  readonly replica: string;
  readonly generation: string;
  readonly index: number;
  readonly size: number;
  readonly created: Date;
}

function toRow(replica: string, { generation, index, sizeBytes, createdAt }: SnapshotInfo): SnapshotRow {
  return { replica, generation, index, size: sizeBytes, created: createdAt };
}

async function listReplica(store: ObjectStore): Promise<SnapshotInfo[]> {
  return listing('cannot determine snapshots', () => listAllSnapshots(store));
}

export const command: Command = defineCommand({
  name: 'snapshots',
  description:
    'Lists the snapshots of a database in its replicas, by generation and index. The index is\n' +
    'decimal, the size is that of the stored (compressed) object in bytes.',
  forms: LISTING_FORMS,
  flags: LISTING_FLAGS,
  examples: [
    { what: 'All snapshots of a database of the config file', line: 'litestream snapshots /var/lib/app.db' },
    { what: 'In a bucket, without a config file', line: 'litestream snapshots s3://backups/app.db' },
  ],
  run: (context, args) =>
    runListing<SnapshotRow>(context, args, {
      missingArgument: 'database path required',
      columns: [
        { header: 'replica' },
        { header: 'generation' },
        { header: 'index' },
        { header: 'size' },
        { header: 'created', format: ({ created }) => formatTime(created) },
      ],
      prepare: () => async (replica, store) =>
        (await listReplica(store)).map((snapshot) => toRow(replica, snapshot)),
    }),
});
