/** What a restore would do: its plan, its cost and what stands in its way. Changes nothing. */

import { diskSpace } from '../base/disk-space.ts';
import { LitestreamError, hasCode, messageOf } from '../base/errors.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { RestoreOutput } from './restore-output.ts';
import { type RestorePlan, planRestore } from './restore-plan.ts';
import { roomFor } from './restore-room.ts';
import { type RestoreRequest, listForRestore, retryingStores } from './restore.ts';
import { readSegmentTrailer, readSnapshotTrailer } from './trailer-reader.ts';

export interface RestorePreview {
  readonly plan: RestorePlan;
  /** To be downloaded, compressed. */
  readonly downloadBytes: number;
  /** Size of the database in the snapshot, which WAL may change; undefined where the snapshot does not tell. */
  readonly databaseBytes: number | undefined;
  /** In the file system of the output, for this user. */
  readonly freeBytes: number;
  /** Time of the last commit that would be restored; undefined where the objects do not tell. */
  readonly committedAt: Date | undefined;
  /** Why restore() would refuse the output now, or run out of room; undefined: it would not. */
  readonly obstacle: string | undefined;
}

/** @throws LitestreamError as restore() does while it plans */
export async function previewRestore(request: RestoreRequest): Promise<RestorePreview> {
  const obstacle = await obstacleTo(request);
  const replicas = retryingStores(request);
  const { listed, failed } = await listForRestore(request, replicas);
  const outcome = planRestore(listed, request);
  if ('failure' in outcome) {
    throw failed[0]?.error ?? new LitestreamError(outcome.failure.code, outcome.failure.message);
  }
  const [plan] = outcome.plans;
  if (plan === undefined) throw new LitestreamError('no-backup', 'no matching backups found');
  const storeOf = (
    object: RestorePlan['snapshot'] | RestorePlan['segments'][number],
  ): ObjectStore | undefined =>
    replicas.find(({ name }) => name === (plan.sources.get(object) ?? plan.replica))?.store;
  const { snapshot, segments } = plan;
  const { signal } = request;
  const store = storeOf(snapshot);
  const trailer = store && (await unlessDamaged(readSnapshotTrailer(store, snapshot, { signal })));
  const last = segments.at(-1);
  const lastStore = last && storeOf(last);
  const ended = lastStore && (await unlessDamaged(readSegmentTrailer(lastStore, last, { signal })));
  const commit = ended?.commits.findLast(({ offset }) => offset <= (plan.endOffset ?? Infinity));
  const timeMs = last ? commit?.timeMs : trailer?.timeMs;
  const databaseBytes = trailer?.sizeBytes;
  const space = await (request.spaceOf ?? diskSpace)(request.outputPath);
  const room = roomFor(databaseBytes ?? 0, request.outputPath, space);
  return {
    plan,
    downloadBytes: [snapshot, ...segments].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    databaseBytes,
    freeBytes: space.freeBytes,
    committedAt: timeMs === undefined ? undefined : new Date(timeMs),
    obstacle: obstacle ?? (room.hopeless ? room.shortage : undefined),
  };
}

async function obstacleTo(request: RestoreRequest): Promise<string | undefined> {
  try {
    await new RestoreOutput(request.outputPath, { ...request, force: request.force === true }).check();
    return undefined;
  } catch (error) {
    if (hasCode(error, 'exists', 'busy')) return messageOf(error);
    throw error;
  }
}

/** Damage is for the restore to find, and to plan around. */
async function unlessDamaged<T>(reading: Promise<T>): Promise<T | undefined> {
  try {
    return await reading;
  } catch (error) {
    if (hasCode(error, 'corrupt', 'unsupported', 'not-found')) return undefined;
    throw error;
  }
}
