/**
 * A segment that repeats the end of the one before it, which v0.3.13 writes at times: what it repeats must be the same
 * chain, since only then does the rest of it continue what was applied.
 */

import { LitestreamError } from '../base/errors.ts';
import {
  WAL_HEADER_SIZE,
  type WalChecksum,
  type WalHeader,
  checksumsEqual,
  frameChecksum,
  parseWalHeader,
  readFrameHeader,
  walFrameSize,
} from '../sqlite/wal.ts';

export class WalOverlap {
  readonly #wal: WalHeader;
  /** Where the segment before ends, and the running checksum there. */
  readonly #end: { readonly offset: number; readonly checksum: WalChecksum };
  readonly #frameSize: number;
  #leftBytes: number;
  /** The segment begins with the header, which was not taken yet. */
  #headerLeft: boolean;
  /** Of the last repeated frame that was taken. */
  #checksum: WalChecksum | undefined;

  /**
   * @param end of what was applied, in the WAL of `wal`
   * @param start of the segment, before that
   * @throws LitestreamError 'corrupt' when it begins neither with the header nor with a frame
   */
  constructor(
    { wal, offset, checksum }: { wal: WalHeader; offset: number; checksum: WalChecksum },
    start: number,
  ) {
    this.#wal = wal;
    this.#end = { offset, checksum };
    this.#frameSize = walFrameSize(wal.pageSizeBytes);
    this.#leftBytes = offset - start;
    this.#headerLeft = start === 0;
    const first = start === 0 ? WAL_HEADER_SIZE : start;
    if (first < WAL_HEADER_SIZE || (offset - first) % this.#frameSize !== 0) throw this.#refusal();
  }

  /** Repeated bytes that were not taken yet. */
  get leftBytes(): number {
    return this.#leftBytes;
  }

  /**
   * Takes the repeated header and whole repeated frames from the start of `data`; gives how many bytes they are.
   * @throws LitestreamError 'corrupt' when they are not the frames of the chain
   */
  take(data: Uint8Array): number {
    let at = this.#takeHeader(data);
    if (this.#headerLeft) return at;
    for (; this.#leftBytes > 0 && at + this.#frameSize <= data.byteLength; at += this.#frameSize) {
      const frame = readFrameHeader(data, at);
      const ofThisWal = frame.salt1 === this.#wal.salt1 && frame.salt2 === this.#wal.salt2;
      // The first one has to be believed what it continues: the checksum at the end proves it.
      const expected = this.#checksum && frameChecksum(this.#wal, data, at, this.#checksum);
      if (!ofThisWal || (expected && !checksumsEqual(expected, frame.checksum))) throw this.#refusal();
      this.#checksum = frame.checksum;
      this.#leftBytes -= this.#frameSize;
    }
    if (this.#leftBytes === 0 && this.#checksum && !checksumsEqual(this.#checksum, this.#end.checksum)) {
      throw this.#refusal();
    }
    return at;
  }

  /** Where it is repeated, the header proves the first frame. */
  #takeHeader(data: Uint8Array): number {
    if (!this.#headerLeft || data.byteLength < WAL_HEADER_SIZE) return 0;
    const { checksum } = parseWalHeader(data);
    if (!checksumsEqual(checksum, this.#wal.checksum)) throw this.#refusal();
    this.#checksum = checksum;
    this.#headerLeft = false;
    this.#leftBytes -= WAL_HEADER_SIZE;
    return WAL_HEADER_SIZE;
  }

  /** Ends the segment. @throws LitestreamError 'corrupt' when it ended before the one before it: nothing proves it */
  end(): void {
    if (this.#leftBytes > 0) throw this.#refusal();
  }

  #refusal(): LitestreamError {
    return new LitestreamError(
      'corrupt',
      `segment overlaps the one before it, which ends at offset ${this.#end.offset}, with other content`,
    );
  }
}
