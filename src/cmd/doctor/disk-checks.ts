/** What `doctor` says of free disk space, for what replicating puts on disks. */

import { formatBytes } from '../../base/byte-size.ts';
import { messageOf } from '../../base/errors.ts';
import type { DatabaseOptions } from '../../engine/options.ts';
import type { DatabaseFacts } from './database-checks.ts';
import type { Report } from './report.ts';

/** WALs that the meta directory holds a copy of: the present one and the one before, while replicas keep up. */
const SHADOW_WALS = 2;

/** Free bytes on the disk of a path, which need not be there. */
export type FreeBytes = (path: string) => Promise<number>;

/** Reports whether the meta directory's disk holds the shadow WAL and the spool of a snapshot. */
export async function checkMetaDisk(
  metaPath: string,
  database: DatabaseOptions,
  facts: DatabaseFacts,
  { report, freeBytes }: { readonly report: Report; readonly freeBytes: FreeBytes },
): Promise<void> {
  const limitBytes = database.maxCheckpointPageCount * facts.pageSizeBytes;
  const shadowBytes = SHADOW_WALS * Math.max(facts.walSizeBytes, limitBytes);
  // Snapshots for a remote store are compressed on the disk first. Nobody knows by how much: at worst not at all.
  const spoolBytes = database.replicas.some(({ store }) => store.type !== 'file') ? facts.sizeBytes : 0;
  const what = spoolBytes > 0 ? 'the shadow WAL and a snapshot before its upload' : 'the shadow WAL';
  await checkDisk(metaPath, { neededBytes: shadowBytes + spoolBytes, what }, { report, freeBytes });
}

/** Reports whether `folder`'s disk has room; double of what is needed counts as plenty. */
export async function checkDisk(
  folder: string,
  { neededBytes, what }: { readonly neededBytes: number; readonly what: string },
  { report, freeBytes }: { readonly report: Report; readonly freeBytes: FreeBytes },
): Promise<void> {
  let free: number;
  try {
    free = await freeBytes(folder);
  } catch (error) {
    report.warning('free disk', `cannot be told for ${folder}: ${messageOf(error)}`);
    return;
  }
  const text = `${formatBytes(free)} free for ${folder}; ${what} may need ${formatBytes(neededBytes)}`;
  const fix = 'free some, or move it to a larger disk';
  if (free < neededBytes) report.failure('free disk', text, fix);
  else if (free < 2 * neededBytes) report.warning('free disk', text, fix);
  else report.ok('free disk', text);
}
