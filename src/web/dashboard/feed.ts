/** Asks the source while somebody watches, once for all viewers, and tells each of them what is new. */

import { sleep } from '../../base/concurrency.ts';
import type { DashboardSource } from './source.ts';
import type { Activity, Live, Overview, Slow } from './view/overview.ts';

const LIVE_MS = 2000;
const HISTORY_MS = 15_000;
const TIMELINE_MS = 60_000;
/** How long the first screen waits for what costs more. */
const FIRST_SLOW_MS = 1500;
const MAX_VIEWERS = 100;
/** Listings at the same time. */
const TIMELINES_AT_ONCE = 4;

export interface FeedOptions {
  readonly source: DashboardSource;
  readonly readOnly: boolean;
  readonly activities: () => readonly Activity[];
  /** Called with what could not be asked. */
  readonly onError: (error: unknown) => void;
}

type Viewer = (event: 'live' | 'slow', data: object) => void;

export class Feed {
  readonly #options: FeedOptions;
  readonly #viewers = new Set<Viewer>();
  readonly #timelines: Record<string, Slow['timelines'][string]> = {};
  #history: Slow['history'] = null;
  #live: Promise<Live> | undefined;
  #slow: Promise<void> | undefined;
  #historyAtMs = -Infinity;
  #timelinesAtMs = -Infinity;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(options: FeedOptions) {
    this.#options = options;
  }

  /** Everything for the first screen. Rejects when the status cannot be had. */
  async overview(): Promise<Overview> {
    const live = await this.#askLive();
    const late = new AbortController();
    const slow = this.#askSlow(live, performance.now()).finally(() => late.abort());
    await Promise.race([slow, sleep(FIRST_SLOW_MS, { signal: late.signal }).catch(() => undefined)]);
    return { ...live, ...this.#slowNow(), readOnly: this.#options.readOnly };
  }

  /** @returns whether there is room; `unwatch` ends it */
  watch(viewer: Viewer): boolean {
    if (this.#closed || this.#viewers.size >= MAX_VIEWERS) return false;
    this.#viewers.add(viewer);
    if (this.#viewers.size === 1) void this.#beat();
    return true;
  }

  unwatch(viewer: Viewer): void {
    this.#viewers.delete(viewer);
  }

  /** Tells all viewers at once: something was done. */
  refresh(): void {
    if (this.#viewers.size > 0) void this.#beat();
  }

  /** The next round lists the replicas of a database anew. */
  forgetTimelines(): void {
    this.#timelinesAtMs = -Infinity;
  }

  close(): void {
    this.#closed = true;
    this.#viewers.clear();
    clearTimeout(this.#timer);
  }

  /** Never rejects. */
  async #beat(): Promise<void> {
    clearTimeout(this.#timer);
    if (this.#viewers.size === 0) return;
    try {
      const live = await this.#askLive();
      this.#tell('live', live);
      void this.#askSlow(live, performance.now());
    } catch (error) {
      this.#options.onError(error);
    }
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(() => void this.#beat(), LIVE_MS).unref();
  }

  #tell(event: 'live' | 'slow', data: object): void {
    for (const viewer of this.#viewers) viewer(event, data);
  }

  /** One question at a time, whoever asks. */
  #askLive(): Promise<Live> {
    const { source, activities } = this.#options;
    this.#live ??= Promise.all([source.status(), source.jobs()])
      .then(([status, jobs]) => ({ at: new Date().toISOString(), status, jobs, activities: activities() }))
      .finally(() => {
        this.#live = undefined;
      });
    return this.#live;
  }

  #slowNow(): Slow {
    return { timelines: { ...this.#timelines }, history: this.#history };
  }

  /** Never rejects. */
  #askSlow({ status }: Live, nowMs: number): Promise<void> {
    const history = nowMs - this.#historyAtMs >= HISTORY_MS;
    const timelines = nowMs - this.#timelinesAtMs >= TIMELINE_MS;
    if (!history && !timelines) return this.#slow ?? Promise.resolve();
    const ask = async (): Promise<void> => {
      if (history) {
        this.#historyAtMs = nowMs;
        this.#history = await this.#options.source.history();
      }
      if (timelines) {
        this.#timelinesAtMs = nowMs;
        await this.#askTimelines(status.databases.map(({ path }) => path));
      }
      this.#tell('slow', this.#slowNow());
    };
    this.#slow ??= ask()
      .catch((error: unknown) => this.#options.onError(error))
      .finally(() => {
        this.#slow = undefined;
      });
    return this.#slow;
  }

  async #askTimelines(paths: readonly string[]): Promise<void> {
    const waiting = [...paths];
    const next = async (): Promise<void> => {
      for (let database = waiting.shift(); database !== undefined; database = waiting.shift()) {
        try {
          this.#timelines[database] = (await this.#options.source.call('/timeline', {
            database,
          })) as Slow['timelines'][string];
        } catch (error) {
          this.#options.onError(error);
        }
      }
    };
    await Promise.all(Array.from({ length: TIMELINES_AT_ONCE }, next));
  }
}
