/** What a running process keeps beside a database, compared with what is there: see docs/architecture.md. */

import { hasCode } from '../base/errors.ts';
import type { GenerationRestarts } from './generation-restarts.ts';
import type { MetaDirectory } from './meta-directory.ts';
import type { ShadowWal } from './shadow-wal.ts';

export interface LocalState {
  readonly meta: MetaDirectory;
  readonly shadow: ShadowWal;
  readonly restarts: GenerationRestarts;
}

/**
 * Takes the lock anew when its file is gone, and gives up a generation whose files are.
 * @returns whether the lock was taken anew
 * @throws LitestreamError 'busy' when another process replicates the database: then nothing is ours to write
 */
export async function checkLocalState({ meta, shadow, restarts }: LocalState): Promise<boolean> {
  try {
    const claimed = await meta.claim();
    const damage = await shadow.check();
    if (damage !== undefined) restarts.want(damage);
    if (restarts.isForkDue(performance.now())) meta.refuseOthers();
    return claimed;
  } catch (error) {
    throw giveWay({ meta, restarts }, error);
  }
}

/**
 * To be called before a generation is begun: whoever writes the one before into a replica, or deletes it here, may use
 * this meta directory, and would take over the next one.
 * @param isFirst this process has followed the database in none yet: it was looked for others when the lock was taken
 * @returns whether another process goes on with the one before
 * @throws LitestreamError 'busy' when another process replicates the database
 */
export function beginsGeneration(
  meta: MetaDirectory,
  restarts: GenerationRestarts,
  isFirst: boolean,
): boolean {
  try {
    if (!isFirst) meta.refuseOthers();
    return restarts.begins(performance.now());
  } catch (error) {
    throw giveWay({ meta, restarts }, error);
  }
}

/** Who else has written what is not known: nothing of it is gone on with, and it is not tried again and again. */
function giveWay({ meta, restarts }: Omit<LocalState, 'shadow'>, error: unknown): unknown {
  if (!hasCode(error, 'busy')) return error;
  meta.oust();
  restarts.want('another process has written to the generation', true);
  restarts.begins(performance.now());
  return error;
}
