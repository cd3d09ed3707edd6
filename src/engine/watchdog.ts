/**
 * Looks from outside whether what should move does move: a promise that never settles, or a wake-up that was lost, fails
 * nowhere and would otherwise stop a backup in silence. Whoever is found standing still is restarted alone.
 */

import type { Pipeline, Suspect } from './pipeline.ts';

export interface WatchdogOptions {
  readonly checkIntervalMs: number;
  /** How long the follower may stand still, or three of its intervals. */
  readonly followerMs: number;
  /** How long a replica may: longer than any request of a store takes to fail. */
  readonly replicaMs: number;
}

export const WATCHDOG_DEFAULTS: WatchdogOptions = {
  checkIntervalMs: 5000,
  followerMs: 30_000,
  replicaMs: 10 * 60_000,
};

const INTERVALS = 3;

interface Still {
  readonly marks: string;
  readonly sinceMs: number;
}

export class Watchdog {
  readonly #pipelines: readonly Pipeline[];
  readonly #options: WatchdogOptions;
  /** Of each pipeline what has not moved, by name, and since when on the monotonic clock. */
  readonly #still = new Map<Pipeline, ReadonlyMap<string, Still>>();
  #timer: NodeJS.Timeout | undefined;
  readonly #checking = new Set<Pipeline>();

  constructor(pipelines: readonly Pipeline[], options: WatchdogOptions = WATCHDOG_DEFAULTS) {
    this.#pipelines = pipelines;
    this.#options = options;
  }

  start(): void {
    this.#timer = setInterval(() => {
      for (const pipeline of this.#pipelines) void this.#check(pipeline);
    }, this.#options.checkIntervalMs);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** Never rejects. One at a time for each pipeline, as a restart takes a while. */
  async #check(pipeline: Pipeline): Promise<void> {
    if (this.#checking.has(pipeline)) return;
    this.#checking.add(pipeline);
    try {
      const overdue = this.#overdue(pipeline, await pipeline.suspects());
      if (!overdue) return;
      this.#still.delete(pipeline);
      await pipeline.restart(overdue);
    } finally {
      this.#checking.delete(pipeline);
    }
  }

  /** The reason to restart it, if there is one. */
  #overdue(pipeline: Pipeline, suspects: readonly Suspect[]): string | undefined {
    const nowMs = performance.now();
    const before = this.#still.get(pipeline);
    // One that could not be restarted has nothing that could move: it is tried again in a while.
    const { stuck } = pipeline;
    const all =
      stuck !== undefined && suspects.length === 0 && !pipeline.followed
        ? [
            ...suspects,
            { name: 'restart', marks: '', intervalMs: 0, kind: 'follower', reason: stuck } as const,
          ]
        : suspects;
    const still = new Map<string, Still>();
    for (const { name, marks } of all) {
      const known = before?.get(name);
      still.set(name, known?.marks === marks ? known : { marks, sinceMs: nowMs });
    }
    this.#still.set(pipeline, still);
    const moves = before !== undefined && all.every(({ name }) => still.get(name)?.sinceMs === nowMs);
    if (all.length === 0 || moves) pipeline.recovered();
    const overdue = all.find(({ name, intervalMs, kind }) => {
      const limitMs = kind === 'follower' ? this.#options.followerMs : this.#options.replicaMs;
      return nowMs - (still.get(name)?.sinceMs ?? nowMs) > Math.max(limitMs, INTERVALS * intervalMs);
    });
    return overdue?.reason;
  }
}
