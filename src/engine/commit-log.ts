/**
 * When commits were seen, kept beside the shadow WAL until replicas have stored them: `META/generations/G/times/INDEX`.
 * It is only ever a help: what cannot be written or read is replaced by the time of copying, and nothing waits for it.
 */

import { closeSync, existsSync, mkdirSync, writeSync } from 'node:fs';
import { type FileHandle, open, readdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { formatDuration } from '../base/duration.ts';
import { systemCode } from '../base/errors.ts';
import { openOwnFile } from '../base/own-file.ts';
import { formatIndex } from '../format/names.ts';
import type { CommitTime } from '../format/object-trailer.ts';
import { xxh32 } from '../format/xxh32.ts';
import { CLOCK_STEP_MS, steadyClock } from './steady-clock.ts';

/** Offset and time, 6 bytes each, big-endian, and the XXH32 of them: a record that was torn by a power loss shows. */
const RECORD_SIZE = 16;
const CHECKED_SIZE = 12;
/** Records read at once. */
const BATCH = 4096;

/** A machine that was booted without a clock gets its time from the network: so long it is waited for. */
const PATIENCE_MS = 60_000;

export interface ClockDoubt {
  readonly reason: string;
  /** Only a new generation helps. */
  readonly isSettled: boolean;
}

/** In words, by how much the clock was set. @param stepMs negative: back */
export function describeStep(stepMs: number): string {
  const seconds = formatDuration(Math.round(Math.abs(stepMs) / 1000) * 1000);
  return `${stepMs < 0 ? 'back' : 'forward'} by ${seconds}`;
}

interface OpenFile {
  readonly index: number;
  readonly fd: number;
  count: number;
  last: CommitTime | undefined;
}

function encodeRecord({ offset, timeMs }: CommitTime): Buffer {
  const record = Buffer.alloc(RECORD_SIZE);
  record.writeUIntBE(offset, 0, 6);
  record.writeUIntBE(timeMs, 6, 6);
  record.writeUInt32BE(xxh32(record.subarray(0, CHECKED_SIZE)), CHECKED_SIZE);
  return record;
}

/** Undefined when it is not one. */
function decodeRecord(data: Buffer, at: number): CommitTime | undefined {
  if (at + RECORD_SIZE > data.byteLength) return undefined;
  if (data.readUInt32BE(at + CHECKED_SIZE) !== xxh32(data.subarray(at, at + CHECKED_SIZE))) return undefined;
  return { offset: data.readUIntBE(at, 6), timeMs: data.readUIntBE(at + 6, 6) };
}

async function readBatch(file: FileHandle, first: number, count: number): Promise<Buffer> {
  const data = Buffer.alloc(count * RECORD_SIZE);
  const { bytesRead } = await file.read(data, 0, data.byteLength, first * RECORD_SIZE);
  return data.subarray(0, bytesRead);
}

export class CommitLog {
  readonly #directory: string;
  readonly #clock: () => number;
  /** Times never decrease within a generation, also when the clock is set back. */
  #latestMs: number;
  readonly #stepCount = steadyClock.stepCount;
  /** Since when the times have been ahead of the clock: milliseconds of the monotonic clock. */
  #aheadSinceMs: number | undefined;
  #current: OpenFile | undefined;

  /**
   * @param directory that of the generation
   * @param clock gives epoch milliseconds
   * @param floorMs no commit gets an earlier time: when the generation before ended
   */
  constructor(directory: string, clock: () => number = () => steadyClock.now(), floorMs = 0) {
    this.#directory = join(directory, 'times');
    this.#clock = clock;
    this.#latestMs = floorMs;
  }

  /**
   * Why no further commit can get its time in this generation, as these never decrease: the clock was set. Undefined: all
   * is well. To be asked now and then.
   */
  clockDoubt(): ClockDoubt | undefined {
    const nowMs = this.#clock();
    if (steadyClock.stepCount !== this.#stepCount) {
      const { stepMs } = steadyClock;
      return { reason: `the clock was set ${describeStep(stepMs)}`, isSettled: true };
    }
    if (this.#latestMs - nowMs <= CLOCK_STEP_MS) {
      this.#aheadSinceMs = undefined;
      return undefined;
    }
    const monotonicMs = performance.now();
    this.#aheadSinceMs ??= monotonicMs;
    const [last, now] = [this.#latestMs, nowMs].map((ms) => new Date(ms).toISOString());
    const reason = `commits are dated up to ${last ?? ''}, and it is ${now ?? ''}`;
    return { reason, isSettled: monotonicMs - this.#aheadSinceMs >= PATIENCE_MS };
  }

  /** Of the last commit that was noted; 0: none was. */
  get latestMs(): number {
    return this.#latestMs;
  }

  /** Now, and not before what was noted last: epoch milliseconds. */
  now(): number {
    this.#latestMs = Math.max(this.#latestMs, Math.floor(this.#clock()));
    return this.#latestMs;
  }

  /** Notes that everything up to `offset` of `index` is committed by now. One write, not synced; never throws. */
  note(index: number, offset: number): void {
    this.#append(index, { offset, timeMs: this.now() });
  }

  #append(index: number, entry: CommitTime): void {
    try {
      if (this.#current?.index !== index) this.#open(index, 0, undefined);
      const file = this.#current;
      if (file === undefined) return;
      // What is seen at the same time is one entry: nothing tells its commits apart.
      if (file.last?.timeMs === entry.timeMs) file.count--;
      const at = file.count * RECORD_SIZE;
      const written = writeSync(file.fd, encodeRecord(entry), 0, RECORD_SIZE, at);
      // A disk that is full takes a part: the next entry is written over it.
      if (written < RECORD_SIZE) return;
      file.count++;
      file.last = entry;
    } catch {
      // A full disk, say: the shadow WAL meets the same and acts on it. These commits get the time of the next ones.
    }
  }

  #open(index: number, count: number, last: CommitTime | undefined): void {
    this.close();
    if (!existsSync(this.#directory)) mkdirSync(this.#directory, { mode: 0o700 });
    const fd = openOwnFile(this.#pathOf(index), { fresh: count === 0, root: dirname(this.#directory) });
    this.#current = { index, fd, count, last };
  }

  #pathOf(index: number): string {
    return join(this.#directory, formatIndex(index));
  }

  /**
   * Takes over what the last process noted of `index`, to be called for each index in ascending order. What lies behind
   * `end` was lost in the shadow WAL; commits that it says nothing of have the time at which they were copied.
   * @param end of what is committed in that index
   * @param copiedAtMs when the last of it was copied: epoch milliseconds
   */
  async recover(index: number, end: number, copiedAtMs: number): Promise<void> {
    let count = 0;
    let last: CommitTime | undefined;
    const file = await this.#openToRead(index);
    try {
      scan: while (file) {
        const data = await readBatch(file, count, BATCH);
        for (let at = 0; ; at += RECORD_SIZE) {
          const entry = decodeRecord(data, at);
          if (entry === undefined && at === BATCH * RECORD_SIZE) break;
          if (entry === undefined || entry.offset > end || !follows(entry, last, this.#latestMs)) break scan;
          last = entry;
          count++;
        }
      }
    } finally {
      await file?.close();
    }
    if (last) this.#latestMs = last.timeMs;
    try {
      this.#open(index, count, last);
    } catch {
      // As when noting fails.
      return;
    }
    if (last?.offset === end) return;
    this.#latestMs = Math.max(this.#latestMs, Math.min(Math.floor(copiedAtMs), Math.floor(this.#clock())));
    this.#append(index, { offset: end, timeMs: this.#latestMs });
  }

  async #openToRead(index: number): Promise<FileHandle | undefined> {
    try {
      return await open(this.#pathOf(index), 'r');
    } catch {
      // None was written, by v0.3.13 for example.
      return undefined;
    }
  }

  /**
   * Times of the commits in [start, end) of an index; the last entry is at `end`, and has the present time when nothing
   * is known of it. Never rejects.
   */
  async read(index: number, start: number, end: number): Promise<CommitTime[]> {
    const entries: CommitTime[] = [];
    const file = await this.#openToRead(index);
    try {
      if (file) await collect(file, start, end, entries);
    } catch {
      // As if nothing had been noted.
    } finally {
      await file?.close();
    }
    const last = entries.at(-1);
    if (last?.offset !== end) entries.push({ offset: end, timeMs: Math.max(this.now(), last?.timeMs ?? 0) });
    return entries;
  }

  /** Removes what was noted of indexes before `index`. @throws LitestreamError 'permission', 'io' */
  async prune(index: number): Promise<void> {
    const limit = formatIndex(index);
    for (const name of await this.#names()) {
      if (name < limit) await rm(join(this.#directory, name), { force: true });
    }
  }

  async #names(): Promise<string[]> {
    try {
      return await readdir(this.#directory);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return [];
      throw error;
    }
  }

  close(): void {
    if (this.#current) closeSync(this.#current.fd);
    this.#current = undefined;
  }
}

function follows(entry: CommitTime, last: CommitTime | undefined, latestMs: number): boolean {
  return entry.offset > (last?.offset ?? 0) && entry.timeMs >= (last?.timeMs ?? latestMs);
}

/** Adds the entries of a file that lie in (start, end], the last one cut to `end`. */
async function collect(file: FileHandle, start: number, end: number, entries: CommitTime[]): Promise<void> {
  let first = await findAfter(file, start);
  for (;;) {
    const data = await readBatch(file, first, BATCH);
    for (let at = 0; at < BATCH * RECORD_SIZE; at += RECORD_SIZE) {
      const entry = decodeRecord(data, at);
      if (entry === undefined) return;
      entries.push({ offset: Math.min(entry.offset, end), timeMs: entry.timeMs });
      if (entry.offset >= end) return;
    }
    first += BATCH;
  }
}

/** Number of a record not far before the first one whose offset is greater than `offset`, or of that one. */
async function findAfter(file: FileHandle, offset: number): Promise<number> {
  let low = 0;
  let high = Math.floor((await file.stat()).size / RECORD_SIZE);
  while (low < high) {
    const middle = Math.floor((low + high) / 2);
    const entry = decodeRecord(await readBatch(file, middle, 1), 0);
    if (entry !== undefined && entry.offset <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
