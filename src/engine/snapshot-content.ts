/** What a snapshot holds, looked at while it is decompressed: a small object may hold more than any disk. */

import { LitestreamError } from '../base/errors.ts';
import type { Lz4End } from '../format/lz4-frame.ts';
import type { SnapshotTrailer } from '../format/object-trailer.ts';
import { DATABASE_HEADER_SIZE, parseDatabaseHeader } from '../sqlite/database-header.ts';
import type { SnapshotInfo } from './catalog.ts';
import type { Content } from './restore-content.ts';
import { snapshotTrailerOf, trailerOf } from './trailer-reader.ts';

/** A snapshot that was read to its end. */
export interface SnapshotContent {
  readonly sizeBytes: number;
  readonly pageSizeBytes: number;
  /** Undefined for one of v0.3.13's. */
  readonly trailer: SnapshotTrailer | undefined;
}

/**
 * Reads a snapshot to its end.
 * @param take is given the bytes in order, with their offset, once the first of them are known to begin a database
 * @throws LitestreamError 'corrupt' when it is not a database file of whole pages, or not what it says of itself; and what
 * the chunks and `take` throw
 */
export async function readSnapshot(
  { object, chunks, end }: Content<SnapshotInfo>,
  take: (chunk: Uint8Array, at: number) => Promise<void> | undefined,
): Promise<SnapshotContent> {
  let head: Uint8Array = new Uint8Array(0);
  let pageSizeBytes: number | undefined;
  let sizeBytes = 0;
  for await (const chunk of chunks) {
    const data = head.byteLength === 0 ? chunk : Buffer.concat([head, chunk]);
    if (pageSizeBytes === undefined && data.byteLength < DATABASE_HEADER_SIZE) {
      head = Uint8Array.from(data);
      continue;
    }
    head = new Uint8Array(0);
    pageSizeBytes ??= parseDatabaseHeader(data).pageSizeBytes;
    await take(data, sizeBytes);
    sizeBytes += data.byteLength;
  }
  pageSizeBytes ??= parseDatabaseHeader(head).pageSizeBytes;
  const trailer = checkSnapshot(object, end(), { sizeBytes, pageSizeBytes });
  return { sizeBytes, pageSizeBytes, trailer };
}

/**
 * Compares a snapshot with what it says of itself, if it does.
 * @throws LitestreamError 'corrupt'
 */
function checkSnapshot(
  snapshot: SnapshotInfo,
  end: Lz4End,
  { sizeBytes, pageSizeBytes }: Pick<SnapshotContent, 'sizeBytes' | 'pageSizeBytes'>,
): SnapshotTrailer | undefined {
  if (sizeBytes % pageSizeBytes !== 0) {
    throw new LitestreamError(
      'corrupt',
      `the database file ends inside a page: ${sizeBytes} bytes in pages of ${pageSizeBytes}`,
    );
  }
  const trailer = snapshotTrailerOf(snapshot, trailerOf(end));
  if (trailer === undefined) return undefined;
  const same =
    trailer.sizeBytes === sizeBytes &&
    trailer.pageSizeBytes === pageSizeBytes &&
    trailer.contentChecksum === end.contentChecksum;
  if (!same) throw new LitestreamError('corrupt', 'the trailer is that of another database file');
  return trailer;
}
