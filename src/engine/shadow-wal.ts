/**
 * The shadow WAL: a copy of the committed frames of each WAL index in `META/generations/GENERATION/wal/INDEX.wal`, in
 * v0.3.13's layout. It is the spool between the database and its replicas, and the proof of continuity at the next
 * start. It knows files and chains of frames; what is committed, the follower tells it.
 */

import { closeSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { open, readFile, readdir, rm, stat, truncate } from 'node:fs/promises';
import { uptime } from 'node:os';
import { join } from 'node:path';
import { makeDirectories, writeFileDurably } from '../base/durable-file.ts';
import { LitestreamError, assert, systemCode, wrapError } from '../base/errors.ts';
import { isGeneration, newGeneration, parseShadowName, shadowName } from '../format/names.ts';
import type { CommitTime } from '../format/object-trailer.ts';
import {
  WAL_HEADER_SIZE,
  checksumsEqual,
  parseWalHeader,
  readFrameHeader,
  verifyFrames,
  walFrameSize,
  type WalChecksum,
  type WalHeader,
} from '../sqlite/wal.ts';
import { CommitLog } from './commit-log.ts';

/** Read and written at a time. */
const CHUNK_SIZE = 1 << 20;
/** Ends of closed indexes, beside the `wal` folder; v0.3.13 does not look at it. */
const ENDS_FILE = 'ends.json';

/** A verified run of frames from the start of one index to a commit. */
export interface WalChain {
  readonly index: number;
  /** undefined: nothing is committed in this index yet, and offset is 0. */
  readonly header: WalHeader | undefined;
  /** The header as it stands in the file. */
  readonly headerBytes: Uint8Array | undefined;
  /** End of the last commit frame in bytes. */
  readonly offset: number;
  /** Running checksum there. */
  readonly checksum: WalChecksum;
}

export function emptyChain(index: number): WalChain {
  return { index, header: undefined, headerBytes: undefined, offset: 0, checksum: [0, 0] };
}

interface ClosedEnd {
  readonly offset: number;
  readonly checksum: WalChecksum;
}

/** What the meta directory held at start. */
export type LoadedShadow =
  | { readonly kind: 'loaded'; readonly shadow: ShadowWal; readonly chain: WalChain }
  | { readonly kind: 'none'; readonly reason: string };

export class ShadowWal {
  readonly generation: string;
  /** Whether the meta directory knew of no generation before this one. */
  readonly isFirst: boolean;
  /** Whether its name was made up by this process: when it began, there was nothing of it anywhere. */
  readonly isNew: boolean;
  readonly #directory: string;
  readonly #generationsPath: string;
  /** Committed end of each index that is here. */
  readonly #ends = new Map<number, number>();
  readonly #closed = new Map<number, ClosedEnd>();
  readonly #times: CommitLog;
  #pageSizeBytes = 0;
  #current: { readonly index: number; readonly fd: number } | undefined;
  /** Background fsyncs of closed indexes. */
  #closing: Promise<void> = Promise.resolve();

  private constructor(
    metaPath: string,
    generation: string,
    { isFirst, isNew }: { readonly isFirst: boolean; readonly isNew: boolean },
  ) {
    this.generation = generation;
    this.isFirst = isFirst;
    this.isNew = isNew;
    this.#generationsPath = join(metaPath, 'generations');
    this.#directory = join(this.#generationsPath, generation);
    this.#times = new CommitLog(this.#directory);
  }

  /**
   * Starts a new generation: its name is durable when this resolves. Files of older ones stay until removeOthers().
   * @param continued one that is known to have no shadow WAL; undefined: a new name
   * @throws LitestreamError 'disk-full', 'permission', 'io'
   */
  static async create(metaPath: string, continued?: string): Promise<ShadowWal> {
    const isFirst = (await readGeneration(metaPath)) === undefined;
    const isNew = continued === undefined;
    const shadow = new ShadowWal(metaPath, continued ?? newGeneration(), { isFirst, isNew });
    try {
      await makeDirectories(join(shadow.#directory, 'wal'), 0o700);
      await writeFileDurably(join(metaPath, 'generation'), `${shadow.generation}\n`);
    } catch (error) {
      throw wrapError(error, `start generation in ${metaPath}`);
    }
    return shadow;
  }

  /**
   * Reads what the last process left, verifies every index that is here from its first to its last byte, and gives
   * the chain of the newest one. Whether the WAL still continues it is the follower's to prove.
   */
  static async load(metaPath: string): Promise<LoadedShadow> {
    const generation = await readGeneration(metaPath);
    if (generation === undefined) return { kind: 'none', reason: 'no generation exists' };
    const shadow = new ShadowWal(metaPath, generation, { isFirst: false, isNew: false });
    const indexes = await shadow.#listIndexes();
    const newest = indexes.at(-1);
    if (newest === undefined) return { kind: 'none', reason: 'no shadow wal' };
    await shadow.#readClosedEnds();
    const chain = await verifyChain(shadow.pathOf(newest), newest);
    if (!chain) return { kind: 'none', reason: `shadow wal ${shadowName(newest)} is damaged` };
    shadow.#pageSizeBytes = chain.header?.pageSizeBytes ?? 0;
    shadow.#ends.set(newest, chain.offset);
    // A run without holes back from the newest: a replica that needs more than that starts a new generation.
    for (let index = newest - 1; indexes.includes(index); index--) {
      const end = await shadow.#provenEnd(index);
      if (end === undefined) break;
      shadow.#ends.set(index, end);
    }
    for (const index of indexes) if (!shadow.has(index)) await rm(shadow.pathOf(index), { force: true });
    await shadow.#recoverTimes();
    // Frames behind the last commit were still being copied when the process died.
    await truncate(shadow.pathOf(newest), chain.offset);
    return { kind: 'loaded', shadow, chain };
  }

  /** To be called before the files change: their times tell when they were copied. */
  async #recoverTimes(): Promise<void> {
    const ends = [...this.#ends].sort(([a], [b]) => a - b);
    await this.#times.prune(ends[0]?.[0] ?? 0);
    for (const [index, end] of ends) {
      await this.#times.recover(index, end, (await stat(this.pathOf(index))).mtimeMs);
    }
  }

  /** Removes the files of all other generations. @throws LitestreamError 'permission', 'io' */
  async removeOthers(): Promise<void> {
    try {
      for (const name of await readdir(this.#generationsPath)) {
        if (name === this.generation) continue;
        await rm(join(this.#generationsPath, name), { recursive: true, force: true });
      }
    } catch (error) {
      throw wrapError(error, `remove older generations from ${this.#generationsPath}`);
    }
  }

  /** The folder of the generation. */
  get path(): string {
    return this.#directory;
  }

  pathOf(index: number): string {
    return join(this.#directory, 'wal', shadowName(index));
  }

  /** Committed end of an index in bytes, 0 if it is not here. */
  endOf(index: number): number {
    return this.#ends.get(index) ?? 0;
  }

  has(index: number): boolean {
    return this.#ends.has(index);
  }

  /** Bytes of all indexes that are here. */
  sizeBytes(): number {
    let sum = 0;
    for (const end of this.#ends.values()) sum += end;
    return sum;
  }

  /**
   * Writes bytes of an index at `position`. They do not count until commit(). An index other than the present one
   * closes that: it is fsynced in the background and its end recorded.
   * @throws LitestreamError 'disk-full', 'io'
   */
  write(index: number, data: Uint8Array, position: number): void {
    try {
      if (this.#current?.index !== index) {
        if (this.#current) closeSync(this.#current.fd);
        this.#current = undefined;
        // Not truncated: a chain that continues after a restart appends to what is there.
        this.#current = { index, fd: openSync(this.pathOf(index), position === 0 ? 'w' : 'r+', 0o600) };
      }
      const { fd } = this.#current;
      for (let done = 0; done < data.byteLength;) {
        done += writeSync(fd, data, done, data.byteLength - done, position + done);
      }
    } catch (error) {
      throw wrapError(error, `write shadow wal ${this.pathOf(index)}`);
    }
  }

  /** Makes `chain` the committed end of its index; `previous` is the chain before it. */
  commit(chain: WalChain, previous: WalChain): void {
    assert(chain.header !== undefined, 'a committed chain has a header');
    this.#pageSizeBytes = chain.header.pageSizeBytes;
    this.#ends.set(chain.index, chain.offset);
    this.#times.note(chain.index, chain.offset);
    if (previous.index !== chain.index && previous.offset > 0) this.#recordEnd(previous);
  }

  /** Forgets bytes written behind the last commit. */
  discardUncommitted(index: number): void {
    if (this.#current?.index !== index) return;
    ftruncateSync(this.#current.fd, this.endOf(index));
  }

  /** Reads committed bytes [start, end) of an index. @throws LitestreamError 'corrupt' when they are not there */
  async read(index: number, start: number, end: number): Promise<Uint8Array> {
    assert(end <= this.endOf(index), `shadow wal ${index} ends before ${end}`);
    const path = this.pathOf(index);
    try {
      const file = await open(path, 'r');
      try {
        const data = new Uint8Array(end - start);
        for (let done = 0; done < data.byteLength;) {
          const { bytesRead } = await file.read(data, done, data.byteLength - done, start + done);
          if (bytesRead === 0)
            throw new LitestreamError('corrupt', `file ends at ${start + done}, not ${end}`);
          done += bytesRead;
        }
        return data;
      } finally {
        await file.close();
      }
    } catch (error) {
      throw wrapError(error, `read shadow wal ${path}`);
    }
  }

  /**
   * Times at which the commits in bytes [start, end) of an index were copied; the last entry is at `end`. Times never
   * decrease within the generation.
   */
  commitTimes(index: number, start: number, end: number): Promise<CommitTime[]> {
    return this.#times.read(index, start, end);
  }

  /** The present time, not before that of any commit: epoch milliseconds. */
  now(): number {
    return this.#times.now();
  }

  /** Whether a commit of this chain ends at `offset` of `index` with that checksum. */
  async contains(index: number, offset: number, checksum: WalChecksum): Promise<boolean> {
    const frameSize = walFrameSize(this.#pageSizeBytes);
    if (offset > this.endOf(index) || offset < WAL_HEADER_SIZE + frameSize) return false;
    if ((offset - WAL_HEADER_SIZE) % frameSize !== 0) return false;
    const frame = readFrameHeader(await this.read(index, offset - frameSize, offset), 0);
    return frame.commitPageCount !== 0 && checksumsEqual(frame.checksum, checksum);
  }

  /** Removes indexes before `index`, never the newest. */
  async prune(index: number): Promise<void> {
    if (this.#ends.size === 0) return;
    const limit = Math.min(index, Math.max(...this.#ends.keys()));
    for (const old of [...this.#ends.keys()].filter((candidate) => candidate < limit)) {
      this.#ends.delete(old);
      this.#closed.delete(old);
      await rm(this.pathOf(old), { force: true });
    }
    await this.#times.prune(limit);
  }

  /** Closes the files that are written, after the background work. */
  async close(): Promise<void> {
    await this.#closing;
    if (this.#current) closeSync(this.#current.fd);
    this.#current = undefined;
    this.#times.close();
  }

  #recordEnd(chain: WalChain): void {
    this.#closed.set(chain.index, { offset: chain.offset, checksum: chain.checksum });
    const path = this.pathOf(chain.index);
    this.#closing = this.#closing
      .then(async () => {
        const file = await open(path, 'r+');
        await file.sync().finally(() => file.close());
        const ends = Object.fromEntries([...this.#closed].map(([index, end]) => [shadowName(index), end]));
        await writeFileDurably(join(this.#directory, ENDS_FILE), JSON.stringify({ version: 1, ends }));
      })
      // Without the record a later start verifies less, or starts a new generation: nothing is lost by that.
      .catch(() => undefined);
  }

  async #readClosedEnds(): Promise<void> {
    try {
      const text = await readFile(join(this.#directory, ENDS_FILE), 'utf8');
      const { ends } = JSON.parse(text) as { ends: Record<string, ClosedEnd> };
      for (const [name, end] of Object.entries(ends)) {
        const index = parseShadowName(name);
        if (index !== undefined) this.#closed.set(index, end);
      }
    } catch {
      // v0.3.13 leaves no such file, and a torn one says nothing: the chains themselves are verified in any case.
      this.#closed.clear();
    }
  }

  async #listIndexes(): Promise<number[]> {
    try {
      const names = await readdir(join(this.#directory, 'wal'));
      const indexes = names.map(parseShadowName).filter((index) => index !== undefined);
      return indexes.sort((a, b) => a - b);
    } catch (error) {
      if (systemCode(error) === 'ENOENT') return [];
      throw wrapError(error, `list ${this.#directory}`);
    }
  }

  /**
   * Where a closed index ends, if its file is known to be whole: its end was recorded after an fsync, or nothing was
   * lost because the machine has been up since it was written.
   */
  async #provenEnd(index: number): Promise<number | undefined> {
    const path = this.pathOf(index);
    const chain = await verifyChain(path, index);
    if (!chain) return undefined;
    const closed = this.#closed.get(index);
    if (closed) {
      return closed.offset === chain.offset && checksumsEqual(closed.checksum, chain.checksum)
        ? chain.offset
        : undefined;
    }
    const bootedAtMs = Date.now() - uptime() * 1000;
    return (await stat(path)).mtimeMs > bootedAtMs ? chain.offset : undefined;
  }
}

/** The generation that the meta directory names; undefined when it names none. @throws LitestreamError */
export async function readGeneration(metaPath: string): Promise<string | undefined> {
  try {
    const name = (await readFile(join(metaPath, 'generation'), 'utf8')).trim();
    return isGeneration(name) ? name : undefined;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return undefined;
    throw wrapError(error, `read generation of ${metaPath}`);
  }
}

/** Verifies a WAL file from its header to its last commit frame; undefined when there is not even one commit. */
async function verifyChain(path: string, index: number): Promise<WalChain | undefined> {
  const file = await open(path, 'r');
  try {
    const headerBytes = new Uint8Array(WAL_HEADER_SIZE);
    const { bytesRead } = await file.read(headerBytes, 0, WAL_HEADER_SIZE, 0);
    if (bytesRead < WAL_HEADER_SIZE) return undefined;
    let header: WalHeader;
    try {
      header = parseWalHeader(headerBytes);
    } catch {
      return undefined;
    }
    const frameSize = walFrameSize(header.pageSizeBytes);
    const buffer = new Uint8Array(Math.max(1, Math.floor(CHUNK_SIZE / frameSize)) * frameSize);
    let chain: WalChain = { index, header, headerBytes, offset: 0, checksum: header.checksum };
    let { checksum } = header;
    for (let position = WAL_HEADER_SIZE; ;) {
      const { bytesRead: length } = await file.read(buffer, 0, buffer.byteLength, position);
      const run = verifyFrames(header, buffer.subarray(0, length), checksum);
      if (run.commitCount > 0) {
        chain = { ...chain, offset: position + run.committedBytes, checksum: run.committedChecksum };
      }
      checksum = run.checksum;
      position += run.validBytes;
      if (run.validBytes < buffer.byteLength) break;
    }
    return chain.offset > 0 ? chain : undefined;
  } finally {
    await file.close();
  }
}
