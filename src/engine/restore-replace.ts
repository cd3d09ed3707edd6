/**
 * Puts a restored file in the place of a database that is there. A kill at any moment leaves one whole database under
 * its name: the old one's WAL is copied into its file first, the old file gets a second name, and one rename puts the
 * new file in its place. The old file stays under the second name.
 */

import { constants, existsSync } from 'node:fs';
import { copyFile, link, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { sleep } from '../base/concurrency.ts';
import { syncDirectory } from '../base/durable-file.ts';
import { LitestreamError, hasCode, systemCode, wrapError } from '../base/errors.ts';
import type { Logger } from '../base/logger.ts';
import { type WritablePath, findWritable } from '../sqlite/writable-path.ts';
import { DatabaseLock } from './database-lock.ts';
import { ExclusiveHold } from './exclusive-hold.ts';
import { refuseUsed } from './file-users.ts';

/** How long a replicate that was asked may take to let go. */
const LET_GO_ATTEMPTS = 100;
const LET_GO_STEP_MS = 100;
/** Of file systems without hard links. */
const NO_LINKS = new Set(['EPERM', 'EOPNOTSUPP', 'ENOTSUP', 'ENOSYS', 'EMLINK', 'EXDEV']);

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
  readonly logger: Logger;
}

/** The right to replace one database: nobody else uses it, nor begins to. */
export class Replacement {
  readonly #path: string;
  readonly #metaPath: string;
  readonly #lock: DatabaseLock | undefined;
  readonly #hold: ExclusiveHold;

  private constructor(
    path: string,
    metaPath: string,
    { lock, hold }: { readonly lock: DatabaseLock | undefined; readonly hold: ExclusiveHold },
  ) {
    this.#path = path;
    this.#metaPath = metaPath;
    this.#lock = lock;
    this.#hold = hold;
  }

  /**
   * Has the process that replicates the database let go of it, and locks it. Its WAL is in its file afterwards.
   * @throws LitestreamError 'busy' when it is in use, naming by what where that can be told
   */
  static async begin(path: string, options: ReplacementOptions): Promise<Replacement> {
    const { metaPath, logger } = options;
    const lock = existsSync(metaPath) ? await takeLock(path, options) : undefined;
    let hold: ExclusiveHold | undefined;
    try {
      refuseUsed(path, ['', '-wal', '-shm']);
      hold = await ExclusiveHold.begin(writablePath(path));
      if (hold.problem !== undefined) {
        logger.warn('old database is damaged, replacing it as it is', { path, error: hold.problem });
      }
      return new Replacement(path, metaPath, { lock, hold });
    } catch (error) {
      await hold?.end();
      lock?.release();
      throw error;
    }
  }

  /**
   * Gives the old file a second name, which it keeps; the files beside it are the caller's. When it fails there is none.
   * @returns that name
   */
  async keepOld(suffix: string): Promise<string> {
    const kept = `${this.#path}.${suffix}`;
    try {
      // So that nothing of the old database is taken for the new one's. It costs one snapshot if we stop here.
      await rm(join(this.#metaPath, 'generation'), { force: true });
      await linkOrCopy(this.#path, kept);
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

async function linkOrCopy(path: string, target: string): Promise<void> {
  try {
    await link(path, target);
  } catch (error) {
    if (!NO_LINKS.has(systemCode(error) ?? '')) throw error;
    await copyWhole(path, target);
  }
}

async function copyWhole(path: string, target: string): Promise<void> {
  try {
    await copyFile(path, target, constants.COPYFILE_EXCL);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') await rm(target, { force: true });
    throw error;
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
