/** The database file held still while a snapshot of it is read. */

import { LitestreamError } from '../base/errors.ts';
import type { Position } from '../format/position.ts';
import type { WalChecksum } from '../sqlite/wal.ts';
import type { DatabaseFiles } from './database-files.ts';
import type { SnapshotHold } from './segment-source.ts';

const CHUNK_SIZE = 4 << 20;

export interface HoldState extends Pick<SnapshotHold, 'position' | 'checksum' | 'timeMs'> {
  readonly pageSizeBytes: number;
}

/** What holds the file still. */
export interface FileGuard {
  /** Called when everything is read. @throws LitestreamError when the file was changed after all */
  verify(): void;
  release(): void;
}

export class DatabaseHold implements SnapshotHold {
  readonly position: Position;
  readonly checksum: WalChecksum;
  readonly timeMs: number;
  readonly sizeBytes: number;
  readonly #files: DatabaseFiles;
  readonly #onRelease: (hold: DatabaseHold) => void;
  #guard: FileGuard | undefined;
  /** The read that is under way: descriptors must not be closed before it ends. */
  #reading: Promise<unknown> = Promise.resolve();

  /** @param guard in force already; the hold owns it */
  constructor(
    files: DatabaseFiles,
    guard: FileGuard,
    at: HoldState,
    onRelease: (hold: DatabaseHold) => void,
  ) {
    this.#files = files;
    this.#guard = guard;
    this.#onRelease = onRelease;
    this.position = at.position;
    this.checksum = at.checksum;
    this.timeMs = at.timeMs;
    const { size } = files.stat();
    // A last page that is cut has zeros behind its end, as SQLite reads it.
    this.sizeBytes = Math.ceil(size / at.pageSizeBytes) * at.pageSizeBytes;
  }

  async *read(options?: { signal?: AbortSignal | undefined }): AsyncGenerator<Uint8Array> {
    const buffer = new Uint8Array(CHUNK_SIZE);
    for (let position = 0; position < this.sizeBytes;) {
      if (options?.signal?.aborted === true) throw new LitestreamError('aborted', 'snapshot aborted');
      this.#requireGuard();
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
    this.#requireGuard().verify();
  }

  #requireGuard(): FileGuard {
    if (this.#guard) return this.#guard;
    throw new LitestreamError('aborted', 'the database was closed while a snapshot was taken');
  }

  async release(): Promise<void> {
    const guard = this.#guard;
    if (!guard) return;
    this.#guard = undefined;
    await this.#reading;
    guard.release();
    this.#onRelease(this);
  }
}
