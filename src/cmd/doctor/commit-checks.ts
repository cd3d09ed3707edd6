/** What `doctor` says of the commits that a replica holds. */

import { hasCode } from '../../base/errors.ts';
import { describeFuture } from '../../engine/future-commits.ts';
import { readTimeline } from '../../engine/timeline.ts';
import type { ObjectStore } from '../../storage/object-store.ts';
import type { Report } from './report.ts';

/**
 * Warns of commits that are dated later than now. Says nothing of a store that cannot be read: other checks do.
 * @throws LitestreamError 'aborted'
 */
export async function checkCommitTimes(
  store: ObjectStore,
  report: Report,
  { signal, now }: { readonly signal: AbortSignal; readonly now: () => number },
): Promise<void> {
  try {
    const { ranges } = await readTimeline(store, { signal });
    for (const { generation, to } of ranges) {
      const future = describeFuture(to.getTime(), now());
      if (future === undefined) continue;
      report.warning(
        'commits',
        `generation ${generation}: ${future}`,
        "set this machine's clock (NTP), if it is wrong",
      );
    }
  } catch (error) {
    if (hasCode(error, 'aborted')) throw error;
  }
}
