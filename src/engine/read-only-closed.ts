/**
 * A database in a folder that we may only read, which was closed cleanly and is used by nobody: there is no WAL, so
 * the file is all that was committed. No lock can be had on it; that it was not changed is proven by its inode and the
 * time of its last change. A snapshot of it begins a generation, which goes on with the first WAL of the application.
 */

import { type BigIntStats, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { writeFileDurably } from '../base/durable-file.ts';
import { LitestreamError, systemCode, wrapError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import type { Position } from '../format/position.ts';
import { DatabaseFiles } from './database-files.ts';
import { prepareMetaDirectory } from './meta-directory.ts';
import type { SnapshotHold } from './segment-source.ts';
import { ShadowWal, readGeneration } from './shadow-wal.ts';
import { DatabaseHold } from './snapshot-hold.ts';

/** In the folder of a generation that began with a closed database. */
const RECORD_FILE = 'closed.json';
const VERSION = 1;
/** Times of files may be as coarse as this: a change right after another one could show the same time. */
const SETTLED_MS = 2000;

/** What changes with every write to a file. */
interface FileState {
  readonly inode: string;
  readonly sizeBytes: string;
  readonly changedNs: string;
  readonly modifiedNs: string;
}

/** A `-wal` and a `-shm` that are left over: whoever opens the database makes or changes them. */
type Beside = readonly (FileState | undefined)[];

export interface ClosedOptions {
  /** Real path: no symlinks. */
  readonly realPath: string;
  readonly metaPath: string;
  readonly logger: Logger;
  /** Why the generation that the meta directory knows shall not be continued. */
  readonly giveUp?: string | undefined;
  /** Called before a generation is begun, which may fail. @returns whether another process goes on with the one before */
  readonly onNewGeneration?: (() => boolean) | undefined;
}

export class ClosedDatabase {
  readonly shadow: ShadowWal;
  readonly pageSizeBytes: number;
  readonly #files: DatabaseFiles;
  readonly #state: FileState;
  readonly #beside: Beside;
  readonly #holds = new Set<DatabaseHold>();

  private constructor(
    files: DatabaseFiles,
    {
      shadow,
      state,
      beside,
      pageSizeBytes,
    }: { shadow: ShadowWal; state: FileState; beside: Beside; pageSizeBytes: number },
  ) {
    this.#files = files;
    this.#state = state;
    this.#beside = beside;
    this.shadow = shadow;
    this.pageSizeBytes = pageSizeBytes;
  }

  /**
   * Continues the generation that began with this very file, else starts one and logs why.
   * @returns undefined when the database is not closed, or was changed a moment ago @throws LitestreamError
   */
  static async find(options: ClosedOptions): Promise<ClosedDatabase | undefined> {
    const { realPath, metaPath, logger } = options;
    const files = new DatabaseFiles(realPath);
    try {
      const state = stateOf(realPath);
      const beside = besideOf(realPath);
      const header = files.readHeader();
      const isSettled = state && Date.now() - Number(BigInt(state.changedNs) / 1_000_000n) >= SETTLED_MS;
      if (!isSettled || !files.isAt(realPath) || header?.walMode !== true || !isClosed(realPath)) {
        files.close();
        return undefined;
      }
      await prepareMetaDirectory(metaPath);
      const known = options.giveUp === undefined ? await knownStart(metaPath) : undefined;
      const continued = known && isSame(known.state, state) ? known.generation : undefined;
      const isFork = continued === undefined && options.onNewGeneration?.() === true;
      const shadow = await ShadowWal.create(metaPath, { continued, isFork });
      if (continued === undefined) {
        const reason = options.giveUp ?? 'no process has the database open, and it was closed cleanly';
        logger.info('sync: new generation', { generation: shadow.generation, reason });
        await writeRecord(shadow, state);
      } else {
        logger.info('sync: generation continued', { generation: continued });
      }
      await shadow.removeOthers();
      return new ClosedDatabase(files, { shadow, state, beside, pageSizeBytes: header.pageSizeBytes });
    } catch (error) {
      files.close();
      throw error;
    }
  }

  get position(): Position {
    return { generation: this.shadow.generation, index: 0, offset: 0 };
  }

  /** Whether the database is as it was, and nobody has opened it since. When not, close this and look again. */
  isUnchanged(): boolean {
    const { path } = this.#files;
    return isSame(stateOf(path), this.#state) && isDeepStrictEqual(besideOf(path), this.#beside);
  }

  /** For a snapshot, whose end proves that the file was not changed meanwhile. */
  hold(): SnapshotHold {
    const verify = (): void => {
      if (isSame(stateOf(this.#files.path), this.#state)) return;
      throw new LitestreamError('busy', 'the database was changed while a snapshot was taken');
    };
    const { position, pageSizeBytes } = this;
    const hold = new DatabaseHold(
      this.#files,
      { verify, release: () => undefined },
      { position, checksum: [0, 0], timeMs: this.shadow.now(), pageSizeBytes },
      (released) => this.#holds.delete(released),
    );
    this.#holds.add(hold);
    return hold;
  }

  /** Ends snapshots that are under way, too. */
  async close(): Promise<void> {
    for (const hold of [...this.#holds]) await hold.release();
    this.#files.close();
    await this.shadow.close();
  }
}

/**
 * The generation that began with a snapshot of this database while it was closed, if nothing was written to the file
 * since: then everything committed later is in the present WAL. To be called with a read mark held.
 * @throws LitestreamError
 */
export async function continueClosed(metaPath: string, realPath: string): Promise<ShadowWal | undefined> {
  const known = await knownStart(metaPath);
  if (!known || !isSame(stateOf(realPath), known.state)) return undefined;
  return ShadowWal.create(metaPath, { continued: known.generation });
}

interface KnownStart {
  readonly generation: string;
  readonly state: FileState;
}

async function knownStart(metaPath: string): Promise<KnownStart | undefined> {
  const generation = await readGeneration(metaPath);
  if (generation === undefined) return undefined;
  const path = join(metaPath, 'generations', generation, RECORD_FILE);
  try {
    const { version, state } = JSON.parse(await readFile(path, 'utf8')) as {
      version: number;
      state: FileState;
    };
    return version === VERSION ? { generation, state } : undefined;
  } catch (error) {
    // Written whole or not at all: what cannot be parsed is of a later version.
    if (systemCode(error) === 'ENOENT' || error instanceof SyntaxError) return undefined;
    throw wrapError(error, `read ${path}`);
  }
}

async function writeRecord(shadow: ShadowWal, state: FileState): Promise<void> {
  const path = join(shadow.path, RECORD_FILE);
  try {
    await writeFileDurably(path, `${JSON.stringify({ version: VERSION, state })}\n`);
  } catch (error) {
    throw wrapError(error, `write ${path}`);
  }
}

/** No WAL, or an empty one, and no rollback journal. */
function isClosed(path: string): boolean {
  return ['-wal', '-journal'].every((suffix) => (statIfThere(`${path}${suffix}`)?.size ?? 0n) === 0n);
}

function stateOf(path: string): FileState | undefined {
  const stats = statIfThere(path);
  return (
    stats && {
      inode: String(stats.ino),
      sizeBytes: String(stats.size),
      changedNs: String(stats.ctimeNs),
      modifiedNs: String(stats.mtimeNs),
    }
  );
}

function besideOf(path: string): Beside {
  return [stateOf(`${path}-wal`), stateOf(`${path}-shm`)];
}

function isSame(a: FileState | undefined, b: FileState): boolean {
  return (
    a?.inode === b.inode &&
    a.sizeBytes === b.sizeBytes &&
    a.changedNs === b.changedNs &&
    a.modifiedNs === b.modifiedNs
  );
}

function statIfThere(path: string): BigIntStats | undefined {
  try {
    return statSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    throw wrapError(error, `stat ${path}`);
  }
}
