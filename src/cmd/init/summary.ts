/** What `init` says when it is done. */

import { formatBytes } from '../../base/byte-size.ts';
import { formatTable } from '../table.ts';
import type { PlannedDatabase } from './plan.ts';
import type { Provider, Variable } from './providers.ts';
import { ROLE_SETTINGS } from './roles.ts';

export interface Outcome {
  /** Path of the config file; `-` for standard output. */
  readonly config: string;
  /** False: the file was there and stays as it was. */
  readonly written: boolean;
  readonly provider: Provider;
  /** Where the databases were found. */
  readonly source: string;
  readonly databases: readonly PlannedDatabase[];
  readonly variables: readonly Variable[];
}

export function summary({ config, written, provider, source, databases, variables }: Outcome): string {
  const done =
    config === '-'
      ? ''
      : written
        ? `wrote ${config}\n`
        : `kept ${config}, which was there (-force replaces it)\n`;
  const rows = databases.map(({ path, role, snapshots, storageBytes }) => {
    const { syncInterval, retention } = ROLE_SETTINGS[role];
    const storage = storageBytes === undefined ? `${snapshots} x its size` : formatBytes(storageBytes);
    return [path, role, syncInterval, retention, String(snapshots), storage];
  });
  const sizes = databases.map(({ storageBytes }) => storageBytes);
  const total = sizes.every((size) => size !== undefined)
    ? `, ${formatBytes(sizes.reduce((sum, size) => sum + size, 0))} in all`
    : '';
  return (
    `${done}databases of ${source}, to ${provider.title}\n\n` +
    formatTable(['database', 'role', 'sync', 'retention', 'snapshots', 'storage'], rows) +
    `\nstorage is an estimate${total}: snapshots kept x size of the database. Compression saves, changes add.\n` +
    'a longer snapshot-interval takes less storage, and restores more slowly.\n\n' +
    `set ${variables.map(({ name }) => name).join(', ')}\n` +
    `check it all where it will run: litestream doctor${config === '-' ? '' : ` -config ${config}`}\n`
  );
}

export function jsonOf({ config, written, provider, source, databases, variables }: Outcome): object {
  return {
    config,
    written,
    provider: provider.name,
    source,
    databases: databases.map((database) => ({
      ...database,
      sizeBytes: database.sizeBytes ?? null,
      storageBytes: database.storageBytes ?? null,
    })),
    variables: variables.map(({ name }) => name),
  };
}
