/**
 * Finds the way through a generation where its segments do not simply follow each other, and remembers it: for a restore
 * that meets such a place, and for what has to give the same answer. Each index is read once more for it, and asked about
 * only when something does not fit.
 */

import { LitestreamError, hasCode } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { ChainEnd, SegmentTrailer } from '../format/object-trailer.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import { type SegmentInfo, listSegments } from './catalog.ts';
import {
  type Following,
  type IndexPath,
  type PathOutcome,
  describeLeftOut,
  findIndexPath,
  isOnPath,
} from './index-path.ts';
import type { GenerationListing } from './restore-plan.ts';
import { type SegmentContent, readSegments } from './segment-content.ts';
import { readSegmentTrailer } from './trailer-reader.ts';

/** A way, and whether a chain that was applied so far is a part of it. */
export interface FoundPath {
  readonly path: IndexPath;
  /** Time of its last commit; of its last segment where that does not tell. */
  readonly committedMs: number;
  readonly passes: (state: ChainEnd) => boolean;
}

/** Why there is none that is known to be complete. */
export type NoPath = Exclude<PathOutcome, { readonly path: IndexPath }>;

export interface FinderOptions {
  readonly parallelism: number;
  readonly signal?: AbortSignal | undefined;
  readonly logger?: Logger | undefined;
}

export class PathFinder {
  readonly #options: FinderOptions;
  /** By replica and generation, then by index. */
  readonly #paths = new Map<string, Map<number, IndexPath>>();
  readonly #listings = new Map<string, readonly SegmentInfo[]>();

  /** @param options requests at once; >= 1. What is left out goes to the log, if there is one. */
  constructor(options: FinderOptions) {
    this.#options = options;
  }

  /** Whether the way through an index is known. */
  knows(replica: string, generation: string, index: number): boolean {
    return this.#paths.get(id(replica, generation))?.has(index) === true;
  }

  /** Lists again when something is asked the next time. Ways that were found stay. */
  forgetListings(): void {
    this.#listings.clear();
  }

  /**
   * Finds the way through an index, and remembers it when it is complete.
   * @param through position of the snapshot that is to be restored, if it is of this index
   * @throws what the store throws
   */
  async find(
    { name, store }: { readonly name: string; readonly store: ObjectStore },
    { generation, index }: { readonly generation: string; readonly index: number },
    through: ChainEnd | undefined,
  ): Promise<FoundPath | NoPath> {
    const segments = await this.#list(name, store, generation);
    const own = segments.filter((segment) => segment.index === index);
    const contents = await readSegments(store, own, this.#options);
    const following = await this.#following(store, segments, index);
    const outcome = findIndexPath({ generation, index, contents, following, through });
    if (!('path' in outcome)) return outcome;
    const { path } = outcome;
    this.remember(name, generation, path);
    const logger = this.#options.logger?.with({ replica: name });
    for (const text of describeLeftOut(generation, path)) logger?.warn(text);
    return {
      path,
      committedMs: committedMs(path, contents),
      passes: (state) => isOnPath(path, contents, state),
    };
  }

  /** Makes follow() take a way. */
  remember(replica: string, generation: string, path: IndexPath): void {
    const key = id(replica, generation);
    const known = this.#paths.get(key);
    if (known) known.set(path.end.index, path);
    else this.#paths.set(key, new Map([[path.end.index, path]]));
  }

  /** A listing with the segments of the ways that were found, and without those that are not on them. */
  follow(replica: string, listing: GenerationListing): GenerationListing {
    const paths = this.#paths.get(id(replica, listing.generation));
    if (!paths) return listing;
    let last = Infinity;
    for (const [index, { goesOn }] of paths) if (!goesOn) last = Math.min(last, index);
    const segments = listing.segments.filter(({ index }) => !paths.has(index) && index <= last);
    for (const [index, path] of paths) {
      if (index > last) continue;
      for (const segment of path.segments) segments.push(segment);
    }
    segments.sort((a, b) => a.index - b.index || a.offset - b.offset);
    return { ...listing, segments };
  }

  async #list(name: string, store: ObjectStore, generation: string): Promise<readonly SegmentInfo[]> {
    const key = id(name, generation);
    const known = this.#listings.get(key);
    if (known) return known;
    const segments = await listSegments(store, generation, { signal: this.#options.signal });
    this.#listings.set(key, segments);
    return segments;
  }

  async #following(
    store: ObjectStore,
    segments: readonly SegmentInfo[],
    index: number,
  ): Promise<Following | undefined> {
    const later = segments.filter((segment) => segment.index > index);
    const [first] = later;
    if (!first) return undefined;
    const newestMs = later.reduce((ms, { createdAt }) => Math.max(ms, createdAt.getTime()), -Infinity);
    const known = { newestMs, segmentCount: later.length };
    const isNext = first.index === index + 1 && first.offset === 0;
    const trailer = isNext ? await this.#trailerOf(store, first) : undefined;
    const previous = trailer?.previous?.index === index ? trailer.previous : undefined;
    return { previous, committedMs: trailer?.commits.at(-1)?.timeMs, ...known };
  }

  /** Damage of a later index is no news yet. */
  async #trailerOf(store: ObjectStore, segment: SegmentInfo): Promise<SegmentTrailer | undefined> {
    try {
      return await readSegmentTrailer(store, segment, { signal: this.#options.signal });
    } catch (error) {
      if (hasCode(error, 'corrupt', 'unsupported', 'not-found')) return undefined;
      throw error;
    }
  }
}

function committedMs({ segments, end }: IndexPath, contents: readonly SegmentContent[]): number {
  const last = segments.at(-1);
  const commits = contents.find(({ segment }) => segment.key === last?.key)?.trailer?.commits ?? [];
  const commit = commits.find(({ offset }) => offset >= end.offset);
  return commit?.timeMs ?? last?.createdAt.getTime() ?? 0;
}

function id(replica: string, generation: string): string {
  return `${replica}\n${generation}`;
}

/** Ends a run: the plan has to be made anew, with what is known of the ways now. */
export class PathChanged extends LitestreamError {
  constructor() {
    super('corrupt', 'the segments do not continue each other as they are listed');
  }
}
