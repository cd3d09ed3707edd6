/**
 * What a replica holds from before a database that nothing is known of: the history of another file, as when a new
 * server's application has made an empty one first. Said loudly, since who wants it back has to act.
 */

import { stat } from 'node:fs/promises';
import { backoffDelayMs, throwIfAborted } from '../base/concurrency.ts';
import { hasCode, messageOf } from '../base/errors.ts';
import { leastOf } from '../base/extremes.ts';
import { WAL_HEADER_SIZE, readFrameHeader, walFrameSize } from '../sqlite/wal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { RETRY, type ReplicaContext } from './replica-context.ts';
import { pause } from './replica-wait.ts';
import type { SegmentSource } from './segment-source.ts';
import { type TimelineRange, readTimeline } from './timeline.ts';

/**
 * Warns of restorable generations other than the present one, with the range and the command that restores them: an
 * ERROR when the database has no tables yet. Asks a store that does not answer, or has taken nothing yet, until it does.
 * Never rejects.
 */
export async function warnOfOlderHistory(
  context: ReplicaContext,
  store: ObjectStore,
  signal: AbortSignal,
): Promise<void> {
  const { logger, stats, stopping } = context;
  const { generation } = context.source.position();
  try {
    for (let attempt = 0; ; attempt++) {
      try {
        await compareHistory(context, store, { generation, signal });
        return;
      } catch (error) {
        throwIfAborted(signal);
        const mayPass = hasCode(error, 'unavailable') || stats.lastUploadAtMs === undefined;
        if (mayPass) await pause(backoffDelayMs(attempt, RETRY), signal, stopping);
        if (mayPass && !stopping.aborted) continue;
        logger.warn('cannot tell whether the replica holds the history of an older database', {
          error: messageOf(error),
        });
        return;
      }
    }
  } catch (error) {
    if (!hasCode(error, 'aborted')) throw error;
  }
}

async function compareHistory(
  { source, options, logger, now }: ReplicaContext,
  store: ObjectStore,
  { generation, signal }: { readonly generation: string; readonly signal: AbortSignal },
): Promise<void> {
  const { ranges } = await readTimeline(store, { signal });
  const others = ranges.filter((range) => range.generation !== generation);
  const latest = latestOf(others);
  if (latest === undefined) return;
  const level = (await pageCountOf(source)) > 1 ? 'warn' : 'error';
  const earliestMs = leastOf(others.map(({ from }) => from.getTime()));
  const { name, retentionMs } = options;
  logger[level](
    level === 'error'
      ? 'database is empty, but the replica holds an older one: restore it before it leaves the retention window'
      : 'replica holds the history of an older database: restore it if this one was not to replace it',
    {
      generation: latest.generation,
      from: new Date(earliestMs).toISOString(),
      to: latest.to.toISOString(),
      'kept-until': retentionMs > 0 ? new Date(now() + retentionMs).toISOString() : 'deleted by hand',
      restore: `litestream restore -o ${source.path}.restored -replica ${name} -generation ${latest.generation} ${source.path}`,
    },
  );
}

function latestOf(ranges: readonly TimelineRange[]): TimelineRange | undefined {
  return ranges.reduce<TimelineRange | undefined>(
    (latest, range) => (latest === undefined || range.to > latest.to ? range : latest),
    undefined,
  );
}

/** Size of the database: without any table it is one page. */
async function pageCountOf(source: SegmentSource): Promise<number> {
  const { index, offset } = source.position();
  if (offset > WAL_HEADER_SIZE) {
    const frame = await source.readShadow(index, offset - walFrameSize(source.pageSizeBytes), offset);
    return readFrameHeader(frame, 0).commitPageCount;
  }
  return (await stat(source.path)).size / source.pageSizeBytes;
}
