/**
 * Rollback journals, as SQLite makes them (https://www.sqlite.org/fileformat2.html, section 3): what stood in the pages
 * that are being changed. Whoever opens a database beside whose file a journal with a valid header stands, and whose
 * writer has gone, puts these pages back first.
 */

/** The header fills one sector: records begin after it. */
export const JOURNAL_HEADER_SIZE = 512;
const MAGIC = Buffer.from('d9d505f920a163d7', 'hex');
/** Of the byte that SQLite's locks are on. */
const LOCK_BYTE = 0x4000_0000;
/** A record's checksum adds every so many bytes of the page, counted from its end. */
const CHECKSUM_STEP = 200;

export interface JournalHeader {
  readonly recordCount: number;
  /** A random number that the checksums begin with. */
  readonly nonce: number;
  /** Of the database before the change: it is cut to that. */
  readonly pageCount: number;
  readonly pageSizeBytes: number;
}

export function encodeJournalHeader(header: JournalHeader): Buffer {
  const data = Buffer.alloc(JOURNAL_HEADER_SIZE);
  MAGIC.copy(data);
  const { recordCount, nonce, pageCount, pageSizeBytes } = header;
  [recordCount, nonce, pageCount, JOURNAL_HEADER_SIZE, pageSizeBytes].forEach((value, i) =>
    data.writeUInt32BE(value, MAGIC.byteLength + 4 * i),
  );
  return data;
}

/** Page number, page, checksum. */
export function journalRecordSize(pageSizeBytes: number): number {
  return pageSizeBytes + 8;
}

/** @param target gets the record at `offset` */
export function writeJournalRecord(
  target: Buffer,
  offset: number,
  { number, page, nonce }: { readonly number: number; readonly page: Uint8Array; readonly nonce: number },
): void {
  let checksum = nonce;
  for (let i = page.byteLength - CHECKSUM_STEP; i > 0; i -= CHECKSUM_STEP) checksum += page[i] ?? 0;
  target.writeUInt32BE(number, offset);
  target.set(page, offset + 4);
  target.writeUInt32BE(checksum >>> 0, offset + 4 + page.byteLength);
}

/** The number of the page that holds nothing, as locks are taken on it; a journal ends at a record of it. */
export function lockPageNumber(pageSizeBytes: number): number {
  return LOCK_BYTE / pageSizeBytes + 1;
}
