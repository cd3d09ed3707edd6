/**
 * The shadow WAL: a copy of the committed frames of each WAL index in `META/generations/GENERATION/wal/INDEX.wal`, in
 * v0.3.13's layout. It is the spool between the database and its replicas, and the proof of continuity at the next
 * start. It knows files and chains of frames; what is committed, the follower tells it.
 */

import { type Stats, closeSync, fstatSync, ftruncateSync, statSync, writeSync } from 'node:fs';
import { open, readFile, readdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { readBootId } from '../base/boot-id.ts';
import { makeDirectories, syncFile, writeFileDurably } from '../base/durable-file.ts';
import { LitestreamError, assert, hasCode, systemCode, wrapError } from '../base/errors.ts';
import { greatestOf } from '../base/extremes.ts';
import { cutOwnFile, openOwnFile } from '../base/own-file.ts';
import { isGeneration, newGeneration, parseShadowName, shadowName } from '../format/names.ts';
import type { CommitTime } from '../format/object-trailer.ts';
import type { Origin } from '../format/origin-frame.ts';
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
import { type ClockDoubt, CommitLog } from './commit-log.ts';
import { originAfter, originBeside, readOriginFile, writeOriginFile } from './origin-file.ts';

/** Read and written at a time. */
const CHUNK_SIZE = 1 << 20;
/** Ends of closed indexes, beside the `wal` folder; v0.3.13 does not look at it. */
const ENDS_FILE = 'ends.json';
/** The boot in which the files were written or verified last, there too. */
const BOOT_FILE = 'boot';
/** Names the present generation, for v0.3.13 too. */
const GENERATION_FILE = 'generation';
/** Files that are looked at each time: the oldest ones, which replicas need next, and the newest. */
const MAX_CHECKED = 16;

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

/** How a generation begins. */
export interface Beginning {
  /** One that is known to have no shadow WAL; undefined: a new name. */
  readonly continued?: string | undefined;
  /** Where the generation before stood, if that is known. */
  readonly end?: Origin['end'];
  /** No commit of this one gets an earlier time: epoch milliseconds. */
  readonly floorMs?: number | undefined;
  /** Another process goes on with the generation before: this one does not follow it. */
  readonly isFork?: boolean;
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
  /** Which generations this one follows, as far as the meta directory tells. */
  readonly origin: Origin | undefined;
  readonly #metaPath: string;
  readonly #directory: string;
  readonly #generationsPath: string;
  /** Committed end of each index that is here. */
  readonly #ends = new Map<number, number>();
  readonly #closed = new Map<number, ClosedEnd>();
  readonly #times: CommitLog;
  #pageSizeBytes = 0;
  #current: { readonly index: number; readonly fd: number } | undefined;
  /** How far this process has written the newest index, whether that counts or not. */
  #written = 0;
  /** The file that names the generation, as it was when it was looked at last. */
  #nameStats: Stats | undefined;
  /** Background fsyncs of closed indexes. */
  #closing: Promise<void> = Promise.resolve();

  private constructor(
    metaPath: string,
    generation: string,
    known: Pick<ShadowWal, 'isFirst' | 'isNew' | 'origin'>,
    floorMs?: number,
  ) {
    this.generation = generation;
    this.isFirst = known.isFirst;
    this.isNew = known.isNew;
    this.origin = known.origin;
    this.#metaPath = metaPath;
    this.#generationsPath = join(metaPath, 'generations');
    this.#directory = join(this.#generationsPath, generation);
    this.#times = new CommitLog(this.#directory, undefined, floorMs);
  }

  /**
   * Starts a new generation: its name is durable when this resolves. Files of older ones stay until removeOthers().
   * @throws LitestreamError 'disk-full', 'permission', 'io'
   */
  static async create(
    metaPath: string,
    { continued, end, floorMs, isFork = false }: Beginning = {},
  ): Promise<ShadowWal> {
    const before = await readGeneration(metaPath);
    const [isFirst, isNew] = [before === undefined, continued === undefined];
    const generation = continued ?? newGeneration();
    const origin = isNew
      ? await (isFork ? originBeside(metaPath, before) : originAfter(metaPath, before, end))
      : await readOriginFile(metaPath, generation);
    const shadow = new ShadowWal(metaPath, generation, { isFirst, isNew, origin }, floorMs);
    try {
      await makeDirectories(join(shadow.#directory, 'wal'), 0o700);
      await shadow.#noteBoot();
      if (isNew && origin) await writeOriginFile(shadow.#directory, origin);
      await writeFileDurably(join(metaPath, GENERATION_FILE), `${shadow.generation}\n`);
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
    const origin = await readOriginFile(metaPath, generation);
    const shadow = new ShadowWal(metaPath, generation, { isFirst: false, isNew: false, origin });
    const indexes = await shadow.#listIndexes();
    const newest = indexes.at(-1);
    if (newest === undefined) return { kind: 'none', reason: 'no shadow wal' };
    await shadow.#readClosedEnds();
    const chain = await verifyChain(shadow.pathOf(newest), newest);
    // Damaged, or the process was killed when it began with the index.
    if (!chain) return { kind: 'none', reason: `shadow wal ${shadowName(newest)} holds no whole commit` };
    shadow.#pageSizeBytes = chain.header?.pageSizeBytes ?? 0;
    shadow.#ends.set(newest, chain.offset);
    const sameBoot = await shadow.#isSameBoot();
    // A run without holes back from the newest: a replica that needs more than that starts a new generation.
    for (let index = newest - 1; indexes.includes(index); index--) {
      const end = await shadow.#provenEnd(index, sameBoot);
      if (end === undefined) break;
      shadow.#ends.set(index, end);
    }
    for (const index of indexes) if (!shadow.has(index)) await rm(shadow.pathOf(index), { force: true });
    await shadow.#recoverTimes();
    if (!sameBoot) await shadow.#noteBoot();
    // Frames behind the last commit were still being copied when the process died.
    cutOwnFile(shadow.pathOf(newest), chain.offset);
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
        const root = dirname(this.#generationsPath);
        // Not truncated: a chain that continues after a restart appends to what is there.
        this.#current = { index, fd: openOwnFile(this.pathOf(index), { fresh: position === 0, root }) };
        this.#written = 0;
      }
      this.#written = Math.max(this.#written, position + data.byteLength);
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
    this.#written = 0;
  }

  /** Reads committed bytes [start, end) of an index. @throws LitestreamError 'gap' when they are not there any more */
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
            throw new LitestreamError('gap', `file was cut: it ends at ${start + done}, not ${end}`);
          done += bytesRead;
        }
        return data;
      } finally {
        await file.close();
      }
    } catch (error) {
      if (systemCode(error) === 'ENOENT') throw new LitestreamError('gap', `shadow wal ${path} was deleted`);
      throw wrapError(error, `read shadow wal ${path}`);
    }
  }

  /**
   * Looks whether the files are still there, and only what this process has written; the name of the generation is
   * written again when it is gone.
   * @returns why the generation cannot go on, undefined when it can
   * @throws LitestreamError 'busy' when another program writes here
   */
  async check(): Promise<string | undefined> {
    if (statIfThere(join(this.#directory, 'wal')) === undefined)
      return `shadow wal ${this.#directory} was deleted`;
    const indexes = [...this.#ends.keys()].sort((a, b) => a - b);
    const newest = indexes.at(-1);
    for (const index of [...indexes.slice(0, MAX_CHECKED), ...indexes.slice(-1)]) {
      const path = this.pathOf(index);
      const stats = statIfThere(path);
      if (!stats) return `shadow wal ${path} was deleted`;
      if (stats.size < this.endOf(index)) return `shadow wal ${path} was cut`;
      if (this.#current?.index === index && fstatSync(this.#current.fd).ino !== stats.ino)
        return `shadow wal ${path} was replaced`;
      if (index === newest && stats.size > Math.max(this.endOf(index), this.#written))
        throw foreign(`its shadow wal ${path} grows`);
    }
    const following = newest === undefined ? undefined : newest + 1;
    if (following !== undefined && this.#current?.index !== following && statIfThere(this.pathOf(following)))
      throw foreign(`it has begun shadow wal ${this.pathOf(following)}`);
    await this.#checkName();
    return undefined;
  }

  async #checkName(): Promise<void> {
    const path = join(this.#metaPath, GENERATION_FILE);
    const stats = statIfThere(path);
    if (stats && stats.ino === this.#nameStats?.ino && stats.mtimeMs === this.#nameStats.mtimeMs) return;
    const name = await readGeneration(this.#metaPath);
    if (name === undefined) await writeFileDurably(path, `${this.generation}\n`);
    else if (name !== this.generation)
      throw foreign(`${path} names generation ${name}, not ${this.generation}`);
    this.#nameStats = statIfThere(path);
  }

  /**
   * Times at which the commits in bytes [start, end) of an index were copied; the last entry is at `end`. Times never
   * decrease within the generation.
   */
  commitTimes(index: number, start: number, end: number): Promise<CommitTime[]> {
    return this.#times.read(index, start, end);
  }

  /** As CommitLog.clockDoubt(). */
  clockDoubt(): ClockDoubt | undefined {
    return this.#times.clockDoubt();
  }

  /** Where `chain`, which ends this generation, stands; undefined while nothing is committed in it. */
  endAt({ index, offset, checksum }: WalChain): Origin['end'] {
    return offset > 0 ? { index, offset, checksum, timeMs: this.#times.latestMs } : undefined;
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
    let bytes: Uint8Array;
    try {
      bytes = await this.read(index, offset - frameSize, offset);
    } catch (error) {
      if (hasCode(error, 'gap')) return false;
      throw error;
    }
    const frame = readFrameHeader(bytes, 0);
    return frame.commitPageCount !== 0 && checksumsEqual(frame.checksum, checksum);
  }

  /** Removes indexes before `index`, never the newest. */
  async prune(index: number): Promise<void> {
    if (this.#ends.size === 0) return;
    const limit = Math.min(index, greatestOf(this.#ends.keys()));
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
        await syncFile(file).finally(() => file.close());
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
   * lost because this machine has been up since it was written.
   */
  async #provenEnd(index: number, sameBoot: boolean): Promise<number | undefined> {
    const path = this.pathOf(index);
    const chain = await verifyChain(path, index);
    if (!chain) return undefined;
    const closed = this.#closed.get(index);
    if (closed) {
      return closed.offset === chain.offset && checksumsEqual(closed.checksum, chain.checksum)
        ? chain.offset
        : undefined;
    }
    return sameBoot ? chain.offset : undefined;
  }

  async #noteBoot(): Promise<void> {
    const id = readBootId();
    if (id !== null) await writeFileDurably(join(this.#directory, BOOT_FILE), `${id}\n`);
  }

  /**
   * Whether the machine has been up since the last process began to write here. Times of files tell nothing: the folder
   * may have come from another machine, and clocks are wrong after a boot.
   */
  async #isSameBoot(): Promise<boolean> {
    const id = readBootId();
    if (id === null) return false;
    const noted = await readFile(join(this.#directory, BOOT_FILE), 'utf8').catch(() => '');
    return noted.trim() === id;
  }
}

function foreign(what: string): LitestreamError {
  return new LitestreamError(
    'busy',
    `another program replicates the database, an older Litestream perhaps, since ${what}: stop it`,
  );
}

function statIfThere(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined; // Its folder is no folder any more.
  }
}

/** The generation that the meta directory names; undefined when it names none. @throws LitestreamError */
export async function readGeneration(metaPath: string): Promise<string | undefined> {
  try {
    const name = (await readFile(join(metaPath, GENERATION_FILE), 'utf8')).trim();
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
