/**
 * What is read from replicas for those who look at them or want a copy. Replication needs none of it, so that it can be done
 * elsewhere: reader-process.ts.
 */

import { LitestreamError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Position } from '../format/position.ts';
import { type NamedStore, listReplicas } from '../engine/restore-listing.ts';
import { planRestore } from '../engine/restore-plan.ts';
import { type RestoreProgress, restore } from '../engine/restore.ts';
import { type Timeline, readTimeline } from '../engine/timeline.ts';
import type { StoreConfig } from '../storage/store-config.ts';
import { withRetry } from '../storage/retrying-store.ts';
import type { OpenStore } from './replica-report.ts';

const PARALLELISM = 8;
const ATTEMPTS = 4;
/** Of a timeline: somebody looks at the page, and asks again. */
const TIMELINE_ATTEMPTS = 2;

export interface CopyRequest {
  /** The replicas to choose from. */
  readonly replicas: readonly { readonly name: string; readonly store: StoreConfig }[];
  /** Undefined: the latest state. */
  readonly timestamp: Date | undefined;
}

export interface RestoreCopyRequest extends CopyRequest {
  /** Of the new file. */
  readonly outputPath: string;
}

export interface RestoreCopyOptions {
  readonly signal: AbortSignal;
  readonly logger: Logger;
  readonly onProgress: (progress: RestoreProgress) => void;
}

export interface RestoredCopy {
  readonly sizeBytes: number;
  readonly position: Position;
}

/** What a restore would fetch. */
export interface RestorePlanReport {
  readonly replica: string;
  readonly generation: string;
  readonly snapshot: { readonly index: number; readonly at: string; readonly sizeBytes: number };
  readonly segmentCount: number;
  /** Compressed, the snapshot included. */
  readonly bytesTotal: number;
  readonly warnings: readonly string[];
}

/** All reject with LitestreamError, 'aborted' when `signal` fires. */
export interface ReplicaReader {
  /** @throws LitestreamError what the store throws */
  timeline(store: StoreConfig, signal: AbortSignal): Promise<Timeline>;
  /** @throws LitestreamError as restore() does when nothing matches */
  plan(request: CopyRequest, signal: AbortSignal): Promise<RestorePlanReport>;
  /** Makes a new file. @throws LitestreamError as restore() does */
  restore(request: RestoreCopyRequest, options: RestoreCopyOptions): Promise<RestoredCopy>;
}

/** Reads in this process. */
export class DirectReader implements ReplicaReader {
  readonly #openStore: OpenStore;

  constructor(openStore: OpenStore) {
    this.#openStore = openStore;
  }

  async timeline(config: StoreConfig, signal: AbortSignal): Promise<Timeline> {
    const store = await this.#openStore(config);
    try {
      return await readTimeline(withRetry(store, { attempts: TIMELINE_ATTEMPTS, signal }), { signal });
    } finally {
      await store.close();
    }
  }

  plan(request: CopyRequest, signal: AbortSignal): Promise<RestorePlanReport> {
    const target = { timestamp: request.timestamp };
    return this.#withStores(request, signal, async (replicas) => {
      const options = { generation: undefined, parallelism: PARALLELISM, signal, target };
      const { listed, failed } = await listReplicas(replicas, options);
      const outcome = planRestore(listed, target);
      if ('failure' in outcome && failed[0]) throw failed[0].error;
      if ('failure' in outcome) throw new LitestreamError(outcome.failure.code, outcome.failure.message);
      const [plan] = outcome.plans;
      if (!plan) throw new LitestreamError('no-backup', 'no matching backups found');
      const { replica, generation, snapshot, segments, warnings } = plan;
      const bytesTotal = [snapshot, ...segments].reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      const at = snapshot.createdAt.toISOString();
      const { index, sizeBytes } = snapshot;
      const segmentCount = segments.length;
      return { replica, generation, snapshot: { index, at, sizeBytes }, segmentCount, bytesTotal, warnings };
    });
  }

  restore(request: RestoreCopyRequest, options: RestoreCopyOptions): Promise<RestoredCopy> {
    const { outputPath, timestamp } = request;
    return this.#withStores(request, options.signal, async (replicas) => {
      const all = { replicas, outputPath, timestamp, parallelism: PARALLELISM, ...options };
      const { sizeBytes, position } = await restore(all);
      return { sizeBytes, position };
    });
  }

  async #withStores<T>(
    { replicas }: CopyRequest,
    signal: AbortSignal,
    use: (replicas: readonly NamedStore[]) => Promise<T>,
  ): Promise<T> {
    const stores = await Promise.all(
      replicas.map(async ({ name, store }) => ({ name, store: await this.#openStore(store) })),
    );
    try {
      return await use(
        stores.map(({ name, store }) => ({ name, store: withRetry(store, { attempts: ATTEMPTS, signal }) })),
      );
    } finally {
      await Promise.all(stores.map(({ store }) => store.close()));
    }
  }
}
