/** How far back a database can be restored, by what its replicas list: the data of a timeline bar. Listings cost requests, so they are kept a while. */

import { LitestreamError, messageOf } from '../base/errors.ts';
import type { DatabaseOptions } from '../engine/options.ts';
import type { Timeline } from '../engine/timeline.ts';
import type { ReplicaReader } from './replica-reader.ts';

const TIMEOUT_MS = 20_000;
/** Within it nothing is listed twice. */
const FRESH_MS = 300_000;

/** Times are ISO 8601. */
export interface TimelineSpan {
  readonly generation: string;
  /** Of its oldest snapshot. */
  readonly from: string;
  /** Of the last commit that can be restored. */
  readonly to: string;
  /** Snapshots and segments. */
  readonly objectCount: number;
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
  readonly #reader: ReplicaReader;
  readonly #known = new Map<string, { readonly report: Promise<TimelineReport>; readonly atMs: number }>();

  constructor(databases: readonly DatabaseOptions[], reader: ReplicaReader) {
    this.#databases = databases;
    this.#reader = reader;
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
            return { name, error: null, ...inWords(await this.#reader.timeline(config, signal)) };
          } catch (error) {
            return { name, error: messageOf(error), spans: [], gaps: [], snapshots: [] };
          }
        }),
      ),
    };
  }
}

/** As JSON has it. Between two generations nobody followed the database: that is a gap, too. */
function inWords({
  ranges,
  gaps,
  snapshots,
}: Timeline): Pick<TimelineReplica, 'spans' | 'gaps' | 'snapshots'> {
  const between = ranges.flatMap(({ to }, i): TimelineGap[] => {
    const next = ranges[i + 1];
    if (!next || next.from <= to) return [];
    const reason = 'nobody followed the database, or its commits are lost';
    return [{ from: to.toISOString(), to: next.from.toISOString(), reason }];
  });
  return {
    spans: ranges.map(({ generation, from, to, objectCount, sizeBytes }) => ({
      generation,
      from: from.toISOString(),
      to: to.toISOString(),
      objectCount,
      sizeBytes,
    })),
    gaps: [
      ...gaps.map(({ from, to, missingKey }) => ({
        from: from.toISOString(),
        to: (to ?? new Date()).toISOString(),
        reason: `${missingKey} is missing`,
      })),
      ...between,
    ],
    snapshots: snapshots.map(({ generation, index, at, sizeBytes }) => ({
      generation,
      index,
      at: at.toISOString(),
      sizeBytes,
    })),
  };
}
