/**
 * The last hour of a replication in numbers, for charts: kept in memory while it runs, so that whoever looks at it need not
 * have been there before. Nothing of it outlives the process.
 */

import type { DatabaseStatus } from '../engine/status.ts';

const SAMPLE_MS = 5000;
const BUCKET_MS = 30_000;
/** An hour. */
const BUCKETS = 120;
const MAX_EVENTS = 200;

/** One number for each bucket, the oldest first; null: not known. All rows of a report have the same length. */
type Row = (number | null)[];

export interface DatabaseHistory {
  readonly path: string;
  /** Largest of the bucket and of all replicas. */
  readonly lagMs: readonly (number | null)[];
  /** Largest of the bucket. */
  readonly walSizeBytes: readonly (number | null)[];
  /** Sent to all replicas within the bucket. */
  readonly uploadedBytes: readonly (number | null)[];
  /** Requests to all replicas within the bucket. */
  readonly requests: readonly (number | null)[];
}

/** A database has come into another state. */
export interface StateEvent {
  /** ISO 8601. */
  readonly at: string;
  readonly path: string;
  readonly state: string;
  readonly healthy: boolean;
  readonly reason: string | null;
}

export interface HistoryReport {
  readonly bucketMs: number;
  /** When the last bucket began, in ISO 8601. */
  readonly lastBucketAt: string;
  readonly databases: readonly DatabaseHistory[];
  /** The newest first. */
  readonly events: readonly StateEvent[];
}

interface Track {
  readonly lagMs: Row;
  readonly walSizeBytes: Row;
  readonly uploadedBytes: Row;
  readonly requests: Row;
  state: string | undefined;
  /** Totals at the last sample. */
  uploaded: number;
  asked: number;
}

export class History {
  readonly #status: () => readonly DatabaseStatus[];
  readonly #now: () => number;
  readonly #tracks = new Map<string, Track>();
  readonly #events: StateEvent[] = [];
  #bucket = 0;
  #timer: NodeJS.Timeout | undefined;

  /** @param now the time in epoch milliseconds */
  constructor(status: () => readonly DatabaseStatus[], now: () => number = Date.now) {
    this.#status = status;
    this.#now = now;
  }

  start(): void {
    this.#timer ??= setInterval(() => this.sample(), SAMPLE_MS).unref();
    this.sample();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Takes down how everything is at this moment. */
  sample(): void {
    this.#advance();
    for (const database of this.#status()) {
      const track = this.#trackOf(database.path);
      this.#note(track, database);
      const lags = database.replicas.flatMap(({ lagMs }) => (lagMs === null ? [] : [lagMs]));
      if (lags.length > 0) raise(track.lagMs, Math.max(...lags));
      raise(track.walSizeBytes, database.walSizeBytes);
      const counts = database.replicas.flatMap(({ requests }) => requests);
      const uploaded = counts.reduce(
        (sum, { operation, bytes }) => sum + (operation === 'PUT' ? bytes : 0),
        0,
      );
      const asked = counts.reduce((sum, { type, count }) => sum + (type === 'file' ? 0 : count), 0);
      // A pipeline that was restarted counts from zero.
      add(track.uploadedBytes, uploaded >= track.uploaded ? uploaded - track.uploaded : uploaded);
      add(track.requests, asked >= track.asked ? asked - track.asked : asked);
      track.uploaded = uploaded;
      track.asked = asked;
    }
  }

  report(): HistoryReport {
    this.sample();
    const databases = [...this.#tracks].map(([path, { lagMs, walSizeBytes, uploadedBytes, requests }]) => ({
      path,
      lagMs,
      walSizeBytes,
      uploadedBytes,
      requests,
    }));
    const lastBucketAt = new Date(this.#bucket * BUCKET_MS).toISOString();
    return { bucketMs: BUCKET_MS, lastBucketAt, databases, events: this.#events.toReversed() };
  }

  /** Opens the bucket of this moment in all rows; those that nobody sampled hold nothing. */
  #advance(): void {
    const bucket = Math.floor(this.#now() / BUCKET_MS);
    const steps = this.#bucket === 0 ? 1 : Math.min(BUCKETS, bucket - this.#bucket);
    if (steps <= 0) return; // Also when the clock was set back: the last bucket stays open.
    this.#bucket = bucket;
    for (const track of this.#tracks.values()) {
      for (const row of rowsOf(track)) {
        for (let i = 0; i < steps; i++) row.push(null);
        row.splice(0, Math.max(0, row.length - BUCKETS));
      }
    }
  }

  #trackOf(path: string): Track {
    let track = this.#tracks.get(path);
    if (!track) {
      const row = (): Row => new Array<number | null>(BUCKETS).fill(null);
      const rows = { lagMs: row(), walSizeBytes: row(), uploadedBytes: row(), requests: row() };
      track = { ...rows, state: undefined, uploaded: 0, asked: 0 };
      this.#tracks.set(path, track);
    }
    return track;
  }

  #note(track: Track, { path, state, healthy, reason }: DatabaseStatus): void {
    if (track.state === state) return;
    track.state = state;
    this.#events.push({ at: new Date(this.#now()).toISOString(), path, state, healthy, reason });
    if (this.#events.length > MAX_EVENTS) this.#events.shift();
  }
}

function rowsOf({ lagMs, walSizeBytes, uploadedBytes, requests }: Track): Row[] {
  return [lagMs, walSizeBytes, uploadedBytes, requests];
}

function raise(row: Row, value: number): void {
  row[row.length - 1] = Math.max(row.at(-1) ?? 0, value);
}

function add(row: Row, value: number): void {
  row[row.length - 1] = (row.at(-1) ?? 0) + value;
}
