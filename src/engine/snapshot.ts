/**
 * Snapshots of a database in a replica: when one is due, and how it is taken so that its time is never earlier than
 * that of the segments it needs.
 */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { linkSignals } from '../base/concurrency.ts';
import { formatDuration } from '../base/duration.ts';
import { hasCode, messageOf, wrapError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { encodeLz4Frame } from '../format/lz4-frame.ts';
import { snapshotKey } from '../format/names.ts';
import { encodeTrailer } from '../format/object-trailer.ts';
import type { Origin } from '../format/origin-frame.ts';
import { type Position, formatPosition } from '../format/position.ts';
import type { ObjectInfo, ObjectStore } from '../storage/object-store.ts';
import type { SnapshotInfo } from './catalog.ts';
import type { ReplicaOptions } from './options.ts';
import type { ReplicaOrigin } from './replica-origin.ts';
import type { SegmentSource, SnapshotHold } from './segment-source.ts';
import { SnapshotSpool } from './snapshot-spool.ts';

/**
 * When the snapshot after `newest` is due, in epoch milliseconds: Infinity for never. Without news in the WAL none is
 * needed even then.
 */
export function snapshotDueAtMs(
  newest: SnapshotInfo,
  options: Pick<ReplicaOptions, 'snapshotIntervalMs' | 'retentionMs'>,
): number {
  const intervals = [options.snapshotIntervalMs, options.retentionMs].filter((ms) => ms > 0);
  return newest.createdAt.getTime() + Math.min(...intervals, Infinity);
}

/** No rule of a store deletes what is younger, and what has not changed is not worth more. */
const MIN_RENEWAL_MS = 3600_000;
/** Without retention nothing but such a rule deletes, and rules count in days. */
const RULE_STEP_MS = 24 * 3600_000;

/**
 * When the only thing that a snapshot would be good for is that it is new, in epoch milliseconds: rules of a store that
 * delete by age take the oldest object first, and it must not be the only snapshot. Infinity for never.
 * @param newestAtMs when the newest was taken, by this machine's clock if it was here
 */
export function renewalDueAtMs(
  newestAtMs: number,
  { snapshotIntervalMs, retentionMs }: Pick<ReplicaOptions, 'snapshotIntervalMs' | 'retentionMs'>,
): number {
  const intervalMs =
    retentionMs > 0
      ? Math.max(retentionMs, MIN_RENEWAL_MS)
      : snapshotIntervalMs > 0
        ? Math.max(snapshotIntervalMs, RULE_STEP_MS)
        : Infinity;
  return newestAtMs + intervalMs;
}

/**
 * Whether a snapshot at `position` saves anything over `newest` of the same generation. One of the same index does
 * not: both need that WAL from its start, and it would replace the older one, from which earlier moments are restored.
 */
export function snapshotAddsTo(newest: SnapshotInfo | undefined, position: Position): boolean {
  return newest === undefined || (position.index > newest.index && position.offset > 0);
}

export interface SnapshotRequest {
  /** The replica's name, for the spool file. */
  readonly name: string;
  readonly store: ObjectStore;
  readonly source: SegmentSource;
  /** Which generations this one follows, and who is told that it was said. */
  readonly origin: Pick<ReplicaOrigin, 'known' | 'said'>;
  readonly logger: Logger;
  readonly signal: AbortSignal;
  /** Asked while the file is held; false: no snapshot now. */
  readonly accept: (position: Position) => boolean;
  /**
   * Resolves when all segments up to `position` are stored; rejects with 'aborted' when `signal` fires.
   * @param options.held the database file is held meanwhile: reject rather than wait long
   */
  readonly segmentsStored: (
    position: Position,
    options: { readonly held: boolean; readonly signal: AbortSignal },
  ) => Promise<void>;
}

/** The object: the held file and what is to be known of it. */
function encodeSnapshot(
  { source, signal }: SnapshotRequest,
  hold: SnapshotHold,
  origin: Origin | undefined,
): AsyncIterable<Uint8Array> {
  const { position, checksum, timeMs, sizeBytes } = hold;
  const { pageSizeBytes } = source;
  return encodeLz4Frame(hold.read({ signal }), {
    contentSizeBytes: sizeBytes,
    trailer: (contentChecksum) =>
      encodeTrailer({
        kind: 'snapshot',
        ...position,
        pageSizeBytes,
        checksum,
        timeMs,
        sizeBytes,
        contentChecksum,
        origin,
      }),
  });
}

/**
 * Takes a snapshot and publishes it after the segments that it needs. A store that is not local gets it from a file
 * in the meta directory, so that the database is held no longer than the disk needs; when that is full, straight from
 * the database. Nothing is left behind on failure.
 * @returns the snapshot, or undefined when `accept` refused
 */
export async function takeSnapshot(request: SnapshotRequest): Promise<SnapshotInfo | undefined> {
  const { source, logger, signal } = request;
  const hold = await source.holdSnapshot({ signal });
  try {
    const { position } = hold;
    if (!request.accept(position)) return undefined;
    logger.info('write snapshot', { position: formatPosition(position) });
    const startedAtMs = performance.now();
    const origin = request.origin.known;
    const { key, sizeBytes, modifiedAt } = await publish(request, hold, origin);
    request.origin.said(origin);
    logger.info('snapshot written', {
      position: formatPosition(position),
      elapsed: formatDuration(performance.now() - startedAtMs),
      sz: sizeBytes,
    });
    const { generation, index } = position;
    return { key, generation, index, sizeBytes, createdAt: modifiedAt };
  } finally {
    await hold.release();
  }
}

async function publish(
  request: SnapshotRequest,
  hold: SnapshotHold,
  origin: Origin | undefined,
): Promise<ObjectInfo> {
  if (request.store.capabilities.local) return publishHeld(request, hold, origin);
  const spool = new SnapshotSpool(
    spoolPath(request.source, request.name),
    encodeSnapshot(request, hold, origin),
  );
  try {
    return await publishSpooled(request, hold, spool);
  } catch (error) {
    if (!hasCode(error, 'disk-full')) throw error;
    request.logger.warn('no room to spool the snapshot: checkpoints wait for its upload', {
      error: messageOf(error),
    });
  } finally {
    await spool.close();
  }
  return publishHeld(request, hold, origin);
}

/** Uploads what the spool has while it is written. Rejects with what ails the spool first. */
async function publishSpooled(
  request: SnapshotRequest,
  hold: SnapshotHold,
  spool: SnapshotSpool,
): Promise<ObjectInfo> {
  const failed = new AbortController();
  const { signal, unlink } = linkSignals(request.signal, failed.signal);
  const release = async (): Promise<void> => {
    try {
      await spool.written;
    } catch (error) {
      failed.abort();
      throw error;
    }
    await hold.release();
  };
  const upload = async (): Promise<ObjectInfo> => {
    await request.segmentsStored(hold.position, { held: false, signal });
    return put({ ...request, signal }, hold.position, spool.read(), hold.sizeBytes);
  };
  try {
    const [released, uploaded] = await Promise.allSettled([release(), upload()]);
    if (released.status === 'rejected') throw released.reason;
    if (uploaded.status === 'rejected') throw uploaded.reason;
    return uploaded.value;
  } finally {
    unlink();
  }
}

async function publishHeld(
  request: SnapshotRequest,
  hold: SnapshotHold,
  origin: Origin | undefined,
): Promise<ObjectInfo> {
  await request.segmentsStored(hold.position, { held: true, signal: request.signal });
  return put(request, hold.position, encodeSnapshot(request, hold, origin), hold.sizeBytes);
}

async function put(
  { store, signal }: SnapshotRequest,
  { generation, index }: Position,
  body: AsyncIterable<Uint8Array>,
  sizeHintBytes: number,
): Promise<ObjectInfo> {
  const key = snapshotKey(generation, index);
  try {
    return await store.put(key, body, { signal, sizeHintBytes });
  } catch (error) {
    throw wrapError(error, `write snapshot ${key}`);
  }
}

function spoolPath(source: SegmentSource, name: string): string {
  return join(source.metaPath, `snapshot-${encodeURIComponent(name)}.tmp`);
}

/** Removes what a process that died left of a spooled snapshot. */
export async function removeSpool(source: SegmentSource, name: string): Promise<void> {
  await rm(spoolPath(source, name), { force: true });
}
