/** The first 100 bytes of a database file (https://www.sqlite.org/fileformat2.html, section 1.3). */

import { LitestreamError } from '../base/errors.ts';

export const DATABASE_HEADER_SIZE = 100;
const MAGIC = 'SQLite format 3\0';

export interface DatabaseHeader {
  readonly pageSizeBytes: number;
  /** "File format read version" (offset 19) is 2: the database is in WAL mode. */
  readonly walMode: boolean;
  /** "In-header database size" (offset 28); 0 or stale when written by SQLite before 3.7.0. */
  readonly pageCount: number;
  /** Bytes at the end of each page that SQLite leaves alone: not 0 with encryption or checksum extensions. */
  readonly reservedBytes: number;
  /** "SQLITE_VERSION_NUMBER" (offset 96) of the library that wrote last, such as 3045001; 0 before 3.7.0. */
  readonly writerVersion: number;
}

/** A power of two from 512 to 65536. */
export function isPageSize(value: number): boolean {
  return value >= 512 && value <= 65536 && (value & (value - 1)) === 0;
}

/**
 * Parses a database header.
 * @param data at least 100 bytes
 * @throws LitestreamError 'corrupt' when it is not the start of a SQLite database
 */
export function parseDatabaseHeader(data: Uint8Array): DatabaseHeader {
  if (data.byteLength < DATABASE_HEADER_SIZE) {
    throw new LitestreamError(
      'corrupt',
      `file is ${data.byteLength} bytes long: too short for a SQLite database`,
    );
  }
  if (Buffer.from(data.buffer, data.byteOffset, MAGIC.length).toString('latin1') !== MAGIC) {
    throw new LitestreamError('corrupt', 'file is not a SQLite database');
  }
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  // 65536 does not fit in the two bytes and is stored as 1.
  const stored = view.getUint16(16);
  const pageSizeBytes = stored === 1 ? 65536 : stored;
  if (!isPageSize(pageSizeBytes))
    throw new LitestreamError('corrupt', `database header has the page size ${stored}`);
  return {
    pageSizeBytes,
    walMode: data[19] === 2,
    pageCount: view.getUint32(28),
    reservedBytes: view.getUint8(20),
    writerVersion: view.getUint32(96),
  };
}
