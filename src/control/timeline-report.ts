/** How far back a database can be restored, by what its replicas list: the data of a timeline bar. Listings cost requests, so they are kept a while. */

import { LitestreamError, messageOf } from '../base/errors.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import { listReplicas } from '../engine/restore-listing.ts';
import type { GenerationListing } from '../engine/restore-plan.ts';
import { withRetry } from '../storage/retrying-store.ts';
import type { OpenStore } from './replica-report.ts';

const PARALLELISM = 8;
const ATTEMPTS = 2;
const TIMEOUT_MS = 20_000;
/** Within it nothing is listed twice. */
const FRESH_MS = 300_000;

/** Times are ISO 8601. */
export interface TimelineSpan {
  readonly generation: string;
  /** Its oldest snapshot. */
  readonly from: string;
  /** Its newest object, as far as nothing is missing before it. */
  readonly to: string;
  readonly segmentCount: number;
  /** Of all its objects, compressed. */
  readonly sizeBytes: number;
}

export interface TimelineGap {
  readonly from: string;
  readonly to: string;
  readonly reason: string;
}

export interface TimelineReplica {
  readonly name: string;
  /** Why it could not be listed. */
  readonly error: string | null;
  /** The oldest first. */
  readonly spans: readonly TimelineSpan[];
  readonly gaps: readonly TimelineGap[];
  readonly snapshots: readonly {
    readonly generation: string;
    readonly index: number;
    readonly at: string;
    readonly sizeBytes: number;
  }[];
}

export interface TimelineReport {
  readonly path: string;
  /** When it was listed. */
  readonly at: string;
  /** Of what must stay restorable, from the config; null: for ever. The largest of the replicas. */
  readonly retentionMs: number | null;
  readonly replicas: readonly TimelineReplica[];
}

export class Timelines {
  readonly #databases: readonly DatabaseOptions[];
  readonly #openStore: OpenStore;
  readonly #known = new Map<string, { readonly report: Promise<TimelineReport>; readonly atMs: number }>();

  constructor(databases: readonly DatabaseOptions[], openStore: OpenStore) {
    this.#databases = databases;
    this.#openStore = openStore;
  }

  /** At most five minutes old. @throws LitestreamError 'not-found' for a database that is not configured */
  async of(path: string): Promise<TimelineReport> {
    const database = this.#databases.find((candidate) => candidate.path === path);
    if (!database) throw new LitestreamError('not-found', `database ${path} is not configured here`);
    const known = this.#known.get(path);
    if (known && performance.now() - known.atMs < FRESH_MS) return known.report;
    const report = this.#list(database);
    this.#known.set(path, { report, atMs: performance.now() });
    report.catch(() => this.#known.delete(path));
    return report;
  }

  /** The next question lists anew. */
  forget(path: string): void {
    this.#known.delete(path);
  }

  async #list(database: DatabaseOptions): Promise<TimelineReport> {
    const signal = AbortSignal.timeout(TIMEOUT_MS);
    const retentions = database.replicas.map(({ retentionMs }) => retentionMs);
    return {
      path: database.path,
      at: new Date().toISOString(),
      retentionMs: retentions.some((ms) => ms <= 0) ? null : Math.max(0, ...retentions),
      replicas: await Promise.all(
        database.replicas.map(async ({ name, store: config }): Promise<TimelineReplica> => {
          try {
            const store = await this.#openStore(config);
            try {
              const named = [{ name, store: withRetry(store, { attempts: ATTEMPTS, signal }) }];
              const options = { generation: undefined, parallelism: PARALLELISM, signal, target: {} };
              const { listed, failed } = await listReplicas(named, options);
              if (failed[0]) throw failed[0].error;
              return { name, error: null, ...timelineOf(listed[0]?.generations ?? []) };
            } finally {
              await store.close();
            }
          } catch (error) {
            return { name, error: messageOf(error), spans: [], gaps: [], snapshots: [] };
          }
        }),
      ),
    };
  }
}

/** Pure. Generations without a snapshot hold nothing that can be restored. */
export function timelineOf(
  generations: readonly GenerationListing[],
): Pick<TimelineReplica, 'spans' | 'gaps' | 'snapshots'> {
  const gaps: TimelineGap[] = [];
  const spans = generations
    .flatMap((listing) => spanOf(listing, gaps))
    .toSorted((a, b) => a.from.localeCompare(b.from) || a.to.localeCompare(b.to));
  for (const [i, span] of spans.entries()) {
    const next = spans[i + 1];
    if (next && next.from > span.to) {
      gaps.push({ from: span.to, to: next.from, reason: 'no generation has commits of this time' });
    }
  }
  const snapshots = generations
    .flatMap(({ snapshots }) => snapshots)
    .map(({ generation, index, createdAt, sizeBytes }) => ({
      generation,
      index,
      at: createdAt.toISOString(),
      sizeBytes,
    }))
    .toSorted((a, b) => a.at.localeCompare(b.at));
  return { spans, gaps: gaps.toSorted((a, b) => a.from.localeCompare(b.from)), snapshots };
}

/** What can be restored of one generation; a hole in its indexes ends it, unless a later snapshot begins anew. */
function spanOf(listing: GenerationListing, gaps: TimelineGap[]): TimelineSpan[] {
  const { generation, snapshots, segments } = listing;
  const [first] = snapshots;
  if (!first) return [];
  const usable = segments.filter(({ index }) => index >= first.index);
  let endMs = first.createdAt.getTime();
  let index = first.index - 1;
  for (const segment of usable) {
    const base = snapshots.find((snapshot) => snapshot.index === segment.index);
    if (segment.index > index + 1) {
      const to = (base ?? segment).createdAt.toISOString();
      gaps.push({
        from: new Date(endMs).toISOString(),
        to,
        reason: `wal of generation ${generation} is missing`,
      });
      if (!base) break;
    }
    index = segment.index;
    endMs = Math.max(endMs, segment.createdAt.getTime());
  }
  for (const { createdAt } of snapshots) endMs = Math.max(endMs, createdAt.getTime());
  const sizeBytes = [...snapshots, ...segments].reduce((sum, object) => sum + object.sizeBytes, 0);
  const from = first.createdAt.toISOString();
  return [{ generation, from, to: new Date(endMs).toISOString(), segmentCount: usable.length, sizeBytes }];
}
