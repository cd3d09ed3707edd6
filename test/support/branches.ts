/** WALs made by hand that part from each other, and a replica folder with whatever segments of them a test wants. */

import { mkdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { encodeLz4FrameBytes } from '../../src/format/lz4-frame.ts';
import { segmentKey, snapshotKey } from '../../src/format/names.ts';
import { type ChainEnd, type CommitTime, encodeTrailer } from '../../src/format/object-trailer.ts';
import {
  WAL_HEADER_SIZE,
  type WalChecksum,
  type WalHeader,
  encodeFrame,
  encodeWalHeader,
  parseWalHeader,
  walFrameSize,
} from '../../src/sqlite/wal.ts';

export const PAGE_SIZE = 512;
export const FRAME_SIZE: number = walFrameSize(PAGE_SIZE);

/** One WAL of one history. */
export interface Commit {
  readonly end: number;
  readonly checksum: WalChecksum;
  readonly timeMs: number;
}

/** What one process sees committed: a database of some pages, and the WALs that it goes through. */
export class Branch {
  /** The database, as a checkpoint of everything would leave it. */
  #image: Buffer;
  readonly #random: () => number;
  /** Of the present WAL. */
  #wal: WalHeader;
  #data: Buffer;
  #commits: Commit[] = [];
  #images: Buffer[];
  index: number;
  /** End of the index before. */
  #closed: ChainEnd | undefined;

  /** @param random gives numbers in [0, 1) */
  constructor(image: Buffer, random: () => number, index = 0) {
    this.#image = image;
    this.#random = random;
    this.index = index;
    [this.#wal, this.#data] = this.#header();
    this.#images = [image];
  }

  #header(): [WalHeader, Buffer] {
    const word = (): number => Math.floor(this.#random() * 2 ** 32);
    const header = { bigEndianChecksum: false, pageSizeBytes: PAGE_SIZE, sequence: this.index };
    const data = Buffer.from(encodeWalHeader({ ...header, salt1: word(), salt2: word() }));
    return [parseWalHeader(data), data];
  }

  /** The same history so far. */
  fork(): Branch {
    const copy = new Branch(this.#image, this.#random, this.index);
    copy.#wal = this.#wal;
    copy.#data = this.#data;
    copy.#commits = [...this.#commits];
    copy.#images = [...this.#images];
    copy.#closed = this.#closed;
    return copy;
  }

  /** Commits as many random pages. @returns where it ends */
  commit(frameCount: number, timeMs: number): number {
    const image = Buffer.from(this.#image);
    const frames: Uint8Array[] = [this.#data];
    let checksum = this.#commits.at(-1)?.checksum ?? this.#wal.checksum;
    const pageCount = image.byteLength / PAGE_SIZE;
    for (let i = 1; i <= frameCount; i++) {
      const page = Buffer.from(Array.from({ length: PAGE_SIZE }, () => Math.floor(this.#random() * 256)));
      const pageNumber = 2 + Math.floor(this.#random() * (pageCount - 1));
      const commitPageCount = i === frameCount ? pageCount : 0;
      const frame = encodeFrame(this.#wal, { pageNumber, commitPageCount }, page, checksum);
      page.copy(image, (pageNumber - 1) * PAGE_SIZE);
      frames.push(frame);
      const view = new DataView(frame.buffer, frame.byteOffset);
      checksum = [view.getUint32(16), view.getUint32(20)];
    }
    this.#data = Buffer.concat(frames);
    this.#image = image;
    this.#commits.push({ end: this.#data.byteLength, checksum, timeMs });
    this.#images.push(image);
    return this.#data.byteLength;
  }

  /** Starts the WAL over. */
  rotate(): void {
    this.#closed = { index: this.index, ...this.#place(this.end) };
    this.index++;
    [this.#wal, this.#data] = this.#header();
    this.#commits = [];
    this.#images = [this.#image];
  }

  get end(): number {
    return this.#data.byteLength;
  }

  /** Of the commits of the present WAL. */
  get ends(): readonly number[] {
    return this.#commits.map(({ end }) => end);
  }

  /** The database after the commit that ends at `offset`, or the last one before that. */
  imageAt(offset: number = this.end): Buffer {
    const count = this.#commits.filter(({ end }) => end <= offset).length;
    return this.#images[count]!;
  }

  #place(offset: number): { offset: number; checksum: WalChecksum } {
    const commit = this.#commits.find(({ end }) => end === offset);
    return { offset, checksum: commit?.checksum ?? this.#wal.checksum };
  }

  /** A segment of the present WAL, between two ends of commits. */
  segment(start: number, end: number): Segment {
    const commits: CommitTime[] = this.#commits
      .filter((commit) => commit.end > start && commit.end <= end)
      .map(({ end: offset, timeMs }) => ({ offset, timeMs }));
    const previous = start === 0 ? this.#closed : { index: this.index, ...this.#place(start) };
    return {
      index: this.index,
      start,
      end,
      data: this.#data.subarray(start, end),
      trailer: { pageSizeBytes: PAGE_SIZE, checksum: this.#place(end).checksum, previous, commits },
    };
  }

  /** A snapshot of the present state, at the end of what is committed. */
  get snapshot(): { index: number; image: Buffer; place: { offset: number; checksum: WalChecksum } } {
    const place = this.#commits.length > 0 ? this.#place(this.end) : undefined;
    return { index: this.index, image: this.#image, place: place ?? { offset: 0, checksum: [0, 0] } };
  }
}

export interface Segment {
  readonly index: number;
  readonly start: number;
  readonly end: number;
  readonly data: Buffer;
  readonly trailer: {
    readonly pageSizeBytes: number;
    readonly checksum: WalChecksum;
    readonly previous: ChainEnd | undefined;
    readonly commits: readonly CommitTime[];
  };
}

/** An image with a valid header, whose other pages are for the frames of a branch. */
export function emptyImage(pageCount: number): Buffer {
  const image = Buffer.alloc(pageCount * PAGE_SIZE);
  image.write('SQLite format 3\0', 0, 'latin1');
  image.writeUInt16BE(PAGE_SIZE, 16);
  image.set([2, 2, 0, 64, 32, 32], 18);
  image.writeUInt32BE(pageCount, 28);
  return image;
}

/** One generation in a folder. */
export class ReplicaFolder {
  readonly path: string;
  readonly generation: string;

  constructor(path: string, generation = '00000000000000aa') {
    this.path = path;
    this.generation = generation;
  }

  /** @param bare as v0.3.13 writes it @param change of the stored bytes @param storedMs by the store's clock */
  put(
    { index, start, end, data, trailer }: Segment,
    {
      bare = false,
      change = (stored) => stored,
      storedMs,
    }: { bare?: boolean; change?: (stored: Buffer) => Buffer; storedMs?: number } = {},
  ): string {
    const key = segmentKey(this.generation, index, start);
    const said = encodeTrailer({
      kind: 'segment',
      generation: this.generation,
      index,
      start,
      end,
      ...trailer,
    });
    const options = bare ? {} : { contentSizeBytes: data.byteLength, trailer: () => said };
    this.#write(key, change(Buffer.from(encodeLz4FrameBytes(data, options))), storedMs);
    return key;
  }

  putSnapshot({ index, image, place }: Branch['snapshot'], storedMs?: number, timeMs = 1): string {
    const key = snapshotKey(this.generation, index);
    const trailer = (contentChecksum: number): Uint8Array =>
      encodeTrailer({
        kind: 'snapshot',
        generation: this.generation,
        pageSizeBytes: PAGE_SIZE,
        index,
        ...place,
        timeMs,
        sizeBytes: image.byteLength,
        contentChecksum,
      });
    this.#write(key, encodeLz4FrameBytes(image, { contentSizeBytes: image.byteLength, trailer }), storedMs);
    return key;
  }

  #write(key: string, stored: Uint8Array, storedMs: number | undefined): void {
    const path = join(this.path, key);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, stored);
    if (storedMs !== undefined) utimesSync(path, storedMs / 1000, storedMs / 1000);
  }

  remove(key: string): void {
    rmSync(join(this.path, key));
  }

  clear(): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

export { WAL_HEADER_SIZE };
