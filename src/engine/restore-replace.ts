/**
 * Puts a restored file in the place of a database that is there. A kill at any moment leaves one whole database under
 * its name, and the old one stays under a second name. The content is exchanged within the file, which keeps its inode:
 * whoever has opened it before, or waits for it, sees a commit. A file that is no database gets a second name and
 * is replaced by a rename.
 */

import { existsSync } from 'node:fs';
import { type FileHandle, link, lstat, open, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { sleep } from '../base/concurrency.ts';
import { NO_LINKS, giveTo, syncDirectory, syncFile } from '../base/durable-file.ts';
import { LitestreamError, hasCode, systemCode, wrapError } from '../base/errors.ts';
import { holdFolder } from '../base/held-folder.ts';
import type { Logger } from '../base/logger.ts';
import { type WritablePath, findWritable } from '../sqlite/writable-path.ts';
import { ContentExchange } from './content-exchange.ts';
import { DatabaseLock } from './database-lock.ts';
import { ExclusiveHold } from './exclusive-hold.ts';
import { refuseUsed } from './file-users.ts';
import { refuseSharedDisk } from './shared-disk.ts';

/** How long a replicate that was asked may take to let go. */
const LET_GO_ATTEMPTS = 100;
const LET_GO_STEP_MS = 100;
const CHUNK_SIZE = 1 << 20;

/** The process that replicates a database. */
export interface RunningReplicate {
  readonly pid: number;
  /** Has it let go of the database. It takes the database up again by itself when that has been replaced. */
  readonly letGo: () => Promise<void>;
}

export interface ReplacementOptions {
  /** The database's meta directory, whether or not it is there. */
  readonly metaPath: string;
  readonly replicate: RunningReplicate | undefined;
  /** The user knows that nobody uses it, where locks may not tell. */
  readonly noOtherUsers: boolean;
  readonly logger: Logger;
}

/** A whole database that is to be put in place. */
export interface FreshFile {
  readonly file: FileHandle;
  readonly path: string;
  /** Gives an owner and a mode that were asked for to the database. */
  readonly giveAccess: (database: FileHandle) => Promise<void>;
}

/** The right to replace one database: nobody else uses it, nor begins to. */
export class Replacement {
  readonly #path: string;
  readonly #metaPath: string;
  readonly #lock: DatabaseLock | undefined;
  readonly #hold: ExclusiveHold;
  readonly #logger: Logger;

  private constructor(
    path: string,
    { metaPath, logger }: ReplacementOptions,
    { lock, hold }: { readonly lock: DatabaseLock | undefined; readonly hold: ExclusiveHold },
  ) {
    this.#path = path;
    this.#metaPath = metaPath;
    this.#logger = logger;
    this.#lock = lock;
    this.#hold = hold;
  }

  /**
   * Has the process that replicates the database let go of it, and locks it. Its WAL is in its file afterwards.
   * @throws LitestreamError 'busy' when it is in use, naming by what where that can be told
   */
  static async begin(path: string, options: ReplacementOptions): Promise<Replacement> {
    const { logger } = options;
    const metaPath = existsSync(options.metaPath) ? holdFolder(options.metaPath) : undefined;
    if (!options.noOtherUsers) await refuseSharedDisk(path);
    const lock = metaPath === undefined ? undefined : await takeLock(path, { ...options, metaPath });
    let hold: ExclusiveHold | undefined;
    try {
      refuseUsed(path, ['', '-wal', '-shm']);
      hold = await ExclusiveHold.begin(writablePath(path));
      if (hold.problem !== undefined) {
        logger.warn('old database is damaged, replacing it as it is', { path, error: hold.problem });
      }
      return new Replacement(path, { ...options, metaPath: metaPath ?? options.metaPath }, { lock, hold });
    } catch (error) {
      await hold?.end();
      lock?.release();
      throw error;
    }
  }

  /** Whether the content changes within the file; else the caller renames the new one, after keepOld(). */
  get inPlace(): boolean {
    return this.#hold.problem === undefined;
  }

  /**
   * Puts the fresh content into the database file. When it fails all is as it was.
   * @param suffix of the name that the old content gets
   * @returns that name
   */
  async exchange(suffix: string, fresh: FreshFile): Promise<string> {
    const keptPath = `${this.#path}.${suffix}`;
    const database = this.#hold.file;
    try {
      await this.#forgetGeneration();
      if ((await database.stat()).nlink > 1) {
        this.#logger.warn('database has another name, which shows the restored content too', {
          path: this.#path,
        });
      }
      await refuseTaken(keptPath);
      await new ContentExchange({
        database,
        path: this.#path,
        fresh: fresh.file,
        freshPath: fresh.path,
        keptPath,
        giveAccess: () => fresh.giveAccess(database),
      }).run();
    } catch (error) {
      throw wrapError(error, `replace the content of ${this.#path}`);
    }
    return keptPath;
  }

  /**
   * Gives the old file a second name, which it keeps; the files beside it are the caller's. When it fails there is none.
   * @returns that name
   */
  async keepOld(suffix: string): Promise<string> {
    const kept = `${this.#path}.${suffix}`;
    try {
      await this.#forgetGeneration();
      await linkOrCopy(this.#path, kept, this.#hold.file);
    } catch (error) {
      throw wrapError(error, `keep the old database as ${kept}`);
    }
    try {
      await syncDirectory(dirname(this.#path));
    } catch (error) {
      await rm(kept, { force: true });
      throw wrapError(error, `keep the old database as ${kept}`);
    }
    return kept;
  }

  /** So that nothing of the old database is taken for the new one's. It costs one snapshot if we stop here. */
  async #forgetGeneration(): Promise<void> {
    await rm(join(this.#metaPath, 'generation'), { force: true });
  }

  /** Lets go. Idempotent. */
  async end(): Promise<void> {
    await this.#hold.end();
    this.#lock?.release();
  }
}

/** A user who may only read it gets no lock that proves anything. */
function writablePath(path: string): WritablePath {
  const writable = findWritable(path);
  if (writable !== undefined) return writable;
  throw new LitestreamError(
    'permission',
    `cannot restore, ${path} or its folder cannot be written by this user`,
  );
}

/** @param database the file at `path`, open */
async function linkOrCopy(path: string, target: string, database: FileHandle): Promise<void> {
  try {
    await link(path, target);
  } catch (error) {
    if (!NO_LINKS.has(systemCode(error) ?? '')) throw error;
    await copyWhole(database, target);
  }
}

async function refuseTaken(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (systemCode(error) !== 'ENOENT') throw error;
  });
  if (found) throw new LitestreamError('exists', `there is a file ${path} already`);
}

/** By its descriptors alone: whoever owns the folder can put another file in the place of one that was made there. */
async function copyWhole(database: FileHandle, target: string): Promise<void> {
  const copy = await open(target, 'wx', 0o600);
  try {
    const buffer = Buffer.allocUnsafe(CHUNK_SIZE);
    for (let at = 0; ;) {
      const { bytesRead } = await database.read(buffer, 0, CHUNK_SIZE, at);
      if (bytesRead === 0) break;
      for (let done = 0; done < bytesRead;)
        done += (await copy.write(buffer, done, bytesRead - done, at + done)).bytesWritten;
      at += bytesRead;
    }
    const old = await database.stat();
    await giveTo(copy, old);
    await copy.chmod(old.mode & 0o777);
    await syncFile(copy);
  } catch (error) {
    await rm(target, { force: true });
    throw error;
  } finally {
    await copy.close();
  }
}

/** The lock of the one process that may replicate the database. */
async function takeLock(path: string, { metaPath, replicate }: ReplacementOptions): Promise<DatabaseLock> {
  for (let attempt = 0; ; attempt++) {
    try {
      return new DatabaseLock(metaPath, path, 'restores');
    } catch (error) {
      if (!hasCode(error, 'busy') || !replicate || attempt === LET_GO_ATTEMPTS) throw error;
    }
    if (attempt === 0) await replicate.letGo();
    else await sleep(LET_GO_STEP_MS);
  }
}
