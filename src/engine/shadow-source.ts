/** What replicas read of the shadow WAL, be the database open or not. */

import { LitestreamError } from '../base/errors.ts';
import type { CommitTime } from '../format/object-trailer.ts';
import type { WalChecksum } from '../sqlite/wal.ts';
import type { SegmentSource } from './segment-source.ts';
import type { ShadowWal } from './shadow-wal.ts';

export abstract class ShadowSource implements Pick<
  SegmentSource,
  | 'isFirstGeneration'
  | 'isNewGeneration'
  | 'indexEnd'
  | 'hasIndex'
  | 'commitTimes'
  | 'readShadow'
  | 'contains'
> {
  abstract readonly path: string;
  /** The present one, or the last one while the database is not open. */
  protected abstract readonly shadow: ShadowWal | undefined;

  isFirstGeneration(): boolean {
    return this.shadow?.isFirst ?? false;
  }

  isNewGeneration(generation: string): boolean {
    return this.shadow?.generation === generation && this.shadow.isNew;
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
