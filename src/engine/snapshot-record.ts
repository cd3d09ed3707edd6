/** Which snapshots of a replica are known to be what they say: written here, or looked at. */

import { messageOf } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { CallOptions, ObjectStore } from '../storage/object-store.ts';
import type { SegmentInfo, SnapshotInfo } from './catalog.ts';
import { readReplicaRecord, writeReplicaRecord } from './replica-record.ts';
import { type SnapshotExaminer, examineSnapshot } from './snapshot-proof.ts';
import { isSameTime } from './stored-objects.ts';

/** More than any retention keeps. */
const MAX_REMEMBERED = 1000;

export interface SnapshotRecordContext {
  /** The meta directory, when it is claimed. */
  readonly metaPath: string;
  /** The replica's. */
  readonly name: string;
  /** Whether objects are encrypted, perhaps for others only. */
  readonly isEncrypted: boolean;
  readonly logger: Logger;
}

type Identity = Pick<SnapshotInfo, 'key' | 'sizeBytes'> & { readonly createdAtMs: number };

/**
 * What a replica that is being written to remembers. What costs more than a small request to know, or cannot be known
 * again as it is encrypted for others, outlives the process, in the meta directory.
 */
export class SnapshotRecord implements SnapshotExaminer {
  readonly #context: SnapshotRecordContext;
  readonly #known = new Map<string, { readonly identity: Identity; readonly reason: string | undefined }>();
  readonly #kept = new Map<string, Identity>();
  #recalled: Promise<void> | undefined;

  constructor(context: SnapshotRecordContext) {
    this.#context = context;
  }

  /** To be called when this process has stored a snapshot. Never rejects. */
  async wrote(snapshot: SnapshotInfo): Promise<void> {
    this.#known.set(snapshot.key, { identity: identityOf(snapshot), reason: undefined });
    if (this.#context.isEncrypted) await this.#keep(snapshot);
  }

  async examine(
    store: ObjectStore,
    snapshot: SnapshotInfo,
    segments: readonly SegmentInfo[],
    options: CallOptions,
  ): Promise<string | undefined> {
    await (this.#recalled ??= this.#recall());
    const known = this.#known.get(snapshot.key);
    // What proved nothing may be proven by WAL that is stored by now.
    if (known && known.reason === undefined && isSame(known.identity, snapshot)) return undefined;
    const { reason, wasDecoded } = await examineSnapshot(store, snapshot, segments, options);
    if (reason !== undefined && known?.reason !== reason) {
      this.#context.logger.warn('retention does not count on a snapshot', { object: snapshot.key, reason });
    }
    this.#known.set(snapshot.key, { identity: identityOf(snapshot), reason });
    if (reason === undefined && wasDecoded) await this.#keep(snapshot);
    return reason;
  }

  async #recall(): Promise<void> {
    const { metaPath, name, logger } = this.#context;
    try {
      const text = await readReplicaRecord(metaPath, 'snapshots', name);
      const found: unknown = text === undefined ? [] : JSON.parse(text);
      for (const identity of Array.isArray(found) ? found.filter(isIdentity) : []) {
        this.#kept.set(identity.key, identity);
        if (!this.#known.has(identity.key)) this.#known.set(identity.key, { identity, reason: undefined });
      }
    } catch (error) {
      logger.warn('cannot tell which snapshots are proven', { error: messageOf(error) });
    }
  }

  async #keep(snapshot: SnapshotInfo): Promise<void> {
    const { metaPath, name, logger } = this.#context;
    await (this.#recalled ??= this.#recall());
    this.#kept.delete(snapshot.key);
    this.#kept.set(snapshot.key, identityOf(snapshot));
    for (const key of this.#kept.keys()) {
      if (this.#kept.size <= MAX_REMEMBERED) break;
      this.#kept.delete(key);
    }
    try {
      await writeReplicaRecord(metaPath, 'snapshots', name, [...this.#kept.values()]);
    } catch (error) {
      logger.warn('cannot remember which snapshots are proven', { error: messageOf(error) });
    }
  }
}

function identityOf({ key, sizeBytes, createdAt }: SnapshotInfo): Identity {
  return { key, sizeBytes, createdAtMs: createdAt.getTime() };
}

function isSame(identity: Identity, { sizeBytes, createdAt }: SnapshotInfo): boolean {
  return identity.sizeBytes === sizeBytes && isSameTime(identity.createdAtMs, createdAt.getTime());
}

function isIdentity(value: unknown): value is Identity {
  const { key, sizeBytes, createdAtMs } = (value ?? {}) as Partial<Identity>;
  return typeof key === 'string' && Number.isSafeInteger(sizeBytes) && Number.isFinite(createdAtMs);
}
