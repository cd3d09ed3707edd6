/** How far one replica has stored one generation, in memory: the upload of segments in order, and who waits for it. */

import { abortedError, throwIfAborted } from '../base/concurrency.ts';
import { LitestreamError, assert, hasCode } from '../base/errors.ts';
import { formatDuration } from '../base/duration.ts';
import type { Logger } from '../base/logger.ts';
import { segmentKey } from '../format/names.ts';
import type { Origin } from '../format/origin-frame.ts';
import { type Position, comparePositions, formatPosition } from '../format/position.ts';
import { WAL_HEADER_SIZE } from '../sqlite/wal.ts';
import type { ObjectStore } from '../storage/object-store.ts';
import type { EncryptionMemory } from './encryption-record.ts';
import type { ReplicaOrigin } from './replica-origin.ts';
import { type Finding, asSent } from './replica-presence.ts';
import {
  type PutSegmentOptions,
  type SegmentEnd,
  type SegmentRange,
  type StoredSegment,
  nextSegment,
  nextStart,
  putSegment,
} from './replica-segment.ts';
import type { SegmentSource } from './segment-source.ts';
import type { ReplicaStats } from './stats.ts';
import type { StoredObjects } from './stored-objects.ts';
import type { UploadRecord } from './upload-record.ts';

export interface ProgressContext {
  readonly store: ObjectStore;
  readonly source: SegmentSource;
  readonly logger: Logger;
  readonly stats: ReplicaStats;
  readonly memory: EncryptionMemory;
  /** What the replica holds of the generation; kept up to date. */
  readonly held: StoredObjects;
  /** Undefined where a process that is gone leaves nothing under way. */
  readonly uploads: UploadRecord | undefined;
  /** Called when another process has written the object of that key; gives the reason to give the generation up. */
  readonly onForeign: (finding: Finding) => string;
  readonly origin: Pick<ReplicaOrigin, 'ofSegment'>;
}

export interface ProgressStart {
  /** End of what the replica holds; undefined: nothing, until begin() says where to start. */
  readonly stored: Position | undefined;
  /** End of its last segment, if it has one. */
  readonly end?: SegmentEnd | undefined;
  /** Of an object that is not whole, and is to be written anew. */
  readonly rewrites?: string | undefined;
}

interface Waiter {
  readonly position: Position;
  readonly failFast: boolean;
  readonly settle: (error?: unknown) => void;
}

/** Whether everything up to `position` is stored. A WAL header by itself does not count: it may still be replaced. */
function isStored(position: Position, stored: Position): boolean {
  const offset = position.offset <= WAL_HEADER_SIZE ? 0 : position.offset;
  return comparePositions(stored, { ...position, offset }) >= 0;
}

export class ReplicaProgress {
  readonly generation: string;
  readonly #context: ProgressContext;
  #stored: Position | undefined;
  /** End of the last segment, which the next one names. */
  #end: SegmentEnd | undefined;
  /** The range whose upload failed: stored again as it was, since the failed request may still take effect. */
  #pending: SegmentRange | undefined;
  /** What its trailer says beside what is in it. */
  #says: { readonly previous: SegmentEnd | undefined; readonly origin: Origin | undefined } | undefined;
  #rewrites: string | undefined;
  /** Key of the segment that was sent last, here or by a process before this one. */
  #attempted: string | undefined;
  readonly #waiters = new Set<Waiter>();

  /** @param generation the source's generation */
  constructor(context: ProgressContext, generation: string, { stored, end, rewrites }: ProgressStart) {
    this.#context = context;
    this.generation = generation;
    this.#end = end;
    context.stats.lastCommitMs = end?.timeMs;
    this.#rewrites = rewrites;
    if (stored) this.#advance(stored);
  }

  /** End of what is stored; undefined while nothing is. */
  get stored(): Position | undefined {
    return this.#stored;
  }

  /** Whether the source is still in this generation. */
  isCurrent(): boolean {
    return this.#context.source.position().generation === this.generation;
  }

  /** Whether everything that is committed is stored. */
  isComplete(): boolean {
    if (!this.#stored || !this.isCurrent()) return false;
    return isStored(this.#context.source.position(), this.#stored);
  }

  /** Whether the replica holds what the source does not have: the source was cut back. */
  isAhead(): boolean {
    if (!this.#stored || !this.isCurrent()) return false;
    return !isStored(this.#stored, this.#context.source.position());
  }

  /** Whether everything up to `position`, of this generation, is stored. */
  holds(position: Position): boolean {
    return this.#stored !== undefined && isStored(position, this.#stored);
  }

  /** Committed bytes that are not stored. */
  get backlogBytes(): number {
    const { source } = this.#context;
    const end = source.position();
    if (!this.isCurrent()) return 0;
    let bytes = 0;
    for (let index = this.#stored?.index ?? end.index; index <= end.index; index++) {
      const from = index === this.#stored?.index ? this.#stored.offset : 0;
      if (index === end.index || source.hasIndex(index)) bytes += Math.max(0, source.indexEnd(index) - from);
    }
    return bytes;
  }

  /** Starts a generation of which the replica holds nothing at an index; else does nothing. */
  begin(index: number): void {
    if (!this.#stored) this.#advance({ generation: this.generation, index, offset: 0 });
  }

  /**
   * Uploads everything that is committed now, in order.
   * @throws LitestreamError 'gap' when the shadow WAL no longer holds what comes next, 'unsupported' when an offset or
   * index is beyond the format, 'aborted' when the source left the generation; and what the store throws
   */
  async upload(signal: AbortSignal): Promise<void> {
    const end = this.#context.source.position();
    while (this.#stored && this.isCurrent() && !isStored(end, this.#stored)) {
      throwIfAborted(signal);
      this.#pending ??= await this.#next(this.#stored);
      if (!this.#pending) break;
      await this.#put(this.#pending, signal);
    }
    // A complete index is left behind at once: the shadow WAL may then drop the one before it.
    if (!this.#stored || !this.isCurrent()) return;
    this.#advance(nextStart(this.#context.source, this.#stored));
    assert(isStored(end, this.#stored), `the shadow wal ends before ${formatPosition(end)}`);
  }

  async #next(stored: Position): Promise<SegmentRange | undefined> {
    const { source, uploads } = this.#context;
    const next = await nextSegment(source, stored);
    const sent = await uploads?.recall();
    if (sent) this.#attempted ??= segmentKey(sent.generation, sent.index, sent.start);
    return next && uploads ? uploads.asBefore(next) : next;
  }

  async #put(range: SegmentRange, signal: AbortSignal): Promise<void> {
    const { logger, stats, memory, uploads, held, origin } = this.#context;
    const { generation, index, start, end } = range;
    const position = formatPosition({ generation, index, offset: start });
    logger.debug('write wal segment', { position });
    const startedAtMs = performance.now();
    await uploads?.sending(range, held.summary());
    held.sending(range);
    // Once for each range: stored again, the object has the same bytes.
    this.#says ??= { previous: this.#end, origin: origin.ofSegment(this.#end === undefined) };
    const stored = await this.#store(range, { ...this.#says, signal });
    this.#says = undefined;
    this.#end = stored.end;
    stats.lastCommitMs = stored.end.timeMs;
    held.stored(range, { ...stored, checksum: stored.end.checksum });
    await memory.stored({ start, end: this.#end });
    this.#pending = undefined;
    this.#rewrites = undefined;
    stats.walBytes += end - start;
    stats.lastUploadAtMs = Date.now();
    logger.debug('wal segment written', {
      position,
      elapsed: formatDuration(performance.now() - startedAtMs),
      sz: end - start,
    });
    this.#advance({ generation, index, offset: end });
  }

  /** Overwrites nothing but what is known to be no whole object. What is there already may be of a repeated request. */
  async #store(range: SegmentRange, options: Omit<PutSegmentOptions, 'ifAbsent'>): Promise<StoredSegment> {
    const { store, source, held, onForeign } = this.#context;
    const { generation, index, start } = range;
    const key = segmentKey(generation, index, start);
    const { signal } = options;
    const repeats = this.#attempted === key;
    this.#attempted = key;
    try {
      return await putSegment(store, source, range, { ...options, ifAbsent: key !== this.#rewrites });
    } catch (error) {
      if (!hasCode(error, 'exists')) throw error;
    }
    try {
      const found = await asSent({ store, source, held, signal }, range);
      if ('end' in found) return found;
      throw new LitestreamError('gap', onForeign(found));
    } catch (error) {
      if (!hasCode(error, 'encrypted')) throw error;
    }
    // Who cannot read it knows no more than whether it was sent before.
    if (!repeats) throw new LitestreamError('gap', onForeign({ kind: 'foreign', key }));
    try {
      return await putSegment(store, source, range, { ...options, ifAbsent: false });
    } catch (error) {
      // A store in which nothing is overwritten would go on refusing it.
      if (!hasCode(error, 'permission')) throw error;
      throw new LitestreamError('gap', onForeign({ kind: 'kept', key }), { cause: error });
    }
  }

  #advance(stored: Position): void {
    const { source, stats } = this.#context;
    this.#stored = stored;
    stats.generation = stored.generation;
    stats.walIndex = stored.index;
    stats.walOffset = stored.offset;
    source.retainFrom(stats.name, Math.max(0, stored.index - 1));
    for (const waiter of [...this.#waiters]) {
      if (isStored(waiter.position, stored)) waiter.settle();
    }
  }

  /** Tells those who cannot wait for a retry that the upload does not get on. */
  failed(error: unknown): void {
    for (const waiter of [...this.#waiters]) if (waiter.failFast) waiter.settle(error);
  }

  /**
   * Resolves when everything up to `position` is stored.
   * @param options.failFast rejects as soon as an upload fails, instead of waiting until a retry succeeds
   */
  storedThrough(position: Position, options: { signal: AbortSignal; failFast: boolean }): Promise<void> {
    const { signal, failFast } = options;
    return new Promise((resolve, reject) => {
      throwIfAborted(signal);
      if (position.generation !== this.generation) {
        throw new LitestreamError('aborted', `generation ${position.generation} is not the replica's`);
      }
      if (this.#stored && isStored(position, this.#stored)) {
        resolve();
        return;
      }
      const onAbort = (): void => waiter.settle(abortedError(signal));
      const settle = (error?: unknown): void => {
        this.#waiters.delete(waiter);
        signal.removeEventListener('abort', onAbort);
        if (error === undefined) resolve();
        else reject(error instanceof Error ? error : new LitestreamError('io', 'the upload failed'));
      };
      const waiter: Waiter = { position, failFast, settle };
      this.#waiters.add(waiter);
      signal.addEventListener('abort', onAbort, { once: true });
    });
  }
}
