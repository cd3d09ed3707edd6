/**
 * Who replicates the databases of an application whose processes all want to: the one whose child has the lock. This is the
 * look before a child is started for nothing; the locks decide.
 */

import { hasCode } from '../base/errors.ts';
import { lifeOf, readRecord } from '../control/record.ts';
import { metaPathOf } from '../control/survey.ts';
import { hostFolder } from '../control/socket-path.ts';
import type { DatabaseOptions } from '../engine/options.ts';

/** The folder of the lock that all who replicate the same databases share; undefined where there is no place for it. */
export function electionFolder(databases: readonly DatabaseOptions[]): string | undefined {
  const paths = databases.map(({ path }) => path).sort();
  return hostFolder(`replicate ${paths.join('\n')}`);
}

/** A living process that replicates one of the databases: its pid. Undefined when none is known. */
export async function findReplicator(
  folder: string | undefined,
  databases: readonly DatabaseOptions[],
): Promise<number | undefined> {
  const places = [...(folder === undefined ? [] : [folder]), ...databases.map(metaPathOf)];
  for (const place of places) {
    const pid = await livingProcess(place);
    if (pid !== undefined) return pid;
  }
  return undefined;
}

async function livingProcess(place: string): Promise<number | undefined> {
  try {
    const record = await readRecord(place);
    return record?.unstored === null && lifeOf(record) === 'alive' ? record.pid : undefined;
  } catch (error) {
    // A record that is not for us to see: the lock will tell.
    if (hasCode(error, 'permission', 'io')) return undefined;
    throw error;
  }
}
