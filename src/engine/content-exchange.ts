/**
 * Exchanges the contents of a database file and of another file, as one transaction of SQLite: under its exclusive lock and
 * with a rollback journal beside it. The database keeps its inode, so whoever has opened the file, and whenever, sees
 * a commit; a crash at any moment leaves the old content, once SQLite has rolled back, or the new one.
 */

import { randomInt } from 'node:crypto';
import { constants } from 'node:fs';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { syncDirectory, syncFile } from '../base/durable-file.ts';
import { LitestreamError, assert, messageOf, systemCode, wrapError } from '../base/errors.ts';
import { DATABASE_HEADER_SIZE, parseDatabaseHeader } from '../sqlite/database-header.ts';
import {
  JOURNAL_HEADER_SIZE,
  encodeJournalHeader,
  journalRecordSize,
  lockPageNumber,
  writeJournalRecord,
} from '../sqlite/rollback-journal.ts';
import { writeFully } from './page-writer.ts';

const CHUNK_SIZE = 1 << 20;
/** As 'w+', but through no link: the folder may be somebody else's, who would have us write over any file. */
const JOURNAL_FLAGS = constants.O_RDWR | constants.O_CREAT | constants.O_TRUNC | constants.O_NOFOLLOW;
/** Offsets in the header: what tells connections that their caches of pages and of the schema are old. */
const CHANGE_COUNTER = 24;
const SCHEMA_COOKIE = 40;
/** The change counter for which the page count in the header holds. */
const VALID_FOR = 92;

export interface ExchangeOptions {
  /** The database file, whose exclusive lock this process holds. Its WAL is empty. */
  readonly database: FileHandle;
  /** Of the database. */
  readonly path: string;
  /** A whole database. It gets the old content, and `keptPath`. */
  readonly fresh: FileHandle;
  readonly freshPath: string;
  /** Nothing is there. */
  readonly keptPath: string;
  /** Gives the database its new owner and mode; called when its content is written, before that counts. */
  readonly giveAccess: () => Promise<void>;
}

export class ContentExchange {
  readonly #options: ExchangeOptions;
  readonly #nonce = randomInt(2 ** 32);
  readonly #journalPath: string;
  #journal: FileHandle | undefined;
  #pageSize = 0;
  #oldSize = 0;
  #newSize = 0;
  #recordCount = 0;
  /** A bit for each old page: the new content is another one. */
  #changed = new BitSet(0);

  constructor(options: ExchangeOptions) {
    this.#options = options;
    this.#journalPath = `${options.path}-journal`;
  }

  /**
   * It counts afterwards, and for good when the folder is synced. When it fails all is as it was, but for the other file.
   * @throws LitestreamError 'corrupt' when a content is no database, and what the file system gives
   */
  async run(): Promise<void> {
    try {
      await this.#measure();
      await this.#makeNews();
      await this.#writeJournal();
    } catch (error) {
      await this.#dropJournal();
      throw error;
    }
    try {
      await this.#writeNew();
      await this.#keepOld();
      await this.#options.giveAccess();
      await rm(this.#journalPath);
    } catch (error) {
      await this.#rollBack(error);
      throw error;
    }
    await this.#closeJournal();
  }

  async #measure(): Promise<void> {
    const { database, fresh } = this.#options;
    this.#oldSize = (await database.stat()).size;
    this.#newSize = (await fresh.stat()).size;
    const header = await readAt(this.#oldSize === 0 ? fresh : database, DATABASE_HEADER_SIZE, 0);
    this.#pageSize = parseDatabaseHeader(header).pageSizeBytes;
    this.#changed = new BitSet(this.#oldPageCount);
  }

  get #oldPageCount(): number {
    return Math.ceil(this.#oldSize / this.#pageSize);
  }

  /** Counters that neither content has had: pages and a schema that somebody remembers are not taken for the new ones. */
  async #makeNews(): Promise<void> {
    const { database, fresh } = this.#options;
    const old = await readAt(database, DATABASE_HEADER_SIZE, 0);
    const header = await readAt(fresh, DATABASE_HEADER_SIZE, 0);
    const next = (offset: number): number =>
      (Math.max(old.readUInt32BE(offset), header.readUInt32BE(offset)) + 1) >>> 0;
    const counter = next(CHANGE_COUNTER);
    const valid = header.readUInt32BE(VALID_FOR) === header.readUInt32BE(CHANGE_COUNTER);
    header.writeUInt32BE(next(SCHEMA_COOKIE), SCHEMA_COOKIE);
    header.writeUInt32BE(counter, CHANGE_COUNTER);
    header.writeUInt32BE(valid ? counter : (counter ^ 1) >>> 0, VALID_FOR);
    await writeFully(fresh, header, 0);
  }

  /** The old pages that will change. The header, which makes it count, comes last. */
  async #writeJournal(): Promise<void> {
    const { database, fresh } = this.#options;
    const size = this.#pageSize;
    const { mode, uid, gid } = await database.stat();
    const journal = await open(this.#journalPath, JOURNAL_FLAGS, mode & 0o777);
    this.#journal = journal;
    // Whoever may write the database must be able to roll it back.
    await journal.chown(uid, gid).catch(permitted);
    await journal.chmod(mode & 0o777);
    const recordSize = journalRecordSize(size);
    const records = Buffer.alloc(Math.ceil(CHUNK_SIZE / size) * recordSize);
    for (let at = 0; at < this.#oldSize; at += CHUNK_SIZE) {
      const [before, after] = await Promise.all([
        readAt(database, CHUNK_SIZE, at),
        readAt(fresh, CHUNK_SIZE, at),
      ]);
      let count = 0;
      for (let offset = 0; offset < CHUNK_SIZE && at + offset < this.#oldSize; offset += size) {
        const page = before.subarray(offset, offset + size);
        const number = (at + offset) / size + 1;
        if (!this.#differs(number, page, after.subarray(offset, offset + size))) continue;
        this.#changed.mark(number - 1);
        writeJournalRecord(records, count++ * recordSize, { number, page, nonce: this.#nonce });
      }
      await writeFully(journal, records.subarray(0, count * recordSize), this.#recordAt(this.#recordCount));
      this.#recordCount += count;
    }
    await syncFile(journal);
    const header = encodeJournalHeader({
      recordCount: this.#recordCount,
      nonce: this.#nonce,
      pageCount: this.#oldPageCount,
      pageSizeBytes: size,
    });
    await writeFully(journal, header, 0);
    await syncFile(journal);
    await syncDirectory(dirname(this.#journalPath));
  }

  #differs(number: number, before: Buffer, after: Buffer): boolean {
    if (number === lockPageNumber(this.#pageSize)) return false;
    return (number - 1) * this.#pageSize >= this.#newSize || !before.equals(after);
  }

  #recordAt(index: number): number {
    return JOURNAL_HEADER_SIZE + index * journalRecordSize(this.#pageSize);
  }

  async #writeNew(): Promise<void> {
    const { database, fresh } = this.#options;
    const size = this.#pageSize;
    for (let at = 0; at < this.#newSize; at += CHUNK_SIZE) {
      const end = Math.min(CHUNK_SIZE, this.#newSize - at);
      const after = await readAt(fresh, end, at);
      for (let from = 0, to = 0; from < end; from = to) {
        const write = this.#isWritten(at + from);
        do to = Math.min(to + size, end);
        while (to < end && this.#isWritten(at + to) === write);
        if (write) await writeFully(database, after.subarray(from, to), at + from);
      }
    }
    await database.truncate(this.#newSize);
    await syncFile(database);
  }

  /** Whether the page at `offset` of the new content is not in the database already. */
  #isWritten(offset: number): boolean {
    const index = Math.floor(offset / this.#pageSize);
    return index >= this.#oldPageCount || this.#changed.has(index);
  }

  /** Makes the other file the old database. */
  async #keepOld(): Promise<void> {
    const { database, fresh, freshPath, keptPath } = this.#options;
    const { mode, uid, gid } = await database.stat();
    await this.#copyBack(fresh);
    const given = await fresh.chown(uid, gid).then(() => true, permitted);
    await fresh.chmod(given === true ? mode & 0o777 : mode & 0o700);
    await syncFile(fresh);
    await rename(freshPath, keptPath);
    await syncDirectory(dirname(keptPath));
  }

  /** Writes the old pages over the new content of a file. */
  async #copyBack(file: FileHandle): Promise<void> {
    const journal = this.#journal;
    assert(journal !== undefined, 'there is a journal until it counts');
    const recordSize = journalRecordSize(this.#pageSize);
    const atOnce = Math.ceil(CHUNK_SIZE / this.#pageSize);
    for (let i = 0; i < this.#recordCount; i += atOnce) {
      const count = Math.min(atOnce, this.#recordCount - i);
      const records = await readAt(journal, count * recordSize, this.#recordAt(i));
      for (let at = 0; at < records.byteLength; at += recordSize) {
        const position = (records.readUInt32BE(at) - 1) * this.#pageSize;
        await writeFully(file, records.subarray(at + 4, at + 4 + this.#pageSize), position);
      }
    }
    await file.truncate(this.#oldSize);
  }

  /** What SQLite would do. Where that fails too, the journal stays, and SQLite does it when the database is opened. */
  async #rollBack(cause: unknown): Promise<void> {
    const { database, path, keptPath } = this.#options;
    try {
      await this.#copyBack(database);
      await syncFile(database);
      await rm(this.#journalPath, { force: true });
      await syncDirectory(dirname(this.#journalPath));
      await rm(keptPath, { force: true });
      await this.#closeJournal();
    } catch (error) {
      await this.#closeJournal();
      throw new LitestreamError(
        'io',
        `${messageOf(cause)}; and the old content of ${path} cannot be put back: ${messageOf(error)}; ` +
          `keep ${this.#journalPath} beside it: SQLite rolls back by it when the database is opened`,
        { cause },
      );
    }
  }

  async #dropJournal(): Promise<void> {
    if (this.#journal === undefined) return;
    await this.#closeJournal();
    await rm(this.#journalPath, { force: true });
  }

  async #closeJournal(): Promise<void> {
    await this.#journal?.close();
    this.#journal = undefined;
  }
}

class BitSet {
  readonly #bits: Uint8Array;

  constructor(size: number) {
    this.#bits = new Uint8Array(Math.ceil(size / 8));
  }

  mark(index: number): void {
    this.#bits[index >> 3] = (this.#bits[index >> 3] ?? 0) | (1 << (index & 7));
  }

  has(index: number): boolean {
    return ((this.#bits[index >> 3] ?? 0) & (1 << (index & 7))) !== 0;
  }
}

/** Reads as much; what is beyond the end is zeros. */
async function readAt(file: FileHandle, sizeBytes: number, position: number): Promise<Buffer> {
  const data = Buffer.alloc(sizeBytes);
  for (let at = 0; at < sizeBytes;) {
    const { bytesRead } = await file.read(data, at, sizeBytes - at, position + at);
    if (bytesRead === 0) break;
    at += bytesRead;
  }
  return data;
}

/** Only root may give files away. */
function permitted(error: unknown): undefined {
  if (systemCode(error) !== 'EPERM') throw wrapError(error, 'give a file to the owner of the database');
  return undefined;
}
