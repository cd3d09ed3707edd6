/**
 * Writes page images into a database file, the last image of a page winning: images are gathered in memory, where a
 * page that changes a hundred times costs one write, and go to the file in runs of neighbours.
 */

import { writeSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';
import { LitestreamError } from '../base/errors.ts';
import { DATABASE_HEADER_SIZE, parseDatabaseHeader } from '../sqlite/database-header.ts';
import { requireWithin } from './restore-room.ts';

/** Page images that are gathered before they are written. */
const BUFFER_SIZE = 64 << 20;
const SLAB_SIZE = 4 << 20;
/** Neighbouring pages are written together, up to this much. */
const RUN_SIZE = 1 << 20;
/** Shorter writes cost less than the way through the thread pool. */
const SYNC_WRITE_LIMIT = 64 << 10;
/** The event loop gets a turn after this many bytes of short writes. */
const SYNC_TURN_SIZE = 1 << 20;

/** Where the pages of a chain go. */
export type PageSink = Pick<PageWriter, 'pageSizeBytes' | 'put' | 'full' | 'cut' | 'flush'>;

export class PageWriter {
  readonly pageSizeBytes: number;
  readonly #file: FileHandle;
  readonly #slabs: Buffer[] = [];
  readonly #run: Buffer;
  /** Where the gathered image of a page stands. */
  readonly #slots = new Map<number, number>();
  #slotCount = 0;
  /** No gathered page has a higher number. */
  #largestPage = 0;
  readonly #limitBytes: number;
  #fileSizeBytes: number;
  /** The smallest size of the database, in pages, since the last flush: the file must not keep pages beyond it. */
  #smallestPageCount = Infinity;
  /** Size of the database, in pages, by the last cut. */
  #pageCount: number | undefined;

  /**
   * @param file open for writing, holding the snapshot
   * @param size its present size, and what it may have: more is refused with 'disk-full'
   */
  constructor(
    file: FileHandle,
    size: { readonly sizeBytes: number; readonly pageSizeBytes: number; readonly limitBytes?: number },
  ) {
    const { sizeBytes, pageSizeBytes, limitBytes = Infinity } = size;
    this.#file = file;
    this.#fileSizeBytes = sizeBytes;
    this.#limitBytes = limitBytes;
    this.pageSizeBytes = pageSizeBytes;
    this.#run = Buffer.allocUnsafeSlow(Math.max(RUN_SIZE, pageSizeBytes));
  }

  /** Gathers the image of a page, numbered from 1, that stands at byte `at` of `data`. The bytes are copied. */
  put(pageNumber: number, data: Uint8Array, at: number): void {
    let slot = this.#slots.get(pageNumber);
    if (slot === undefined) {
      slot = this.#slotCount++;
      this.#slots.set(pageNumber, slot);
      this.#largestPage = Math.max(this.#largestPage, pageNumber);
    }
    const [slab, offset] = this.#place(slot);
    slab.set(data.subarray(at, at + this.pageSizeBytes), offset);
  }

  /** Whether flush() is due. */
  get full(): boolean {
    return this.#slotCount * this.pageSizeBytes >= BUFFER_SIZE;
  }

  /** Makes the database exactly `pageCount` pages long, as a checkpoint does: pages beyond are gone for good. */
  cut(pageCount: number): void {
    this.#pageCount = pageCount;
    this.#smallestPageCount = Math.min(this.#smallestPageCount, pageCount);
    if (this.#largestPage <= pageCount) return;
    this.#largestPage = pageCount;
    for (const pageNumber of this.#slots.keys()) {
      if (pageNumber > pageCount) this.#slots.delete(pageNumber);
    }
  }

  /** Writes what was gathered. @throws LitestreamError 'disk-full' beyond the limit, and what the file system gives */
  async flush(): Promise<void> {
    const cutSizeBytes = this.#smallestPageCount * this.pageSizeBytes;
    if (cutSizeBytes < this.#fileSizeBytes) await this.#resize(cutSizeBytes);
    const pageNumbers = Uint32Array.from(this.#slots.keys()).sort();
    const runPages = this.#run.byteLength / this.pageSizeBytes;
    let sinceTurn = 0;
    for (let first = 0; first < pageNumbers.length;) {
      const count = this.#gatherRun(pageNumbers, first, runPages);
      const sizeBytes = count * this.pageSizeBytes;
      sinceTurn += await this.#writeRun(sizeBytes, ((pageNumbers[first] ?? 1) - 1) * this.pageSizeBytes);
      first += count;
      if (sinceTurn < SYNC_TURN_SIZE) continue;
      sinceTurn = 0;
      await setImmediate();
    }
    this.#slots.clear();
    this.#slotCount = 0;
    this.#largestPage = 0;
    this.#smallestPageCount = Infinity;
  }

  /**
   * Writes what was gathered and gives the file, which is open for reading too, the size of the last cut().
   * @throws LitestreamError 'corrupt' when that is a size which the pages do not have
   */
  async finish(): Promise<void> {
    await this.flush();
    if (this.#pageCount === undefined) return;
    const sizeBytes = this.#pageCount * this.pageSizeBytes;
    // The page of the lock byte is written by nobody.
    if (sizeBytes > this.#fileSizeBytes + this.pageSizeBytes) await this.#checkGrowth(this.#pageCount);
    if (sizeBytes !== this.#fileSizeBytes) await this.#resize(sizeBytes);
  }

  /** Pages that nobody has written are part of a database only if it says itself that it has so many. */
  async #checkGrowth(pageCount: number): Promise<void> {
    const head = Buffer.alloc(DATABASE_HEADER_SIZE);
    await this.#file.read(head, 0, head.byteLength, 0);
    const said = parseDatabaseHeader(head).pageCount;
    if (said === pageCount) return;
    throw new LitestreamError(
      'corrupt',
      `the last commit says that the database has ${pageCount} pages, and the database that it has ${said}`,
    );
  }

  /** Size of the file as written so far. */
  get fileSizeBytes(): number {
    return this.#fileSizeBytes;
  }

  #place(slot: number): [slab: Buffer, offset: number] {
    const perSlab = SLAB_SIZE / this.pageSizeBytes;
    const number = Math.floor(slot / perSlab);
    const slab = (this.#slabs[number] ??= Buffer.allocUnsafeSlow(SLAB_SIZE));
    return [slab, (slot % perSlab) * this.pageSizeBytes];
  }

  /** Copies the run of neighbours that begins with page `pageNumbers[first]`; gives its length in pages. */
  #gatherRun(pageNumbers: Uint32Array, first: number, limit: number): number {
    const start = pageNumbers[first] ?? 0;
    let count = 0;
    for (; count < limit && pageNumbers[first + count] === start + count; count++) {
      const [slab, offset] = this.#place(this.#slots.get(start + count) ?? 0);
      this.#run.set(slab.subarray(offset, offset + this.pageSizeBytes), count * this.pageSizeBytes);
    }
    return count;
  }

  /** Gives the bytes that were written without a turn of the event loop. */
  async #writeRun(sizeBytes: number, position: number): Promise<number> {
    requireWithin(position + sizeBytes, this.#limitBytes);
    this.#fileSizeBytes = Math.max(this.#fileSizeBytes, position + sizeBytes);
    let written = 0;
    if (sizeBytes <= SYNC_WRITE_LIMIT) {
      while (written < sizeBytes) {
        written += writeSync(this.#file.fd, this.#run, written, sizeBytes - written, position + written);
      }
      return sizeBytes;
    }
    await writeFully(this.#file, this.#run.subarray(0, sizeBytes), position);
    return 0;
  }

  async #resize(sizeBytes: number): Promise<void> {
    await this.#file.truncate(sizeBytes);
    this.#fileSizeBytes = sizeBytes;
  }
}

/** Writes all of `data` at `position`: a write may be short. */
export async function writeFully(file: FileHandle, data: Uint8Array, position: number): Promise<void> {
  for (let at = 0; at < data.byteLength;) {
    const { bytesWritten } = await file.write(data, at, data.byteLength - at, position + at);
    at += bytesWritten;
  }
}
