/**
 * Whether the database file is written by checkpoints alone. Everything that SQLite writes to it while we have it open
 * is a checkpoint, and shows in the wal-index: the frames that are to be copied are noted there before the first page is
 * written, those that are copied after the last. Whoever writes to it by other means (`cp`, `cat >`, `rsync --inplace`,
 * a block device that is put back) makes another database of it, of which our generation knows nothing.
 *
 * Three signs. The file's size or time changed and the wal-index tells of no checkpoint; or it does, and the file does not hold
 * what the last commit wrote although it must: both are certain at once. Or it does not begin with a first page that any
 * commit has made, which must be seen twice. Whoever puts an older copy in place while a checkpoint is under way that goes
 * on after it is not found.
 */

import { sleep } from '../base/concurrency.ts';
import { checksumsEqual, readFrameHeader, walFrameSize, type WalFrameHeader } from '../sqlite/wal.ts';
import type { WalIndexHeader } from '../sqlite/wal-index.ts';

/** What the first page says of its commit, from byte 24 on: change counter, size in pages, freelist, schema cookie. */
const KEY_START = 24;
const KEY_END = 44;
/** First pages that are remembered; of more than this within one checkpoint none is. */
const MAX_PAGES = 4096;
/** Size and time of a file that somebody writes to do not change any more for so long when he is done. */
const SETTLED_MS = 100;
const SETTLE_ATTEMPTS = 50;

/** What of a file shows that it was written to. */
export interface FileTimes {
  readonly sizeBytes: bigint;
  readonly modifiedNs: bigint;
}

/** The database file and its wal-index, as MainFile looks at them. */
export interface MainFileView {
  times(): FileTimes;
  /** Its first bytes, at least 100 of them; fewer when it is shorter. */
  start(): Uint8Array;
  /** A page, by its number from 1; shorter where the file ends. @param sizeBytes of each page */
  page(number: number, sizeBytes: number): Uint8Array;
  readWalIndex(): WalIndexHeader | undefined;
}

/** The last page that the last commit wrote: no frame of its WAL has a newer one. */
interface LastPage {
  readonly number: number;
  readonly content: Uint8Array;
  /** Of the frame that it was in. */
  readonly frame: Pick<WalFrameHeader, 'salt1' | 'salt2' | 'checksum'>;
}

type Sign = 'changed without a checkpoint' | 'without the last commit' | 'not what a checkpoint leaves';

export type MainFileState =
  /** Only checkpoints have written to it. */
  | { readonly kind: 'same' }
  /** It may have been changed, or is just being changed: nothing may be done with it until it is known. */
  | { readonly kind: 'unclear' }
  | { readonly kind: 'rewritten'; readonly reason: string };

export class MainFile {
  readonly #view: MainFileView;
  #times: FileTimes;
  /** As it was just before #times. */
  #walIndex: WalIndexHeader | undefined;
  /** Of the first pages that may be in the file, oldest first; undefined: not all are known. */
  #pages: string[] | undefined;
  /** Of what was noted last, if that was the end of the WAL. */
  #lastPage: LastPage | undefined;
  #suspect:
    { readonly sign: Sign; readonly times: FileTimes; readonly key: string; atMs: number } | undefined;

  /**
   * To be made while a read mark is held, before the first frame is copied.
   * @param wholeWal all frames of the present WAL will be noted
   */
  constructor(view: MainFileView, wholeWal: boolean) {
    this.#view = view;
    this.#walIndex = view.readWalIndex();
    this.#times = view.times();
    this.#pages = wholeWal ? [keyOf(view.start())] : undefined;
  }

  /**
   * Takes note of frames that are committed. @param data whole frames, at least one
   * @param walIndex that says they are
   */
  note(pageSizeBytes: number, data: Uint8Array, walIndex: WalIndexHeader): void {
    this.#lastPage = lastPageOf(pageSizeBytes, data, walIndex);
    if (!this.#pages) return;
    for (const key of firstPageKeys(pageSizeBytes, data)) this.#pages.push(key);
    if (this.#pages.length > MAX_PAGES) this.#pages = undefined;
  }

  /** Looks at the file: one fstat(), and after a change some small reads. @throws LitestreamError 'io' */
  look(): MainFileState {
    const before = this.#view.readWalIndex();
    const times = this.#view.times();
    if (!this.#suspect && isSame(times, this.#times)) {
      this.#walIndex = before;
      return { kind: 'same' };
    }
    const key = keyOf(this.#view.start());
    const last = before && this.#lastPage && isIn(before, this.#lastPage) ? this.#lastPage : undefined;
    const lacksLast = last && !this.#holds(last);
    const after = this.#view.readWalIndex();
    // Readable in the next moment.
    if (!before || !after) return { kind: 'unclear' };
    const sign =
      lacksLast === true && isIn(after, last) ? 'without the last commit' : this.#signOf(times, key, after);
    if (sign === undefined) {
      this.#suspect = undefined;
      this.#times = times;
      this.#walIndex = before;
      if (this.#pages) this.#forget(key);
      else if (isDone(before) && isDone(after) && before.changeCount === after.changeCount)
        this.#pages = [key];
      return { kind: 'same' };
    }
    return this.#suspected(sign, times, key);
  }

  #signOf(times: FileTimes, key: string, now: WalIndexHeader): Sign | undefined {
    if (!isSame(times, this.#times) && !this.#wasCheckpointed(now)) return 'changed without a checkpoint';
    const known = this.#pages?.includes(key) ?? true;
    return known ? undefined : 'not what a checkpoint leaves';
  }

  #holds({ number, content }: LastPage): boolean {
    return Buffer.compare(this.#view.page(number, content.byteLength), content) === 0;
  }

  /** Whether SQLite has copied frames into the file since the last look, or is doing so. */
  #wasCheckpointed(now: WalIndexHeader): boolean {
    const then = this.#walIndex;
    if (!then || then.salt1 !== now.salt1 || then.salt2 !== now.salt2) return true;
    if (then.backfilled !== now.backfilled || then.attempted !== now.attempted) return true;
    // SQLite before 3.11 does not tell what it attempts.
    return (
      then.attempted > then.backfilled || now.attempted > now.backfilled || now.attempted < now.backfilled
    );
  }

  #suspected(sign: Sign, times: FileTimes, key: string): MainFileState {
    // Who opens the database now is misled by the wal-index that we keep: it has to go at once.
    if (sign !== 'not what a checkpoint leaves') return rewritten(sign);
    const nowMs = performance.now();
    const known = this.#suspect;
    if (known?.sign !== sign || !isSame(known.times, times) || known.key !== key) {
      this.#suspect = { sign, times, key, atMs: nowMs };
      return { kind: 'unclear' };
    }
    if (nowMs - known.atMs < SETTLED_MS) return { kind: 'unclear' };
    return rewritten(sign);
  }

  /**
   * What was in the file before does not come back. It may be older than nBackfill tells: a checkpoint leaves out a page
   * of which there is a frame that it may not copy yet.
   */
  #forget(key: string): void {
    const present = this.#pages?.indexOf(key) ?? 0;
    if (present > 0) this.#pages?.splice(0, present);
  }
}

function rewritten(sign: Sign): MainFileState {
  return { kind: 'rewritten', reason: `database file was overwritten: it is ${sign}` };
}

/**
 * Waits until nobody writes to a file that was overwritten, but not for long: an application that uses it already may
 * checkpoint all the time, and what else goes on changing it is noticed again.
 */
export async function awaitSettled(view: Pick<MainFileView, 'times'>): Promise<void> {
  let times = view.times();
  for (let attempt = 0; attempt < SETTLE_ATTEMPTS; attempt++) {
    await sleep(SETTLED_MS);
    const now = view.times();
    if (isSame(times, now)) return;
    times = now;
  }
}

/** All that is committed is in the file. */
function isDone(walIndex: WalIndexHeader): boolean {
  return walIndex.backfilled === walIndex.mxFrame && walIndex.attempted <= walIndex.backfilled;
}

/**
 * Whether the file holds the page as the commit wrote it, and nothing newer. Whoever asks has held a read mark since then: at
 * most one WAL was begun after the commit's, and that not before all of the commit's was in the file.
 */
function isIn(walIndex: WalIndexHeader, { frame }: LastPage): boolean {
  if (walIndex.salt1 !== frame.salt1 || walIndex.salt2 !== frame.salt2)
    return walIndex.backfilled === 0 && walIndex.attempted === 0;
  return isDone(walIndex) && checksumsEqual(walIndex.frameChecksum, frame.checksum);
}

/** Undefined when the frames do not end with the last of the WAL. @param data whole frames */
function lastPageOf(
  pageSizeBytes: number,
  data: Uint8Array,
  { frameChecksum }: WalIndexHeader,
): LastPage | undefined {
  const bytes = data.subarray(data.byteLength - walFrameSize(pageSizeBytes));
  const frame = readFrameHeader(bytes, 0);
  if (!checksumsEqual(frame.checksum, frameChecksum)) return undefined;
  return { number: frame.pageNumber, content: bytes.slice(bytes.byteLength - pageSizeBytes), frame };
}

function isSame(a: FileTimes, b: FileTimes): boolean {
  return a.sizeBytes === b.sizeBytes && a.modifiedNs === b.modifiedNs;
}

/** keyOf() of each first page among frames, in order. @param data whole frames */
export function* firstPageKeys(pageSizeBytes: number, data: Uint8Array): Generator<string> {
  const frameSize = walFrameSize(pageSizeBytes);
  for (let at = 0; at + frameSize <= data.byteLength; at += frameSize) {
    // The number of its page begins each frame, big-endian.
    if (data[at + 3] === 1 && data[at] === 0 && data[at + 1] === 0 && data[at + 2] === 0)
      yield keyOf(data.subarray(at + frameSize - pageSizeBytes));
  }
}

/** Tells first pages of different commits apart, as far as they differ in size, free pages or schema. */
export function keyOf(firstPage: Uint8Array): string {
  return Buffer.from(firstPage.subarray(KEY_START, KEY_END)).toString('hex');
}
