/**
 * Whether the store's clock agrees with this machine's. Retention compares times of the one with those of the other:
 * where they disagree it cannot tell what has left the window, and deletes nothing.
 */

import { formatDuration } from '../base/duration.ts';
import { hasCode } from '../base/errors.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import { CLOCK_STEP_MS } from './steady-clock.ts';

/** Beside the generations, where nobody looks. One name: where deleting is not permitted it stays, once. */
const PROBE_KEY = 'litestream-clock';

/** Where the store's time cannot be asked: what is replicated has a newer object, be it the snapshot of an idle database. */
const MAX_UNCOMPARED_MS = 24 * 3600_000;

/**
 * Why the times of `objects` say nothing of how old they are; undefined when they do, as far as can be told. Writes a
 * small object and removes it.
 * @param objects what is listed
 * @param now gives this machine's time in epoch milliseconds
 * @param plannedAtMs the time for which was planned, by the same clock
 * @throws LitestreamError what the store throws, but for a refusal
 */
export async function storeClockDoubt(
  store: ObjectStore,
  objects: readonly (SnapshotInfo | SegmentInfo)[],
  { now, plannedAtMs }: { readonly now: () => number; readonly plannedAtMs: number },
  options: CallOptions,
): Promise<string | undefined> {
  const newestMs = objects.reduce((ms, { createdAt }) => Math.max(ms, createdAt.getTime()), -Infinity);
  if (newestMs - plannedAtMs > CLOCK_STEP_MS) return describe(newestMs, plannedAtMs);
  const startedMs = performance.now();
  const beforeMs = now();
  let storeMs: number;
  try {
    storeMs = (await store.put(PROBE_KEY, new Uint8Array(1), options)).modifiedAt.getTime();
    await store.delete([PROBE_KEY], options);
  } catch (error) {
    if (!hasCode(error, 'permission', 'unsupported', 'exists')) throw error;
    if (plannedAtMs - newestMs <= MAX_UNCOMPARED_MS) return undefined;
    const refused = `${PROBE_KEY} could not be written to tell the store's time`;
    return `${refused}: ${describe(newestMs, plannedAtMs, "the newest object's time")}`;
  }
  // When it was planned is to be compared too: a clock that was wrong then may be right by now.
  const elapsedMs = performance.now() - startedMs;
  for (const localMs of [plannedAtMs + elapsedMs, beforeMs + elapsedMs]) {
    if (Math.abs(storeMs - localMs) > CLOCK_STEP_MS + elapsedMs) return describe(storeMs, localMs);
  }
  return undefined;
}

function describe(storeMs: number, localMs: number, what = "the store's clock"): string {
  const difference = formatDuration(Math.round(Math.abs(storeMs - localMs) / 1000) * 1000);
  const [store, local] = [storeMs, localMs].map((ms) => new Date(ms).toISOString());
  return `${what} (${store ?? ''}) and this machine's (${local ?? ''}) are ${difference} apart: nothing is deleted until they agree; set the one that is wrong (NTP)`;
}
