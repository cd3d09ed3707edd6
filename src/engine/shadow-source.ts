/** What replicas read of the shadow WAL, be the database open or not, and what they are told of it. */

import { LitestreamError, assert, messageOf } from '../base/errors.ts';
import type { CommitTime } from '../format/object-trailer.ts';
import { comparePositions, type Position } from '../format/position.ts';
import type { Origin } from '../format/origin-frame.ts';
import type { WalChecksum } from '../sqlite/wal.ts';
import { RetainedIndexes } from './retained-indexes.ts';
import type { SegmentSource } from './segment-source.ts';
import type { ShadowWal } from './shadow-wal.ts';

/** What is copied, and how far. */
export interface CopiedWal {
  readonly position: Position;
  readonly shadow: ShadowWal;
}

export abstract class ShadowSource implements Pick<
  SegmentSource,
  | 'position'
  | 'onAdvance'
  | 'retainFrom'
  | 'isFirstGeneration'
  | 'isNewGeneration'
  | 'originOf'
  | 'indexEnd'
  | 'hasIndex'
  | 'commitTimes'
  | 'readShadow'
  | 'contains'
> {
  abstract readonly path: string;
  readonly #listeners = new Set<() => void>();
  readonly #retained: RetainedIndexes;
  /** As listeners know of it; it outlives a session: replicas can go on with what was copied. */
  #announced: CopiedWal | undefined;

  /** @param replicas their names */
  constructor(replicas: readonly string[]) {
    this.#retained = new RetainedIndexes(replicas);
  }

  /** While the database is open. */
  protected abstract readonly copied: CopiedWal | undefined;

  /** Old files of the shadow WAL cannot be removed. */
  protected abstract pruningFailed(message: string): void;

  /** The present one, or the last one while the database is not open. */
  protected get shadow(): ShadowWal | undefined {
    return (this.copied ?? this.#announced)?.shadow;
  }

  /** Undefined until the database was opened once. */
  protected get announced(): Position | undefined {
    return this.#announced?.position;
  }

  /** Straight from the session: in step with indexEnd(), also in the middle of a rotation. */
  position(): Position {
    const position = this.copied?.position ?? this.announced;
    assert(position !== undefined, 'position() after the database was opened');
    return position;
  }

  onAdvance(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  retainFrom(replica: string, index: number): void {
    if (this.#retained.retainFrom(replica, index)) this.#prune();
  }

  /** To be called when the generation is another one. */
  protected forgetRetained(): void {
    this.#retained.forget();
  }

  /** Tells listeners when there is more. */
  protected advanced({ position, shadow }: CopiedWal): void {
    const before = this.announced;
    this.#announced = { position, shadow };
    if (before?.generation === position.generation && comparePositions(before, position) === 0) return;
    if (before?.index !== position.index) this.#prune();
    for (const listener of this.#listeners) listener();
  }

  #prune(): void {
    const oldest = this.#retained.oldest(this.announced?.index ?? 0);
    if (oldest === undefined) return;
    this.shadow?.prune(oldest).catch((error: unknown) => this.pruningFailed(messageOf(error)));
  }

  isFirstGeneration(): boolean {
    return this.shadow?.isFirst ?? false;
  }

  isNewGeneration(generation: string): boolean {
    return this.shadow?.generation === generation && this.shadow.isNew;
  }

  originOf(generation: string): Origin | undefined {
    return this.shadow?.generation === generation ? this.shadow.origin : undefined;
  }

  indexEnd(index: number): number {
    return this.shadow?.endOf(index) ?? 0;
  }

  hasIndex(index: number): boolean {
    return this.shadow?.has(index) ?? false;
  }

  readShadow(index: number, start: number, end: number): Promise<Uint8Array> {
    return this.#present.read(index, start, end);
  }

  async commitTimes(index: number, start: number, end: number): Promise<readonly CommitTime[]> {
    return this.#present.commitTimes(index, start, end);
  }

  async contains(index: number, offset: number, checksum: WalChecksum): Promise<boolean> {
    return (await this.shadow?.contains(index, offset, checksum)) ?? false;
  }

  get #present(): ShadowWal {
    if (this.shadow) return this.shadow;
    throw new LitestreamError('not-found', `no shadow wal of ${this.path}`);
  }
}
