/** The database file held still by a read mark of its own while a snapshot of it is read. */

import { LitestreamError, assert } from '../base/errors.ts';
import type { Position } from '../format/position.ts';
import type { ReadConnection } from '../sqlite/connection.ts';
import type { WalChecksum } from '../sqlite/wal.ts';
import type { DatabaseFiles } from './database-files.ts';
import type { SnapshotHold } from './segment-source.ts';

const CHUNK_SIZE = 4 << 20;

export interface HoldState extends Pick<SnapshotHold, 'position' | 'checksum' | 'timeMs'> {
  readonly pageSizeBytes: number;
}

export class DatabaseHold implements SnapshotHold {
  readonly position: Position;
  readonly checksum: WalChecksum;
  readonly timeMs: number;
  readonly sizeBytes: number;
  readonly #files: DatabaseFiles;
  readonly #onRelease: (hold: DatabaseHold) => void;
  #reader: ReadConnection | undefined;
  /** The read that is under way: descriptors must not be closed before it ends. */
  #reading: Promise<unknown> = Promise.resolve();

  /** @param reader inside the read transaction that holds the file; the hold owns it */
  constructor(
    files: DatabaseFiles,
    reader: ReadConnection,
    at: HoldState,
    onRelease: (hold: DatabaseHold) => void,
  ) {
    assert(reader.reading, 'a hold needs a read transaction');
    this.#files = files;
    this.#reader = reader;
    this.#onRelease = onRelease;
    this.position = at.position;
    this.checksum = at.checksum;
    this.timeMs = at.timeMs;
    const { size } = files.stat();
    this.sizeBytes = size - (size % at.pageSizeBytes);
  }

  async *read(options?: { signal?: AbortSignal | undefined }): AsyncGenerator<Uint8Array> {
    const buffer = new Uint8Array(CHUNK_SIZE);
    for (let position = 0; position < this.sizeBytes;) {
      if (options?.signal?.aborted === true) throw new LitestreamError('aborted', 'snapshot aborted');
      if (!this.#reader)
        throw new LitestreamError('aborted', 'the database was closed while a snapshot was taken');
      const chunk = buffer.subarray(0, Math.min(CHUNK_SIZE, this.sizeBytes - position));
      const reading = this.#files.readDatabase(chunk, position);
      this.#reading = reading.catch(() => undefined);
      const count = await reading;
      // The file may shrink under the mark (VACUUM, then a checkpoint): the WAL up to the mark repairs that.
      if (count === 0) chunk.fill(0);
      const part = count === 0 ? chunk : chunk.subarray(0, count);
      yield part;
      position += part.byteLength;
    }
  }

  async release(): Promise<void> {
    const reader = this.#reader;
    if (!reader) return;
    this.#reader = undefined;
    await this.#reading;
    reader.end();
    reader.close();
    this.#onRelease(this);
  }
}
